"""Engines: ways to run a model package's graph."""
