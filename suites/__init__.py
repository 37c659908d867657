"""Suites: tables of cells in YAML, expanded, planned, trained by worker processes and kept as records."""
