"""The demonstration: the whole product on this machine, against a receiving PACS, over real associations."""
