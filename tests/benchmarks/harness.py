"""Runs the programs that are compared, one at a time; tells how long each took and its peak of memory."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""What `ru_maxrss` counts in, by the manuals of macOS and Linux."""

Command = Sequence[str | os.PathLike[str]]


class FailedRunError(Exception):
    """A program that is measured did not end as it should; the message says how it ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One run of a program, start to end: wall seconds, peak of resident memory in bytes, what it printed."""

    seconds: float
    peak: int
    output: str


def run(
    command: Command,
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    exit_code: int = 0,
    meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Finished:
    """Run a program to its end in `directory`; `meanwhile` is called once it has been started.

    The peak is the kernel's own and counts from before the program was loaded into the process, so this
    process must stay smaller than any that it measures: import nothing heavy here. The peaks of the processes that
    the program starts are added, as seen while they run (on Linux).

    Raises:
        FailedRunError: the program ended with another exit code.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        # Not closed by `with`: `wait4` below is what waits for it, since only that tells its peak of memory.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=clean_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        helpers = _Helpers(process.pid)
        try:
            if meanwhile:
                meanwhile(process)
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            helpers.over.set()
        output.seek(0)
        errors.seek(0)
        if process.returncode != exit_code:
            told = errors.read().decode(errors="replace").strip().splitlines()[-3:]
            name = " ".join(map(str, command[1:4]))
            raise FailedRunError(f"`{name} …` ended with {process.returncode}: {' / '.join(told)}")
        peak = usage.ru_maxrss * PEAK_UNIT + sum(helpers.peaks.values())
        return Finished(seconds, peak, output.read().decode())


class _Helpers(threading.Thread):
    """Watches the processes that one process has started: `peaks` of resident memory in bytes, by process id.

    It looks often at first: a short run is over before a slow watch has seen its peak.
    """

    def __init__(self, parent: int) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[int, int] = {}
        self.over = threading.Event()
        self._tasks = Path(f"/proc/{parent}/task")
        self.start()

    def run(self) -> None:
        """Look until it is over."""
        pause = 0.01
        while not self.over.wait(pause):
            pause = min(pause * 1.1, 0.2)
            try:
                for task in self._tasks.iterdir():
                    for pid in map(int, (task / "children").read_text().split()):
                        status = Path(f"/proc/{pid}/status").read_text()
                        self.peaks[pid] = 1024 * int(status.partition("VmHWM:")[2].split()[0])
            except (OSError, IndexError):
                continue  # It has ended meanwhile.


def clean_environment() -> dict[str, str]:
    """Give this process's environment without what would point a loader at some real project."""
    foreign = ("CDF_", "COGNITE_", "IDP_", "LOGIN_FLOW", "PROVIDER", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


class Server:
    """The way to the benchmarks' server, which runs in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def begin(self, **told: int) -> None:
        """Count anew, and do as told: `status`, `hold_after`."""
        self._control("PUT", "&".join(f"{name}={value}" for name, value in told.items()))

    def counts(self) -> dict[str, int]:
        """Tell the `upserts` answered and the `wireBytes` of their bodies since `begin`."""
        counted: dict[str, int] = json.loads(self._control("GET"))
        return counted

    def _control(self, method: str, query: str = "") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, f"/control?{query}")
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def serving() -> Iterator[Server]:
    """Run the server for as long as the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.server"], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.terminate()
