"""Journals for tests: the same load, opened again and again, also after a kill."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cdf_upsert.core.framing import Place
from cdf_upsert.core.record import Failed, Failure, FailureClass, Record
from cdf_upsert.core.standing import Again
from cdf_upsert.journal import Identity, Journal, identify, open_journal

FAST = next((path for path in (Path("/dev/shm"),) if path.is_dir()), None)
"""Where laws put the many directories that they make: in memory where that is to be had, as a disk takes its time."""

NOW = datetime(2026, 5, 28, 10, 15, tzinfo=UTC)


def make_plan(*inputs: str, stream: str = "events", project: str = "p", fmt: str = "auto") -> Identity:
    return identify(base_url="https://cdf.test", project=project, stream=stream, inputs=inputs, fmt=fmt)


def make_input(directory: Path, text: str = "{}\n", name: str = "a.ndjson") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def open_run(
    plan: Identity, directory: Path, run_id: str = "one", *, fresh: bool = False, failed: Path | None = None
) -> Journal:
    return open_journal(plan, directory, run_id=run_id, now=NOW, fresh=fresh, failed=failed)


def copied(directory: Path, to: Path) -> Path:
    """The run directory as a process that was killed at this moment would have left it."""
    to.mkdir(mode=0o700)
    for path in directory.iterdir():
        if not path.name.endswith("-shm"):  # Memory that processes share: after a kill nobody trusts it.
            shutil.copy(path, to / path.name)
    return to


def make_failed(record: Record, message: str = "why", kind: FailureClass = FailureClass.REJECTED) -> Failed:
    failure = Failure(kind, message, 400, "request-1", 2)
    return Failed(record.ordinal, record.place, failure, record.text, record.key)


def make_unreadable(ordinal: int, text: bytes) -> Failed:
    place = Place("a.ndjson", ordinal + 1, ordinal + 1, ordinal * 1000, len(text))
    return Failed(ordinal, place, Failure(FailureClass.UNREADABLE, "not JSON"), text)


async def intend(
    journal: Journal, batch: int, records: Sequence[Record], overtaking: Sequence[Record]
) -> None:
    journal.foresee(batch, records, overtaking)
    await journal.intend(batch)


async def all_again(journal: Journal) -> list[Again]:
    return [one async for some in journal.again() for one in some]
