"""Loads that are killed: real processes, an input of any form, a sandbox, and what is left behind each time."""

import contextlib
import gzip
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from cdf_upsert.journal.listing import LoadState, known_load
from cdf_upsert.journal.store import Store
from cdf_upsert.sandbox.serve import Running
from tests.records import make_text

STREAM = "events"
FORMS = ("ndjson", "ndjson.gz", "json", "pretty.json", "stdin", "stdin.gz")

Version = tuple[str, int]
"""(external id, value); a newer version of a key has a higher value."""


def make_versions(count: int, keys: int, seed: int) -> list[Version]:
    """Versions of few keys in any order, the newer ones later."""
    dice = random.Random(seed)
    return [(f"key-{dice.randrange(keys)}", i) for i in range(count)]


def write_input(directory: Path, form: str, versions: Sequence[Version]) -> Path:
    """Write versions in one of `FORMS`."""
    texts = [make_text(external_id, value, pad=200) for external_id, value in versions]
    match form.removeprefix("stdin").removeprefix(".").removesuffix(".gz"):
        case "json":
            content = b"[" + b",\n".join(texts) + b"]"
        case "pretty.json":
            content = json.dumps({"items": [json.loads(text) for text in texts]}, indent=2).encode()
        case _:
            content = b"\n".join([*texts, b""])
    path = directory / f"input.{form}"
    path.write_bytes(gzip.compress(content, 1) if form.endswith(".gz") else content)
    return path


@dataclass
class Shell:
    """Gives the same command again and again."""

    sandbox: Running
    directory: Path
    form: str
    options: Sequence[str] = ("--batch-records", "50", "--concurrency", "4")
    default_directory: bool = False

    @property
    def run_dir(self) -> Path | None:
        return None if self.default_directory else self.directory / "load"

    @property
    def where(self) -> Path:
        """The run directory that there is."""
        return self.run_dir or next((self.directory / ".cdf-upsert").glob(f"{STREAM}-*"))

    @property
    def path(self) -> Path:
        return self.directory / f"input.{self.form}"

    def start(self, *more: str, limit: int | None = None) -> "subprocess.Popen[bytes]":
        """Begin a run; `limit` is the size in bytes that no file may exceed."""
        path = self.path
        given = ["-"] if self.form.startswith("stdin") else [str(path)]
        command = [sys.executable, "-m", "cdf_upsert", "load", STREAM, *given]
        if self.run_dir is not None:
            command += ["--run-dir", str(self.run_dir)]
        if limit is not None:
            command = ["sh", "-c", f'ulimit -f {limit // 512}; exec "$@"', "sh", *command]
        with path.open("rb") as source, (self.directory / "said").open("wb") as said:
            return subprocess.Popen(
                [*command, "--json", "--progress", "none", *self.options, *more],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=self.directory,
                env=self.sandbox.address.environment(),
            )

    def end(self, process: "subprocess.Popen[bytes]", seconds: float = 60) -> tuple[int, dict]:
        """Wait for the end; the exit code and the report."""
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, json.loads(output) if output else {}

    def run(self, *more: str) -> tuple[int, dict]:
        return self.end(self.start(*more))

    def sent(self, process: "subprocess.Popen[bytes]", requests: int) -> None:
        """Wait until so many more requests are answered."""
        goal = self.sandbox.traffic.count("upsert") + requests
        while self.sandbox.traffic.count("upsert") < goal:
            assert process.poll() is None, self.last_words()
            time.sleep(0.001)  # It is another process, in real time.

    def kill(self, process: "subprocess.Popen[bytes]", dice: random.Random, requests: int) -> bool:
        """SIGKILL after some more requests and a moment; whether the load was still running."""
        goal = self.sandbox.traffic.count("upsert") + dice.randint(1, requests)
        pause = dice.uniform(0, 0.04)
        while process.poll() is None and self.sandbox.traffic.count("upsert") < goal:
            time.sleep(0.001)  # It is another process, in real time.
        time.sleep(pause)
        process.kill()
        process.communicate()
        return process.returncode < 0

    def complete(self) -> bool:
        """Whether the load had come to its end before it was killed."""
        return known_load(self.where).state is LoadState.COMPLETE

    def under_way(self) -> int:
        """How many records may have landed without the journal knowing."""
        with contextlib.closing(Store(self.where / "journal.sqlite", read_only=True)) as store:
            return len(store.state().under_way())

    def last_words(self) -> str:
        """What the last run has said on standard error."""
        return (self.directory / "said").read_text()


def stored(sandbox: Running) -> dict[str, int]:
    """What the stream holds: external id -> value."""
    return {
        key[1]: next(iter(containers.values()))["value"]
        for key, containers in sandbox.records(STREAM).items()
    }


def landed(sandbox: Running, path: Path) -> dict[str, list[int]]:
    """The values of the input at `path` that were written to each key, in the order in which that happened."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = re.findall(rb'"properties": ?(\{\s*"value": ?(\d+)[^}]*\})', content)
    for container in range(1, 20):  # What the sandbox writes down is a digest of `{container: properties}`.
        values = {
            blake2b(b'{"%d":%s}' % (container, text), digest_size=8).hexdigest(): int(value)
            for text, value in found
        }
        if sandbox.traffic.writes[0].digest in values:
            break
    logs: dict[str, list[int]] = {}
    for write in sandbox.traffic.writes:
        logs.setdefault(write.key.partition(".")[2], []).append(values[write.digest])
    return logs
