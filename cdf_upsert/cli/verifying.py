"""One run of `verify`: inputs, client and comparison are put together here, and nothing is decided."""

import asyncio
import os
import random
import secrets
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec
from isal import igzip
from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.reading import check_stream, input_names
from cdf_upsert.cli.reporting import print_line
from cdf_upsert.cli.wiring import Access, access, redacted
from cdf_upsert.core.diagnosing import difference_diagnostic
from cdf_upsert.core.framing import Format, Position
from cdf_upsert.core.record import Failed
from cdf_upsert.core.showing import Verbosity, next_line_at
from cdf_upsert.core.verifying import (
    Counts,
    Outcome,
    Sample,
    make_report,
    may_not_read,
    summary,
)
from cdf_upsert.core.wording import count
from cdf_upsert.errors import LoaderError, RefusedError, UsageError
from cdf_upsert.journal.failures import line_of
from cdf_upsert.screen import Output
from cdf_upsert.sources.reading import Input as SourceInput
from cdf_upsert.sources.reading import Reader, open_input, open_inputs
from cdf_upsert.verify import AT_ONCE, Input, LastVersions, Verification


class VerifyOptions(Struct, frozen=True):
    """What the command line asks for; times in seconds."""

    stream: str
    inputs: tuple[str, ...]
    target: TargetFlags
    sandbox: bool
    format: Format | None
    sample: Sample | None
    differences: Path | None
    timeout: float
    patience: float
    json: bool
    verbosity: Verbosity = Verbosity.NORMAL

    def target_words(self) -> list[str]:
        """The words of the command line that name the target."""
        words = ["--sandbox"] if self.sandbox else []
        for name, value in self.target.given().items():
            if value is not None:
                flag = f"--{name.replace('_', '-')}"
                words += [flag] if name == "insecure_http" else [flag, value]
        return words


def run_verify(options: VerifyOptions) -> int:
    """Compare, and tell what was found; the exit code.

    Raises:
        LoaderError: an option, an input or the configuration is not usable, the service refuses or does not
            answer, or there is no room for what is kept meanwhile.
    """
    check_stream(options.stream)
    names = input_names(options.inputs)
    sources = open_inputs(names, options.format)
    path = options.differences or Path(".cdf-upsert", f"{options.stream}-differences.ndjson")
    with ExitStack() as stack:
        way = stack.enter_context(access(options.target, sandbox=options.sandbox))
        differences = _Differences(path, names)
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="cdf-upsert-")))
        stack.callback(differences.close)
        try:
            inputs = [_twice(source, directory / f"{i}.gz") for i, source in enumerate(sources)]
            versions = LastVersions(directory, secrets.token_bytes(16))
            stack.callback(versions.close)
            return asyncio.run(
                _Run(options, way, differences).go(inputs, versions, options.sample or Sample())
            )
        except OSError as error:
            raise LoaderError(
                f"What is kept on disk meanwhile cannot be written or read ({error}): make room in {directory.parent} "
                f"(TMPDIR names another directory) and for {path}."
            ) from error


