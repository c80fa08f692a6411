"""A file or standard input -> blocks of uncompressed bytes, and how records stand in them -> frames.

Nothing here waits for anybody: a thread reads, or a process of its own.
"""

import os
from collections.abc import Iterator
from itertools import chain

from msgspec import Struct

from cdf_upsert.core.framing import Format, Frames, Position, Unframed
from cdf_upsert.sources.compression import CorruptStreamError, Decompressor, sniff, undecided
from cdf_upsert.sources.detecting import AutoFramer, detect
from cdf_upsert.sources.lines import LineFramer

BLOCK = 256 * 1024
"""Bytes that are framed in one go at most."""


class Block(Struct, frozen=True):
    """The next bytes; `stored` bytes of the input as stored are read with them."""

    data: bytes
    stored: int


class Sought(Struct, frozen=True):
    """The blocks that follow begin at the position to start from: the input is NDJSON and not compressed."""


def blocks(fd: int, seekable: int, fmt: Format | None, offset: int) -> Iterator[Block | Sought]:
    """The bytes of the input that `fd` has open, up to its end.

    When the format needs no more, those before `offset` (uncompressed) are left out; `seekable` is how many bytes
    the file has, 0 when it cannot be sought in.

    Raises:
        BrokenInputError: the input ends before its end.
    """
    stored = 0

    def raw() -> Iterator[bytes]:
        nonlocal stored
        try:
            while data := os.read(fd, BLOCK):
                stored += len(data)
                yield data
        except OSError as error:
            raise BrokenInputError(
                f"reading failed at byte {stored:,} ({error.strerror or error})"
            ) from error

    pieces = raw()
    head = b""
    for data in pieces:
        head += data
        if not undecided(head):
            break
    compression = sniff(head)
    if compression is not None:
        yield from _decompressed(Decompressor(compression), head, pieces)
        return
    if 0 < offset <= seekable and (fmt or detect(head, complete=len(head) < BLOCK)) is Format.NDJSON:
        stored = os.lseek(fd, offset, os.SEEK_SET)
        yield Sought()
    elif head:
        yield Block(head, stored)
    for data in pieces:
        yield Block(data, stored)


class BrokenInputError(Exception):
    """No more can be read of an input, and why: a sentence without its full stop."""


def _decompressed(decompressor: Decompressor, head: bytes, raw: Iterator[bytes]) -> Iterator[Block]:
    try:
        for data in chain((head,), raw):
            pieces: list[bytes] = []
            length = 0
            broken = None
            try:
                for piece in decompressor.feed(data):
                    if length + len(piece) > BLOCK:
                        yield Block(b"".join(pieces), decompressor.taken)
                        pieces, length = [], 0
                    pieces.append(piece)
                    length += len(piece)
            except CorruptStreamError as error:
                broken = error  # What came before is read first.
            if pieces:
                yield Block(b"".join(pieces), decompressor.taken)
            if broken is not None:
                raise broken
        decompressor.finish()
    except CorruptStreamError as error:
        raise BrokenInputError(str(error)) from error


class Framing:
    """Blocks of one input -> frames, from `start` on: what an earlier run consumed is passed by.

    `position` counts the bytes as stored that were read. `ended`: the input is broken in a way that ends it.
    """

    def __init__(self, path: str, fmt: Format | None, start: Position) -> None:
        self.position = 0
        self._path = path
        self._start = start
        self._framer: AutoFramer | LineFramer = AutoFramer(path, fmt, start)

    @property
    def format(self) -> Format:
        """How records stand in the input; known with the first of them."""
        return self._framer.format or Format.NDJSON

    @property
    def ended(self) -> bool:
        """Whether what follows would be passed by."""
        return self._framer.ended

    def take(self, block: Block | Sought) -> list[Frames | Unframed]:
        """Take the next bytes."""
        if isinstance(block, Sought):
            self._framer = LineFramer(self._path, self._start)
            self.position = self._start.offset
            return []
        self.position = block.stored
        return self._framer.feed(block.data)

    def end(self, broken: str | None) -> list[Frames | Unframed]:
        """Take the end of the input, or that it is `broken` there.

        Raises:
            UsageError: it comes before the position to start from.
        """
        return self._framer.finish() if broken is None else self._framer.abort(broken)
