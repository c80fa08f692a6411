"""`python -m tests.benchmarks`: measure every row and print the table in Markdown; see `README.md`."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.harness import FailedRunError, serving
from tests.benchmarks.rows import FULL, QUICK, Bench, Measured


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is asked for, how it is measured, how its numbers are written."""

    name: str
    what: str
    must: float
    aim: float
    measure: Callable[[Bench], Measured]
    write: Callable[[float], str]
    more_is_better: bool = False

    def standing(self, value: float) -> str:
        """Say what the value reaches: the aim, only the must, or neither."""
        for name, bar in ("aim", self.aim), ("must", self.must):
            if value >= bar if self.more_is_better else value <= bar:
                return name
        return "**missed**"


def times(value: float) -> str:
    """Write a ratio."""
    return f"{value:.1f} x"


def share(value: float) -> str:
    """Write a part of something."""
    return f"{value:.2f}"


def growth(value: float) -> str:
    """Write what is more, in percent."""
    return f"{value * 100:+.0f} %"


def memory(value: float) -> str:
    """Write bytes as MB (10^6)."""
    return f"{value / 1e6:.0f} MB"


def seconds(value: float) -> str:
    """Write seconds."""
    return f"{value:.2f} s"


ROWS = (
    Row(
        "sdk",
        "NDJSON, records/s, against `cognite-sdk`",
        15,
        20,
        Bench.ndjson_against_sdk,
        times,
        more_is_better=True,
    ),
    Row("sdk-array", "JSON array, the same", 5, 8, Bench.array_against_sdk, times, more_is_better=True),
    Row(
        "bare",
        "NDJSON, records/s, against the bare limit",
        0.25,
        0.35,
        Bench.ndjson_against_bare_limit,
        share,
        more_is_better=True,
    ),
    Row(
        "growth",
        "peak memory, 1 GB of input against 10 MB",
        0.10,
        0.005,
        Bench.memory_of_large_against_small,
        growth,
    ),
    Row("memory", "peak memory, absolute, 1 GB", 90e6, 60e6, Bench.memory_of_large, memory),
    Row(
        "version",
        "`cdf-upsert --version` against `import typer`",
        1.5,
        1.2,
        Bench.version_against_import,
        share,
    ),
    Row("failures", "peak memory when every record fails", 0.15, 0.005, Bench.memory_of_failures, growth),
    Row("help", "`cdf-upsert load --help` against `import typer`", 2, 1.8, Bench.help_against_import, share),
    Row("one", "a load of one record, whole process", 0.5, 0.25, Bench.one_record, seconds),
    Row("going-on", "going on after 99 %, against the whole load", 0.15, 0.05, Bench.going_on, share),
    Row("journal", "a full-speed load, against one without its journal", 0.05, 0.0, Bench.journal, growth),
)
"""The table of the design, and what the journal may cost; "+ 0" of memory is read as less than half a percent."""


def tell(line: str) -> None:
    """Print one line at once: a row takes a while."""
    print(line, flush=True)  # noqa: T201  standard output is what this is for


def main() -> int:
    """Measure; 1 when a row could not be measured (a missed mark is told, and is no error)."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure speed, memory, start-up."
    )
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small inputs, one turn each: a first idea, no more"
    )
    parser.add_argument(
        "--directory", type=Path, help="where inputs may stand meanwhile (1.5 GB); else a temporary one"
    )
    chosen = parser.parse_args()
    complete = True
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    tell(f"Python {platform.python_version()}, {machine}")
    tell("")
    tell("| what | must | aim | measured | reaches | of |")
    tell("| --- | --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory(prefix="cdf-upsert-bench-", dir=chosen.directory) as directory,
        serving() as server,
    ):
        bench = Bench(Path(directory), server, QUICK if chosen.quick else FULL)
        for row in ROWS:
            if chosen.only and row.name not in chosen.only:
                continue
            line = f"| {row.what} | {row.write(row.must)} | {row.write(row.aim)} |"
            try:
                measured = row.measure(bench)
            except FailedRunError as error:
                complete = False
                tell(f"{line} | not measured | {error} |")
            else:
                value = measured.value
                tell(f"{line} {row.write(value)} | {row.standing(value)} | {measured.of} |")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
