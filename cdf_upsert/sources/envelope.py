"""The object `{"items": [...]}` around records, told from an object that is itself a record."""

import re
from enum import Enum, auto

LOOK_AHEAD = 64 * 1024
"""Bytes after which an object that has not shown its items is taken for a record."""

TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""A JSON string, as a pattern."""

LEVEL = rb'[^{}\[\]"]*+(?:' + TEXT + rb'[^{}\[\]"]*+)*+'
"""Whatever stands between two brackets, as a pattern."""


def nest(levels: int) -> bytes:
    """Build the pattern of an object or array with at most `levels` more inside each other."""
    inner = LEVEL
    for _ in range(levels):
        inner = LEVEL + rb"(?:[{\[]" + inner + rb"[}\]]" + LEVEL + rb")*+"
    return rb"[{\[]" + inner + rb"[}\]]"


_MEMBER = TEXT + rb"\s*+:\s*+(?:" + nest(6) + rb"|" + TEXT + rb'|[^\s,\[\]{}"]++)\s*+'
_OF_RECORD = rb'"(?:space|externalId|sources)"'
_BEFORE = re.compile(rb"[{,]\s*+(?:(?!" + _OF_RECORD + rb'|"items")' + _MEMBER + rb",\s*+)*+", re.DOTALL)
_ITEMS = re.compile(rb'"items"\s*+:\s*+\[')
_NONE = re.compile(
    rb"\}|" + _OF_RECORD + rb'|"items"\s*+:\s*+[^\[\s]|(?!"items")' + _MEMBER + rb"\}", re.DOTALL
)


class Guess(Enum):
    """What an object may be as far as it is seen."""

    NO_ENVELOPE = auto()
    UNDECIDED = auto()


def items_begin(data: bytes | bytearray, start: int, stop: int) -> int | Guess:
    """Tell where the items begin (behind their `[`) of the object that begins at `start`.

    `data[start]` is the `{` of an object or a `,` between its members; what is behind `stop` is not seen.
    """
    before = _BEFORE.match(data, start, stop)
    if before is not None:
        at = before.end()
        items = _ITEMS.match(data, at, stop)
        if items is not None:
            return items.end()
        if _NONE.match(data, at, stop) is not None:
            return Guess.NO_ENVELOPE
    return Guess.UNDECIDED if stop - start < LOOK_AHEAD else Guess.NO_ENVELOPE
