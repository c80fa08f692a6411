"""The failed file: one line per failed record, itself a valid input of `load`."""

import base64
import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cdf_upsert.core.framing import Place
from cdf_upsert.core.record import Failed, FailureClass
from cdf_upsert.core.wording import shown
from cdf_upsert.errors import UsageError

_encode = msgspec.json.Encoder().encode
_step_over = msgspec.json.Decoder(msgspec.Raw).decode
_BLOCK = 256 * 1024


def line_of(failed: Failed) -> bytes:
    """The line of a failed record, without its newline and without a mark.

    What is JSON stands under `record` as the bytes that were read; what is not, under `raw` or `rawBase64`; a
    text that was too long to keep is left out.
    """
    failure, place = failed.failure, failed.place
    head = _encode(
        {
            "error": {
                "class": failure.kind,
                "status": failure.status,
                "message": shown(failure.message),
                "requestId": failure.request_id,
                "attempts": failure.attempts,
            },
            "source": {**_place(place), "offset": place.offset, "length": place.length},
        }
    )
    return head[:-1] + _text(failed) + b"}"


def mark_of(place: Place) -> bytes:
    """What a line says about the newer version that was accepted in place of its record."""
    return _encode(_place(place))


def marked(line: bytes, superseded_by: bytes | None) -> bytes:
    """The line with its mark, when it has one."""
    return line if superseded_by is None else b'%s,"supersededBy":%s}' % (line[:-1], superseded_by)


def _place(place: Place) -> dict[str, str | int | None]:
    return {"path": shown(place.path), "record": place.record, "line": place.line}


def _text(failed: Failed) -> bytes:
    text = failed.text
    if text is None:
        return b""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return b',"rawBase64":' + _encode(base64.b64encode(text).decode())
    if failed.failure.kind is FailureClass.UNREADABLE or not _is_json(text):
        return b',"raw":' + _encode(decoded)
    # Line ends stand only between the parts of a JSON text, never in them: a space means the same.
    return b',"record":' + text.replace(b"\r", b" ").replace(b"\n", b" ")


def _is_json(text: bytes) -> bool:
    try:
        _step_over(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class FailedFile:
    """The file at `path`, which is there only while records are failed. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def inode(self) -> int | None:
        """Which file stands at the path now; None when there is none."""
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    @property
    def holds_records(self) -> bool:
        """Whether a file with anything in it stands at the path."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def append(self, lines: Sequence[bytes]) -> bool:
        """Add lines, all or none of them; whether the file was made for that."""
        made = self._descriptor is None
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        try:
            _write(self._descriptor, b"\n".join([*lines, b""]))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise
        return made

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Hold exactly `lines`; until all of them are stored, the file stays as it was."""
        self.close()
        temporary = self.path.with_name(f".{self.path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            try:
                empty = not _write_lines(descriptor, lines)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if empty:
                self.path.unlink(missing_ok=True)
            else:
                temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def keep_aside(self, run: str | None) -> Path | None:
        """Give a file that holds records the name of its run; its new path, None if there is no such file.

        A file of which that is not known is named after the time of its last change.
        """
        if not self.holds_records:
            return None
        name = run or f"{datetime.fromtimestamp(self.path.stat().st_mtime, UTC):%Y%m%dT%H%M%SZ}"
        return keep_aside(self.path, name)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def keep_aside(path: Path, name: str) -> Path:
    """Rename `failed.ndjson` to `failed.<name>.ndjson`, with a number when that is taken; the new path."""
    kept = path.with_name(f"{path.stem}.{name}{path.suffix}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.stem}.{name}-{number}{path.suffix}")
    return path.rename(kept)


def usable(asked: Path, inputs: Iterable[str]) -> Path:
    """The path of a failed file that was asked for, links followed.

    Raises:
        UsageError: no failed file can be there.
    """
    path = asked.resolve()
    if str(path) in {os.path.realpath(one) for one in inputs}:
        raise UsageError(
            f"{asked} is an input of this load, so it cannot be its failed file: name another --failed."
        )
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(
            f"{asked} is no ordinary file, and a failed file is rewritten: name another --failed."
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}, the directory of the failed file, does not exist: make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{path.parent}, the directory of the failed file, may not be written: name another --failed."
        )
    return path


def _write_lines(descriptor: int, lines: Iterable[bytes]) -> int:
    """Write lines in blocks; how many bytes there were."""
    block: list[bytes] = []
    waiting = total = 0
    for line in lines:
        block += (line, b"\n")
        waiting += len(line) + 1
        if waiting >= _BLOCK:
            _write(descriptor, b"".join(block))
            total += waiting
            block, waiting = [], 0
    _write(descriptor, b"".join(block))
    return total + waiting


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
