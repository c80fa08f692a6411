"""Stream templates: mutability, limits, lifetimes and ten-minute quotas.

Limits and quotas are the published ones; lifetimes of the templates are not published per template, so the
ones here are the examples of the API's own reference (six weeks in the soft-deleted state, a year's interval,
a week for tests).
"""

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Template:
    """What a stream made from this template may hold and take; quotas are per ten minutes."""

    name: str
    mutable: bool
    max_records: int
    max_gigabytes: int
    quota_created: int
    quota_changed: int
    quota_bytes: int
    retained_days: int
    expires_days: int | None = None
    interval_days: int | None = None


TEMPLATES: Final = {
    template.name: template
    for template in (
        Template("BasicLiveData", True, 5_000_000, 15, 170_000, 85_000, 170_000_000, retained_days=42),
        Template(
            "BasicArchive",
            False,
            50_000_000,
            50,
            170_000,
            0,
            170_000_000,
            retained_days=42,
            interval_days=365,
        ),
        Template(
            "ImmutableTestStream",
            False,
            50_000_000,
            50,
            800_000,
            0,
            1_500_000_000,
            retained_days=1,
            expires_days=7,
            interval_days=7,
        ),
    )
}

LEARNT: Final = TEMPLATES["BasicLiveData"]
