"""What the service tells of a stream: its kind, and how much room it has."""

from typing import Any

import msgspec
from msgspec import Struct


class Limit(Struct, frozen=True):
    """How much of something a stream may hold, and how much of that is taken; None: not told."""

    provisioned: float
    consumed: float | None


class StreamFacts(Struct, frozen=True):
    """One stream, as `GET /streams/{id}?includeStatistics=true` tells it.

    `template` is for information only: the service says that it may have been changed since.
    """

    external_id: str
    template: str
    mutable: bool
    records: Limit | None
    gigabytes: Limit | None


def stream_facts(body: bytes) -> StreamFacts | None:
    """Read the body of a reply with status 200; None when it does not describe a stream."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    match content:
        case {"externalId": str(external_id), "type": ("Mutable" | "Immutable") as kind}:
            pass
        case _:
            return None
    limits: Any = content
    for name in ("settings", "limits"):
        limits = limits.get(name) if isinstance(limits, dict) else None
    return StreamFacts(
        external_id,
        str(content.get("createdFromTemplate") or ""),
        kind == "Mutable",
        _limit(limits, "maxRecordsTotal"),
        _limit(limits, "maxGigaBytesTotal"),
    )


def _limit(limits: Any, name: str) -> Limit | None:
    match limits.get(name) if isinstance(limits, dict) else None:
        case {"provisioned": int() | float() as provisioned, "consumed": int() | float() as consumed}:
            return Limit(provisioned, consumed)
        case {"provisioned": int() | float() as provisioned}:
            return Limit(provisioned, None)
        case _:
            return None
