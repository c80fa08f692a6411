"""How a batch that was refused as a whole is taken apart until each bad record stands alone.

    the reply named records as duplicated    these one after the other, and the rest together
    the reply named a few of the records     each of them alone, and the rest together
    nothing accepted in five splits          three singles, to learn cheaply that everything is bad
    nothing but refused singles              all singles
    otherwise                                halves

So k bad records among n cost O(k log n) requests, and a batch that is bad throughout costs little more than one
request a record. No record is blamed for another: only a reply to the record alone refuses it.
"""

from collections.abc import Sequence

from msgspec import Struct

from cdf_upsert.core.record import Record

MOST_NAMED = 4
ENOUGH = 3
FRUITLESS = 5
"""Splits without an accepted part after which all may be bad; two bad records that are far apart cost three."""


class Hunt(Struct):
    """What is known of one batch that is being taken apart; shared by all its parts."""

    splits: int = 0
    accepted: int = 0
    refused: int = 0
    misled: int = 0


class Part(Struct, frozen=True):
    """One part of a batch; `named` when a reply pointed at its single record, `alone` for one request a record.

    `in_turn` is for one request a record, of which the next waits until the one before is settled.
    """

    records: Sequence[Record]
    named: bool = False
    alone: bool = False
    in_turn: bool = False


def take_apart(
    records: Sequence[Record], named: Sequence[Record], hunt: Hunt, *, in_turn: bool = False
) -> list[Part]:
    """The parts to send instead of `records`, of which there are at least two."""
    hunt.splits += 1
    if in_turn:
        rest = _without(records, named)
        return [Part(named, in_turn=True), *([Part(rest)] if rest else [])]
    if 0 < len(named) <= MOST_NAMED and len(named) < len(records) and hunt.misled < ENOUGH:
        return [*(Part([record], named=True) for record in named), Part(_without(records, named))]
    if hunt.accepted == 0 and hunt.refused >= ENOUGH:
        return [Part(records, alone=True)]
    if hunt.accepted == 0 and hunt.refused == 0 and hunt.splits == FRUITLESS and len(records) > 2 * ENOUGH:
        return [*(Part([record]) for record in records[:ENOUGH]), Part(records[ENOUGH:])]
    return halves(records)


def _without(records: Sequence[Record], named: Sequence[Record]) -> list[Record]:
    pointed = {record.ordinal for record in named}
    return [record for record in records if record.ordinal not in pointed]


def halves(records: Sequence[Record]) -> list[Part]:
    """Two parts of the same size, give or take one record."""
    middle = (len(records) + 1) // 2
    return [Part(records[:middle]), Part(records[middle:])]
