"""One run of a load at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cdf_upsert.errors import BusyError
from cdf_upsert.journal.lock import Lock, held, holder
from tests.journal.making import NOW

HOLD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from cdf_upsert.journal.lock import Lock
lock = Lock.take(Path(sys.argv[1]), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
print("held", flush=True)
time.sleep(600)
"""


def test_another_process_is_told_who_holds_it_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    """While a process lives its lock holds, and says who and since when; after SIGKILL it is free at once."""
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert held(path)
        with pytest.raises(BusyError) as caught:
            Lock.take(path, NOW)
        assert f"process {process.pid} on " in str(caught.value)
        assert "since 2026-01-02T03:04:05Z" in str(caught.value)
        assert str(path) in str(caught.value)
        process.send_signal(signal.SIGKILL)
    assert not held(path)
    lock = Lock.take(path, NOW)
    assert held(path)
    lock.release()


def test_a_lock_that_is_let_go_is_free(tmp_path: Path) -> None:
    """Taking and letting go repeat, and say nothing of who held it."""
    path = tmp_path / "lock"
    for _ in range(3):
        lock = Lock.take(path, NOW)
        assert holder(path) is not None
        lock.release()
        assert holder(path) is None
        assert not held(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nobody_holds_a_lock_that_is_not_there(tmp_path: Path) -> None:
    """A run directory without a lock is free."""
    assert not held(tmp_path / "lock")
    assert holder(tmp_path / "lock") is None


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    """Two runs never hold two files of the same name."""
    path = tmp_path / "lock"
    first = Lock.take(path, NOW)
    path.unlink()
    second = Lock.take(path, NOW)
    with pytest.raises(BusyError):
        Lock.take(path, NOW)
    first.release()
    second.release()
