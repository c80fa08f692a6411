"""One run of a load at a time: a lock that ends with its process, however that ends."""

import contextlib
import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from cdf_upsert.errors import BusyError, UsageError

_TRIES = 6
_SECONDS = 0.05  # Between tries: `runs` holds a lock for a moment to see whether anybody else does.


class Holder(Struct, frozen=True):
    """Who holds a lock; `since` is ISO 8601 in UTC."""

    pid: int
    host: str
    since: str


class Lock:
    """Holds a lock from its taking until `release`, or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, now: datetime | None) -> "Lock":
        """Take the lock, and write down who holds it since `now`; None: only for a moment.

        Raises:
            BusyError: another process holds it.
            UsageError: locks do not work there.
        """
        tries = 1
        while (descriptor := _locked(path)) is None:
            if tries == _TRIES:
                raise BusyError(_busy(path))
            tries += 1
            time.sleep(_SECONDS)
        os.truncate(descriptor, 0)
        if now is not None:
            since = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            holder = Holder(os.getpid(), os.uname().nodename, since)
            os.pwrite(descriptor, msgspec.json.encode(holder) + b"\n", 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let go; the file stays, for a lock whose file is taken away guards nothing."""
        os.truncate(self._descriptor, 0)
        os.close(self._descriptor)


def held(path: Path) -> bool:
    """Whether a process holds the lock at `path` now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> Holder | None:
    """Who wrote the lock's file last, if that is known."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    return None


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock; None when another process does."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise UsageError(
                f"{path} cannot be locked ({error.strerror}): choose a --run-dir on a disk that has locks."
            ) from error
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # `runs --remove-finished` took the file away between the two steps.


def _busy(path: Path) -> str:
    who = holder(path)
    told = f"process {who.pid} on {who.host}, since {who.since}" if who else "another process, since just now"
    return f"Another run of this load is under way ({told}; {path}): wait for it to end, or stop it."
