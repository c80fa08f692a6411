"""Files and standard input -> frames, without blocking the event loop.

A daemon thread reads and decompresses (both let go of the interpreter); framing happens where `Reader.read` is
awaited. A large file is read, framed and checked by a process of its own, and the thread hears what that says.
"""

import asyncio
import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.core.framing import Format, Frames, Position, Unframed
from cdf_upsert.errors import UsageError
from cdf_upsert.sources.blocks import Block, BrokenInputError, Framing, Sought, blocks

if TYPE_CHECKING:
    from cdf_upsert.sources.apart import Process

APART_FROM = 10_000_000
"""Bytes of a file, as stored, from which on a process of its own saves more than its start takes."""

_AHEAD = 2  # Blocks that are read ahead of the framing at most.


class Input(Struct, frozen=True):
    """One input that was there when it was looked at.

    `size` in bytes as stored, None where it cannot be known. `format` None: told by the content. `on_bytes` is told
    the uncompressed bytes that are read, in order, before they are framed. `body_bytes` is the ceiling of a
    request's whole body, by which a file of `apart_from` bytes or more is checked where it is read: by `process` the
    first time, when that is there.
    """

    path: str
    size: int | None
    format: Format | None = None
    on_bytes: Callable[[bytes], None] | None = None
    body_bytes: int | None = None
    apart_from: int = APART_FROM
    process: "Process | None" = None

    @property
    def name(self) -> str:
        """Say it to a user."""
        return "standard input" if self.path == "-" else self.path

    @property
    def is_read_apart(self) -> bool:
        """Whether a process of its own reads it, where one can be had."""
        checked = self.body_bytes is not None and self.on_bytes is None
        return checked and self.path != "-" and (self.size or 0) >= self.apart_from and _cores() > 1

    def open(self, start: Position) -> "Reader":
        """Begin to read behind what an earlier run consumed."""
        return Reader(self, start)


def open_input(
    path: str,
    fmt: Format | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
    body_bytes: int | None = None,
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
    return Input(path, status.st_size if is_file else None, fmt, on_bytes, body_bytes)


def open_inputs(
    paths: Sequence[str], fmt: Format | None = None, body_bytes: int | None = None
) -> list[Input]:
    """Look at all inputs without reading from them.

    Raises:
        UsageError: some are not usable, and it tells all of these.
    """
    inputs, faults = [], []
    for path in paths:
        try:
            inputs.append(open_input(path, fmt, body_bytes=body_bytes))
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError(" ".join(faults))
    return inputs


@contextlib.contextmanager
def prepared(inputs: Sequence[Input]) -> Generator[Sequence[Input]]:
    """The same inputs, while a process for the first large one is starting; meanwhile others may do their part."""
    first = next((at for at, one in enumerate(inputs) if one.is_read_apart), None)
    if first is None:
        yield inputs
        return
    from cdf_upsert.sources.apart import NoProcessError, Process  # noqa: PLC0415  Small inputs do not need it.

    try:
        process = Process()
    except NoProcessError:
        yield inputs
        return
    with contextlib.closing(process):
        yield [*inputs[:first], replace(inputs[first], process=process), *inputs[first + 1 :]]


def _cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on Linux.
        return os.cpu_count() or 1


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


class _End(Struct, frozen=True):
    broken: str | None  # Why the input ends before its end.


class _Crash(Struct, frozen=True):
    error: BaseException  # Nothing about the input: a bug, or no memory.


_Message = Block | Sought | bytearray | _End | _Crash
"""Bytes, or with a bytearray what another process says of them."""


class _Pump:
    """The thread that reads, or hears what another process reads: messages, then one end. It owns what it opens."""

    def __init__(self, source: Input, start: Position, deliver: Callable[[_Message], None]) -> None:
        self._source = source
        self._start = start
        self._deliver = deliver
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = False
        threading.Thread(target=self._run, name=f"read {source.name}", daemon=True).start()

    def freed(self) -> None:
        """Tell that one message was taken."""
        self._room.release()

    def stop(self) -> None:
        """Ask the thread to end; it may still wait for a pipe, and never holds up the end of the process."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        broken = None
        try:
            with contextlib.closing(self._messages()) as messages:
                for message in messages:
                    self._room.acquire()
                    if self._stopped:
                        return
                    self._deliver(message)
        except BrokenInputError as error:
            broken = str(error)
        except BaseException as error:  # noqa: BLE001  Whoever waits must learn it: it is raised there.
            self._deliver(_Crash(error))
            return
        if not self._stopped:
            self._deliver(_End(broken))

    def _messages(self) -> Generator[Block | Sought | bytearray]:
        source = self._source
        try:
            fd = 0 if source.path == "-" else os.open(source.path, os.O_RDONLY)
        except OSError as error:
            raise BrokenInputError(f"reading failed at byte 0 ({_why(error)})") from error
        try:
            if source.body_bytes is not None and source.is_read_apart:
                from cdf_upsert.sources import apart  # noqa: PLC0415  Small inputs do not need it.

                task = apart.Task(
                    source.path, source.size or 0, source.format, self._start, source.body_bytes
                )
                with (
                    contextlib.suppress(apart.NoProcessError),
                    contextlib.closing(source.process or apart.Process()) as process,
                ):
                    yield from process.messages(fd, task)
                    return
            # All of standard input is read: whether the same bytes come again is told from them.
            seekable = 0 if source.path == "-" else source.size or 0
            yield from blocks(fd, seekable, source.format, self._start.offset)
        finally:
            if fd:
                os.close(fd)


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
        self.format: Format = Format.NDJSON
        """How records stand in the input; known with the first of them."""
        self._start = start
        self._framing = Framing(source.path, source.format, start)
        self._inbox: deque[_Message] = deque()
        self._arrived = asyncio.Event()
        self._pump: _Pump | None = None
        self._over = False

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

        return _Pump(self.source, self._start, deliver)

    def _take(self, message: _Message, pump: _Pump) -> list[Frames | Unframed]:
        framing = self._framing
        match message:
            case Block() | Sought():
                pump.freed()
                if self.source.on_bytes is not None and isinstance(message, Block):
                    self.source.on_bytes(message.data)
                found = [] if framing.ended else framing.take(message)
                self.position, self.format = framing.position, framing.format
                if framing.ended and self.source.on_bytes is None:
                    self._over = True
                    pump.stop()
                return found
            case bytearray():
                from cdf_upsert.sources import apart  # noqa: PLC0415  As where the messages come from.

                pump.freed()
                told = apart.framed(message, self.source.path)
                if told is None:
                    self._over = True
                    return []
                self.position, self.format = told.position, told.format
                return told.found
            case _End(broken):
                self._over = True
                found = [] if framing.ended else framing.end(broken)
                self.format = framing.format
                return found
            case _Crash(error):
                self._over = True
                raise error
            case _:
                assert_never(message)
