"""The ledger: what happened to every study, and what is still to be done."""
