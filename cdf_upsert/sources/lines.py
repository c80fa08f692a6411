"""NDJSON -> frames: one line, one text. Pushed the bytes in pieces of any size; holds at most one line."""

from collections.abc import Sequence
from itertools import accumulate
from operator import add

from cdf_upsert.core.framing import (
    MAX_RECORD,
    NOTHING_BEHIND,
    Format,
    Frames,
    Place,
    Position,
    Unframed,
    oversize,
    set_apart,
)

_BOM = b"\xef\xbb\xbf"


class LineFramer:
    r"""Frames NDJSON.

    A text is a line without its line end (`\n` or `\r\n`). Lines of nothing but space are counted and skipped. A
    line of more than `MAX_RECORD` bytes is not held: it gives one fault with its true length.
    """

    def __init__(self, path: str, start: Position | None = None) -> None:
        self.ended = False
        self.format = Format.NDJSON
        self._path = path
        self._at = start or Position()
        self._held: list[bytes] = []  # The line that is not complete, in pieces; empty once it is oversize.
        self._length = 0  # Its bytes so far, held or not.
        self._last = b""  # Its last byte so far: a `\r` there belongs to the line end.

    def feed(self, data: bytes) -> list[Frames | Unframed]:
        """Take the next bytes."""
        last = data.rfind(b"\n")
        if last < 0:
            self._hold(data)
            return []
        rest = data[last + 1 :]
        found: list[Frames | Unframed] = []
        if self._length > MAX_RECORD + 1:  # One more than the longest line, for its `\r`.
            first = data.index(b"\n")
            self._hold(data[:first])
            found.append(self._oversize(line_ends=1))
            block = data[first + 1 : last]
            if first < last:
                found += self._frame(block)
        else:
            self._held.append(data[:last])
            block = b"".join(self._held) if len(self._held) > 1 else self._held[0]
            found += self._frame(block)
        self._held, self._length = [], 0
        if rest:
            self._hold(rest)
        return found

    def finish(self) -> list[Frames | Unframed]:
        """Take the end of the input; the last line may lack its line end."""
        if self._length > MAX_RECORD + 1:
            return [self._oversize(line_ends=0)]
        return self._frame(b"".join(self._held), closed=False) if self._length else []

    def abort(self, reason: str) -> list[Frames | Unframed]:
        """Take that no more can be read: one fault, which holds the line that is not complete."""
        at = self._at
        place = Place(self._path, at.record + 1, at.line + 1, at.offset, self._length)
        raw = b"".join(self._held) if self._length <= MAX_RECORD + 1 else None
        self._at = Position(at.offset + self._length, at.line, at.record + 1)
        self._held, self._length = [], 0
        return [Unframed(place, reason + NOTHING_BEHIND, "unreadable", raw, self._at)]

    def _hold(self, data: bytes) -> None:
        self._length += len(data)
        self._last = data[-1:] or self._last
        if self._length > MAX_RECORD + 1:
            self._held.clear()
        else:
            self._held.append(data)

    def _oversize(self, *, line_ends: int) -> Unframed:
        at, length = self._at, self._length - (self._last == b"\r")
        place = Place(self._path, at.record + 1, at.line + 1, at.offset, length)
        self._at = Position(at.offset + self._length + line_ends, at.line + line_ends, at.record + 1)
        return Unframed(place, oversize(length), "oversize", None, self._at)

    def _frame(self, block: bytes, *, closed: bool = True) -> list[Frames | Unframed]:
        """Frame the lines of a block whose last line end is cut off (`closed`) or was never there."""
        at = self._at
        texts = block.split(b"\n")
        lengths = accumulate(map(len, texts[:-1]), initial=at.offset)
        offsets = list(map(add, lengths, range(len(texts))))
        lines: Sequence[int] = range(at.line + 1, at.line + len(texts) + 1)
        end_offset = at.offset + len(block) + closed
        end_line = at.line + len(texts) - (not closed)
        # No Python per line on the good path: the least line tells whether any is blank or begins with space.
        if min(texts) < b"!" or b"\r" in block or at.offset == 0:
            texts, offsets, lines = self._even(texts, offsets, lines)
        self._at = Position(end_offset, end_line, at.record + len(texts))
        if not texts:
            return []
        frames = Frames(self._path, texts, offsets, lines, at.record + 1, self._at)
        if len(block) <= MAX_RECORD and (block.isascii() or _is_utf8(block)):
            return [frames]
        return list(set_apart(frames))

    @staticmethod
    def _even(
        texts: list[bytes], offsets: list[int], lines: Sequence[int]
    ) -> tuple[list[bytes], list[int], list[int]]:
        if offsets[0] == 0 and texts[0].startswith(_BOM):
            texts[0] = texts[0][len(_BOM) :]
            offsets[0] = len(_BOM)
        kept = [
            (text.removesuffix(b"\r"), offset, line)
            for text, offset, line in zip(texts, offsets, lines, strict=True)
            if text and not text.isspace()
        ]
        return [text for text, _, _ in kept], [offset for _, offset, _ in kept], [line for _, _, line in kept]


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
