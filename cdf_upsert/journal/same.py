"""Whether an input that can be read only once brings the same bytes again.

While such an input is read, checksums of everything up to some lengths are kept. In a run that goes on, what
is read is held back until it is known to be the same: nothing of other bytes is sent.
"""

from collections.abc import Sequence
from typing import Protocol

from isal import isal_zlib

from cdf_upsert.core.framing import Frames, Unframed
from cdf_upsert.errors import UsageError

KEPT_EVERY = 4_000_000
"""Bytes between two marks that are kept: what is held back at most, and how exactly a difference is told."""

Mark = tuple[int, int]
"""A length in bytes, and the CRC-32 of everything up to there (12 GB/s: it costs a load nothing)."""


class SameBytes:
    """Hears the uncompressed bytes of one input, in order.

    `known` are the marks of an earlier run, and `closed` says that nothing may follow them. `ended` is whether all of
    the input is heard, in this run or in an earlier one.
    """

    def __init__(
        self, name: str, known: Sequence[Mark] = (), *, ended: bool = False, closed: bool = False
    ) -> None:
        self._name = name
        self._known = known
        self._closed = closed
        self.ended = ended
        self._next = 0
        self._length = 0
        self._check = 0
        self._kept = known[-1][0] if known else 0

    @property
    def verified(self) -> int | None:
        """How many bytes are known to be the same; None when all are that the earlier run has read."""
        if self._next == len(self._known):
            return None
        return self._known[self._next - 1][0] if self._next else 0

    @property
    def latest(self) -> Mark | None:
        """The mark of all that is heard; None as long as an earlier run has read more."""
        return None if self.verified is not None else (self._length, self._check)

    def keep(self) -> Mark | None:
        """The latest mark, when it is time to keep one for good."""
        latest = self.latest
        if latest is None or latest[0] - self._kept < KEPT_EVERY:
            return None
        self._kept = latest[0]
        return latest

    def feed(self, data: bytes) -> None:
        """Hear the next bytes.

        Raises:
            UsageError: they are not those of the earlier run.
        """
        view = memoryview(data)
        while self._next < len(self._known):
            length, check = self._known[self._next]
            missing = length - self._length
            if missing > len(view):
                break
            self._hear(view[:missing])
            view = view[missing:]
            if self._check != check:
                raise UsageError(
                    f"{self._name} is not what it was in the earlier run: it differs between bytes "
                    f"{self.verified or 0:,} and {length:,}. {_MEND}"
                )
            self._next += 1
        if view and self._closed and self._next == len(self._known):
            raise UsageError(
                f"{self._name} is not what it was in the earlier run: it goes on after {self._length:,} bytes, "
                f"where it ended then. {_MEND}"
            )
        self._hear(view)

    def end(self) -> None:
        """Hear that no more follows.

        Raises:
            UsageError: the earlier run has read more.
        """
        if self.verified is not None:
            raise UsageError(
                f"{self._name} is not what it was in the earlier run: it ends after {self._length:,} bytes, "
                f"where that run has read {self._known[-1][0]:,}. {_MEND}"
            )
        self.ended = True

    def _hear(self, data: memoryview) -> None:
        self._check = isal_zlib.crc32(data, self._check)
        self._length += len(data)


_MEND = "Give the same bytes again, or begin anew with --fresh."


class _Reader(Protocol):
    @property
    def format(self) -> str | None: ...
    @property
    def total_bytes(self) -> int | None: ...
    @property
    def position(self) -> int: ...
    async def read(self) -> Sequence[Frames | Unframed] | None: ...
    async def close(self) -> None: ...


class VerifiedReader:
    """Hands on what `reader` reads as soon as `same`, which hears its bytes, knows that it is the same."""

    def __init__(self, reader: _Reader, same: SameBytes) -> None:
        self._reader = reader
        self._same = same
        self._held: list[Frames | Unframed] = []
        self._over = False

    @property
    def format(self) -> str | None:
        """`ndjson` or `json`; known after the first read."""
        return self._reader.format

    @property
    def total_bytes(self) -> int | None:
        """How many bytes there are to read, as stored; None when nobody knows."""
        return self._reader.total_bytes

    @property
    def position(self) -> int:
        """How many of the stored bytes have been read."""
        return self._reader.position

    async def read(self) -> Sequence[Frames | Unframed] | None:
        """The next records, in input order; None at the end of the input.

        Raises:
            UsageError: the bytes are not those of the earlier run.
        """
        while not self._over:
            pieces = await self._reader.read()
            if pieces is None:
                self._over = True
                self._same.end()
            else:
                self._held += pieces
            verified = self._same.verified
            known = [one for one in self._held if verified is None or one.end.offset <= verified]
            if known:
                del self._held[: len(known)]
                return known
        return None

    async def close(self) -> None:
        """Let go of the input."""
        self._over = True
        await self._reader.close()
