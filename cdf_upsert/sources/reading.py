"""Files and standard input -> frames, without blocking the event loop.

A daemon thread reads and decompresses (both let go of the interpreter); framing happens where `Reader.read` is
awaited.
"""

import asyncio
import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import assert_never

from msgspec import Struct

from cdf_upsert.core.framing import Format, Frames, Position, Unframed
from cdf_upsert.errors import UsageError
from cdf_upsert.sources.compression import CorruptStreamError, Decompressor, sniff, undecided
from cdf_upsert.sources.detecting import AutoFramer, detect
from cdf_upsert.sources.lines import LineFramer

BLOCK = 512 * 1024
"""Bytes that are framed in one go at most."""

_AHEAD = 4  # Blocks that are read ahead of the framing at most.


class Input(Struct, frozen=True):
    """One input that was there when it was looked at.

    `size` in bytes as stored, None where it cannot be known. `format` None: told by the content. `on_bytes` is told
    the uncompressed bytes that are read, in order, before they are framed.
    """

    path: str
    size: int | None
    format: Format | None = None
    on_bytes: Callable[[bytes], None] | None = None

    @property
    def name(self) -> str:
        """Say it to a user."""
        return "standard input" if self.path == "-" else self.path

    def open(self, start: Position) -> "Reader":
        """Begin to read behind what an earlier run consumed."""
        return Reader(self, start)


