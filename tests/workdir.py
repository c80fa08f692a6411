"""A directory in which a test runs the real command, as a person does in a shell.

    shell = Workdir(tmp_path, {"CDF_PROJECT": "demo"})
    shell.write("a.ndjson", b"...")
    shell.run("load", "demo", "a.ndjson").exits(0)

What a run did is shown whole when a test fails: command, directory, status, standard output and error.
"""

import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

COMMAND = (sys.executable, "-m", "cdf_upsert")
PATIENCE = 60.0
"""Seconds after which a command that should have ended is killed, and the test fails."""


@dataclass(frozen=True)
class Done:
    """A command that has ended; `status` is negative when a signal ended it."""

    command: Sequence[str]
    directory: Path
    status: int
    stdout: bytes
    stderr: bytes

    def __str__(self) -> str:
        """All that there is to know."""
        return (
            f"\n$ {shlex.join(self.command)}\n"
            f"in {self.directory}, status {self.status}\n"
            f"--- standard output\n{_shown(self.stdout)}\n"
            f"--- standard error\n{_shown(self.stderr)}\n---"
        )

    __repr__ = __str__

    @property
    def said(self) -> str:
        """What was told to people."""
        return self.stderr.decode()

    @property
    def report(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        assert self.stdout.count(b"\n") == 1, f"not one line of JSON {self}"
        return json.loads(self.stdout)

    @property
    def counts(self) -> dict[str, int]:
        """The settlements of the report that are not 0."""
        return {name: number for name, number in self.report["records"].items() if number}

    def exits(self, status: int) -> "Done":
        """See how it ended, and that it never fell over in front of the user."""
        assert self.status == status, self
        assert b"Traceback" not in self.stderr, self
        assert b"This is a bug" not in self.stderr, self
        assert b"Exception ignored" not in self.stderr, self
        return self

    def says(self, *parts: str) -> "Done":
        """See that people are told this."""
        for part in parts:
            assert part in self.said, f"{part!r} is not said {self}"
        return self

    def says_nothing_of(self, *parts: str) -> "Done":
        """See that people are not told this."""
        for part in parts:
            assert part not in self.said, f"{part!r} is said {self}"
        return self


def _shown(data: bytes) -> str:
    text = data.decode(errors="backslashreplace")
    return text if len(text) < 6000 else f"{text[:3000]}\n[...]\n{text[-3000:]}"


@dataclass
class Started:
    """A command that is running, with pipes on its standard streams."""

    command: Sequence[str]
    directory: Path
    process: "subprocess.Popen[bytes]"
    _said: bytes = field(default=b"", init=False)

    def feed(self, data: bytes) -> None:
        """Write into its standard input, which stays open."""
        stdin = _pipe(self.process.stdin)
        stdin.write(data)
        stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def hears(self, text: str) -> None:
        """Wait until it has said this on standard error."""
        stderr = _pipe(self.process.stderr)
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self._said:
            ready, _, _ = select.select([stderr], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(stderr.fileno(), 65_536) if ready else b""
            assert piece, f"{text!r} is not said {self.ends()}"
            self._said += piece

    def ends(self, patience: float = PATIENCE) -> Done:
        """Wait for its end; standard input is closed."""
        try:
            stdout, stderr = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            stderr += b"\n(killed by the test, which had waited too long)"
        return Done(
            self.command, self.directory, self.process.returncode, stdout or b"", self._said + (stderr or b"")
        )


def _pipe(stream: "IO[bytes] | None") -> "IO[bytes]":
    assert stream is not None, "the stream is no pipe"
    return stream


class Workdir:
    """A directory, an environment, and what is run there. Nothing of this machine's environment comes in."""

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(path / "home"),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            **(environment or {}),
        }

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    def json(self, name: str) -> Any:
        """The JSON of a file."""
        return json.loads(self.read(name))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The objects of a file of NDJSON; none when it is not there."""
        path = self.path / name
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def run(self, *arguments: str, stdin: bytes = b"", **more: str) -> Done:
        """Run `cdf-upsert` to its end; `more` goes into the environment."""
        return self._run(["cdf-upsert", *arguments], [*COMMAND, *arguments], stdin, more)

    def shell(self, script: str, **more: str) -> Done:
        """Run a script of the shell, in which `cdf-upsert` is the command."""
        defined = f'cdf-upsert() {{ {shlex.join(COMMAND)} "$@"; }}\n'
        return self._run(["sh", "-c", script], ["bash", "-c", defined + script], b"", more)

    @contextmanager
    def start(self, *arguments: str, before: str = "", **more: str) -> Iterator[Started]:
        """Start `cdf-upsert`, in a shell that has done `before`; it is gone at the end of the block."""
        process = subprocess.Popen(
            ["bash", "-c", f'{before}\nexec "$@"', "bash", *COMMAND, *arguments],
            cwd=self.path,
            env=self.environment | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield Started(["cdf-upsert", *arguments], self.path, process)
        finally:
            process.kill()
            process.communicate()

    def _run(
        self, shown: Sequence[str], command: Sequence[str], stdin: bytes, more: Mapping[str, str]
    ) -> Done:
        finished = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment | more,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Done(shown, self.path, finished.returncode, finished.stdout, finished.stderr)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a running command brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)
