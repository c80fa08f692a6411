"""Where a JSON value ends, by its brackets and strings alone."""

import re

from cdf_upsert.sources.envelope import LEVEL, nest

_QUOTE, _OPEN, _CLOSE = ord('"'), frozenset(b"{["), frozenset(b"}]")
_WHOLE = re.compile(nest(6), re.DOTALL)
_LEVEL = re.compile(LEVEL, re.DOTALL)
_REST_OF_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,\[\]{}"]*+')


class Nesting:
    """Finds the end of one value in bytes that come in pieces; it holds a depth, no bytes.

    It trusts the grammar: of bytes that are not JSON it tells where brackets and strings say that the value ends.
    """

    def __init__(self, first: bytes, *, depth: int = 0) -> None:
        """Take the first byte of the value, or how many brackets are already open in it."""
        self._depth = depth
        self._in_text = False
        self._is_scalar = not depth and first not in {b"{", b"[", b'"'}
        self._fresh = not depth
        self.seen = 0

    def end(self, data: bytes | bytearray, start: int, stop: int) -> int | None:
        """Tell where the value ends in `data[start:stop]`, the next bytes; None when it goes on behind them.

        `seen` says up to where the bytes need not be given again.
        """
        if self._is_scalar:
            found = _SCALAR.match(data, start, stop)
            self.seen = stop if found is None else found.end()
            return self.seen if self.seen < stop else None
        if self._fresh:
            self._fresh = False
            whole = _WHOLE.match(data, start, stop)
            if whole is not None:
                return whole.end()
        at = start
        while at < stop:
            pattern = _REST_OF_TEXT if self._in_text else _LEVEL
            match = pattern.match(data, at, stop)
            assert match is not None  # Both patterns match nothing at all, too.
            at = match.end()
            byte = data[at] if at < stop else 0
            if byte == _QUOTE:
                self._in_text = not self._in_text
            elif byte in _OPEN:
                self._depth += 1
            elif byte in _CLOSE:
                self._depth -= 1
            else:
                break  # The end of what is given, or the first half of an escape.
            at += 1
            if not self._depth and not self._in_text:
                return at
        self.seen = at
        return None
