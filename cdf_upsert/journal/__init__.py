"""Durable state of a load: its journal, its failed file, its run directory."""

from cdf_upsert.journal.books import Journal
from cdf_upsert.journal.cases import Case, GoingOn
from cdf_upsert.journal.identity import ROOT, Identity, default_directory, identify
from cdf_upsert.journal.opening import open_journal
from cdf_upsert.journal.same import SameBytes, VerifiedReader

__all__ = [
    "ROOT",
    "Case",
    "GoingOn",
    "Identity",
    "Journal",
    "SameBytes",
    "VerifiedReader",
    "default_directory",
    "identify",
    "open_journal",
]
