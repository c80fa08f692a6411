"""The loads that a directory knows, and how they stand; read beside a run that may be under way."""

import contextlib
import sqlite3
from enum import StrEnum
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.core.events import Outcome
from cdf_upsert.errors import BusyError, UsageError
from cdf_upsert.journal.failures import FailedFile
from cdf_upsert.journal.identity import Identity
from cdf_upsert.journal.lock import Holder, Lock, held, holder
from cdf_upsert.journal.names import JOURNAL, LOCK, OURS
from cdf_upsert.journal.store import DamagedError, Run, Store


class LoadState(StrEnum):
    """How a load stands."""

    UNDER_WAY = "under way"
    UNFINISHED = "unfinished"
    FAILURES = "failures"
    COMPLETE = "complete"
    UNREADABLE = "unreadable"


class KnownLoad(Struct, frozen=True, rename="camel"):
    """One load. Times are ISO 8601 in UTC; `to_go` is None until a run has read to the end of the inputs.

    `accepted` and `superseded` count the records of all its runs, `failed` those that are failed now. What cannot
    be read says why in `reason`.
    """

    directory: str
    state: LoadState
    stream: str | None = None
    project: str | None = None
    base_url: str | None = None
    inputs: tuple[str, ...] = ()
    run: int | None = None
    run_id: str | None = None
    started: str | None = None
    ended: str | None = None
    outcome: str | None = None
    reason: str | None = None
    accepted: int = 0
    superseded: int = 0
    failed: int = 0
    to_go: int | None = None
    failed_file: str | None = None
    holder: Holder | None = None


def known_loads(root: Path) -> list[KnownLoad]:
    """The loads whose run directories are below `root`, the latest run first.

    Raises:
        UsageError: `root` cannot be read.
    """
    try:
        directories = [one for one in root.iterdir() if (one / JOURNAL).exists()] if root.exists() else []
    except OSError as error:
        raise UsageError(f"{root} cannot be read ({error.strerror}): check the permissions.") from error
    loads = [known_load(directory) for directory in directories]
    return sorted(loads, key=lambda load: (load.started or "", load.directory), reverse=True)


def known_load(directory: Path) -> KnownLoad:
    """How the load in a run directory stands."""
    load = _read(directory)
    if load.state is not LoadState.UNREADABLE and held(directory / LOCK):
        return replace(load, state=LoadState.UNDER_WAY, holder=holder(directory / LOCK))
    return load


def remove_finished(directory: Path) -> bool:
    """Take away the run directory of a load that is complete; whether that was done.

    It stays while a run is under way, and while it `holds_failed`. Files that are not ours stay in any case.

    Raises:
        OSError: a file cannot be removed.
    """
    if holds_failed(directory):
        return False
    try:
        lock = Lock.take(directory / LOCK, None)
    except BusyError:
        return False
    try:
        if _read(directory).state is not LoadState.COMPLETE:
            return False
        for pattern in OURS:
            for path in directory.glob(pattern):
                path.unlink()
    finally:
        lock.release()
    with contextlib.suppress(OSError):
        directory.rmdir()
    return True


def holds_failed(directory: Path) -> bool:
    """Whether a failed file with records is there, which also an earlier load or run may have left."""
    return any(FailedFile(path).holds_records for path in directory.glob("failed*.ndjson"))


def _read(directory: Path) -> KnownLoad:
    """What the journal says, whether or not a run is under way."""
    try:
        with contextlib.closing(Store(directory / JOURNAL, read_only=True)) as store:
            identity, run = store.identity(), store.last_run()
            if identity is None or run is None:
                return KnownLoad(str(directory), LoadState.UNREADABLE, reason="The journal is empty.")
            return _told(directory, store, identity, run)
    except (DamagedError, UsageError, sqlite3.Error) as error:
        why = str(error).rstrip(".")
        return KnownLoad(str(directory), LoadState.UNREADABLE, reason=f"The journal cannot be read: {why}.")


def _told(directory: Path, store: Store, identity: Identity, run: Run) -> KnownLoad:
    state, failed = store.state(), store.failed_count()
    match run.outcome:
        case Outcome.COMPLETE | Outcome.FAILURES:
            how = LoadState.FAILURES if failed else LoadState.COMPLETE
        case _:
            how = LoadState.UNFINISHED
    return KnownLoad(
        directory=str(directory),
        state=how,
        stream=identity.stream,
        project=identity.project,
        base_url=identity.base_url,
        inputs=tuple(one.path for one in identity.inputs),
        run=run.number,
        run_id=run.id,
        started=run.started,
        ended=run.ended,
        outcome=run.outcome,
        reason=run.reason,
        accepted=state.accepted,
        superseded=state.superseded,
        failed=failed,
        to_go=None if state.total is None else state.total - len(state.ranges()),
        failed_file=run.failed_file if failed else None,
    )
