"""The HTTP service: study pipeline, reports, wire contract and client."""
