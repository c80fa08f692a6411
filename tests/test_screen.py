"""What people see while a run goes on and at its end."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import orjson
import pytest

from cdf_upsert.core.diagnosing import Diagnostic
from cdf_upsert.core.events import BlockRead, Ended, InputOpened, Notice, Outcome, Settled
from cdf_upsert.core.showing import LogFormat, Progress, Showing, Verbosity
from cdf_upsert.screen import Output, log_line, ticking
from tests.record_screen import picture
from tests.scenes import BEGUN, COMMAND, DAWN, ENDS, LONG, QUICK, TELLS, Stage, Step
from tests.terminal import lines_of, run_in_terminal, run_module, seen


def watch(
    scene: str, *, columns: int = 80, verbosity: str = "normal", progress: str = "auto", **environment: str
) -> tuple[bytes, list[str]]:
    """Play a scene in a terminal; what was written, and the lines that stand there then.

    The line that tells whether rich was imported is cut off.
    """
    command = run_module("tests.scenes", scene, progress, "text", verbosity)
    code, written = run_in_terminal(command, columns=columns, environment=environment)
    assert code == 0, written.decode()
    written = re.sub(rb"(True|False)\r\n$", b"", written)
    return written, lines_of(seen(written, columns=columns))


def play(steps: list[Step], showing: Showing | None = None) -> list[str]:
    """Play a scene where standard error is no terminal, to its end if it has one; the lines of it."""
    stream = io.StringIO()
    stage = Stage(stream, showing)
    stage.play(steps)
    if stage.tally.ended is not None:
        stage.screen.tell(stage.report(), COMMAND)
    return stream.getvalue().splitlines()


# ---------------------------------------------------------------- on a terminal


def test_the_bar():
    """A bar tells the share that is done, the time that is left, the counts, the rate and the requests."""
    written, lines = watch("begun")
    assert lines == [
        "━━━━━━━━━━──────────────────────────────   25%  0:30 left",
        "9,998 accepted  2 failed  1,000/s  3 of 4 requests under way",
    ]
    assert b"\x1b[31m" in written, "failures stand out"


def test_a_wait_on_the_bar():
    """When nothing can be sent, the bar says why and counts down."""
    _, lines = watch("waits")
    assert len(lines) == 3
    assert lines[2] == "Waiting: quota spent, next try in 4:12"


@pytest.mark.parametrize(("columns", "first"), [(30, "━━────────   25%  0:30 left"), (20, " 25%  0:30 left")])
def test_a_narrow_terminal(columns, first):
    """On a narrow terminal the bar is shorter or gone, and no line wraps."""
    _, lines = watch("begun", columns=columns)
    assert lines[0] == first
    assert len(lines) == 2
    assert lines[1].endswith("…")


def test_columns_are_respected():
    """COLUMNS says how wide to draw, whatever the terminal says."""
    assert watch("begun", COLUMNS="30")[1][0] == "━━────────   25%  0:30 left"


def test_the_end_on_a_terminal():
    """At the end the bar is gone, the cursor is back, and failures, summary and next step stand there."""
    written, lines = watch("ends", columns=120)
    assert lines == [
        "count  failed as       message                 for example",
        "    2  rejected (400)  Unknown property '[b]'  a.ndjson, line 12, key weather/EWR-2",
        (
            "19,995 accepted, 2 failed, 3 superseded of 20,000 records in 20 s (1,000/s, 72 kB sent). "
            "Failed: demo/failed.ndjson"
        ),
        "Next: mend the failed records and load them: cdf-upsert load demo demo/failed.ndjson",
    ]
    assert written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l") >= 0


def test_the_log_above_the_bar():
    """Lines of the log stand above the bar and are not wiped with it; nothing in them moves the cursor."""
    _, lines = watch("tells", columns=100, verbosity="verbose")
    assert lines[:3] == [
        "2026-05-28T12:00:00.000Z Reading a.ndjson (ndjson, 1.0 MB).",
        "2026-05-28T12:00:01.000Z The journal stands in .cdf-upsert/[demo].",
        r"2026-05-28T12:00:02.000Z Trying 5 records again in 1.2 s: unavailable (busy\x1b[2J).",
    ]
    assert lines[-3:] == [
        "0:10 so far",
        "0 accepted  0/s  1 of 4 requests under way",
        r"Waiting: quota\x07 spent, next try in 4:06",
    ]


def test_no_color():
    """With NO_COLOR the bar moves and nothing has a colour."""
    written, lines = watch("begun", NO_COLOR="1")
    assert "25%" in lines[0]
    assert not re.search(rb"\x1b\[[\d;]*(3[0-7]|9[0-7]|38)[;m]", written)


def test_a_dumb_terminal():
    """A terminal that cannot move its cursor gets plain lines, and no byte that it cannot show."""
    written, lines = watch("ends", TERM="dumb", columns=120)
    assert b"\x1b" not in written
    assert lines[0].startswith("2026-05-28T12:00:10.000Z 9,998 accepted, 2 failed of 20,000 read")


def test_a_terminal_without_line_drawing():
    """Where the encoding holds no lines, the bar is drawn in ASCII."""
    _, lines = watch("begun", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert lines[0] == "##########------------------------------   25%  0:30 left"


def test_plain_lines_on_a_terminal():
    """Plain lines can be asked for on a terminal too, and nothing is drawn there."""
    written, lines = watch("ends", progress="plain", columns=120)
    assert b"\x1b" not in written
    assert lines[1] == "  2 rejected (400): Unknown property '[b]'"


def test_a_quick_load_draws_no_bar():
    """A load that is done at once leaves one line and was spared the bar."""
    written, lines = watch("quick")
    assert lines == ["1 accepted of 1 record in 0.3 s."]
    assert b"\x1b" not in written


def test_the_picture_for_the_readme():
    """The picture holds the bar once and the end once, is small, and loads nothing from elsewhere."""
    _, written = run_in_terminal(run_module("tests.scenes", "ends", "auto", "text", "normal"), columns=100)
    svg = picture(written, COMMAND)
    assert svg.count("under&#160;way") == 1
    assert svg.count("Failed:") == 1
    assert len(svg) < 60_000
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]


# ---------------------------------------------------------------- elsewhere


def test_a_ci_log():
    """Where there is no terminal, ten minutes are told in some twenty lines, each with its time."""
    lines = play(LONG)
    assert lines[0] == (
        "2026-05-28T12:00:10.000Z 9,998 accepted, 2 failed of 20,000 read, 1,000/s, 25% done, 30 s left."
    )
    times = [line.split()[0][11:19] for line in lines]
    assert times[:3] == ["12:00:10", "12:00:20", "12:00:30"]
    assert 10 < len(lines) < 25
    assert not any("\x1b" in line for line in lines)


def test_a_short_load_in_ci():
    """A load that ends before the first line is due tells its summary alone."""
    assert play(QUICK) == ["1 accepted of 1 record in 0.3 s."]


def test_the_end_in_ci():
    """In a log the failures are plain lines before the summary."""
    assert play(ENDS)[1:] == [
        "  2 rejected (400): Unknown property '[b]'",
        "    for example a.ndjson, line 12, key weather/EWR-2",
        (
            "19,995 accepted, 2 failed, 3 superseded of 20,000 records in 20 s (1,000/s, 72 kB sent). "
            "Failed: demo/failed.ndjson"
        ),
        "Next: mend the failed records and load them: cdf-upsert load demo demo/failed.ndjson",
    ]


def test_no_progress():
    """`none` leaves the notices and the summary."""
    lines = play([*LONG, *TELLS, Ended(600, Outcome.FAILURES, "", 0)], Showing(Progress.NONE))
    assert lines[0].endswith("The journal stands in .cdf-upsert/[demo].")
    assert not any("% done" in line for line in lines)


def test_quiet_on_success():
    """Quiet and complete: not a byte."""
    assert play([*TELLS, *QUICK], Showing(verbosity=Verbosity.QUIET)) == []


def test_quiet_on_failure():
    """Quiet and not complete: what failed, the summary and what to do, as a mail from cron should hold."""
    assert play(ENDS, Showing(verbosity=Verbosity.QUIET)) == play(ENDS)[1:]


def test_json_lines():
    """With `--log-format json` each line is one object that tells its time, and the end is among them."""
    showing = Showing(log_format=LogFormat.JSON, verbosity=Verbosity.VERBOSE)
    entries = [orjson.loads(line) for line in play([*TELLS, *ENDS[1:]], showing)]
    assert [entry["event"] for entry in entries] == [
        *("input", "notice", "retry", "reply", "reply", "wait", "progress"),
        *("failures", "ended", "next"),
    ]
    assert all(
        list(entry)[:4] == ["time", "level", "event", "message"] and entry["time"].endswith("Z")
        for entry in entries
    )
    by_name = {entry["event"]: entry for entry in entries}
    assert by_name["retry"]["said"] == "busy\x1b[2J"
    assert by_name["progress"]["accepted"] == 9_998
    assert by_name["failures"]["failure"]["example"]["line"] == 12
    assert by_name["ended"]["level"] == "error"
    assert (by_name["ended"]["exitCode"], by_name["ended"]["records"]["alreadyAccepted"]) == (3, 0)


def test_json_lines_of_a_strange_file_name():
    """A name that is not UTF-8 makes no line that is not JSON."""
    showing = Showing(log_format=LogFormat.JSON, verbosity=Verbosity.VERBOSE)
    (line,) = play([InputOpened("a\udcff", "ndjson", None)], showing)
    assert orjson.loads(line)["path"] == "a\\xff"


def test_an_error_in_either_format():
    """An error of the command line is told as a line of the log like any other."""
    error = Diagnostic("error", "There is no file a.ndjson.", {}, "error")
    assert log_line(error, LogFormat.TEXT, DAWN) == "2026-05-28T12:00:00.000Z There is no file a.ndjson."
    assert orjson.loads(log_line(error, LogFormat.JSON, DAWN))["level"] == "error"


# ---------------------------------------------------------------- when nobody listens


def test_a_closed_pipe_does_not_stop_a_load():
    """When the reader of standard error is gone, the screen is silent to the end and nothing fails."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        stage = Stage(stream, Showing(verbosity=Verbosity.VERBOSE))
        stage.play([*TELLS, *ENDS[1:]])
        stage.screen.tell(stage.report(), COMMAND)


