"""One run of `check`, or of `load --dry-run`: reading and checking, put together."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cdf_upsert.cli import reporting
from cdf_upsert.cli.reading import check_stream, input_names
from cdf_upsert.core import events
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.diagnosing import Diagnostic
from cdf_upsert.core.framing import Format
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.record import Failed
from cdf_upsert.core.report import RunFacts, make_report, to_json
from cdf_upsert.core.showing import Showing
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.wording import count, size
from cdf_upsert.errors import LoaderError, UsageError
from cdf_upsert.load.examining import Examined, examine
from cdf_upsert.screen import Screen, ticking
from cdf_upsert.sources.reading import open_inputs
from cdf_upsert.sources.tuning import tune

if TYPE_CHECKING:
    from cdf_upsert.sources.reading import Input


class CheckOptions(Struct, frozen=True):
    """What the command line asks for; sizes in bytes. `stream` is empty when none was named."""

    stream: str
    inputs: tuple[str, ...]
    format: Format | None
    batch_records: int
    batch_bytes: int
    failed: Path | None
    report: Path | None
    json: bool
    showing: Showing


def run_check(options: CheckOptions) -> int:
    """Check the inputs and tell what was found; the exit code.

    Raises:
        UsageError: the stream's name, an input or the failed file is not usable.
        LoaderError: there is no room for the failed file.
    """
    tune()
    if options.stream:
        check_stream(options.stream)
    names = input_names(options.inputs)
    reporting.see_usable(options.report, names, [] if options.failed is None else [options.failed])
    inputs = open_inputs(names, options.format, options.batch_bytes)
    writer = _FailedWriter(options.failed)
    try:
        return asyncio.run(_check(options, inputs, writer))
    finally:
        writer.close()


class _FailedWriter:
    """Writes the failed file where one is asked for; one that holds records is never overwritten."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file = None
        if path is None:
            return
        try:
            if path.exists() and path.stat().st_size:
                raise UsageError(
                    f"{path} holds records of an earlier run: choose another --failed, or move it away."
                )
            self._file = path.open("wb")
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written ({error.strerror}): choose another --failed."
            ) from error

    def write(self, failed: Sequence[Failed]) -> None:
        if self._file is not None:
            from cdf_upsert.journal.failures import line_of  # noqa: PLC0415  only with a failed file

            with self._telling():
                self._file.writelines(line_of(one) + b"\n" for one in failed)
                self._file.flush()  # Else a disk without room is found out when all has been told.

    def close(self) -> None:
        if self._file is not None:
            with self._telling():
                self._file.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LoaderError(
                f"{self.path} cannot be written ({error.strerror}): make room there, or choose another --failed."
            ) from error


async def _check(options: CheckOptions, inputs: "Sequence[Input]", writer: _FailedWriter) -> int:
    loop = asyncio.get_running_loop()
    started = datetime.now(UTC)
    sizes = [one.size for one in inputs]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    tally = Tally(loop.time(), total)
    screen = Screen(
        options.showing, tally, sys.stderr, environment=os.environ, wall=lambda: datetime.now(UTC)
    )

    def emit(event: events.Event) -> None:
        tally.hear(event)
        screen.hear(event)

    found = Examined()
    work = loop.create_task(
        examine(
            inputs,
            checker=Checker(options.batch_bytes),
            packer=Packer(options.batch_records, options.batch_bytes),
            emit=emit,
            write_failed=writer.write,
            found=found,
        )
    )
    interrupted: list[int] = []

    def interrupt(number: int) -> None:
        interrupted.append(number)
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    outcome, reason = events.Outcome.COMPLETE, ""
    with ticking(screen, loop):
        try:
            await work
        except asyncio.CancelledError:
            if not interrupted:
                raise
            outcome, reason = (
                events.Outcome.INTERRUPTED,
                f"Interrupted by {signal.Signals(interrupted[0]).name}.",
            )
    if found.good and not reason:
        reason = (
            f"Nothing was sent: the good ones would go in {count(found.requests, 'request')} of "
            f"{size(found.nbytes)} in all."
        )
    emit(events.Ended(loop.time(), outcome, reason, found.good))
    report = make_report(
        tally,
        RunFacts(
            run=f"{started:%Y%m%dT%H%M%SZ}",
            stream=options.stream,
            project=None,
            base_url=None,
            started=started,
            finished=datetime.now(UTC),
            failed_file=str(writer.path) if writer.path is not None and tally.failed else None,
            signal=interrupted[0] if interrupted else None,
            dry_run=True,
        ),
    )
    faults = []
    if options.report is not None:
        faults.append(reporting.put(to_json(report, indent=2).decode(), options.report))
    if options.json:
        faults.append(reporting.print_line(to_json(report).decode()))
    for fault in filter(None, faults):
        screen.say(Diagnostic("report", fault, {}, "error"))
    command = ["cdf-upsert", "load", options.stream or "STREAM"]
    screen.tell(report, command, sends=False)
    return report.exit_code
