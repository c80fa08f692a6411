"""Reading back: what is stored decides, when no reply does.

Writes become visible after a second or two, so a record that is not found, or found in another state, is looked
up again for a few seconds before that is believed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

from msgspec import Struct, field

from cdf_upsert.core.comparing import Comparison, Different, Missing, Same
from cdf_upsert.core.record import Key, Record

KEYS_PER_REQUEST = 100
"""The most values that `in` takes in a filter (published reference of the records API)."""

PAUSES = (0.0, 1.0, 2.0, 3.0)
"""Seconds before each look."""

Compare = Callable[[Sequence[Record]], Awaitable[dict[Key, Comparison] | None]]


class Lookup(Struct):
    """Every record in one place: stored as ours, stored otherwise (and how), or no answer came."""

    same: list[Record] = field(default_factory=list)
    other: list[tuple[Record, str]] = field(default_factory=list)
    unanswered: list[Record] = field(default_factory=list)


async def look_up(compare: Compare, records: Sequence[Record]) -> Lookup:
    """Look the keys of `records` up, no two of which have the same key."""
    found = Lookup()
    for start in range(0, len(records), KEYS_PER_REQUEST):
        await _look_up_some(compare, records[start : start + KEYS_PER_REQUEST], found)
    return found


async def _look_up_some(compare: Compare, records: Sequence[Record], found: Lookup) -> None:
    left = list(records)
    last: dict[Key, Comparison] | None = None
    for pause in PAUSES:
        await asyncio.sleep(pause)
        answer = await compare(left)
        if answer is None:
            continue
        last = answer
        found.same += [record for record in left if isinstance(answer.get(record.key), Same)]
        left = [record for record in left if not isinstance(answer.get(record.key), Same)]
        if not left:
            return
    if last is None:
        found.unanswered += left
        return
    found.other += [(record, _told(last.get(record.key, Missing()))) for record in left]


def _told(comparison: Comparison) -> str:
    match comparison:
        case Missing():
            return "nothing is stored under this key"
        case Different(properties):
            return "what is stored differs in " + ", ".join(properties)
        case Same():
            return "what is stored is the same"
        case _:
            assert_never(comparison)
