"""Streams that exist: made from a template, listed, retrieved, deleted; and how full each is."""

from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from cdf_upsert.sandbox.world import names
from cdf_upsert.sandbox.world.refusal import Refusal, at, decode
from cdf_upsert.sandbox.world.store import Present, State, Store, Writes
from cdf_upsert.sandbox.world.templates import DAY_MS, LEARNT, TEMPLATES, Template

_GIGABYTE = 10**9
_TOMBSTONE_DAYS = 3


class _TemplateRef(Struct):
    name: str


class _Settings(Struct):
    template: _TemplateRef


class _Stream(Struct, rename="camel"):
    external_id: str
    settings: _Settings


class _Streams(Struct):
    items: Annotated[list[_Stream], Meta(min_length=1, max_length=1)]


class _Id(Struct, rename="camel"):
    external_id: str


class _Ids(Struct):
    items: Annotated[list[_Id], Meta(min_length=1, max_length=1)]


_STREAMS = msgspec.json.Decoder(_Streams)
_IDS = msgspec.json.Decoder(_Ids)


class Unseen(NamedTuple):
    """What is written and what readers do not see before a time."""

    visible: int
    writes: Writes


@dataclass(slots=True)
class Stream:
    """A stream that exists, made at a time in milliseconds; its totals count what is not deleted."""

    id: int
    external_id: str
    template: Template
    created: int
    records: int
    bytes: int
    unseen: deque[Unseen] = field(default_factory=deque)
    ahead: dict[str, Present] = field(default_factory=dict)
    gone: bool = False

    @property
    def visible_records(self) -> int:
        """How many records readers see."""
        return self.records - sum(len(one.writes.created) - len(one.writes.deleted) for one in self.unseen)

    def read(self, *, statistics: bool = False) -> dict[str, Any]:
        """The stream as the API returns it, with what is consumed where that is asked for."""
        template = self.template
        lifecycle = {"retainedAfterSoftDelete": f"P{template.retained_days}D"}
        if template.expires_days is not None:
            lifecycle["dataDeletedAfter"] = f"P{template.expires_days}D"
        records: dict[str, float] = {"provisioned": template.max_records}
        size: dict[str, float] = {"provisioned": template.max_gigabytes}
        if statistics:
            records["consumed"] = self.records
            size["consumed"] = self.bytes / _GIGABYTE
        limits: dict[str, Any] = {"maxRecordsTotal": records, "maxGigaBytesTotal": size}
        if template.interval_days is not None:
            limits["maxFilteringInterval"] = f"P{template.interval_days}D"
        return {
            "externalId": self.external_id,
            "createdTime": self.created,
            "createdFromTemplate": template.name,
            "type": "Mutable" if template.mutable else "Immutable",
            "settings": {"lifecycle": lifecycle, "limits": limits},
        }

    def has_room(self, records: int, size: int) -> bool:
        """Whether so many more records and bytes can be held."""
        template = self.template
        return (
            self.records + records <= template.max_records
            and self.bytes + size <= template.max_gigabytes * _GIGABYTE
        )