class _Differences:
    """The file of what is not stored as it is in the inputs; there is none while nothing differs."""

    def __init__(self, path: Path, inputs: Sequence[str]) -> None:
        self.path = path
        self.count = 0
        self._file: IO[bytes] | None = None
        if not path.exists():
            return
        if any(path.samefile(name) for name in inputs if name != "-"):
            raise UsageError(
                f"{path} is an input, and the differences would be written over it: name another file with "
                "--differences."
            )
        if not path.is_file():
            raise UsageError(f"{path} is no file: name another one with --differences.")
        path.unlink()

    def write(self, failed: Failed) -> None:
        """Add one record."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Records may be nobody else's business.
            self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._file.write(line_of(failed) + b"\n")
        self.count += 1

    def close(self) -> None:
        """Write all that is not written yet."""
        if self._file is not None:
            self._file.close()


def _twice(source: SourceInput, copy: Path) -> Input:
    """An input that can be read twice: what is no file is kept, packed, while it is read."""
    return source if source.size is not None and source.path != "-" else _Kept(source, copy)


class _Kept:
    """An input that can be read only once, and a copy of what was read."""

    def __init__(self, source: SourceInput, copy: Path) -> None:
        self.path = source.path
        self._source = source
        self._copy = copy
        self._writing: igzip.IGzipFile | None = None

    def open(self, start: Position) -> Reader:
        """Begin to read, the first time from the input itself."""
        if self._writing is None:
            # isal's own hints leave this one out.
            self._writing = writing = igzip.IGzipFile(self._copy, "wb", compresslevel=1)  # type: ignore[no-untyped-call]
            return replace(self._source, on_bytes=writing.write).open(start)
        self._writing.close()
        return open_input(str(self._copy), self._source.format).open(start)


class _Run:
    """Everything that one run needs, while it lasts."""

    def __init__(self, options: VerifyOptions, way: Access, differences: _Differences) -> None:
        self._options = options
        self._way = way
        self._differences = differences
        self._output = Output(redacted(sys.stderr, way.redactor))
        self._started = datetime.now(UTC)
        self._signal: int | None = None

    async def go(self, inputs: Sequence[Input], versions: LastVersions, sample: Sample) -> int:
        options = self._options
        loop = asyncio.get_running_loop()
        async with self._way.client(
            options.stream, timeout=options.timeout, connections=AT_ONCE, patience=options.patience
        ) as client:
            verification = Verification(
                inputs=inputs,
                versions=versions,
                sample=sample,
                ask=client.ask,
                differ=self._differ,
                explain=self._explain,
                progress=self._progress_lines(loop.time),
                patience=options.patience,
                dice=random.SystemRandom(),
            )
            work = loop.create_task(verification.run())
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._interrupt, number, work)
            try:
                await work
            except asyncio.CancelledError:
                if self._signal is None:
                    raise
                return self._interrupted(self._signal, verification.counts)
            except LoaderError as error:
                outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.STOPPED
                self._report(verification.counts, outcome, str(error), error.exit_code)
                raise
        return self._finished(verification.counts)

    def _differ(self, failed: Failed) -> None:
        self._differences.write(failed)
        if failed.failure.detail and self._options.verbosity is Verbosity.VERBOSE:
            self._output.line(difference_diagnostic(failed).message)

    def _interrupt(self, number: int, work: asyncio.Task[None]) -> None:
        self._signal = number
        work.cancel()

    def _explain(self, status: int, message: str) -> str:
        stream = self._options.stream
        if status == 403:
            return may_not_read(stream, self._way.target.project, message)
        return self._way.explain(stream)(status, message)

    def _progress_lines(self, now: Callable[[], float]) -> Callable[[int, int], None]:
        """Says now and then how far the comparison is."""
        started = now()
        due = next_line_at(started, started)

        def progress(compared: int, chosen: int) -> None:
            nonlocal due
            if self._options.verbosity is Verbosity.QUIET or now() < due:
                return
            due = next_line_at(now(), started)
            self._output.line(f"{compared:,} of {count(chosen, 'key')} compared.")

        return progress

    def _finished(self, counts: Counts) -> int:
        same = counts.is_same
        exit_code = 0 if same else 3
        self._report(counts, Outcome.SAME if same else Outcome.DIFFERENCES, "", exit_code)
        if not (same and self._options.verbosity is Verbosity.QUIET):
            self._output.line(summary(counts))
        self._point_to_differences()
        return exit_code

    def _interrupted(self, number: int, counts: Counts) -> int:
        reason = f"Interrupted by {signal.Signals(number).name}."
        exit_code = 128 + number
        self._report(counts, Outcome.INTERRUPTED, reason, exit_code)
        self._output.line(f"{reason} Until then: {summary(counts)}")
        self._point_to_differences()
        return exit_code

    def _point_to_differences(self) -> None:
        if self._differences.count:
            options, path = self._options, self._differences.path
            words = ["cdf-upsert", "load", *options.target_words(), options.stream, str(path)]
            records = count(self._differences.count, "record")
            self._output.line(f"{path} holds {records} to load again: {shlex.join(words)}")

    def _report(self, counts: Counts, outcome: Outcome, reason: str, exit_code: int) -> None:
        if not self._options.json:
            return
        report = make_report(
            counts,
            stream=self._options.stream,
            project=self._way.target.project,
            base_url=self._way.target.base_url,
            started=self._started,
            finished=datetime.now(UTC),
            outcome=outcome,
            reason=reason,
            exit_code=exit_code,
            inputs=list(self._options.inputs) or ["-"],
            differences_file=str(self._differences.path) if self._differences.count else None,
        )
        if fault := print_line(self._way.redactor.clean(msgspec.json.encode(report).decode())):
            self._output.line(fault)
