"""The world: every operation of the API that has to do with spaces, containers, streams and records."""

from collections.abc import Container as Known, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cdf_upsert.sandbox.world.aggregates import aggregate
from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.reading import filter_records, sync_records
from cdf_upsert.sandbox.world.refusal import Refusal
from cdf_upsert.sandbox.world.store import Present, Row, State, Store
from cdf_upsert.sandbox.world.streams import Stream, Streams, is_deleted, key_of
from cdf_upsert.sandbox.world.writing import read_ids, read_records


class Operation(StrEnum):
    """The three ways to write records."""

    INGEST = "ingest"
    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A write whose request is good as far as can be said without the stored records.

    `keys` are `space.externalId` in the order of the request; `identities` are what they are stored under;
    `bodies` are empty for a delete.
    """

    operation: Operation
    stream: Stream
    keys: Sequence[str]
    identities: Sequence[str]
    bodies: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """What a prepared write would do: its rows' forerunners, keys that exist already where they must not, amounts."""

    present: Mapping[str, Present]
    conflicts: frozenset[str]
    created: int
    changed: int
    bytes: int


class World:
    """The state behind one project. Not for several threads at once."""

    def __init__(self, directory: Path | None = None, *, strict: bool = True, visible_after: int = 0) -> None:
        """Open the state in a directory, or an empty one in memory.

        Args:
            directory: where the state is kept; None for memory.
            strict: whether spaces, containers and streams must be declared before they are used.
            visible_after: milliseconds until readers see what was written.

        Raises:
            SandboxError: the directory cannot be used.
        """
        self.strict = strict
        self._store = Store(directory)
        self.models = Models(self._store)
        self.streams = Streams(self._store, strict=strict, visible_after=visible_after)

    def close(self) -> None:
        """Keep what readers do not see yet, and close the state."""
        self.streams.flush()
        self._store.close()

    def retrieve_stream(self, stream_id: str, now: int, *, statistics: bool = False) -> dict[str, Any]:
        """One stream as the API returns it."""
        return self.streams.get(stream_id, now).read(statistics=statistics)

    def prepare(self, operation: Operation, stream_id: str, body: bytes, now: int) -> Prepared:
        """Decode and check a write.

        Raises:
            Refusal: 400, 404, or 422 for an immutable stream or a key that stands twice.
        """
        stream = self.streams.get(stream_id, now)
        mutable = stream.template.mutable
        if operation is not Operation.INGEST and not mutable:
            raise Refusal(
                422, f"The stream `{stream_id}` is immutable: its records cannot be updated or deleted."
            )
        bodies: list[bytes] = []
        if operation is Operation.DELETE:
            keys = read_ids(body)
        else:
            keys, bodies = read_records(body, self.models, strict=self.strict, now=now)
        if not mutable:
            return Prepared(operation, stream, keys, _immutable_identities(keys, bodies), bodies)
        if len(set(keys)) < len(keys):
            raise Refusal(
                422,
                "Some record identifiers are duplicated in the request.",
                duplicated=[{"externalId": key} for key in _twice(keys)],
            )
        return Prepared(operation, stream, keys, keys, bodies)

    def measure(self, prepared: Prepared) -> Change:
        """What the write would do to what is stored now."""
        present = self.streams.present(prepared.stream, list(prepared.identities))
        alive = {identity for identity, one in present.items() if not is_deleted(one)}
        if prepared.operation is Operation.DELETE:
            return Change(present, frozenset(), 0, len(alive), 0)
        size = sum(map(len, prepared.bodies)) + sum(map(len, prepared.keys))
        created = len(prepared.keys) - len(alive)
        if prepared.operation is Operation.UPSERT:
            return Change(present, frozenset(), created, len(alive), size)
        conflicts = frozenset(alive) if prepared.stream.template.mutable else frozenset()
        return Change(present, conflicts, created, 0, size)

    def apply(self, prepared: Prepared, change: Change, now: int, *, leave_out: Known[str] = ()) -> None:
        """Write, except the keys to leave out; `change` must have been measured just before.

        Raises:
            Refusal: 429 when the stream is full.
        """
        stream = prepared.stream
        if prepared.operation is Operation.DELETE:
            rows, records, size = _deleted(prepared, change, now, leave_out)
        else:
            rows, records, size = _written(prepared, change, now, leave_out)
            if (records > 0 or size > 0) and not stream.has_room(records, size):
                raise Refusal(429, f"The stream `{stream.external_id}` is full.")
        if rows:
            self.streams.write(stream, rows, records, size, now)

    def filter(self, stream_id: str, body: bytes, now: int) -> dict[str, Any]:
        """Records that match a filter, sorted, one page."""
        stream = self._readable(stream_id, now)
        return filter_records(self._store, self.models, stream, body, now)

    def sync(self, stream_id: str, body: bytes, now: int) -> dict[str, Any]:
        """Changes since a cursor, one page."""
        stream = self._readable(stream_id, now)
        return sync_records(self._store, self.models, stream, body, now)

    def aggregate(self, stream_id: str, body: bytes, now: int) -> dict[str, Any]:
        """Aggregates over records that match a filter."""
        stream = self._readable(stream_id, now)
        return aggregate(self._store, self.models, stream, body, now)

    def _readable(self, stream_id: str, now: int) -> Stream:
        stream = self.streams.get(stream_id, now)
        self.streams.settle(stream, now)
        return stream

    def records(self, stream_id: str) -> dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]]:
        """Everything stored in a mutable stream, for tests: key -> container -> property -> value."""
        import orjson  # noqa: PLC0415 - only tests ask for this

        stream = self._readable(stream_id, 0)
        self.streams.settle(stream, float("inf"))
        return {
            key_of(row.identity): {
                self.models.by_id[number].key: values for number, values in orjson.loads(row.body).items()
            }
            for row in self._store.rows(stream.id)
        }


