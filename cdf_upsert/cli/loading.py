"""One run of `load`: journal, client, engine and screen are put together here, and nothing is decided."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.cli import reporting
from cdf_upsert.cli.options import FormatChoice, TargetFlags
from cdf_upsert.cli.reading import check_stream, input_names
from cdf_upsert.cli.wiring import Access, access, redacted
from cdf_upsert.core import events
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.diagnosing import Diagnostic
from cdf_upsert.core.framing import Position
from cdf_upsert.core.pacing import Pacing, Policy
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.quota import TEMPLATES, Quota
from cdf_upsert.core.report import Report, RunFacts, make_report, to_json
from cdf_upsert.core.showing import Showing
from cdf_upsert.core.stopping import MaxFailures, Stopping, StoppingPolicy
from cdf_upsert.core.stream import StreamFacts
from cdf_upsert.core.tally import Tally
from cdf_upsert.errors import LoaderError, RefusedError, UnavailableError, UsageError
from cdf_upsert.journal import (
    Journal,
    SameBytes,
    VerifiedReader,
    default_directory,
    identify,
    open_journal,
)
from cdf_upsert.journal.names import FAILED, JOURNAL, LOCK
from cdf_upsert.load import Ending, Engine, outcome_of
from cdf_upsert.load.ports import Input
from cdf_upsert.load.preflight import preflight
from cdf_upsert.screen import Screen, ticking
from cdf_upsert.sources.reading import Input as SourceInput
from cdf_upsert.sources.reading import open_inputs, prepared
from cdf_upsert.sources.tuning import tune

DOCTOR_SECONDS = 20.0
"""How long a run that was refused may take to find out why."""

CEILING, REQUESTS_PER_SECOND = 15, 30.0
"""Requests at once that `auto` never passes, and requests a second: the write budget of one identity (published
limits)."""

SAME_SIGNAL = 0.1
"""Seconds in which a signal that comes twice is one: `timeout` sends it to its child, and to all of its group."""


class LoadOptions(Struct, frozen=True):
    """What the command line asks for; times in seconds, sizes in bytes."""

    stream: str
    inputs: tuple[str, ...]
    target: TargetFlags
    sandbox: bool
    format: FormatChoice
    linger: float
    batch_records: int
    batch_bytes: int
    concurrency: int | None
    max_rate: float | None
    quota: Quota | None
    timeout: float
    patience: float
    max_duration: float | None
    max_failures: MaxFailures | None
    run_dir: Path | None
    failed: Path | None
    report: Path | None
    fresh: bool
    json: bool
    showing: Showing


def run_load(options: LoadOptions) -> int:
    """Run the load; its exit code.

    Raises:
        LoaderError: the run could not begin.
    """
    tune()
    check_stream(options.stream)
    policy = StoppingPolicy(options.max_failures, options.max_duration, options.patience)
    names = input_names(options.inputs)
    found = open_inputs(names, options.format.wanted, options.batch_bytes)
    with prepared(found) as inputs, access(options.target, sandbox=options.sandbox) as way:
        started = datetime.now(UTC)
        identity = identify(
            base_url=way.name,
            project=way.target.project,
            stream=options.stream,
            inputs=names,
            fmt=options.format.value,
        )
        directory = options.run_dir or default_directory(identity, started, secrets.randbits(16))
        ours = [options.failed or directory / FAILED, directory / JOURNAL, directory / LOCK]
        reporting.see_usable(options.report, names, ours)
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        journal = open_journal(
            identity, directory, run_id=run_id, now=started, fresh=options.fresh, failed=options.failed
        )
        sizes = [one.size for one in inputs]
        total = None if None in sizes else sum(size for size in sizes if size is not None)
        try:
            checked = [_verified(one, index, journal) for index, one in enumerate(inputs)]
            run = _Run(
                options=options,
                way=way,
                journal=journal,
                inputs=checked,
                policy=policy,
                total_bytes=total,
                streamed=identity.streamed,
            )
            return asyncio.run(run.go(run_id, started))
        finally:
            journal.close()


class _Verified(Struct, frozen=True):
    """An input that can be read only once, and has to bring the same bytes as in an earlier run."""

    source: SourceInput
    same: SameBytes

    @property
    def path(self) -> str:
        """The name that was given."""
        return self.source.path

    def open(self, start: Position) -> VerifiedReader:
        """Begin to read; what is read is held back until it is known to be the same."""
        return VerifiedReader(replace(self.source, on_bytes=self.same.feed).open(start), self.same)


def _verified(source: SourceInput, index: int, journal: Journal) -> Input:
    same = journal.same_bytes(index)
    return source if same is None else _Verified(source, same)


class _Run:
    """Everything that one run needs, while it lasts."""

    def __init__(
        self,
        *,
        options: LoadOptions,
        way: Access,
        journal: Journal,
        inputs: Sequence[Input],
        policy: StoppingPolicy,
        total_bytes: int | None,
        streamed: bool,
    ) -> None:
        self._options = options
        self._way = way
        self._journal = journal
        self._inputs = inputs
        self._policy = policy
        self._total_bytes = total_bytes
        self._streamed = streamed
        self._engine: Engine | None = None
        self._signal: int | None = None
        self._signal_at = 0.0
        self._early: asyncio.Task[StreamFacts | None] | None = None

    async def go(self, run_id: str, started: datetime) -> int:
        """Load, and tell how it went; the exit code.

        Raises:
            UsageError: the service cannot be reached; nothing was sent.
        """
        loop = asyncio.get_running_loop()
        self._tally = Tally(loop.time(), self._total_bytes)
        self._screen = Screen(
            self._options.showing,
            self._tally,
            redacted(sys.stderr, self._way.redactor),
            environment=os.environ,
            wall=lambda: datetime.now(UTC),
        )
        with self._signals(loop), ticking(self._screen, loop):
            self._emit(events.Notice(loop.time(), self._journal.first_line))
            try:
                ending = await self._load(loop)
            except UsageError as error:
                self._journal.finish(events.Outcome.ERROR, str(error), datetime.now(UTC))
                raise
        self._emit(events.Ended(loop.time(), ending.outcome, ending.reason, ending.unsent))
        report = self._report(run_id, started)
        self._journal.finish(report.outcome, report.reason, datetime.now(UTC))
        self._write(report)
        return report.exit_code

    async def _load(self, loop: asyncio.AbstractEventLoop) -> Ending:
        options, way = self._options, self._way
        dice = random.SystemRandom()
        client = way.client(
            options.stream,
            timeout=options.timeout,
            connections=(options.concurrency or CEILING) + 5,
            patience=options.patience,
        )
        async with client:
            self._early = loop.create_task(
                preflight(
                    client.stream,
                    stream=options.stream,
                    explain=way.explain(options.stream),
                    notice=lambda message: self._emit(events.Notice(loop.time(), message)),
                    patience=options.patience,
                    dice=dice,
                )
            )
            try:
                facts = await self._early
            except asyncio.CancelledError:
                return Ending(events.Outcome.INTERRUPTED, self._interruption(), 0)
            except UnavailableError as error:
                return Ending(outcome_of(error), str(error), 0)
            except RefusedError as error:
                return await self._with_cause(Ending(outcome_of(error), str(error), 0), error)
            self._engine = Engine(
                inputs=self._inputs,
                standing=self._journal.standing,
                checker=Checker(options.batch_bytes),
                packer=Packer(options.batch_records, options.batch_bytes),
                pacing=Pacing(self._pacing_policy(facts, dice.random()), loop.time()),
                stopping=Stopping(self._policy, loop.time()),
                sender=client,
                books=self._journal,
                explain=way.explain(options.stream),
                emit=self._emit,
                dice=dice,
                linger=options.linger,
                grace=options.timeout,
            )
            ending = await self._engine.run()
        if isinstance(self._engine.error, RefusedError):
            return await self._with_cause(ending, self._engine.error)
        if isinstance(self._engine.error, UsageError) and not self._tally.sent:
            raise self._engine.error
        if self._engine.error is not None and not isinstance(self._engine.error, LoaderError):
            return self._crashed(ending, self._engine.error)
        return ending

    async def _with_cause(self, ending: Ending, error: RefusedError) -> Ending:
        """Say why in `doctor`'s words, which knows more than one reply tells; if it finds nothing, as it was said."""
        cause = None
        if error.unclear and not self._options.sandbox:
            with contextlib.suppress(LoaderError, TimeoutError):
                async with asyncio.timeout(DOCTOR_SECONDS):
                    cause = await self._way.cause(self._options.stream)
        return ending if cause is None else replace(ending, reason=cause)

    def _pacing_policy(self, facts: StreamFacts | None, jitter: float) -> Policy:
        quota = self._options.quota
        if quota is None and facts is not None and not self._options.sandbox:
            quota = TEMPLATES.get(facts.template)
        return Policy(
            concurrency=self._options.concurrency,
            ceiling=CEILING,
            requests_per_second=None if self._way.is_local else REQUESTS_PER_SECOND,
            max_rate=self._options.max_rate,
            quota=quota,
            jitter=jitter,
        )

    def _emit(self, event: events.Event) -> None:
        self._tally.hear(event)
        self._screen.hear(event)

    # ------------------------------------------------------------------ signals

    @contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """The first signal stops the run in good order, the second leaves at once: the journal stands anyway."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._interrupt, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _interrupt(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        if self._signal is not None:
            if number == self._signal and now < self._signal_at + SAME_SIGNAL:
                return
            self._screen.close()
            os._exit(128 + number)
        self._signal, self._signal_at = number, now
        if self._engine is not None:
            self._engine.halt(events.Outcome.INTERRUPTED, self._interruption())
        elif self._early is not None:
            self._early.cancel()

    def _interruption(self) -> str:
        return (
            "Interrupted by "
            + ("a signal" if self._signal is None else signal.Signals(self._signal).name)
            + "."
        )

    # ------------------------------------------------------------------ the end

    def _report(self, run_id: str, started: datetime) -> Report:
        facts = RunFacts(
            run=run_id,
            stream=self._options.stream,
            project=self._way.target.project,
            base_url=self._way.name,
            started=started,
            finished=datetime.now(UTC),
            failed_file=relative(self._journal.failed_path) if self._tally.failed else None,
            signal=self._signal,
        )
        return make_report(self._tally, facts)

    def _write(self, report: Report) -> None:
        """Put the report where it is asked for; a place that cannot be written is said, and costs no record."""
        clean, path = self._way.redactor.clean, self._options.report or self._journal.report_path
        faults = [reporting.put(clean(to_json(report, indent=2).decode()), path)]
        if self._options.json:
            faults.append(reporting.print_line(clean(to_json(report).decode())))
        for fault in filter(None, faults):
            self._screen.say(Diagnostic("report", fault, {}, "error"))
        run_dir = relative(self._journal.directory) if self._streamed else None
        self._screen.tell(report, self._command(), run_dir)

    def _command(self) -> list[str]:
        """What loads another input into the same stream, but for that input."""
        target = self._options.target
        command = ["cdf-upsert", "load", self._options.stream]
        if self._options.sandbox:
            command.append("--sandbox")
        for name, value in target.given().items():
            if value is not None:
                command += [f"--{name.replace('_', '-')}"] + ([] if name == "insecure_http" else [value])
        return command

    def _crashed(self, ending: Ending, error: BaseException) -> Ending:
        """A bug: its traceback goes into the run directory, where it can be attached to a message."""
        path = self._journal.directory / "error.txt"
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)
            path.write_text(self._way.redactor.clean(text))
        reason = f"{ending.reason} This is a bug: please report it with {relative(path)}."
        return replace(ending, reason=reason)


def relative(path: Path) -> str:
    """A path as a person in the working directory would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
