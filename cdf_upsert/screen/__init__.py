"""What a run shows on standard error: a bar, plain lines, JSON lines or nothing, from the same events.

Hearing an event draws nothing: progress is drawn by `tick`, which `ticking` calls often enough.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO, assert_never

import msgspec

from cdf_upsert.core import telling
from cdf_upsert.core.diagnosing import Diagnostic, diagnostics_of, progress_diagnostic
from cdf_upsert.core.events import Event, Outcome
from cdf_upsert.core.report import Report, iso
from cdf_upsert.core.showing import LogFormat, Progress, Showing, Verbosity, form_of, next_line_at
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.viewing import View, view_of
from cdf_upsert.core.wording import one_line, shown
from cdf_upsert.screen.output import Output

if TYPE_CHECKING:
    from cdf_upsert.screen.bar import Bar

__all__ = ["Output", "Screen", "ticking"]

BAR_AFTER = 0.4
"""Seconds before a bar is drawn: what is done sooner does without, and saves the import of what draws it."""

TICK_SECONDS: Mapping[Progress, float | None] = {
    Progress.BAR: 1 / 8,
    Progress.PLAIN: 1.0,
    Progress.NONE: None,
}
"""How often progress is looked at, by form."""


class Screen:
    """Listens to the events of one run and tells people of them.

    Args:
        showing: what the user wants to see.
        tally: of the same run; it hears each event before the screen does.
        stream: standard error, None when that is closed.
        environment: the variables of the process; `TERM` is asked for.
        wall: tells the time of day, for the lines of the log.

    """

    def __init__(
        self,
        showing: Showing,
        tally: Tally,
        stream: TextIO | None,
        *,
        environment: Mapping[str, str],
        wall: Callable[[], datetime],
    ) -> None:
        self._showing = showing
        self._tally = tally
        self._output = Output(stream)
        self._wall = wall
        self._form = form_of(showing, is_terminal=self._output.isatty(), term=environment.get("TERM", ""))
        self._line_at = next_line_at(tally.started, tally.started)
        self._bar: Bar | None = None

    @property
    def tick_seconds(self) -> float | None:
        """How often `tick` is to be called; None: never."""
        return TICK_SECONDS[self._form]

    def hear(self, event: Event) -> None:
        """Tell what the log has to say of an event."""
        for diagnostic in diagnostics_of(event, self._showing.verbosity):
            self.say(diagnostic)

    def tick(self, now: float) -> None:
        """Show how the run stands; `now` is on the clock of the events."""
        match self._form:
            case Progress.BAR:
                if self._bar is None and now >= self._tally.started + BAR_AFTER:
                    self._bar = _a_bar(self._output, self._view)
                if self._bar is not None:
                    self._bar.tick(now)
            case Progress.PLAIN:
                if now >= self._line_at:
                    self._line_at = next_line_at(now, self._tally.started)
                    self.say(progress_diagnostic(self._view(now)))
            case Progress.NONE | Progress.AUTO:
                pass
            case _:
                assert_never(self._form)

    def close(self) -> None:
        """Give the terminal back as it was; has to be called before the process leaves, and may be again."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def say(self, diagnostic: Diagnostic) -> None:
        """Write one line of the log."""
        line = log_line(diagnostic, self._showing.log_format, self._wall())
        if self._bar is not None:
            self._bar.say(line)
        else:
            self._output.line(line)

    def tell(
        self, report: Report, command: Sequence[str], run_dir: str | None = None, *, sends: bool = True
    ) -> None:
        """Close, then tell how the run went; all but the report as for `telling.next_step`.

        A quiet screen tells of nothing but a run that is not complete.
        """
        self.close()
        if self._showing.verbosity is Verbosity.QUIET and report.outcome is Outcome.COMPLETE:
            return
        next_step = telling.next_step(report, command, run_dir, sends=sends)
        match self._showing.log_format:
            case LogFormat.JSON:
                for diagnostic in _ending(report, next_step, sends=sends):
                    self.say(diagnostic)
            case LogFormat.TEXT:
                self._tell_failures(report, sends=sends)
                self._output.line(telling.summary(report, sends=sends))
                if next_step is not None:
                    self._output.line(next_step)
            case _:
                assert_never(self._showing.log_format)

    def _tell_failures(self, report: Report, *, sends: bool) -> None:
        if not report.failures:
            return
        if self._form is Progress.BAR:
            _print_table(self._output, report, sends=sends)
        else:
            for line in telling.failure_lines(report, sends=sends):
                self._output.line(line)

    def _view(self, now: float) -> View:
        return view_of(self._tally, now)


def _a_bar(output: Output, view: Callable[[float], View]) -> "Bar":
    from cdf_upsert.screen.bar import Bar  # noqa: PLC0415  rich is slow to import, and only a bar needs it

    return Bar(output, view)


def _print_table(output: Output, report: Report, *, sends: bool) -> None:
    from cdf_upsert.screen.bar import print_failures  # noqa: PLC0415  rich is slow to import

    print_failures(output, report, sends=sends)


def log_line(diagnostic: Diagnostic, log_format: LogFormat, at: datetime) -> str:
    """Return a line of the log: `2026-05-28T12:00:00.000Z sentence`, or one JSON object."""
    match log_format:
        case LogFormat.TEXT:
            return f"{iso(at)} {one_line(diagnostic.message)}"
        case LogFormat.JSON:
            head = {"time": iso(at), "level": diagnostic.level, "event": diagnostic.name}
            entry = head | {"message": diagnostic.message} | diagnostic.fields
            fit = {name: shown(value) if isinstance(value, str) else value for name, value in entry.items()}
            return msgspec.json.encode(fit).decode()
        case _:
            assert_never(log_format)


def _ending(report: Report, next_step: str | None, *, sends: bool) -> Iterator[Diagnostic]:
    """Tell a report in lines of the log."""
    for failure in report.failures[: telling.MOST_TOLD]:
        message = f"{failure.count:,} {telling.why(failure)}: {telling.message(failure)}"
        yield Diagnostic("failures", message, msgspec.to_builtins({"failure": failure}))
    level = "info" if report.outcome is Outcome.COMPLETE else "error"
    fields = {
        "outcome": report.outcome,
        "exitCode": report.exit_code,
        "records": report.records,
        "durationSeconds": report.duration_seconds,
        "failedFile": report.failed_file,
    }
    yield Diagnostic("ended", telling.summary(report, sends=sends), fields, level)
    if next_step is not None:
        yield Diagnostic("next", next_step, {})


@contextmanager
def ticking(screen: Screen, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let `loop` tick the screen while the block runs, then close the screen."""
    seconds = screen.tick_seconds
    if seconds is None:
        yield
        return

    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, tick)
        screen.tick(loop.time())

    timer = loop.call_later(seconds, tick)
    try:
        yield
    finally:
        timer.cancel()
        screen.close()
