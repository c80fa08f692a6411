"""Inputs -> framed records: files, compression, NDJSON, JSON documents."""
