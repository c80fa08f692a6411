"""JSON documents -> frames: `[...]`, `{"items": [...]}`, values one after the other, in any mixture and layout.

ijson reads every byte and tells whether the grammar is kept, and where not. Up to there brackets and strings tell
where a record ends, and the record's own bytes are what is framed. At most one record and one fed piece are held.
"""

import re
from enum import Enum
from typing import assert_never

import msgspec
from msgspec import Struct

from cdf_upsert.core.framing import (
    MAX_RECORD,
    NOTHING_BEHIND,
    Frames,
    Place,
    Position,
    Unframed,
    oversize,
    set_apart,
)
from cdf_upsert.sources.envelope import Guess, items_begin
from cdf_upsert.sources.grammar import BROKEN, Break, Fault, Grammar, find_break
from cdf_upsert.sources.nesting import Nesting

_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(rb"[ \t\r\n]*+")
_MANY = 4096  # Bytes from which on it pays to look for many elements at once.
_TAIL = 64 * 1024  # Bytes in which the end of the last whole element is looked for.
_BRACE = re.compile(rb"[{}]")
_elements = msgspec.json.Decoder(list[msgspec.Raw])


class _In(Enum):
    """What the next byte stands in; the value is how a document gets there, as JSON."""

    TOP = b""
    ARRAY = b"["
    """The elements of an array that is the whole document."""
    ITEMS = b'{"":['
    """The elements of the items of an envelope."""
    ENVELOPE = b'{"":[]'
    """The members of an envelope, behind its items."""


class _Value(Struct):
    """A value whose end is not seen yet."""

    offset: int
    line: int
    nesting: Nesting
    seen: int  # The offset up to where it was looked at.


