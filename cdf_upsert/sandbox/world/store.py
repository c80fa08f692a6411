"""Where the world's state lies: SQLite, in a directory or in memory. It knows tables and no rules.

Each stream has a table of its own, in the order of changes (`seq`), with one row per identity: for a mutable
stream the key `space.externalId`, for an immutable one the key, NUL and a digest of the content.
"""
# ruff: noqa: S608 - what stands in the statements is numbers of our own: of tables, states and times

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from cdf_upsert.sandbox.problem import SandboxBusyError, SandboxError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS space (space TEXT PRIMARY KEY, definition BLOB, created INTEGER, updated INTEGER);
CREATE TABLE IF NOT EXISTS container (
    id INTEGER PRIMARY KEY AUTOINCREMENT, space TEXT, external_id TEXT, definition BLOB,
    created INTEGER, updated INTEGER, learnt INTEGER, UNIQUE (space, external_id));
CREATE TABLE IF NOT EXISTS stream (
    id INTEGER PRIMARY KEY AUTOINCREMENT, external_id TEXT UNIQUE, template TEXT, created INTEGER,
    records INTEGER, bytes INTEGER);
"""


# What a slice may cost, in bytes of bodies; each row costs as much as a body of so many bytes besides.
_SLICE: Final = 300_000
_ROW: Final = 1000


class State(IntEnum):
    """What the last change of a record was."""

    CREATED = 0
    UPDATED = 1
    DELETED = 2


class Row(NamedTuple):
    """One record as it is kept: times in milliseconds, the body as JSON `{container id: properties}`."""

    seq: int
    identity: str
    created: int
    updated: int
    state: int
    body: bytes


class Present(NamedTuple):
    """What is known of an identity before a write."""

    created: int
    state: int
    size: int


@dataclass(frozen=True, slots=True)
class Writes:
    """What one request writes, all at one time in milliseconds.

    `created` has identity and body; `updated` identity, the time of creation and body; `deleted` identity and
    the time of creation.
    """

    now: int
    created: Sequence[tuple[str, bytes]] = ()
    updated: Sequence[tuple[str, int, bytes]] = ()
    deleted: Sequence[tuple[str, int]] = ()


class StreamRow(NamedTuple):
    """One stream as it is kept."""

    id: int
    external_id: str
    template: str
    created: int
    records: int
    bytes: int


@dataclass(slots=True)
class _Walk:
    """A walk over a stream: the change numbers where it stands and ends, and what was replaced ahead of it."""

    after: int
    last: int
    kept: list[Row] = field(default_factory=list)

    def merge(self, rows: list[Row]) -> list[Row]:
        """Rows up to where the walk stands now, with those that were replaced in their places."""
        if not self.kept:
            return rows
        here = [row for row in self.kept if row.seq <= self.after]
        self.kept = [row for row in self.kept if row.seq > self.after]
        return sorted(rows + here)


class Store:
    """The tables. Not for several threads at once: its one owner is the server's."""

    def __init__(self, directory: Path | None) -> None:
        """Open, or make, the state in a directory; None keeps it in memory.

        Raises:
            SandboxError: the directory cannot be used; SandboxBusyError: another sandbox holds it.
        """
        self._walks: dict[int, list[_Walk]] = {}
        place = ":memory:"
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SandboxError(
                    f"The sandbox cannot keep its state in {directory}: {error.strerror}."
                ) from error
            place = str(directory / "sandbox.sqlite")
        try:
            self._sql = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=1)
            self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = OFF")
            self._sql.execute("PRAGMA cache_size = -16000")
            self._sql.executescript(_SCHEMA)
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise SandboxBusyError(
                    f"Another sandbox holds {place}: try again when it has ended."
                ) from error
            raise SandboxError(f"The sandbox cannot keep its state in {place}: {error}.") from error

    def close(self) -> None:
        """Close the database; the state in a directory stays."""
        self._sql.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen, or none."""
        self._sql.execute("BEGIN")
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:  # a full disk has rolled it back already
                self._sql.execute("ROLLBACK")
            raise

    def spaces(self) -> list[tuple[bytes, int, int]]:
        """All spaces: definition, created, updated."""
        return self._sql.execute("SELECT definition, created, updated FROM space").fetchall()

    def put_space(self, space: str, definition: bytes, created: int, updated: int) -> None:
        """Keep a space."""
        self._sql.execute(
            "INSERT OR REPLACE INTO space VALUES (?, ?, ?, ?)", (space, definition, created, updated)
        )

    def delete_space(self, space: str) -> None:
        """Forget a space."""
        self._sql.execute("DELETE FROM space WHERE space = ?", (space,))

    def containers(self) -> list[tuple[int, bytes, int, int, int]]:
        """All containers: id, definition, created, updated, learnt."""
        return self._sql.execute("SELECT id, definition, created, updated, learnt FROM container").fetchall()

    def put_container(
        self,
        number: int | None,
        key: tuple[str, str],
        definition: bytes,
        created: int,
        updated: int,
        *,
        learnt: bool,
    ) -> int:
        """Keep a container under its number, or under a new one; returns the number."""
        self._sql.execute(
            "INSERT OR REPLACE INTO container VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, *key, definition, created, updated, learnt),
        )
        found = self._sql.execute(
            "SELECT id FROM container WHERE space = ? AND external_id = ?", key
        ).fetchone()
        return int(found[0])

    def delete_container(self, number: int) -> None:
        """Forget a container; its number is never used again."""
        self._sql.execute("DELETE FROM container WHERE id = ?", (number,))

    def streams(self) -> list[StreamRow]:
        """All streams."""
        return [StreamRow(*row) for row in self._sql.execute("SELECT * FROM stream")]

    def add_stream(self, external_id: str, template: str, created: int) -> int:
        """Keep a new stream; returns its number."""
        with self.transaction():
            done = self._sql.execute(
                "INSERT INTO stream VALUES (NULL, ?, ?, ?, 0, 0)", (external_id, template, created)
            )
            number = done.lastrowid
            assert number is not None  # an insert has a row id
            self._sql.execute(
                f"CREATE TABLE record_{number} (seq INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE,"
                " created INTEGER, updated INTEGER, state INTEGER, body BLOB)"
            )
            self._sql.execute(
                f"CREATE INDEX tombstone_{number} ON record_{number} (updated) WHERE state = {State.DELETED.value}"
            )
        return number

    def delete_stream(self, number: int) -> None:
        """Forget a stream and its records."""
        with self.transaction():
            self._sql.execute("DELETE FROM stream WHERE id = ?", (number,))
            self._sql.execute(f"DROP TABLE record_{number}")

    def present(self, stream: int, identities: Sequence[str]) -> dict[str, Present]:
        """What is known of those identities that are there, tombstones among them."""
        if identities and "\0" in identities[0]:  # JSON functions of SQLite end a text at NUL
            query = f"SELECT created, state, length(body) FROM record_{stream} WHERE identity = ?"
            pairs = ((identity, self._sql.execute(query, (identity,)).fetchone()) for identity in identities)
            return {identity: Present._make(row) for identity, row in pairs if row is not None}
        found = self._sql.execute(
            "SELECT r.identity, r.created, r.state, length(r.body) FROM json_each(?) AS wanted"
            f" CROSS JOIN record_{stream} AS r ON r.identity = wanted.value",
            (orjson.dumps(identities),),
        )
        return {row[0]: Present._make(row[1:]) for row in found}

    def write(self, stream: int, writes: Writes, records: int, size: int) -> None:
        """Put rows in place of those of the same identity, and note the stream's new totals.

        What all rows of a request share stands in the statement: binding it row by row takes as long as
        storing it.
        """
        if self._walks.get(stream):
            self._keep_for_walks(stream, writes)
        put = f"INSERT OR REPLACE INTO record_{stream} (identity, created, updated, state, body) VALUES"
        now = int(writes.now)
        with self.transaction():
            if writes.created:
                self._sql.executemany(f"{put} (?, {now}, {now}, {State.CREATED.value}, ?)", writes.created)
            if writes.updated:
                self._sql.executemany(f"{put} (?, ?, {now}, {State.UPDATED.value}, ?)", writes.updated)
            if writes.deleted:
                self._sql.executemany(f"{put} (?, ?, {now}, {State.DELETED.value}, '{{}}')", writes.deleted)
            self.put_totals(stream, records, size)

    def _keep_for_walks(self, stream: int, writes: Writes) -> None:
        """Hand the rows that a write is about to replace to the walks that have not come to them yet."""
        query = f"SELECT * FROM record_{stream} WHERE identity = ?"
        for one in (*writes.created, *writes.updated, *writes.deleted):
            for row in self._sql.execute(query, (one[0],)):
                for walk in self._walks[stream]:
                    if walk.after < row[0] <= walk.last:
                        walk.kept.append(Row._make(row))

    def put_totals(self, stream: int, records: int, size: int) -> None:
        """Note how much a stream holds."""
        self._sql.execute("UPDATE stream SET records = ?, bytes = ? WHERE id = ?", (records, size, stream))

    def slices(self, stream: int, *, after: int = 0) -> Iterator[list[Row]]:
        """All rows, tombstones among them, in the order of their last change, from a change number on.

        They come in slices, as they were when the walk began, however much is written between two slices.
        """
        query = f"SELECT * FROM record_{stream} WHERE seq > ? AND seq <= ? ORDER BY seq"
        last = self._sql.execute(f"SELECT coalesce(max(seq), 0) FROM record_{stream}").fetchone()[0]
        walk = _Walk(after, last)
        walks = self._walks.setdefault(stream, [])
        walks.append(walk)
        try:
            while walk.after < walk.last:
                found = self._sql.execute(query, (walk.after, walk.last))
                rows, room = [], _SLICE
                for row in found:
                    rows.append(Row._make(row))
                    room -= _ROW + len(row[-1])
                    if room <= 0:
                        break
                found.close()  # an open one would keep the table from being dropped
                walk.after = rows[-1].seq if room <= 0 else walk.last
                yield walk.merge(rows)
        finally:
            walks.remove(walk)

    def rows_of(self, stream: int, keys: Iterable[str]) -> list[Row]:
        """Rows of given keys, tombstones among them, in the order of their last change."""
        return sorted(
            Row._make(row)
            for key in keys
            for row in self._sql.execute(
                f"SELECT * FROM record_{stream} WHERE identity = ? OR (identity > ? AND identity < ?)",
                (key, f"{key}\0", f"{key}\1"),
            )
        )

    def spaces_in(self, stream: int) -> list[str]:
        """The spaces that a stream's records are in, found in as many steps as there are spaces."""
        query = f"SELECT identity FROM record_{stream} WHERE identity >= ? ORDER BY identity LIMIT 1"
        spaces: list[str] = []
        beyond = ""
        while (found := self._sql.execute(query, (beyond,)).fetchone()) is not None:
            spaces.append(found[0].partition(".")[0])
            beyond = f"{spaces[-1]}/"  # the character after the dot
        return spaces

    def expire(self, stream: int, before: int) -> tuple[int, int]:
        """Forget what was last changed before a time; returns how many records went, and their bytes."""
        condition = f"{self._old(stream)} AND updated < ?"
        gone = self._sql.execute(
            f"SELECT count(*), coalesce(sum(length(body) + length(identity)), 0) FROM record_{stream}"
            f" WHERE {condition}",
            (before,),
        ).fetchone()
        self._sql.execute(f"DELETE FROM record_{stream} WHERE {condition}", (before,))
        return int(gone[0]), int(gone[1])

    def expire_tombstones(self, stream: int, before: int) -> None:
        """Forget what was deleted before a time."""
        self._sql.execute(
            f"DELETE FROM record_{stream} WHERE state = {State.DELETED.value} AND updated < ? AND {self._old(stream)}",
            (before,),
        )

    def _old(self, stream: int) -> str:
        """All but the last change, which stays so that change numbers are never given twice."""
        return f"seq < (SELECT max(seq) FROM record_{stream})"
