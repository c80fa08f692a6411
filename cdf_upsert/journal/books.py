"""The journal of one run: the engine's books, kept in the run directory."""

import contextlib
import errno
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.record import Failed, Key, Record, Span, keys_of, picked
from cdf_upsert.core.standing import Again, Checkpoint, Settlement, Standing
from cdf_upsert.errors import LoaderError
from cdf_upsert.journal import facts
from cdf_upsert.journal.cases import Case, sentence
from cdf_upsert.journal.failures import FailedFile, line_of, mark_of, marked
from cdf_upsert.journal.lock import Lock
from cdf_upsert.journal.names import REPORT
from cdf_upsert.journal.same import SameBytes
from cdf_upsert.journal.store import FailedRow, Run, Store

AGAIN_BYTES = 1_000_000
"""What is read of earlier failures at a time, and one line more."""

_SLOTS: Final = 1 << 20


class KeyFilter:
    """Finds the few of many keys that may have a failed version, in a fixed megabyte of memory.

    It may name a key too many, never one too few.
    """

    def __init__(self) -> None:
        self._slots: bytearray | None = None

    def add(self, key: Key) -> None:
        """Know a key."""
        if self._slots is None:
            self._slots = bytearray(_SLOTS)
        self._slots[hash(key) % _SLOTS] = 1

    def among(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of `records` whose key may be known."""
        slots = self._slots
        if slots is None:
            return ()
        return picked(records, [at for at, key in enumerate(keys_of(records)) if slots[hash(key) % _SLOTS]])


class Opened(Struct, frozen=True):
    """What `open_journal` has found and made ready."""

    directory: Path
    lock: Lock
    store: Store
    state: facts.State
    run: Run
    case: Case
    standing: Standing
    failed_file: FailedFile
    kept: Sequence[Path] = ()
    same: dict[int, SameBytes] = field(default_factory=dict)
    inputs: int = 1


class Journal:
    """Keeps the books of one run (`load.ports.Books`), and the failed file.

    `standing` is where the run begins, `first_line` says which case it is. What is awaited has survived a
    killed process when it returns, and whatever cannot be written raises `LoaderError`.
    """

    def __init__(self, opened: Opened) -> None:
        self.directory = opened.directory
        self.case = opened.case
        self.standing = opened.standing
        self.kept = tuple(opened.kept)
        self.failed_path = opened.failed_file.path
        self.report_path = opened.directory / REPORT
        self._lock = opened.lock
        self._store = opened.store
        self._state = opened.state
        self._run = opened.run
        self._file = opened.failed_file
        self._same = opened.same
        self._inputs = opened.inputs
        self._failures = opened.store.failed_count()
        self._filter = KeyFilter()
        for key in opened.store.failed_keys():
            self._filter.add(key)
        self._earlier_failures = opened.standing.again
        self._tidy = opened.standing.again == 0
        self._last_failed = -1
        self._under_way: dict[int, facts.Sent] = {}
        self._foreseen: set[int] = set()  # Batches that no request has had yet.
        self._noted: set[int] = set()  # Those of them that only the memory knows of.
        self._facts: list[facts.Fact] = []
        self._lines: list[bytes] = []
        self._read: deque[Checkpoint] = opened.state.read
        self._total: int | None = None
        self._closed = False
        self._error: OSError | sqlite3.Error | None = None

    @property
    def name(self) -> str:
        """The load's name: that of its run directory."""
        return self.directory.name

    @property
    def first_line(self) -> str:
        """Which case the run is, and what was kept aside for it."""
        line = sentence(self.case, self.name)
        kept = ", ".join(map(str, self.kept))
        return f"{line}; records that failed before are kept in {kept}" if kept else line

    @property
    def failures(self) -> int:
        """How many records of the load are failed now."""
        return self._failures

    def same_bytes(self, index: int) -> SameBytes | None:
        """Hears the uncompressed bytes of input number `index`, when they can be read only once."""
        return self._same.get(index)

    # ------------------------------------------------------------------ the engine's books

    async def again(self) -> AsyncIterator[Sequence[Again]]:
        """The failed records of the earlier runs, some at a time, in input order."""
        after = -1
        while True:
            with self._guarded():
                rows = self._store.failed_before(self._run.number, after, AGAIN_BYTES)
            if not rows:
                return
            after = rows[-1][0]
            yield [Again(ordinal, line) for ordinal, line in rows]

    def foresee(self, batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> None:
        """Note that `records` will be sent as batch number `batch`; it is written with whatever is written next.

        `overtaking` are those of them of which an older version waits.
        """
        if self._failures:
            # The next run tries failed versions again, so that these are overtaken, too.
            overtaking = [*overtaking, *self._filter.among(records)]
        fact = facts.sent(batch, records, overtaking)
        self._under_way[batch] = fact
        self._foreseen.add(batch)
        self._noted.add(batch)
        self._write(fact)

    async def intend(self, batch: int) -> None:
        """See that the journal knows of batch number `batch`, which is about to be sent.

        Raises:
            LoaderError: the journal cannot be written.
        """
        with self._guarded():
            if batch in self._noted:
                self._commit()
            self._foreseen.discard(batch)

    async def settle(self, settlement: Settlement) -> None:
        """Write down final outcomes, and failed records into the failed file.

        Raises:
            LoaderError: the journal or the failed file cannot be written.
        """
        fact, done = self._settled(settlement)
        with self._guarded():
            self._write(fact)
            self._hear()
            if self._earlier_failures:
                self._settle_again(done)
            if settlement.failed:
                self._fail(settlement.failed)
            if self._failures:
                self._mark(settlement.accepted)
            self._commit()

    def _settled(self, settlement: Settlement) -> tuple[facts.Settled, Sequence[Span]]:
        """What is settled, as a fact, and the ordinals of it that did not fail."""
        sent = None if settlement.closed is None else self._under_way.pop(settlement.closed, None)
        opened = [
            facts.sent(batch, records, records) if sent is None else sent.part(batch, records)
            for batch, records in settlement.opened
        ]
        self._under_way.update((one.batch, one) for one in opened)
        accepted, others = settlement.accepted, [*settlement.superseded, *settlement.failed]
        if sent is not None and len(accepted) == sent.count and not others and not settlement.skipped:
            # All of the batch was accepted, as nearly always: its ordinals are known.
            done = every = sent.spans
        else:
            ordinals = [record.ordinal for record in (*accepted, *settlement.superseded)]
            ordinals += settlement.skipped
            done = facts.spans_of(ordinals)
            every = facts.spans_of([*ordinals, *(failed.ordinal for failed in settlement.failed)])
        superseded = len(settlement.superseded) + len(settlement.skipped)
        return facts.Settled(every, len(accepted), superseded, settlement.closed, opened), done

    def passed(self, checkpoint: Checkpoint) -> None:
        """All records before `checkpoint` have been read; written down with the next settlement."""
        self._read.append(checkpoint)
        if checkpoint.index == self._inputs:
            self._total = checkpoint.ordinal

    # ------------------------------------------------------------------ the end

    def finish(self, outcome: Outcome, reason: str, now: datetime) -> None:
        """Write down how the run ended, and make the failed file hold exactly what is failed, in input order.

        After an error of the journal it does what can still be done: the run counts as cut off.

        Raises:
            LoaderError: the journal or the failed file cannot be written.
        """
        if self._error is None:
            with self._guarded():
                self._end(outcome, reason, now)
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            self._tidy_file()

    def close(self) -> None:
        """Let go of the run directory. It may be called again."""
        if self._closed:
            return
        self._closed = True
        self._file.close()
        with contextlib.suppress(sqlite3.Error):  # The write-ahead log stays, and is read by the next run.
            self._store.close()
        self._lock.release()

    # ------------------------------------------------------------------ writing

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Errors of the disk become sentences. After one nothing is written any more.

        What the memory knows and what is written down may differ from then on.
        """
        if self._error is not None:
            raise self._told(self._error)
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._error = error
            self._store.roll_back()
            raise self._told(error) from error

    def _hear(self) -> None:
        """Write down what was read of inputs that can be read only once."""
        for index, same in self._same.items():
            if (latest := same.latest) is not None:
                self._write(facts.Heard(index, *latest, ended=same.ended))
            if (kept := same.keep()) is not None:
                self._store.begin()
                self._store.add_heard(index, kept)

    def _write(self, fact: facts.Fact) -> None:
        self._state.apply(self._run.number, fact)
        self._facts.append(fact)

    def _commit(self) -> None:
        if (moved := self._state.move()) is not None:
            self._write(moved)
        if self._total is not None and self._total != self._state.total:
            self._write(facts.Counted(self._total))
        self._store.append(self._run.number, self._facts)
        self._facts = []
        self._noted.clear()
        if self._lines:
            if self._file.append(self._lines):
                self._store.own_file(self._run.number, self._file.inode)
            self._lines = []
        if self._store.long:
            self._store.fold(self._state)

    def _settle_again(self, spans: Sequence[Span]) -> None:
        """Forget earlier failures of records that are settled otherwise now."""
        self._store.begin()
        if dropped := self._store.drop_failed(spans):
            self._earlier_failures -= dropped
            self._failures -= dropped

    def _fail(self, failed: Sequence[Failed]) -> None:
        if self._earlier_failures:
            self._settle_again(facts.spans_of([one.ordinal for one in failed]))
        self._store.begin()
        rows = [_row(one) for one in failed]
        self._store.add_failed(self._run.number, rows)
        self._failures += len(rows)
        for row in rows:
            if row.key is not None:
                self._filter.add(row.key)
            self._tidy = self._tidy and row.ordinal > self._last_failed
            self._last_failed = row.ordinal
            self._lines.append(marked(row.line, row.superseded_by))

    def _mark(self, accepted: Sequence[Record]) -> None:
        """Mark failed records of which a newer version is accepted now."""
        for record in self._filter.among(accepted):
            self._store.begin()
            if self._store.mark(record.key, record.ordinal, mark_of(record.place)):
                self._tidy = False

    def _end(self, outcome: Outcome, reason: str, now: datetime) -> None:
        self._tidy_file()
        for batch in self._foreseen:
            self._write(facts.Settled((), 0, 0, batch, ()))
        self._hear()
        self._store.begin()
        if self._file.inode is not None:
            self._store.own_file(self._run.number, self._file.inode)
        self._store.end_run(self._run.number, instant(now), outcome, reason)
        self._commit()
        self._store.fold(self._state)

    def _tidy_file(self) -> None:
        if not self._tidy:
            self._file.rewrite(marked(*line) for line in self._store.failed_lines())
            self._tidy = True

    def _told(self, error: OSError | sqlite3.Error) -> LoaderError:
        """An error of the disk as a sentence for the user."""
        if isinstance(error, OSError):
            path, why = self.failed_path, error.strerror or str(error)
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        else:
            path, why = self._store.path, str(error)
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        mend = "make room there" if full else "check the disk and the permissions"
        return LoaderError(
            f"{path} cannot be written ({why}): {mend}, then give the same command again to go on."
        )


def instant(moment: datetime) -> str:
    """A moment as the journal writes it: ISO 8601 in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _row(failed: Failed) -> FailedRow:
    mark = None if failed.superseded_by is None else mark_of(failed.superseded_by)
    return FailedRow(failed.ordinal, failed.key, failed.failure.kind, line_of(failed), mark)
