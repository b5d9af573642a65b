"""Skiagraph: scores hand radiographs for anomalies and answers the PACS. Research use only."""

__version__ = "0.1.0"
