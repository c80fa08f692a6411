"""How records are read back: the questions to ask `records/filter`, and what its answers hold.

Limits of one question, from the published reference of the records API (20230101): 100 values in an `in`
filter, 10 containers to select from, and an answer of at most 20 MB.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

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
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Query:
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
            }
        )


def queries(records: Sequence[Record]) -> Iterator[Query]:
    """The questions that read back `records`, no two of which have the same key.

    Records are asked for together only when they name exactly the same containers: whether the service
    gives a record that lacks one of the containers that are asked for is not published.
    """
    groups: dict[tuple[str, tuple[bytes, ...]], list[Record]] = {}
    for record in records:
        sources = tuple(sorted({bytes(each.source) for each in _decode_sources(record.text).sources}))
        groups.setdefault((record.key[0], sources), []).append(record)
    for (space, sources), group in groups.items():
        for external_ids in _portions(group):
            for start in range(0, len(sources), MOST_CONTAINERS):
                yield Query(space, external_ids, sources[start : start + MOST_CONTAINERS])


def _portions(group: Sequence[Record]) -> Iterator[list[str]]:
    portion: list[str] = []
    nbytes = 0
    for record in group:
        if len(portion) == MOST_KEYS or (portion and nbytes + len(record.text) > MOST_BYTES):
            yield portion
            portion, nbytes = [], 0
        portion.append(record.key[1])
        nbytes += len(record.text)
    yield portion


Stored = Mapping[str, Any]
"""One stored record: `{space, externalId, properties: {space: {container: {property: value}}}, ...}`."""


def read_answer(body: bytes) -> dict[Key, Stored] | None:
    """The stored records in the body of a reply with status 200; None when it is not of the known shape."""
    try:
        items = _decode_answer(body)["items"]
        return {(item["space"], item["externalId"]): item for item in items if _is_properties(item)}
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
        return None


def _is_properties(item: Any) -> bool:
    """Whether `item` is well-formed.

    Raises:
        TypeError: it is not; nothing of such an answer is to be believed.
    """
    spaces = item["properties"]
    if all(isinstance(held, dict) for containers in spaces.values() for held in containers.values()):
        return True
    raise TypeError


def merge(into: dict[Key, Stored], answer: Mapping[Key, Stored]) -> None:
    """Add an answer to earlier ones, which may hold other containers of the same records."""
    for key, stored in answer.items():
        known = into.setdefault(key, stored)
        if known is not stored:
            for space, containers in stored["properties"].items():
                known["properties"].setdefault(space, {}).update(containers)
