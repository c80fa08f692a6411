"""Reading in a process of its own: a second core frames and checks while the first one sends.

The process is told on its standard output, which is a socket, and answers there:

    task →  (with the open file)
           ← Found, as often as something was found
           ← one of Over, Unfit, Crash

Each message has its length before it, in 8 bytes. When the loader is gone the process cannot write, and ends.
"""

import json
import socket
import subprocess
import sys
from array import array
from collections.abc import Generator, Sequence
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from cdf_upsert.core.checking import Checker
from cdf_upsert.core.framing import Format, Frames, Position, Unframed
from cdf_upsert.errors import LoaderError, UsageError
from cdf_upsert.sources.blocks import BrokenInputError, Framing, blocks
from cdf_upsert.sources.tuning import tune

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from cdf_upsert.sources.apart import serve; serve()"
)


class Task(Struct, frozen=True, array_like=True):
    """What is to be read: `size` in bytes as stored; `body_bytes` is the ceiling of a request's whole body."""

    path: str
    size: int
    format: Format | None
    start: Position
    body_bytes: int


class NoProcessError(Exception):
    """There is no second process; nothing was read."""


class _Frames(Struct, frozen=True, array_like=True, tag="frames"):
    """`Frames`; `offsets` and `lines` as bytes, `spaces` one or one for each, no keys as no external ids."""

    texts: list[bytes]
    offsets: bytes
    lines: bytes
    first_record: int
    end: Position
    spaces: list[str]
    external_ids: list[str]

    @classmethod
    def of(cls, frames: Frames, keys: Sequence[tuple[str, str]]) -> "_Frames":
        spaces = [space for space, _ in keys]
        if spaces and spaces.count(spaces[0]) == len(spaces):
            del spaces[1:]
        return cls(
            frames.texts,
            array("q", frames.offsets).tobytes(),
            array("q", frames.lines).tobytes(),
            frames.first_record,
            frames.end,
            spaces,
            [external_id for _, external_id in keys],
        )

    def frames(self, path: str) -> Frames:
        count = len(self.texts)
        spaces = self.spaces * count if len(self.spaces) == 1 else self.spaces
        keys = list(zip(spaces, self.external_ids, strict=True)) if self.external_ids else None
        offsets, lines = array("q", self.offsets), array("q", self.lines)
        return Frames(path, self.texts, offsets, lines, self.first_record, self.end, keys)


class _Unframed(Struct, frozen=True, array_like=True, tag="unframed"):
    fault: Unframed


class _Found(Struct, frozen=True, array_like=True, tag="found"):
    position: int
    format: Format
    pieces: list[_Frames | _Unframed]


class _Over(Struct, frozen=True, array_like=True, tag="over"):
    """The input is read to its end."""


class _Unfit(Struct, frozen=True, array_like=True, tag="unfit"):
    """The user has to mend something; a whole sentence."""

    sentence: str


class _Crash(Struct, frozen=True, array_like=True, tag="crash"):
    """A bug, or no memory."""

    error: str


_encode = msgspec.msgpack.Encoder().encode
_decode_task = msgspec.msgpack.Decoder(Task).decode
_decode = msgspec.msgpack.Decoder(_Found | _Over | _Unfit | _Crash).decode
_LENGTH: Final = 8
_OVER: Final = _encode(_Over())


class Framed(Struct, frozen=True):
    """What was found; `position` counts the bytes as stored that are behind the reader."""

    position: int
    format: Format
    found: list[Frames | Unframed]


def framed(message: bytearray, path: str) -> Framed | None:
    """Read a message on the input at `path`; None when it is the last one.

    Raises:
        UsageError: the user has to mend something.
        LoaderError: the process that reads has failed.
    """
    match _decode(message):
        case _Found(position, fmt, pieces):
            return Framed(
                position,
                fmt,
                [one.fault if isinstance(one, _Unframed) else one.frames(path) for one in pieces],
            )
        case _Over():
            return None
        case _Unfit(sentence):
            raise UsageError(sentence)
        case _Crash(error):
            raise LoaderError(f"The process that reads {path} has failed: {error}")
        case other:
            assert_never(other)


class Process:
    """A process that waits for one task. Whoever starts it closes it.

    Raises:
        NoProcessError: no process came about.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise NoProcessError
        self._socket, there = socket.socketpair()
        with there:
            try:
                self._process = subprocess.Popen(  # noqa: S603  Our own interpreter, and our own words.
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(sys.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=there.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl+C is meant for the loader, which ends it in its own time.
                )
            except OSError as error:
                self._socket.close()
                raise NoProcessError from error

    def close(self) -> None:
        """End the process, whatever it does. It may be called again."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def messages(self, fd: int, task: Task) -> Generator[bytearray]:
        """Let the process do `task` with the file that `fd` has open; what it says, for `framed`.

        Raises:
            NoProcessError: the process has not begun.
            LoaderError: it ended before the input did.
        """
        began = False
        try:
            message = _encode(task)
            socket.send_fds(self._socket, [_length(message)], [fd])
            self._socket.sendall(message)
            while True:
                answer = _exactly(self._socket, int.from_bytes(_exactly(self._socket, _LENGTH), "little"))
                began = True
                yield answer
                if answer == _OVER:
                    return
        except OSError as error:
            if not began:
                raise NoProcessError from error
            raise LoaderError(
                f"The process that reads {task.path} has ended before its time: rerun to go on."
            ) from error


def serve() -> None:
    """Do one task."""
    tune()
    here = socket.socket(fileno=sys.stdout.fileno())

    def say(message: _Found | _Over | _Unfit | _Crash) -> None:
        encoded = _encode(message)
        here.sendall(_length(encoded) + encoded)

    try:
        length, fds, _, _ = socket.recv_fds(here, _LENGTH, 1)
        if not fds:
            return  # There was nothing to do.
        task = _decode_task(_exactly(here, int.from_bytes(length, "little")))
        try:
            for found in _do(fds[0], task):
                say(found)
            say(_Over())
        except UsageError as error:
            say(_Unfit(str(error)))
    except OSError:
        return  # The loader is gone: nobody is there to be told.
    except BaseException as error:  # noqa: BLE001  The loader tells it.
        say(_Crash(repr(error)))


def _do(fd: int, task: Task) -> Generator[_Found]:
    checker = Checker(task.body_bytes)
    framing = Framing(task.path, task.format, task.start)

    def found(pieces: Sequence[Frames | Unframed]) -> _Found:
        return _Found(
            framing.position,
            framing.format,
            [
                _Unframed(one)
                if isinstance(one, Unframed)
                else _Frames.of(one, checker.keys(one.texts) or ())
                for one in pieces
            ],
        )

    broken = None
    try:
        for block in blocks(fd, task.size, task.format, task.start.offset):
            if pieces := framing.take(block):
                yield found(pieces)
            if framing.ended:
                return
    except BrokenInputError as error:
        broken = str(error)
    if pieces := framing.end(broken):
        yield found(pieces)


def _length(message: bytes) -> bytes:
    return len(message).to_bytes(_LENGTH, "little")


def _exactly(source: socket.socket, count: int) -> bytearray:
    """So many bytes, in one go: each call that waits gives the interpreter away, and has to get it back."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = source.recv_into(view, len(view), socket.MSG_WAITALL)
        if not got:
            raise ConnectionResetError
        view = view[got:]
    return data
