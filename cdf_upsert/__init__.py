"""Load JSON and NDJSON records into a stream of Cognite Data Fusion."""

__version__ = "0.1.0"
