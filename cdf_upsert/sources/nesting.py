"""Where a JSON value ends, by its brackets and strings alone."""

import re

from cdf_upsert.sources.envelope import LEVEL, nest

_QUOTE, _OPEN, _CLOSE = ord('"'), frozenset(b"{["), frozenset(b"}]")
_WHOLE = re.compile(nest(6), re.DOTALL)
_LEVEL = re.compile(LEVEL, re.DOTALL)
_REST_OF_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\r\n,\[\]{}"]*+')


class Nesting:
    """Finds the end of one value in bytes that come in pieces; it holds a depth, no bytes.

    It trusts the grammar: of bytes that are no JSON it tells where brackets and strings say that the value
    ends.
    """

    def __init__(self, first: int, *, depth: int = 0) -> None:
        """Take the first byte of the value, or how many brackets are open before it."""
        self.is_scalar = not depth and first not in _OPEN and first != _QUOTE
        self.seen = 0
        self._depth = depth
        self._in_text = False
        self._fresh = not depth

    def end(self, data: bytes | bytearray, start: int, stop: int) -> int | None:
        """Tell where the value ends in the next bytes, `data[start:stop]`; None when it goes on behind them.

        `seen` says up to where the bytes need not be given again.
        """
        at = start
        if self._fresh and at < stop:
            self._fresh = False
            whole = _WHOLE.match(data, start, stop)
            if whole is not None:
                return whole.end()
            if data[start] == _QUOTE:
                self._in_text = True
                at += 1
        if self.is_scalar:
            self.seen = _end_of(_SCALAR, data, start, stop)
            return self.seen if self.seen < stop else None
        while True:
            at = _end_of(_REST_OF_TEXT if self._in_text else _LEVEL, data, at, stop)
            byte = data[at] if at < stop else None
            if byte == _QUOTE:
                self._in_text = not self._in_text
            elif byte in _OPEN:
                self._depth += 1
            elif byte in _CLOSE:
                self._depth -= 1
            else:
                self.seen = at  # The end of what is given, or an escape of which half is given.
                return None
            at += 1
            if not self._depth and not self._in_text:
                return at


def _end_of(pattern: re.Pattern[bytes], data: bytes | bytearray, start: int, stop: int) -> int:
    found = pattern.match(data, start, stop)
    return start if found is None else found.end()