def open_input(
    path: str, fmt: Format | None = None, on_bytes: Callable[[bytes], None] | None = None
) -> Input:
    """Look at an input without reading from it: a path, or `-` for standard input.

    Raises:
        UsageError: it is not there, is a directory, or may not be read.
    """
    try:
        status = os.fstat(0) if path == "-" else Path(path).stat()
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and path != "-":
            os.close(os.open(path, os.O_RDONLY))
    except (OSError, ValueError) as error:
        raise UsageError(_unusable(path, error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path} is a directory: name the files in it, for example {Path(path) / '*'}.")
    if path != "-" and not os.access(path, os.R_OK):
        raise UsageError(_unusable(path, PermissionError()))
    return Input(path, status.st_size if is_file else None, fmt, on_bytes)


def _unusable(path: str, error: OSError | ValueError) -> str:
    if path == "-":
        return f"Standard input cannot be read ({_why(error)}): pipe records into it, or name a file."
    match error:
        case FileNotFoundError():
            return f"{path} does not exist: check the path."
        case PermissionError():
            return f"{path} may not be read: give yourself permission to read it (chmod u+r)."
        case _:
            return f"{path} cannot be read ({_why(error)}): check the path and the disk it is on."


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class _Block(Struct, frozen=True):
    data: bytes
    stored: int  # Bytes of the input as stored that are read with it.


class _Sought(Struct, frozen=True):
    """The blocks that follow begin at the position to start from: the input is NDJSON and not compressed."""


class _End(Struct, frozen=True):
    broken: str | None  # Why the input ends before its end.


class _Crash(Struct, frozen=True):
    error: BaseException  # Nothing about the input: a bug, or no memory.


_Message = _Block | _Sought | _End | _Crash


class _Pump:
    """The thread that reads: blocks of uncompressed bytes, then one end. It owns the file descriptor."""

    def __init__(self, source: Input, offset: int, deliver: Callable[[_Message], None]) -> None:
        self._source = source
        self._offset = offset  # Where to start, in uncompressed bytes.
        self._deliver = deliver
        self._stored = 0
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = False
        threading.Thread(target=self._run, name=f"read {source.name}", daemon=True).start()

    def freed(self) -> None:
        """Tell that one block was taken."""
        self._room.release()

    def stop(self) -> None:
        """Ask the thread to end; it may still wait for a pipe, and never holds up the end of the process."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        broken = None
        try:
            for message in self._messages():
                self._room.acquire()
                if self._stopped:
                    return
                self._deliver(message)
        except CorruptStreamError as error:
            broken = str(error)
        except OSError as error:
            broken = f"reading failed at byte {self._stored:,} ({_why(error)})"
        except BaseException as error:  # noqa: BLE001  Whoever waits must learn it: it is raised there.
            self._deliver(_Crash(error))
            return
        if not self._stopped:
            self._deliver(_End(broken))

    def _messages(self) -> Iterator[_Message]:
        fd = 0 if self._source.path == "-" else os.open(self._source.path, os.O_RDONLY)
        try:
            raw = self._raw(fd)
            head = b""
            for data in raw:
                head += data
                if not undecided(head):
                    break
            compression = sniff(head)
            if compression is not None:
                yield from self._decompressed(Decompressor(compression), head, raw)
                return
            if self._may_seek(head):
                os.lseek(fd, self._offset, os.SEEK_SET)
                self._stored = self._offset
                yield _Sought()
            elif head:
                yield _Block(head, self._stored)
            for data in raw:
                yield _Block(data, self._stored)
        finally:
            if fd:
                os.close(fd)

    def _may_seek(self, head: bytes) -> bool:
        # All of standard input is read: whether the same bytes come again is told from them.
        if self._source.path == "-" or not 0 < self._offset <= (self._source.size or 0):
            return False
        return (self._source.format or detect(head, complete=len(head) < BLOCK)) is Format.NDJSON

    def _raw(self, fd: int) -> Iterator[bytes]:
        while data := os.read(fd, BLOCK):
            self._stored += len(data)
            yield data

    @staticmethod
    def _decompressed(decompressor: Decompressor, head: bytes, raw: Iterator[bytes]) -> Iterator[_Message]:
        for data in chain((head,), raw):
            pieces: list[bytes] = []
            length = 0
            broken = None
            try:
                for piece in decompressor.feed(data):
                    if length + len(piece) > BLOCK:
                        yield _Block(b"".join(pieces), decompressor.taken)
                        pieces, length = [], 0
                    pieces.append(piece)
                    length += len(piece)
            except CorruptStreamError as error:
                broken = error  # What came before is read first.
            if pieces:
                yield _Block(b"".join(pieces), decompressor.taken)
            if broken is not None:
                raise broken
        decompressor.finish()


class Reader:
    """Reads one input to its end, once.

    `start` says what an earlier run consumed: a file of NDJSON that is not compressed is read from there, every
    other input is read past it. `position` and `total_bytes` count bytes as stored; there is no total where nobody
    knows it.
    """

    def __init__(self, source: Input, start: Position) -> None:
        self.source = source
        self.total_bytes = source.size
        self.position = 0
        self._start = start
        self._framer: AutoFramer | LineFramer = AutoFramer(source.path, source.format, start)
        self._inbox: deque[_Message] = deque()
        self._arrived = asyncio.Event()
        self._pump: _Pump | None = None
        self._over = False

    @property
    def format(self) -> Format:
        """How records stand in the input; known with the first of them."""
        return self._framer.format or Format.NDJSON

    async def read(self) -> list[Frames | Unframed] | None:
        """Wait for the next frames, in input order; None at the end of the input.

        It may be cancelled and called again: nothing is lost.

        Raises:
            UsageError: the input ends before the position to start from.
        """
        if self._pump is None:
            self._pump = self._begin()
        while not self._over:
            while not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
            found = self._take(self._inbox.popleft(), self._pump)
            if found:
                return found
        return None

    async def close(self) -> None:
        """Stop reading; what is read ahead is dropped."""
        self._over = True
        if self._pump is not None:
            self._pump.stop()
        self._inbox.clear()

    def _begin(self) -> _Pump:
        loop = asyncio.get_running_loop()

        def arrived(message: _Message) -> None:
            self._inbox.append(message)
            self._arrived.set()

        def deliver(message: _Message) -> None:
            # The loop may be closed while a read is under way: then nobody waits for it any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(arrived, message)

        return _Pump(self.source, self._start.offset, deliver)

    def _take(self, message: _Message, pump: _Pump) -> list[Frames | Unframed]:
        match message:
            case _Block(data, stored):
                pump.freed()
                self.position = stored
                if self.source.on_bytes is not None:
                    self.source.on_bytes(data)
                found = self._framer.feed(data)
                if self._framer.ended:
                    self._over = True
                    pump.stop()
                return found
            case _Sought():
                pump.freed()
                self._framer = LineFramer(self.source.path, self._start)
                self.position = self._start.offset
                return []
            case _End(broken):
                self._over = True
                return self._framer.finish() if broken is None else self._framer.abort(broken)
            case _Crash(error):
                self._over = True
                raise error
            case _:
                assert_never(message)
