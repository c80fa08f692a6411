"""What makes two command lines the same load: the target, the stream, the inputs, and how they are read."""

import hashlib
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from cdf_upsert.core.wording import shown
from cdf_upsert.errors import UsageError

ROOT = ".cdf-upsert"
"""The directory, below the working directory, where loads have their run directories by default."""

STDIN = "-"

_SAMPLE = 64 * 1024  # Bytes of the head and of the tail of an input that are hashed.


class Fingerprint(Struct, frozen=True):
    """A file as stored: `size` in bytes, `modified` in nanoseconds, `sample` a hash of its head and tail."""

    size: int
    modified: int
    sample: str


class InputIdentity(Struct, frozen=True):
    """One input: an absolute path or `-`.

    What is no ordinary file has no fingerprint: its bytes are compared as they come.
    """

    path: str
    fingerprint: Fingerprint | None

    @property
    def name(self) -> str:
        """Say it to a user."""
        return "standard input" if self.path == STDIN else self.path


class Identity(Struct, frozen=True):
    """All that tells one load from another; `format` is the one that was asked for."""

    base_url: str
    project: str
    stream: str
    inputs: tuple[InputIdentity, ...]
    format: str = "auto"

    @property
    def streamed(self) -> bool:
        """Whether any input can be read only once, so that the load has a directory of its own each time."""
        return any(one.fingerprint is None for one in self.inputs)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits for the command line; the content of the inputs is no part of it."""
        parts = (self.base_url, self.project, self.stream, self.format, [one.path for one in self.inputs])
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:12]


def identify(
    *, base_url: str, project: str, stream: str, inputs: Sequence[str], fmt: str = "auto"
) -> Identity:
    """Look at the inputs of a load, without reading more than the head and the tail of each.

    Raises:
        UsageError: an input cannot be read.
    """
    return Identity(base_url, project, stream, tuple(map(_identify_input, inputs)), fmt)


def default_directory(identity: Identity, now: datetime, dice: int) -> Path:
    """Where the load keeps its files by default; `dice` is any number, for inputs that are read once."""
    if not identity.streamed:
        return Path(ROOT, f"{identity.stream}-{identity.digest}")
    return Path(ROOT, f"{identity.stream}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{dice % 0x10000:04x}")


def _identify_input(path: str) -> InputIdentity:
    if path == STDIN:
        return InputIdentity(STDIN, None)
    absolute = shown(str(Path(path).absolute()))
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return InputIdentity(absolute, None)
        with Path(path).open("rb") as file:
            sample = hashlib.sha256(file.read(_SAMPLE))
            file.seek(max(file.tell(), status.st_size - _SAMPLE))
            sample.update(file.read(_SAMPLE))
    except OSError as error:
        raise UsageError(
            f"{shown(path)} cannot be read ({error.strerror}): check the path and its permissions."
        ) from error
    return InputIdentity(absolute, Fingerprint(status.st_size, status.st_mtime_ns, sample.hexdigest()[:32]))
