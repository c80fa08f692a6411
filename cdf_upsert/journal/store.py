"""The journal's SQLite file: facts in the order in which they happened, the failed records, and the runs.

What happened is one row of `entry` for each transaction: facts, appended. Now and then they are folded into
the one row of `snapshot`. Write-ahead logging with `synchronous=NORMAL`: a commit survives a killed
process, and a power failure leaves the state of an earlier commit.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from cdf_upsert.core.record import Key
from cdf_upsert.errors import UsageError
from cdf_upsert.journal.facts import (
    Fact,
    Snapshot,
    State,
    decode_snapshot,
    encode_snapshot,
    entry_of,
    facts_of,
)
from cdf_upsert.journal.identity import Identity

VERSION = 2
"""Of the tables; a journal of another version is refused."""

_APPLICATION = 0x63646675  # "cdfu", SQLite's `application_id`.

_WAL_PAGES = 4000  # 16 MB: only when the log is so long is the disk waited for.

_FOLD_BYTES = 1_000_000  # Entries of more than this, and of eight times the snapshot, are folded.

_TABLES = f"""
BEGIN;
CREATE TABLE load (identity BLOB NOT NULL);
CREATE TABLE run (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, started TEXT NOT NULL, failed_file TEXT NOT NULL,
    failed_inode INTEGER, ended TEXT, outcome TEXT, reason TEXT
);
CREATE TABLE snapshot (body BLOB NOT NULL);
CREATE TABLE entry (number INTEGER PRIMARY KEY, run INTEGER NOT NULL, facts BLOB NOT NULL);
CREATE TABLE failed (
    ordinal INTEGER PRIMARY KEY, run INTEGER NOT NULL, space TEXT, external_id TEXT, class TEXT NOT NULL,
    superseded_by BLOB, line BLOB NOT NULL
);
CREATE INDEX failed_key ON failed (external_id, space) WHERE external_id IS NOT NULL;
CREATE TABLE heard (input INTEGER NOT NULL, length INTEGER NOT NULL, checksum INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class DamagedError(Exception):
    """A journal cannot be read; the text says what is wrong with it. Never leaves this package."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What cannot be read because of what is written there is damage; what a disk or a lock hinders is not.

    Raises:
        DamagedError: what is written is not what this program writes.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, sqlite3.OperationalError) and code not in {None, sqlite3.SQLITE_ERROR}:
            raise
        raise DamagedError(str(error)) from error
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise DamagedError(str(error)) from error


def _sealed(body: bytes) -> bytes:
    """`body` behind its checksum: SQLite does not notice when a byte of it changes on the disk."""
    return crc32(body).to_bytes(4, "little") + body


def _unsealed(sealed: bytes) -> bytes:
    """What was sealed; where it has changed since, a ValueError."""
    body = sealed[4:]
    if crc32(body) != int.from_bytes(sealed[:4], "little"):
        raise ValueError("a checksum does not match")
    return body


class Run(Struct, frozen=True):
    """One run: times are ISO 8601 in UTC; a run without an end was cut off, or is under way."""

    number: int
    id: str
    started: str
    failed_file: str
    failed_inode: int | None = None
    ended: str | None = None
    outcome: str | None = None
    reason: str | None = None


class FailedRow(Struct, frozen=True):
    """One failed record: `line` is its line of the failed file, without a newline."""

    ordinal: int
    key: Key | None
    kind: str
    line: bytes
    superseded_by: bytes | None = None


class Store:
    """One open journal file. Used by one thread at a time; raises `sqlite3.Error`.

    Raises:
        DamagedError: (on opening) it is no journal, or it is broken.
        UsageError: (on opening) it is a journal of another version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if not read_only:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None)
        self._logged = 0
        self._folded = 0
        try:
            self._open(read_only=read_only)
        except BaseException:
            self._db.close()
            raise

    def _open(self, *, read_only: bool) -> None:
        with _reading():
            if read_only:
                self._db.execute("BEGIN")  # What is read is of one moment, while a run may go on.
            version = self._one("PRAGMA user_version")
            if version == 0 and not read_only and self._one("SELECT count(*) FROM sqlite_master") == 0:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(_TABLES)
            elif self._one("PRAGMA application_id") != _APPLICATION:
                raise DamagedError("it is no journal")
            elif version != VERSION:
                raise UsageError(
                    f"{self.path} was written by another version of cdf-upsert (journal version {version}, "
                    f"this one knows {VERSION}): go on with that version, or choose another --run-dir."
                )
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                if (found := self._one("PRAGMA integrity_check(1)")) != "ok":
                    raise DamagedError(str(found))

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._db.close()

    # ------------------------------------------------------------------ the load and its runs

    def identity(self) -> Identity | None:
        """The load that the journal is of; None when there is none yet.

        Raises:
            DamagedError: what is written is not what this program writes.
        """
        with _reading():
            encoded = self._one("SELECT identity FROM load")
            return None if encoded is None else msgspec.json.decode(_unsealed(encoded), type=Identity)

    def reset(self, identity: Identity, run: Run) -> None:
        """Forget all, and be the journal of another load, the first run of which begins."""
        with self.transaction():
            for table in ("load", "run", "snapshot", "entry", "failed", "heard"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608  Names of ours.
            self._db.execute("INSERT INTO load VALUES (?)", (_sealed(msgspec.json.encode(identity)),))
            self.begin_run(run)
        self._logged = self._folded = 0
        self._db.execute("VACUUM")

    def renew(self, identity: Identity) -> None:
        """Write down where the inputs of the same load are now."""
        self._db.execute("UPDATE load SET identity = ?", (_sealed(msgspec.json.encode(identity)),))

    def last_run(self) -> Run | None:
        """The latest run.

        Raises:
            DamagedError: what is written is not what this program writes.
        """
        with _reading():
            rows = self._db.execute(
                "SELECT number, id, started, failed_file, failed_inode, ended, outcome, reason FROM run "
                "ORDER BY number DESC LIMIT 1"
            )
            return next((Run(*row) for row in rows), None)

    def begin_run(self, run: Run) -> None:
        """Write down that a run begins."""
        self._db.execute(
            "INSERT INTO run (number, id, started, failed_file, failed_inode) VALUES (?, ?, ?, ?, ?)",
            (run.number, run.id, run.started, run.failed_file, run.failed_inode),
        )

    def own_file(self, number: int, inode: int | None) -> None:
        """Write down which file the failed file of a run is."""
        self._db.execute("UPDATE run SET failed_inode = ? WHERE number = ?", (inode, number))

    def end_run(self, number: int, ended: str, outcome: str, reason: str) -> None:
        """Write down how a run ended."""
        self._db.execute(
            "UPDATE run SET ended = ?, outcome = ?, reason = ? WHERE number = ?",
            (ended, outcome, reason, number),
        )

    # ------------------------------------------------------------------ facts

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing; within another one, a part of that."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def begin(self) -> None:
        """Begin a transaction unless one is open: for more than one entry."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def roll_back(self) -> None:
        """Forget what is not committed; where even that fails, SQLite does it when the file is opened again."""
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def append(self, run: int, some: Sequence[Fact]) -> None:
        """Commit what is open, together with facts of run number `run`."""
        if some:
            entry = entry_of(some)
            self._db.execute("INSERT INTO entry (run, facts) VALUES (?, ?)", (run, _sealed(entry)))
            self._logged += len(entry)
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    @property
    def long(self) -> bool:
        """Whether so many facts have come since the last snapshot that another is due."""
        return self._logged > max(_FOLD_BYTES, 8 * self._folded)

    def fold(self, state: State) -> None:
        """Put a snapshot of `state`, which all entries add up to, in their place."""
        state.forget_closed()
        body = encode_snapshot(state.snapshot())
        with self.transaction():
            self._db.execute("DELETE FROM snapshot")
            self._db.execute("DELETE FROM entry")
            self._db.execute("INSERT INTO snapshot VALUES (?)", (_sealed(body),))
        self._logged, self._folded = 0, len(body)

    def state(self) -> State:
        """How the load stands.

        Raises:
            DamagedError: what is written is not what this program writes.
        """
        with _reading():
            body = self._one("SELECT body FROM snapshot")
            state = State.of(Snapshot() if body is None else decode_snapshot(_unsealed(body)))
            for run, entry in self._db.execute("SELECT run, facts FROM entry ORDER BY number"):
                for fact in facts_of(_unsealed(entry)):
                    state.apply(run, fact)
        return state

    def see_readable(self) -> None:
        """Read the rest of what a run has to know, now that a damaged journal can still be set aside.

        Raises:
            DamagedError: what is written is not what this program writes.
        """
        self.identity()
        self.last_run()
        with _reading():
            for _, _, line in self._db.execute("SELECT space, external_id, line FROM failed"):
                _unsealed(line)

    # ------------------------------------------------------------------ failed records

    def failed_count(self) -> int:
        """How many records are failed now."""
        return int(self._one("SELECT count(*) FROM failed"))

    def failed_kind(self, ordinal: int) -> str | None:
        """Why record number `ordinal` is failed now, as a `FailureClass`; None when it is not."""
        rows = self._db.execute("SELECT class FROM failed WHERE ordinal = ?", (ordinal,))
        return next((kind for (kind,) in rows), None)

    def add_failed(self, run: int, rows: Iterable[FailedRow]) -> None:
        """Write down records that failed in run number `run`, and of which nothing else is known."""
        self._db.executemany(
            "INSERT INTO failed (ordinal, run, space, external_id, class, superseded_by, line) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (row.ordinal, run, *(row.key or (None, None)), row.kind, row.superseded_by, _sealed(row.line))
                for row in rows
            ),
        )

    def drop_failed(self, spans: Iterable[tuple[int, int]]) -> int:
        """Forget failures of ordinals that are settled otherwise now; how many there were."""
        return sum(
            self._db.execute("DELETE FROM failed WHERE ordinal >= ? AND ordinal < ?", span).rowcount
            for span in spans
        )

    def drop_marked(self) -> int:
        """Forget failed records that a newer version has taken the place of; how many there were."""
        return self._db.execute("DELETE FROM failed WHERE superseded_by IS NOT NULL").rowcount

    def drop_failed_from(self, ordinal: int) -> list[int]:
        """Forget the failures of `ordinal` and of what follows it; their ordinals."""
        rows = self._db.execute("DELETE FROM failed WHERE ordinal >= ? RETURNING ordinal", (ordinal,))
        return [ordinal for (ordinal,) in rows]

    def mark(self, key: Key, below: int, superseded_by: bytes) -> int:
        """Mark failed versions of `key` that are older than the ordinal `below`; how many there were."""
        return self._db.execute(
            "UPDATE failed SET superseded_by = ? WHERE external_id = ? AND space = ? AND ordinal < ? "
            "AND superseded_by IS NULL",
            (superseded_by, key[1], key[0], below),
        ).rowcount

    def failed_keys(self) -> Iterator[Key]:
        """The keys of failed records that are not marked."""
        yield from self._db.execute(
            "SELECT space, external_id FROM failed WHERE external_id IS NOT NULL AND superseded_by IS NULL"
        )

    def failed_lines(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Lines and marks of all failed records, in input order."""
        for line, mark in self._db.execute("SELECT line, superseded_by FROM failed ORDER BY ordinal"):
            yield _unsealed(line), mark

    def failed_before(self, run: int, after: int, nbytes: int) -> list[tuple[int, bytes]]:
        """Ordinals and lines of records that failed before run number `run`, with an ordinal above `after`.

        They end when they are more than `nbytes`; none means that there are no more.
        """
        rows = self._db.execute(
            "SELECT ordinal, line FROM failed WHERE ordinal > ? AND run < ? AND superseded_by IS NULL "
            "ORDER BY ordinal",
            (after, run),
        )
        found: list[tuple[int, bytes]] = []
        with contextlib.closing(rows):
            for ordinal, line in rows:
                found.append((ordinal, _unsealed(line)))
                nbytes -= len(line)
                if nbytes < 0:
                    break
        return found

    # ------------------------------------------------------------------ inputs that can be read only once

    def add_heard(self, index: int, mark: tuple[int, int]) -> None:
        """Keep the length and the checksum of what was read of input number `index`."""
        self._db.execute("INSERT INTO heard VALUES (?, ?, ?)", (index, *mark))

    def heard(self, index: int) -> list[tuple[int, int]]:
        """(length, checksum) of input number `index`, from short to long."""
        return list(
            self._db.execute("SELECT length, checksum FROM heard WHERE input = ? ORDER BY length", (index,))
        )

    def _one(self, query: str) -> Any:
        row = self._db.execute(query).fetchone()
        return None if row is None else row[0]