class Streams:
    """All streams. Where `strict` is false, any stream is there: it is made, a mutable one, when it is first used."""

    def __init__(self, store: Store, *, strict: bool, visible_after: int) -> None:
        """`visible_after` milliseconds pass before readers see what was written."""
        self._store = store
        self._strict = strict
        self._visible_after = visible_after
        self._swept = 0
        self._streams = {
            row.external_id: Stream(
                row.id, row.external_id, TEMPLATES[row.template], row.created, row.records, row.bytes
            )
            for row in store.streams()
        }

    def all(self) -> list[Stream]:
        """Every stream, by name."""
        return [self._streams[name] for name in sorted(self._streams)]

    def create(self, body: bytes, now: int) -> dict[str, Any]:
        """Make one stream from a template."""
        item = decode(body, _STREAMS).items[0]
        _check_id(item.external_id)
        template = TEMPLATES.get(item.settings.template.name)
        if template is None:
            raise at(
                "items[0].settings.template.name",
                f"`{item.settings.template.name[:60]}` is not a template; there are {', '.join(TEMPLATES)}",
            )
        if item.external_id in self._streams:
            raise Refusal(
                409,
                f"The stream `{item.external_id}` already exists.",
                duplicated=[{"externalId": item.external_id}],
            )
        return {"items": [self._add(item.external_id, template, now).read()]}

    def _add(self, external_id: str, template: Template, now: int) -> Stream:
        number = self._store.add_stream(external_id, template.name, now)
        stream = Stream(number, external_id, template, now, 0, 0)
        self._streams[external_id] = stream
        return stream

    def get(self, external_id: str, now: int, *, use: bool = True) -> Stream:
        """A stream; one that is only looked at, not for `use`, is not made by that.

        Raises:
            Refusal: 400 for an id that cannot be one, 404 for a stream that is not there.
        """
        stream = self._streams.get(external_id)
        if stream is not None:
            self._sweep(now)
            return stream
        if not names.is_stream(external_id):
            raise at("streamId", f"`{external_id[:110]}` is not a valid stream id")
        if self._strict:
            raise Refusal(404, f"The stream `{external_id}` does not exist.")
        return self._add(external_id, LEARNT, now) if use else Stream(0, external_id, LEARNT, now, 0, 0)

    def delete(self, body: bytes) -> str:
        """Delete a stream with all its records, and name it; one that is not there is no error."""
        item = decode(body, _IDS).items[0]
        _check_id(item.external_id)
        stream = self._streams.get(item.external_id)
        if stream is not None:
            self._store.delete_stream(stream.id)
            stream.gone = True
            del self._streams[item.external_id]
        return item.external_id

    def present(self, stream: Stream, identities: list[str]) -> dict[str, Present]:
        """What is written under these identities, seen by readers or not."""
        found = self._store.present(stream.id, identities)
        if stream.ahead:
            found |= {identity: stream.ahead[identity] for identity in stream.ahead.keys() & set(identities)}
        return found

    def write(self, stream: Stream, writes: Writes, records: int, size: int) -> None:
        """Keep what a request writes, which changes the stream's totals by so many records and bytes."""
        if self._visible_after:
            stream.unseen.append(Unseen(writes.now + self._visible_after, writes))
            stream.ahead |= _ahead(writes)
        else:
            self._store.write(stream.id, writes, stream.records + records, stream.bytes + size)
        stream.records += records
        stream.bytes += size

    def settle(self, stream: Stream, now: float) -> None:
        """Let readers see what has been written long enough ago."""
        while stream.unseen and stream.unseen[0].visible <= now:
            writes = stream.unseen[0].writes
            self._store.write(stream.id, writes, stream.records, stream.bytes)
            stream.unseen.popleft()
            for identity, present in _ahead(writes).items():
                if stream.ahead.get(identity) == present:  # else a later write is ahead of what is stored now
                    del stream.ahead[identity]

    def flush(self) -> None:
        """Keep everything that readers do not see yet."""
        for stream in self._streams.values():
            self.settle(stream, float("inf"))

    def _sweep(self, now: int) -> None:
        """Forget, once an hour, what has outlived its template or, as a tombstone, three days."""
        if now - self._swept < DAY_MS // 24:
            return
        self._swept = now
        for stream in self._streams.values():
            self.settle(stream, now)
            days = stream.template.expires_days
            if stream.template.mutable:
                self._store.expire_tombstones(stream.id, now - _TOMBSTONE_DAYS * DAY_MS)
            elif days is not None:
                records, size = self._store.expire(stream.id, now - days * DAY_MS)
                stream.records -= records
                stream.bytes -= size
                self._store.put_totals(stream.id, stream.records, stream.bytes)


def _ahead(writes: Writes) -> dict[str, Present]:
    """What a write will leave under its identities."""
    now = writes.now
    found = {identity: Present(now, State.CREATED, len(body)) for identity, body in writes.created}
    found |= {identity: Present(made, State.UPDATED, len(body)) for identity, made, body in writes.updated}
    return found | {identity: Present(made, State.DELETED, 0) for identity, made in writes.deleted}


def _check_id(external_id: str) -> None:
    if not names.is_stream(external_id):
        raise at("items[0].externalId", f"`{external_id[:110]}` is not a valid stream id")


def key_of(identity: str) -> tuple[str, str]:
    """The space and the external id in an identity."""
    space, _, rest = identity.partition(".")
    return space, rest.partition("\0")[0]