def test_a_terminal_that_hangs_up_does_not_stop_a_load():
    """When the terminal is gone in the middle of the bar, nothing fails."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        stage = Stage(stream)
        stage.play(BEGUN)
        os.close(ours)
        stage.play(ENDS[len(BEGUN) :])
        stage.screen.tick(20.5)
        stage.screen.tell(stage.report(), COMMAND)


def test_no_standard_error_at_all():
    """A process that was started without standard error runs like any other."""
    stage = Stage(None)
    stage.play([*TELLS, *ENDS[1:]])
    stage.screen.tell(stage.report(), COMMAND)


def test_a_reader_that_leaves_does_not_change_the_exit_code():
    """The interpreter does not fail at its end over a line that nobody read."""
    code = (
        "import sys; from cdf_upsert.screen import Output as O; O(sys.stdout).line('x' * 99_999); sys.exit(3)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 3


def test_a_full_pipe_loses_a_line_and_no_more():
    """A pipe that is full and does not wait costs the lines that do not fit, not those after it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb", buffering=0) as source, os.fdopen(writer, "w", encoding="utf-8") as stream:
        output = Output(stream)
        for _ in range(200):
            output.line("x" * 1000)
        source.read(1_000_000)
        output.line("here again")
        assert b"here again\n" in source.read(1_000_000)


