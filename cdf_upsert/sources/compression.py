"""Compressed streams -> bytes: gzip, zstd, bzip2 and xz, known by their first bytes, in bounded steps."""

import sys
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from msgspec import Struct

INPUT_STEP = 16 * 1024
"""Compressed bytes of one step: what a corrupt stream may take with it that was sound."""

OUTPUT_STEP = 512 * 1024
"""Bytes that one step gives at most, however small the compressed bytes are."""


class _Engine(Protocol):
    """What the decompressors of bz2, lzma, zstd and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _gzip() -> _Engine:
    from isal import igzip_lib  # noqa: PLC0415  Imported for gzip only: start-up time.

    return cast("_Engine", igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))


def _zstd() -> _Engine:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415  Imported for zstd only: start-up time.
    else:
        from backports import zstd  # noqa: PLC0415  Imported for zstd only: start-up time.
    return zstd.ZstdDecompressor()


def _bzip2() -> _Engine:
    from bz2 import BZ2Decompressor  # noqa: PLC0415  Imported for bzip2 only: start-up time.

    return BZ2Decompressor()


def _xz() -> _Engine:
    from lzma import FORMAT_XZ, LZMADecompressor  # noqa: PLC0415  Imported for xz only: start-up time.

    return LZMADecompressor(FORMAT_XZ, memlimit=128 * 1024 * 1024)  # The highest preset of xz takes 65 MiB.


class Compression(Struct, frozen=True):
    """A way to compress: its name, the first bytes that tell it, and what undoes it."""

    name: str
    magic: bytes
    engine: Callable[[], _Engine]


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b\x08", _gzip),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    Compression("bzip2", b"BZh", _bzip2),
    Compression("xz", b"\xfd7zXZ\x00", _xz),
)


def sniff(head: bytes) -> Compression | None:
    """Tell the compression by the first bytes of an input; None when it is not compressed."""
    return next((known for known in COMPRESSIONS if head.startswith(known.magic)), None)


def undecided(head: bytes) -> bool:
    """Tell whether more bytes may still make `head` the beginning of a compressed stream."""
    return any(len(head) < len(known.magic) and known.magic.startswith(head) for known in COMPRESSIONS)


class CorruptStreamError(Exception):
    """A compressed stream is broken or ends too early; the message is a sentence without its full stop."""


class Decompressor:
    """Undoes one compressed stream, of one member or of several in a row."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression
        self._engine: _Engine | None = None  # None between two members.
        self._lead = b""  # The beginning of what may be the next member.
        self.taken = 0  # Compressed bytes taken so far.
        self.given = 0  # Uncompressed bytes given so far.

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next compressed bytes, give what they hold in pieces of at most `OUTPUT_STEP`.

        Raises:
            CorruptStreamError: the stream is broken; what came before was given.
        """
        for start in range(0, len(data), INPUT_STEP):
            yield from self._step(data[start : start + INPUT_STEP])

    def finish(self) -> None:
        """Take the end of the compressed bytes.

        Raises:
            CorruptStreamError: the stream ends in the middle of a member, or of what may be one.
        """
        if self._engine is not None:
            raise self._corrupt("ends too early")
        if self._lead:
            raise self._corrupt("has something else behind its end")

    def _step(self, data: bytes) -> Iterator[bytes]:
        at = self.taken
        self.taken += len(data)
        while True:
            if self._engine is None:
                # Zeros between members and behind the last one are padding: xz and tapes leave it.
                self._lead = (self._lead + data).lstrip(b"\0")
                if not self._lead:
                    return
                if not self._lead.startswith(self._compression.magic):
                    if not self._compression.magic.startswith(self._lead):
                        self.taken -= len(self._lead)
                        raise self._corrupt("has something else behind its end")
                    return
                self._engine, data, self._lead = self._compression.engine(), self._lead, b""
            try:
                out = self._engine.decompress(data, OUTPUT_STEP)
            except Exception as error:
                # Each library raises errors of its own, and all of them say that the bytes are not sound.
                self.taken = at
                raise self._corrupt(f"is broken ({error})") from error
            self.given += len(out)
            if out:
                yield out
            if self._engine.eof:
                data, self._engine = self._engine.unused_data, None
            elif self._engine.needs_input:
                return
            else:
                data = b""

    def _corrupt(self, what: str) -> CorruptStreamError:
        return CorruptStreamError(
            f"the {self._compression.name} stream {what}, at compressed byte {self.taken:,}, "
            f"which is byte {self.given:,} of what it holds"
        )
