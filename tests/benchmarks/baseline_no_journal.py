"""The loader with a journal that writes nothing down while it runs: what it then saves is what the journal costs."""

from collections.abc import Sequence
from typing import Any

from cdf_upsert import cli
from cdf_upsert.cli import loading
from cdf_upsert.core.record import Record
from cdf_upsert.core.standing import Checkpoint, Settlement
from cdf_upsert.journal import Journal, open_journal


class Silent:
    """A journal that begins and ends a run, and hears nothing in between."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        """Give what the journal has."""
        return getattr(self._journal, name)

    def foresee(self, batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> None:
        """Do nothing."""

    async def intend(self, batch: int) -> None:
        """Do nothing."""

    async def settle(self, settlement: Settlement) -> None:
        """Do nothing."""

    def passed(self, checkpoint: Checkpoint) -> None:
        """Do nothing."""


if __name__ == "__main__":
    loading.open_journal = lambda *args, **how: Silent(open_journal(*args, **how))  # type: ignore[assignment,return-value]
    cli.main()
