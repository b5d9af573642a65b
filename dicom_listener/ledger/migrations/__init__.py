"""Schema migrations of the ledger (alembic), applied when the ledger is opened."""
