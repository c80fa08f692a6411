"""The names of the files in a run directory."""

from typing import Final

JOURNAL: Final = "journal.sqlite"
FAILED: Final = "failed.ndjson"
REPORT: Final = "report.json"
LOCK: Final = "lock"

OURS: Final = ("journal*.sqlite*", "failed*.ndjson", "report*.json", "error.txt", LOCK)
"""Patterns of all that a run may leave there."""
