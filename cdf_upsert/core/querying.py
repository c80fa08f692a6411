"""How records are read back: the questions to ask `records/filter`, and what its answers hold.

Limits of one question, from the published reference of the records API (20230101): 100 values in an `in`
filter, 10 containers to select from, and an answer of at most 20 MB.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

import msgspec
from msgspec import Struct

from cdf_upsert.core.comparing import Comparison, Missing, compare
from cdf_upsert.core.record import Key, Record

MOST_KEYS = 100
MOST_CONTAINERS = 10
MOST_BYTES = 8_000_000
"""Bytes of our records that one question asks for: stored they are of about the same size."""


class _Source(msgspec.Struct, gc=False):
    source: msgspec.Raw


class _Sources(msgspec.Struct, gc=False):
    sources: list[_Source]


_decode_sources = msgspec.json.Decoder(_Sources).decode


class Query(Struct, frozen=True):
    """One question: what do these containers (or views) hold under these keys of one space?"""

    space: str
    external_ids: Sequence[str]
    sources: Sequence[bytes]

    def body(self) -> bytes:
        """The request's body."""
        return msgspec.json.encode(
            {
                "filter": {
                    "and": [
                        {"equals": {"property": ["space"], "value": self.space}},
                        {"in": {"property": ["externalId"], "values": self.external_ids}},
                    ]
                },
                "sources": [{"source": msgspec.Raw(source), "properties": ["*"]} for source in self.sources],
                "limit": len(self.external_ids),
                "includeTyping": True,
            }
        )


class Portion(Struct, frozen=True):
    """Records that are read back together, and the questions it takes: several for many containers."""

    records: Sequence[Record]
    queries: Sequence[Query]


def portions(records: Iterable[Record]) -> Iterator[Portion]:
    """The questions that read back `records`, no two of which have the same key.

    Records are asked for together only when they name exactly the same containers: whether the service
    gives a record that lacks one of the containers that are asked for is not published.
    """
    groups: dict[tuple[str, tuple[bytes, ...]], list[Record]] = {}
    for record in records:
        sources = tuple(sorted({bytes(each.source) for each in _decode_sources(record.text).sources}))
        groups.setdefault((record.key[0], sources), []).append(record)
    for (space, sources), group in groups.items():
        for some in _split(group):
            external_ids = [record.key[1] for record in some]
            yield Portion(
                some,
                [
                    Query(space, external_ids, sources[start : start + MOST_CONTAINERS])
                    for start in range(0, len(sources), MOST_CONTAINERS)
                ],
            )


def _split(group: Sequence[Record]) -> Iterator[list[Record]]:
    some: list[Record] = []
    nbytes = 0
    for record in group:
        if len(some) == MOST_KEYS or (some and nbytes + len(record.text) > MOST_BYTES):
            yield some
            some, nbytes = [], 0
        some.append(record)
        nbytes += len(record.text)
    yield some


class _Stored(TypedDict):
    """One stored record, as `records/filter` gives it: properties by space and container."""

    space: str
    externalId: str
    properties: dict[str, dict[str, dict[str, Any]]]


class _Answer(msgspec.Struct, gc=False):
    items: list[_Stored]
    typing: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Findings:
    """What the answers to some questions hold, taken together."""

    def __init__(self) -> None:
        self._stored: dict[Key, _Stored] = {}
        self._typing: dict[str, dict[str, Any]] = {}

    def add(self, body: bytes) -> bool:
        """Take in the body of a reply with status 200; False when it is not of the known shape."""
        try:
            answer = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        for item in answer.items:
            known = self._stored.setdefault((item["space"], item["externalId"]), item)
            if known is not item:
                _merge(known["properties"], item["properties"])
        if isinstance(answer.typing, dict):
            _merge(self._typing, answer.typing)
        return True

    def compare(self, record: Record) -> Comparison:
        """Compare a record, whose questions have all been answered, with what is stored."""
        stored = self._stored.get(record.key)
        return Missing() if stored is None else compare(record.text, stored, self._typing)


def _merge(into: dict[str, Any], spaces: dict[str, Any]) -> None:
    """Add the containers of some spaces; an answer may hold other containers of records that are known."""
    for space, containers in spaces.items():
        if isinstance(containers, dict):
            into.setdefault(space, {}).update(containers)