class _Columns:
    """Texts that are framed one after the other."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.offsets: list[int] = []
        self.lines: list[int] = []


class DocumentFramer:
    """Frames JSON documents.

    When a document breaks, what came before is framed, one fault tells the byte, and the input ends there. Two
    breaks cost one record only, for what is around it stands: a value in a record that is no JSON (NaN, bytes that
    are not UTF-8), and a record of more than `MAX_RECORD` bytes, which is not held.
    """

    def __init__(self, path: str) -> None:
        self.ended = False
        self._path = path
        self._held = bytearray()
        self._base = 0  # The offset of `_held[0]`.
        self._at = 0  # The bytes of `_held` before this are done with.
        self._line = 0  # Line ends before `_at`.
        self._record = 0  # Records before `_at`.
        self._in = _In.TOP
        self._prefix = b""  # How a document gets to `_at`, as short as can be.
        self._value: _Value | None = (
            None  # What begins at `_at`, when that is a value; its beginning may be dropped.
        )
        # None: the rest of this value is not shown to it.
        self._grammar: Grammar | None = Grammar(b"", narrow=True)
        self._vetted = 0  # The bytes of `_held` before this keep the grammar.
        self._columns = _Columns()
        self._found: list[Frames | Unframed] = []

    def feed(self, data: bytes) -> list[Frames | Unframed]:
        """Take the next bytes."""
        if self.ended:
            return []
        self._held += data
        if self._base == 0 and _BOM.startswith(self._held[:3]):
            if len(self._held) < len(_BOM):
                return []
            self._held[:] = self._held[len(_BOM) :]
            self._base = len(_BOM)
        self._frame()
        self._flush()
        self._release(self._at)
        found, self._found = self._found, []
        return found

    def finish(self) -> list[Frames | Unframed]:
        """Take the end of the input."""
        found: list[Frames | Unframed] = []
        if self._in is _In.TOP and self._value is not None and self._value.nesting.is_scalar:
            found = self.feed(b" ")  # A number that is the last value of all ends here.
        if self._value is not None or self._in is not _In.TOP or self._held.strip():
            found += self.abort(f"the JSON ends too early, at byte {self._base + len(self._held):,}")
        return found

    def abort(self, reason: str) -> list[Frames | Unframed]:
        """Take that no more can be read, and why."""
        if self.ended:
            return []
        return [self._break(len(self._held), reason + NOTHING_BEHIND)]

    def _frame(self) -> None:
        while True:
            if self._grammar is not None:
                broken = self._vet(self._grammar)
                if broken is None:
                    self._advance(len(self._held))
                    return
                # With the first byte of the token, so that a value which begins with it has begun.
                self._advance(broken.at if broken.fault is Fault.STRUCTURE else broken.token + 1)
                self._flush()
                if broken.fault is Fault.STRUCTURE or self._value is None:
                    if not self.ended:
                        offset = self._base + broken.at
                        reason = f"the JSON breaks at byte {offset:,}: {broken.reason}{NOTHING_BEHIND}"
                        self._found.append(self._break(broken.at, reason))
                    return
                self._grammar = None
            # Nobody vouches for this value: its brackets alone frame it, and the grammar goes on behind it.
            self._advance(len(self._held), alone=True)
            if self._value is not None or self.ended:
                return
            self._flush(vetted=False)
            self._grammar = Grammar(self._prefix)
            self._vetted = self._at

    def _vet(self, grammar: Grammar) -> Break | None:
        try:
            grammar.send(self._copy(self._vetted, len(self._held)))
        except BROKEN:
            if grammar.narrow:
                # It may be a number that only a machine finds too large: from here on none is.
                self._grammar = Grammar(self._prefix)
                self._vetted = self._at
                return self._vet(self._grammar)
            broken = find_break(self._prefix, self._copy(self._at, len(self._held)))
            return Break(self._at + broken.at, self._at + broken.token, broken.fault, broken.reason)
        self._vetted = len(self._held)
        return None

    def _advance(self, stop: int, *, alone: bool = False) -> None:
        """Frame the values that end before `stop`; only one of them when it stands `alone`."""
        many = not alone
        while True:
            if self._value is None:
                self._value = self._begin(stop)
                if self._value is None:
                    return
                if many and stop - self._at > _MANY and self._in in {_In.ARRAY, _In.ITEMS}:
                    many = False
                    if self._frame_many(stop):
                        continue
            value = self._value
            end = value.nesting.end(self._held, value.seen - self._base, stop)
            if end is None:
                value.seen = self._base + value.nesting.seen
                if self._base + stop - value.offset > MAX_RECORD:
                    self._drop(value)
                return
            self._end(value, end)
            if alone:
                return

    def _begin(self, stop: int) -> _Value | None:
        """Go to where the next value begins; None when that is not before `stop`."""
        while True:
            self._go(self._space(stop))
            if self._at >= stop:
                return None
            byte = self._held[self._at]
            match self._in:
                case _In.TOP if byte == ord("["):
                    self._enter(_In.ARRAY, self._at + 1)
                case _In.ENVELOPE if byte == ord("}"):
                    self._enter(_In.TOP, self._at + 1)
                case _In.ARRAY | _In.ITEMS if byte == ord(","):
                    self._go(self._at + 1)
                    self._prefix = self._in.value + b"0,"
                case _In.ARRAY if byte == ord("]"):
                    self._enter(_In.TOP, self._at + 1)
                case _In.ITEMS if byte == ord("]"):
                    self._enter(_In.ENVELOPE, self._at + 1)
                case _In.ARRAY | _In.ITEMS:
                    break
                case _In.TOP if byte != ord("{"):
                    break
                case _In.TOP | _In.ENVELOPE:
                    match items_begin(self._held, self._at, stop):
                        case Guess.NO_ENVELOPE:
                            break
                        case Guess.UNDECIDED:
                            if self._nesting(byte).end(self._held, self._at, stop) is None:
                                return None
                            break
                        case begin:
                            self._enter(_In.ITEMS, begin)
                case _:
                    assert_never(self._in)
        offset = self._base + self._at
        return _Value(offset, self._line + 1, self._nesting(byte), offset)

    def _nesting(self, first: int) -> Nesting:
        return Nesting(first, depth=1 if self._in is _In.ENVELOPE else 0)

    def _frame_many(self, stop: int) -> bool:
        """Frame the elements from here to the last one that ends before `stop`, if all can be told at once."""
        data = self._copy(self._at, stop)
        data = data[: _last_end(data)]
        if not 0 < len(data) <= MAX_RECORD:
            return False
        try:
            # They keep the grammar; where an array of them is JSON, they are whole elements, neither less nor more.
            texts = list(map(bytes, _elements.decode(b"[" + data + b"]")))
        except (msgspec.DecodeError, RecursionError):
            return False
        columns, offset, line, at = self._columns, self._base + self._at, self._line + 1, 0
        one_line = b"\n" not in data
        for text in texts:
            # Between two elements stand only space and a comma, and no value begins with these.
            begin = data.index(text[:1], at)
            if not one_line:
                line += data.count(b"\n", at, begin)
            columns.offsets.append(offset + begin)
            columns.lines.append(line)
            at = begin + len(text)
            if not one_line:
                line += text.count(b"\n")
        columns.texts += texts
        self._record += len(texts)
        self._value = None
        self._prefix = self._in.value + b"0 "
        self._go(self._at + at)
        return True

    def _end(self, value: _Value, end: int) -> None:
        length = self._base + end - value.offset
        self._value = None
        if self._in is _In.ENVELOPE:
            self._enter(_In.TOP, end)
            return
        if length > MAX_RECORD:
            self._flush()
        else:
            self._columns.texts.append(self._copy(self._at, end))
            self._columns.offsets.append(value.offset)
            self._columns.lines.append(value.line)
        self._record += 1
        self._go(end)
        self._prefix = b"" if self._in is _In.TOP else self._in.value + b"0 "
        if length > MAX_RECORD:
            place = Place(self._path, self._record, value.line, value.offset, length)
            self._found.append(Unframed(place, oversize(length), "oversize", None, self._position()))

    def _drop(self, value: _Value) -> None:
        """Hold no more of a value that is too long."""
        if self._in is _In.ENVELOPE:
            reason = f"what follows the items is longer than {MAX_RECORD:,} bytes"
            self._flush()
            self._found.append(self._break(value.offset - self._base, reason))
            return
        self._go(value.seen - self._base)
        self._grammar = None

    def _break(self, at: int, reason: str) -> Unframed:
        """End the input at the byte `at` of what is held."""
        self.ended = True
        line = self._line + 1 + self._held.count(b"\n", self._at, at)
        self._record += 1
        place = Place(self._path, self._record, line, self._base + at, 0)
        self._go(at)
        return Unframed(place, reason, "unreadable", None, self._position())

    def _copy(self, start: int, stop: int) -> bytes:
        return bytes(memoryview(self._held)[start:stop])

    def _space(self, stop: int) -> int:
        match = _SPACE.match(self._held, self._at, stop)
        return self._at if match is None else match.end()

    def _go(self, to: int) -> None:
        self._line += self._held.count(b"\n", self._at, to)
        self._at = to

    def _enter(self, where: _In, at: int) -> None:
        self._go(at)
        self._in = where
        self._prefix = where.value

    def _position(self) -> Position:
        return Position(self._base + self._at, self._line, self._record)

    def _flush(self, *, vetted: bool = True) -> None:
        columns, self._columns = self._columns, _Columns()
        if columns.texts:
            first = self._record - len(columns.texts) + 1
            frames = Frames(
                self._path, columns.texts, columns.offsets, columns.lines, first, self._position()
            )
            self._found += [frames] if vetted else set_apart(frames)

    def _release(self, done: int) -> None:
        del self._held[:done]
        self._base += done
        self._vetted = max(0, self._vetted - done)
        self._at = 0


def _last_end(data: bytes) -> int:
    """Guess where the last whole element ends: at a `}` up to which as many are closed as opened; 0 for no guess."""
    still_open = data.count(b"{") - data.count(b"}")
    for brace in reversed(list(_BRACE.finditer(data, max(0, len(data) - _TAIL)))):
        is_end = brace[0] == b"}"
        if is_end and not still_open:
            return brace.end()
        still_open += 1 if is_end else -1
    return 0
