"""What is measured: one method of `Bench` for each row of the table, each a ratio within one run."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from tests.benchmarks.harness import ROOT, Command, FailedRunError, Finished, Server, run

PYTHON = sys.executable
LOADER = (PYTHON, "-m", "cdf_upsert")
WITHOUT_JOURNAL = (PYTHON, "-m", "tests.benchmarks.baseline_no_journal")
SCRIPT = Path(PYTHON).with_name("cdf-upsert")
IMPORT_TYPER = (PYTHON, "-c", "import typer")
TOKEN = {"LOGIN_FLOW": "token", "CDF_TOKEN": "not-a-secret"}
BATCH = 1000
STANDSTILL = 30
"""Seconds without a request after which a load that is to be killed is taken to have ended by itself."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: records of the inputs, and how often the programs take turns."""

    sdk: int
    array: int
    small: int
    large: int
    failing: tuple[int, int]
    turns: int
    starts: int


FULL = Size(
    sdk=500_000, array=200_000, small=23_000, large=2_300_000, failing=(4_000, 22_000), turns=3, starts=21
)
QUICK = Size(sdk=50_000, array=50_000, small=23_000, large=230_000, failing=(1_000, 4_000), turns=1, starts=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured value and what it was made of."""

    value: float
    of: str


class Bench:
    """The measurements. Inputs are made when first needed, in `directory`."""

    def __init__(self, directory: Path, server: Server, size: Size) -> None:
        self._directory = directory.resolve()
        self._server = server
        self._size = size

    def ndjson_against_sdk(self) -> Measured:
        """Compare records per second on NDJSON."""
        return self._against_sdk("same.ndjson", self._size.sdk)

    def array_against_sdk(self) -> Measured:
        """Compare records per second on a JSON array."""
        return self._against_sdk("same.json", self._size.array)

    def ndjson_against_bare_limit(self) -> Measured:
        """Compare records per second with the bare limit."""
        bare, loads = self._bare_and_loads_of_large()
        amount = self._size.large
        return Measured(
            median_seconds(bare) / median_seconds(loads),
            f"{rate(amount, loads)} : {rate(amount, bare)} records/s",
        )

    def memory_of_large_against_small(self) -> Measured:
        """Compare the peaks of a large and of a small input; 0 is no growth."""
        _, loads = self._bare_and_loads_of_large()
        file = self._input("small.ndjson", self._size.small)
        # A run this short often ends before all requests are under way at once.
        small = [self._load(file, self._size.small) for _ in range(self._size.starts)]
        peaks = median_peak(loads), median_peak(small)
        return Measured(peaks[0] / peaks[1] - 1, f"{megabytes(peaks[0])} : {megabytes(peaks[1])}")

    def memory_of_large(self) -> Measured:
        """Tell the peak of a large input, in bytes."""
        _, loads = self._bare_and_loads_of_large()
        return Measured(
            median_peak(loads), f"{self._size.large:,} records, {rate(self._size.large, loads)} records/s"
        )

    def version_against_import(self) -> Measured:
        """Compare `cdf-upsert --version` with `import typer`."""
        return self._start_against_import("--version")

    def help_against_import(self) -> Measured:
        """Compare `cdf-upsert load --help` with `import typer`."""
        return self._start_against_import("load", "--help")

    def one_record(self) -> Measured:
        """Tell the seconds that a load of one record takes, the process as a whole."""
        file = self._input("one.ndjson", 1)
        loads = [self._load(file, 1) for _ in range(self._size.starts)]
        return Measured(median_seconds(loads), f"median of {len(loads)}")

    def memory_of_failures(self) -> Measured:
        """Compare the peaks of two inputs of which every record is refused; 0 is no growth."""
        few, many = (self._refused(amount) for amount in self._size.failing)
        return Measured(many.peak / few.peak - 1, f"{megabytes(many.peak)} : {megabytes(few.peak)}")

    def journal(self) -> Measured:
        """Compare a load with the same one whose journal writes nothing while it runs; 0 is no cost."""
        amount = self._size.sdk
        file = self._input("same.ndjson", amount)
        loads, without = [], []
        for _ in range(self._size.starts):
            loads.append(self._load(file, amount))
            without.append(self._load(file, amount, loader=WITHOUT_JOURNAL))
        # The machine's speed changes from run to run by more than the journal costs; less so within a pair.
        ratios = [one.seconds / other.seconds for one, other in zip(loads, without, strict=True)]
        return Measured(
            median(ratios) - 1,
            f"{median_seconds(loads):.2f} : {median_seconds(without):.2f} s",
        )

    def going_on(self) -> Measured:
        """Compare going on after a kill -9 at 99 % with the whole load."""
        amount = self._size.large
        file = self._input("large.ndjson", amount)
        wholes, rests, sent = [], [], []
        for _ in range(self._size.turns):
            wholes.append(self._load(file, amount))
            with tempfile.TemporaryDirectory(dir=self._directory) as runs:
                self._killed(file, Path(runs), after=amount // BATCH * 99 // 100)
                self._server.begin()
                rests.append(self._loader(file, Path(runs)))
                expect(amount, rests[-1], "accepted", "alreadyAccepted")
                sent.append(self._server.counts()["upserts"])
        return Measured(
            median_seconds(rests) / median_seconds(wholes),
            f"{median_seconds(rests):.2f} s, {median(sent):.0f} requests sent again : "
            f"{median_seconds(wholes):.2f} s, {amount // BATCH} requests",
        )

    def _against_sdk(self, name: str, amount: int) -> Measured:
        file = self._input(name, amount)
        sdk, loads = [], []
        for _ in range(self._size.turns):
            sdk.append(self._baseline("sdk", file, amount))
            loads.append(self._load(file, amount))
        return Measured(
            median_seconds(sdk) / median_seconds(loads),
            f"{rate(amount, loads)} : {rate(amount, sdk)} records/s",
        )

    @cache  # noqa: B019  one Bench lives as long as the process; three rows share these runs
    def _bare_and_loads_of_large(self) -> tuple[list[Finished], list[Finished]]:
        amount = self._size.large
        file = self._input("large.ndjson", amount)
        bare, loads = [], []
        for _ in range(self._size.turns):
            bare.append(self._baseline("bare", file, amount))
            loads.append(self._load(file, amount))
        return bare, loads

    def _start_against_import(self, *arguments: str) -> Measured:
        starts, imports = [], []
        for _ in range(self._size.starts):
            starts.append(run((SCRIPT, *arguments), directory=self._directory))
            imports.append(run(IMPORT_TYPER, directory=self._directory))
        seconds = median_seconds(starts), median_seconds(imports)
        return Measured(seconds[0] / seconds[1], f"{seconds[0] * 1000:.0f} : {seconds[1] * 1000:.0f} ms")

    def _baseline(self, name: str, file: Path, amount: int) -> Finished:
        self._server.begin()
        command = (PYTHON, "-m", f"tests.benchmarks.baseline_{name}", file, str(self._server.port))
        finished = run(command, directory=ROOT)
        self._expect_upserts(-(-amount // BATCH), f"The {name} baseline")
        return finished

    def _load(self, file: Path, amount: int, loader: tuple[str, ...] = LOADER) -> Finished:
        """Load once in a run directory of its own, and hold the loader to it: every record is accepted."""
        self._server.begin()
        with tempfile.TemporaryDirectory(dir=self._directory) as runs:
            finished = self._loader(file, Path(runs), loader=loader)
        expect(amount, finished, "accepted")
        self._expect_upserts(-(-amount // BATCH), "The loader")
        return finished

    def _refused(self, amount: int) -> Finished:
        """Load once while the server refuses everything."""
        file = self._input(f"refused-{amount}.ndjson", amount)
        self._server.begin(status=400)
        with tempfile.TemporaryDirectory(dir=self._directory) as runs:
            finished = self._loader(file, Path(runs), "--max-failures", str(amount), exit_code=3)
        expect(amount, finished, "failed")
        return finished

    def _killed(self, file: Path, runs: Path, *, after: int) -> None:
        """Begin a load and kill it once `after` requests were answered."""

        def kill(process: subprocess.Popen[bytes]) -> None:
            seen, since = -1, time.monotonic()
            while seen < after and time.monotonic() - since < STANDSTILL:
                upserts = self._server.counts()["upserts"]
                if upserts > seen:
                    seen, since = upserts, time.monotonic()
                time.sleep(0.01)
            process.kill()

        self._server.begin(hold_after=after)
        self._loader(file, runs, exit_code=-signal.SIGKILL, meanwhile=kill)

    def _loader(
        self,
        file: Path,
        runs: Path,
        *more: str,
        exit_code: int = 0,
        meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
        loader: tuple[str, ...] = LOADER,
    ) -> Finished:
        target = ("--base-url", self._server.url, "--project", "bench")
        options = ("--concurrency", "8", "--progress", "none", "--run-dir", runs / "run", "--json")
        command: Command = (*loader, "load", *target, *options, *more, "bench", file)
        return run(command, directory=ROOT, environment=TOKEN, exit_code=exit_code, meanwhile=meanwhile)

    def _expect_upserts(self, expected: int, who: str) -> None:
        counted = self._server.counts()["upserts"]
        if counted < expected:
            raise FailedRunError(f"{who} sent {counted} requests, of at least {expected}")

    def _input(self, name: str, amount: int) -> Path:
        file = self._directory / name
        if not file.exists():
            run((PYTHON, "-m", "tests.benchmarks.inputs", file, str(amount)), directory=ROOT)
        return file


def expect(amount: int, finished: Finished, *settlements: str) -> None:
    """Hold a load to its report: so many records settled in these ways.

    Raises:
        FailedRunError: they were more or fewer.
    """
    records = json.loads(finished.output)["records"]
    if sum(records[settlement] for settlement in settlements) != amount:
        raise FailedRunError(
            f"The loader reports {records}, and all {amount} should be {' or '.join(settlements)}"
        )


def median_seconds(runs: list[Finished]) -> float:
    """Give the median of the wall times."""
    return median(finished.seconds for finished in runs)


def median_peak(runs: list[Finished]) -> float:
    """Give the median of the peaks of memory, in bytes."""
    return median(finished.peak for finished in runs)


def rate(amount: int, runs: list[Finished]) -> str:
    """Write records per second, start of the process to its end."""
    return f"{amount / median_seconds(runs):,.0f}"


def megabytes(amount: float) -> str:
    """Write bytes as MB (10^6)."""
    return f"{amount / 1e6:.1f} MB"
