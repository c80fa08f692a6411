"""The world: every operation of the API that has to do with spaces, containers, streams and records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from cdf_upsert.sandbox.world.aggregates import aggregate
from cdf_upsert.sandbox.world.models import Models
from cdf_upsert.sandbox.world.reading import Steps, filter_records, sync_records
from cdf_upsert.sandbox.world.refusal import Refusal
from cdf_upsert.sandbox.world.store import Present, State, Store, Writes
from cdf_upsert.sandbox.world.streams import Stream, Streams, key_of
from cdf_upsert.sandbox.world.writing import read_ids, read_records

_DELETED = State.DELETED.value


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
    """What a prepared write would do: forerunners, keys that must not exist and do, amounts."""

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
        return self.streams.get(stream_id, now, use=False).read(statistics=statistics)

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
        alive = {identity for identity, one in present.items() if one.state != _DELETED}
        if prepared.operation is Operation.DELETE:
            return Change(present, frozenset(), 0, len(alive), 0)
        size = sum(map(len, prepared.bodies)) + sum(map(len, prepared.keys))
        created = len(prepared.keys) - len(alive)
        if prepared.operation is Operation.UPSERT:
            return Change(present, frozenset(), created, len(alive), size)
        conflicts = frozenset(alive) if prepared.stream.template.mutable else frozenset()
        return Change(present, conflicts, created, 0, size)

    def apply(
        self, prepared: Prepared, change: Change, now: int, *, leave_out: frozenset[str] = frozenset()
    ) -> None:
        """Write, except the keys to leave out; `change` must have been measured just before.

        Raises:
            Refusal: 429 when the stream is full.
        """
        stream = prepared.stream
        if prepared.operation is Operation.DELETE:
            writes, records, size = _deleted(prepared, change, now, leave_out)
        else:
            writes, records, size = _written(prepared, change, now, leave_out)
            if not stream.has_room(records, size):
                raise Refusal(429, f"The stream `{stream.external_id}` is full.")
        self.streams.write(stream, writes, records, size)

    def filter(self, stream_id: str, body: bytes, now: int) -> Steps[dict[str, Any]]:
        """Records that match a filter, sorted, one page."""
        stream = self._readable(stream_id, now)
        return filter_records(self._store, self.models, stream, body, now)

    def sync(self, stream_id: str, body: bytes, now: int) -> Steps[dict[str, Any]]:
        """Changes since a cursor, one page."""
        stream = self._readable(stream_id, now)
        return sync_records(self._store, self.models, stream, body, now)

    def aggregate(self, stream_id: str, body: bytes, now: int) -> Steps[dict[str, Any]]:
        """Aggregates over records that match a filter."""
        stream = self._readable(stream_id, now)
        return aggregate(self._store, self.models, stream, body, now)

    def _readable(self, stream_id: str, now: int) -> Stream:
        stream = self.streams.get(stream_id, now)
        self.streams.settle(stream, now)
        return stream

    def records(self, stream_id: str) -> dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]]:
        """Everything stored in a mutable stream, for tests: key -> container -> property -> value."""
        stream = self._readable(stream_id, 0)
        self.streams.settle(stream, float("inf"))
        return {
            key_of(row.identity): {
                self.models.by_id[number].key: values for number, values in orjson.loads(row.body).items()
            }
            for rows in self._store.slices(stream.id)
            for row in rows
            if row.state != _DELETED
        }


def _written(
    prepared: Prepared, change: Change, now: int, leave_out: frozenset[str]
) -> tuple[Writes, int, int]:
    """What an ingest or upsert writes, and by how many records and bytes the stream grows."""
    pairs = list(zip(prepared.identities, prepared.bodies, strict=True))
    if not prepared.stream.template.mutable:
        # An immutable stream discards duplicates, of what it holds and within the request.
        fresh = {identity: body for identity, body in pairs if identity not in change.present}
        keys = dict(zip(prepared.identities, prepared.keys, strict=True))
        pairs = [(identity, body) for identity, body in fresh.items() if keys[identity] not in leave_out]
        return Writes(now, created=pairs), len(pairs), _size(pairs)
    if leave_out or change.conflicts:
        out = leave_out | change.conflicts
        pairs = [pair for pair in pairs if pair[0] not in out]
    if not change.present:
        return Writes(now, created=pairs), len(pairs), _size(pairs)
    created: list[tuple[str, bytes]] = []
    updated: list[tuple[str, int, bytes]] = []
    grown = 0
    for identity, body in pairs:
        before = change.present.get(identity)
        if before is None or before.state == _DELETED:
            created.append((identity, body))
        else:
            updated.append((identity, before.created, body))
            grown += len(body) - before.size
    return Writes(now, created, updated), len(created), _size(created) + grown


def _size(pairs: Sequence[tuple[str, bytes]]) -> int:
    return sum(len(identity) + len(body) for identity, body in pairs)


def _deleted(
    prepared: Prepared, change: Change, now: int, leave_out: frozenset[str]
) -> tuple[Writes, int, int]:
    """The tombstones of a delete, and the stream's growth; unknown ids are ignored."""
    found = [
        (key, before)
        for key in prepared.keys
        if key not in leave_out
        and (before := change.present.get(key)) is not None
        and before.state != _DELETED
    ]
    size = sum(before.size + len(key) for key, before in found)
    return Writes(now, deleted=[(key, before.created) for key, before in found]), -len(found), -size


def _immutable_identities(keys: Sequence[str], bodies: Sequence[bytes]) -> list[str]:
    """Keys with a digest of the content, in which neither order nor spacing counts."""
    contents = (orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS) for body in bodies)
    return [
        f"{key}\0{blake2b(content, digest_size=16).hexdigest()}"
        for key, content in zip(keys, contents, strict=True)
    ]


def _twice(keys: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key in keys:
        if key in seen:
            twice[key] = None
        seen.add(key)
    return list(twice)
