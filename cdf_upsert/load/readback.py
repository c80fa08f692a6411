"""Reading back: what is stored decides, when no reply does.

Writes become visible after a second or two, so a record that is not found, or found in another state, is looked
up again for a few seconds before that is believed. Nor is it looked up while the version before it may still be
seen in place of a newer one: of values 1, 2, 1 the last may be lost, and the first not yet be gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct, field

from cdf_upsert.core.comparing import Different, Found, Missing, Same, Unreadable
from cdf_upsert.core.rates import known_pace
from cdf_upsert.core.record import Key, Record

KEYS_PER_REQUEST = 100
"""The most values that `in` takes in a filter (published reference of the records API)."""

PAUSES = (0.0, 1.0, 2.0, 3.0)
"""Seconds before each look."""

SURELY_VISIBLE = sum(PAUSES)
"""Seconds after which a write is seen by every look."""

LOOKS_AT_ONCE, LOOKS_PER_SECOND = 8, 10.0
"""Within what one identity may ask of mutable streams, 15 at once and 15 a second (published limits): where records
have several containers, a look takes more than one question."""

Compare = Callable[[Sequence[Record]], Awaitable[dict[Key, Found] | None]]


class Budgeted:
    """Compares within the budget for questions, whoever asks."""

    def __init__(self, compare: Compare) -> None:
        self._compare = compare
        self._pace = known_pace(LOOKS_PER_SECOND)
        self._places = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._turn = asyncio.Lock()

    async def compare(self, records: Sequence[Record]) -> dict[Key, Found] | None:
        """Compare `records` with what is stored when their turn has come."""
        now = asyncio.get_running_loop().time
        async with self._places:
            async with self._turn:
                await asyncio.sleep(max(0.0, self._pace.wait_until(now()) - now()))
                self._pace.sent(now())
            return await self._compare(records)


class Lookup(Struct):
    """Every record in one place: stored as ours, stored otherwise (and what was found), or without an answer.

    No answer came to the `unanswered`, and to the `unreadable` none can be had.
    """

    same: list[Record] = field(default_factory=list)
    other: list[tuple[Record, Missing | Different]] = field(default_factory=list)
    unanswered: list[Record] = field(default_factory=list)
    unreadable: list[Record] = field(default_factory=list)


async def look_up(compare: Compare, records: Sequence[Record], since: float) -> Lookup:
    """Look the keys of `records` up, no two of which have the same key.

    Their first try began at `since`, in the event loop's time: older versions were accepted before that.
    """
    await asyncio.sleep(max(0.0, since + SURELY_VISIBLE - asyncio.get_running_loop().time()))
    found = Lookup()
    for start in range(0, len(records), KEYS_PER_REQUEST):
        await _look_up_some(compare, records[start : start + KEYS_PER_REQUEST], found)
    return found


async def _look_up_some(compare: Compare, records: Sequence[Record], found: Lookup) -> None:
    left = list(records)
    others: dict[Key, Missing | Different | Unreadable] | None = None
    for pause in PAUSES:
        await asyncio.sleep(pause)
        answer = await compare(left)
        if answer is None:
            continue
        others = {}
        for record in left:
            match answer.get(record.key, Missing()):
                case Same():
                    found.same.append(record)
                case other:
                    others[record.key] = other
        left = [record for record in left if record.key in others]
        if not left:
            return
    if others is None:
        found.unanswered += left
        return
    for record in left:
        match others[record.key]:
            case Unreadable():
                found.unreadable.append(record)
            case other:
                found.other.append((record, other))