def _written(
    prepared: Prepared, change: Change, now: int, leave_out: Known[str]
) -> tuple[list[Row], int, int]:
    """The rows of an ingest or upsert, and by how many records and bytes the stream grows."""
    present, conflicts = change.present, change.conflicts
    mutable = prepared.stream.template.mutable
    seq, records, size = prepared.stream.seq, 0, 0
    rows: list[Row] = []
    seen: set[str] = set()
    for key, identity, body in zip(prepared.keys, prepared.identities, prepared.bodies, strict=True):
        if key in leave_out or key in conflicts:
            continue
        before = present.get(identity)
        grows = len(body) + len(identity)
        if not mutable:
            if before is not None or identity in seen:
                continue  # an immutable stream discards a duplicate
            seen.add(identity)
        seq += 1
        if before is None or is_deleted(before):
            rows.append(Row(seq, identity, now, now, State.CREATED, body))
            records += 1
            size += grows
        else:
            rows.append(Row(seq, identity, before.created, now, State.UPDATED, body))
            size += len(body) - before.size
    return rows, records, size


def _deleted(
    prepared: Prepared, change: Change, now: int, leave_out: Known[str]
) -> tuple[list[Row], int, int]:
    """The tombstones of a delete, and by how many records and bytes the stream grows."""
    seq, size = prepared.stream.seq, 0
    rows: list[Row] = []
    for key in prepared.keys:
        before = change.present.get(key)
        if key in leave_out or before is None or is_deleted(before):
            continue  # ids that are not there are ignored
        seq += 1
        rows.append(Row(seq, key, before.created, now, State.DELETED, b"{}"))
        size -= before.size + len(key)
    return rows, -len(rows), size


def _immutable_identities(keys: Sequence[str], bodies: Sequence[bytes]) -> list[str]:
    return [
        f"{key}\0{blake2b(body, digest_size=16).hexdigest()}" for key, body in zip(keys, bodies, strict=True)
    ]


def _twice(keys: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key in keys:
        if key in seen:
            twice[key] = None
        seen.add(key)
    return list(twice)
