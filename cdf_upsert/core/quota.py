"""What a stream takes in one quota window: the values that are known, by template or from the user."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class Quota(Struct, frozen=True):
    """What a stream takes in one window; None: no bound is known."""

    window: float = 600.0
    """Seconds."""
    created: int | None = None
    """Records that were not there before."""
    updated: int | None = None
    """Records that replace one."""
    nbytes: int | None = None


TEMPLATES: Mapping[str, Quota] = MappingProxyType(
    {
        "BasicLiveData": Quota(created=170_000, updated=85_000, nbytes=170_000_000),
        "BasicArchive": Quota(created=170_000, nbytes=170_000_000),
        "ImmutableTestStream": Quota(created=800_000, nbytes=1_500_000_000),
    }
)
"""The published quotas of the templates that Cognite names; those of enterprise templates are larger."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_quota(text: str) -> Quota:
    """Return the quota that a user names as RECORDS/DURATION, such as `170000/10m`.

    Raises:
        ValueError: the text is of another form; the message is a whole sentence.

    """
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)([smh])\s*", text)
    records = int(found[1]) if found else 0
    seconds = float(found[2]) * _UNITS[found[3]] if found else 0.0
    if not records or not seconds:
        raise ValueError(f"{text!r} is not a quota: write RECORDS/DURATION, such as 170000/10m.")
    return Quota(window=seconds, created=records, updated=records)
