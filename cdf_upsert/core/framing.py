"""What an input falls apart into: the bytes of its records, and the places where it is broken.

A frame is the text of one record exactly as it stood in the input; whether that text is a record is not asked
here. Every frame and every fault takes one record number, in input order.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Literal, Protocol

from msgspec import Struct

NOTHING_BEHIND = "; nothing behind it is read"
"""The end of a reason that ends the whole input: no record can be mended, the input has to be got anew."""

MAX_RECORD = 10_000_000
"""Bytes of the longest text that may be a record: a request of the service has 10 MB, counted as 10^6."""


class Format(StrEnum):
    """How records stand in an input."""

    NDJSON = "ndjson"
    JSON = "json"


class Place(Struct, frozen=True):
    """Where a text stands.

    `record` and `line` count from 1; `offset` and `length` are in bytes of the uncompressed input.
    """

    path: str
    record: int
    line: int | None
    offset: int
    length: int


class Position(Struct, frozen=True):
    """How far an input is consumed: `offset` bytes (uncompressed), `line` line ends, `record` records."""

    offset: int = 0
    line: int = 0
    record: int = 0


class Frames(Struct, frozen=True):
    """Consecutive texts of one input, in columns.

    `first_record` is the number of `texts[0]`, the others follow it; `offsets` are in bytes of the uncompressed
    input; `end` says how far the input is consumed with these. `keys` when all texts are known to be fit to be sent.
    """

    path: str
    texts: list[bytes]
    offsets: Sequence[int]
    lines: Sequence[int]
    first_record: int
    end: Position
    keys: list[tuple[str, str]] | None = None

    def place(self, index: int) -> Place:
        """Tell where `texts[index]` stands."""
        return Place(
            self.path,
            self.first_record + index,
            self.lines[index],
            self.offsets[index],
            len(self.texts[index]),
        )

    def part(self, start: int, stop: int) -> "Frames":
        """Take the texts from `start` up to `stop`, which is more than `start`."""
        if start == 0 and stop == len(self.texts):
            return self
        end = self.end
        if stop < len(self.texts):
            end = Position(self.offsets[stop], self.lines[stop] - 1, self.first_record + stop - 1)
        return Frames(
            self.path,
            self.texts[start:stop],
            self.offsets[start:stop],
            self.lines[start:stop],
            self.first_record + start,
            end,
            None if self.keys is None else self.keys[start:stop],
        )


class Unframed(Struct, frozen=True):
    """A fault that is found while framing; it costs one record.

    `reason` is a sentence without its full stop. `raw` is what stands at `place` where that is held, else None.
    `end` says how far the input is consumed with it.
    """

    place: Place
    reason: str
    kind: Literal["unreadable", "oversize"]
    raw: bytes | None
    end: Position


class Framer(Protocol):
    """Pushed the bytes of one input in pieces of any size; answers what they complete, in input order.

    `ended`: the input is broken in a way that ends it; what is fed then is passed by.
    """

    ended: bool

    def feed(self, data: bytes) -> list[Frames | Unframed]:
        """Take the next bytes."""
        ...

    def finish(self) -> list[Frames | Unframed]:
        """Take the end of the input."""
        ...

    def abort(self, reason: str) -> list[Frames | Unframed]:
        """Take that no more can be read, and why: one fault, in place of what is not complete."""
        ...


def oversize(length: int) -> str:
    """Say that a text is too long."""
    return f"the text is {length:,} bytes long, and a record has at most {MAX_RECORD:,}"


def set_apart(frames: Frames) -> Iterator[Frames | Unframed]:
    """Set the texts apart that cannot be records: not UTF-8, or longer than `MAX_RECORD`. The order is kept."""
    start = 0
    for index, text in enumerate(frames.texts):
        fault = _fault(text)
        if fault is None:
            continue
        if start < index:
            yield frames.part(start, index)
        kind, reason = fault
        place = frames.place(index)
        raw = None if kind == "oversize" else text
        yield Unframed(place, reason, kind, raw, frames.part(index, index + 1).end)
        start = index + 1
    if start == 0:
        yield frames
    elif start < len(frames.texts):
        yield frames.part(start, len(frames.texts))


def _fault(text: bytes) -> tuple[Literal["unreadable", "oversize"], str] | None:
    if len(text) > MAX_RECORD:
        return "oversize", oversize(len(text))
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return "unreadable", f"byte {error.start + 1} of the record is not UTF-8 (0x{text[error.start]:02x})"
    return None
