"""The grammar of JSON, as ijson knows it: is it kept, and at which byte is it broken."""

import re
from collections import deque
from enum import Enum, auto

import ijson
from msgspec import Struct

# What ijson raises on bytes that it cannot take: its own error for the grammar; the others come from making Python
# values of numbers and texts that are out of bounds (its C backend makes a SystemError of an integer that is too long).
BROKEN = (ijson.JSONError, ValueError, ArithmeticError, SystemError)

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\]:,]|[^\s{}\[\]:,"]++', re.DOTALL)


class _Nowhere(deque[object]):
    """Where the events of the parser go: nobody asks for them."""

    send = deque.append


class Grammar:
    """Takes JSON values one after the other, in any pieces, and raises one of `BROKEN` where they break.

    `prefix` is where in a document the bytes begin, as JSON: `[` for the first element of an array, `[0 ` behind
    one. With `narrow` a number that is out of a machine word's bounds breaks, too; that takes a fifth less time.
    """

    def __init__(self, prefix: bytes, *, narrow: bool = False) -> None:
        self.narrow = narrow
        self._parser = ijson.basic_parse_coro(_Nowhere(maxlen=0), multiple_values=True, use_float=narrow)
        self.send(prefix)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if data:  # To ijson no bytes are the end.
            self._parser.send(data)

    def finish(self) -> None:
        """Take the end of the bytes."""
        self._parser.close()


class Fault(Enum):
    """What kind of break it is."""

    STRUCTURE = auto()
    """The grammar is broken: it cannot be told what belongs together from there on."""
    VALUE = auto()
    """One value is no JSON (NaN, not UTF-8) or out of the parser's bounds; what is around it stands."""


class Break(Struct, frozen=True):
    """Where bytes break the grammar, and where the token begins that does; both count from their beginning."""

    at: int
    token: int
    fault: Fault
    reason: str


def find_break(prefix: bytes, data: bytes) -> Break:
    """Find the byte at which `data`, which is known to break the grammar behind `prefix`, breaks it.

    That is the first byte of a token which must not stand there, or the byte in a token which makes it none.
    """
    grammar = Grammar(prefix)
    for token in _TOKEN.finditer(data):
        begin = token.start()
        try:
            # The space ends a number, so that what is told is told of this token.
            grammar.send(token[0] if token[0].startswith(b'"') else token[0] + b" ")
        except ijson.JSONError as error:
            reason = _reason(error)
            if not reason.startswith("lexical error"):
                return Break(begin, begin, Fault.STRUCTURE, reason)
            at = _byte_of_break(prefix, data, begin, token.end())
            spoilt_value = "UTF8" in reason or data[at : at + 1] in {b"N", b"I"}
            return Break(at, begin, Fault.VALUE if spoilt_value else Fault.STRUCTURE, reason)
        except BROKEN as error:
            return Break(begin, begin, Fault.VALUE, str(error))
    return Break(len(data), len(data), Fault.STRUCTURE, "unexpected end")


def _byte_of_break(prefix: bytes, data: bytes, start: int, stop: int) -> int:
    grammar = Grammar(prefix)
    grammar.send(data[:start])
    for at in range(start, stop):
        try:
            grammar.send(data[at : at + 1])
        except BROKEN:
            return at
    return stop


def _reason(error: Exception) -> str:
    # The first line is yajl's sentence; the others draw the bytes around it.
    told = error.args[0]
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    return text.splitlines()[0].rstrip(".")