def test_what_an_encoding_cannot_hold_is_written_out():
    """A letter that the stream has no byte for does not silence the screen."""
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, encoding="ascii"))
    output.line("Bodø")
    output.line("Oslo")
    assert raw.getvalue() == b"Bod\\xf8\nOslo\n"


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("scene", "progress", "log_format", "drawn"),
    [
        ("ends", "plain", "text", False),
        ("ends", "none", "text", False),
        ("ends", "auto", "json", False),
        ("quick", "auto", "text", False),
        ("ends", "auto", "text", True),
    ],
)
def test_rich_is_imported_only_to_draw(scene, progress, log_format, drawn):
    """Plain lines, JSON lines, silence and a quick load on a terminal do without the import of rich."""
    command = run_module("tests.scenes", scene, progress, log_format, "normal")
    _, written = run_in_terminal(command)
    assert written.split()[-1] == str(drawn).encode()


class Loop:
    """An event loop of timers alone, whose time goes on when it is told to."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, Timer, object]] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay, callback):
        timer = Timer()
        self._timers.append((self._now + delay, timer, callback))
        return timer

    def run_until(self, end: float) -> None:
        while due := [entry for entry in self._timers if entry[0] <= end and not entry[1].cancelled]:
            entry = min(due, key=lambda entry: entry[0])
            self._timers.remove(entry)
            self._now = entry[0]
            entry[2]()
        self._now = end


class Timer:
    """What `call_later` hands out."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class CountingStream(io.StringIO):
    """A terminal that counts how often it is drawn on."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.flushes += 1


def test_the_bar_is_drawn_eight_times_a_second_whatever_happens():
    """Ten thousand events a second draw nothing by themselves."""
    stream, loop = CountingStream(), Loop()
    stage = Stage(stream)
    with ticking(stage.screen, loop):
        loop.run_until(10)
        before = stream.flushes
        stage.play([InputOpened("a", "ndjson", None)])
        stage.play([BlockRead("a", 1, 1, 1), Settled(10, accepted=1)] * 5_000)
        assert stream.flushes == before
        loop.run_until(11)
        assert stream.flushes - before == pytest.approx(8, abs=1)
    after = stream.flushes
    loop.run_until(20)
    assert stream.flushes == after, "a closed screen ticks no more"


def test_plain_lines_are_driven_by_the_same_timer():
    """Where no terminal is, the timer brings the lines, also while no event comes."""
    stream, loop = io.StringIO(), Loop()
    with ticking(Stage(stream).screen, loop):
        loop.run_until(61)
    assert stream.getvalue().count("\n") == 5


def test_no_progress_needs_no_timer():
    """Without progress nothing ticks."""
    loop = Loop()
    with ticking(Stage(io.StringIO(), Showing(Progress.NONE)).screen, loop):
        assert loop._timers == []


def test_notices_before_the_bar_and_after_it():
    """A notice is told at once where no bar is drawn, and closing twice does no harm."""
    stream = io.StringIO()
    stage = Stage(stream)
    stage.play([Notice(0.0, "One.")])
    stage.screen.close()
    stage.play([Notice(0.0, "Two.")])
    stage.screen.close()
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["One.", "Two."]
