"""Standard streams as shells and pipelines hand them over: closed, full, broken, a terminal, a log."""

import re

import pytest

from tests.cli.service import mutable_stream, service
from tests.records import make_text
from tests.terminal import lines_of, run_in_terminal, seen
from tests.workdir import COMMAND, Workdir

RECORDS = b"\n".join([*(make_text(f"k{i}", i) for i in range(100)), b"{}"])


@pytest.fixture
def loading(shell: Workdir, stream: str) -> Workdir:
    """A directory where `cdf-upsert load $STREAM a.ndjson` ends in 3."""
    shell.write("a.ndjson", RECORDS)
    shell.environment["STREAM"] = stream
    return shell


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "<&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_a_stream_that_takes_nothing_does_not_change_a_load(redirected: str, loading: Workdir) -> None:
    """Closed or full, a standard stream costs no record and no exit code, and nothing falls into another file."""
    done = loading.shell(f"cdf-upsert load $STREAM a.ndjson --json --run-dir run {redirected}").exits(3)
    assert loading.json("run/report.json")["records"]["accepted"] == 100
    assert [line["error"]["class"] for line in loading.lines("run/failed.ndjson")] == ["invalid"]
    if redirected == "<&-":
        assert done.counts == {"read": 101, "accepted": 100, "failed": 1}


def test_who_stops_listening_does_not_stop_a_load(loading: Workdir) -> None:
    """`cdf-upsert … | head` ends with the load's own exit code, and without a word about pipes."""
    done = loading.shell("cdf-upsert load $STREAM a.ndjson --json 2>&1 | true; exit ${PIPESTATUS[0]}").exits(
        3
    )
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--version >/dev/full", 1),
        ("load --help >/dev/full", 1),
        ("runs --json >/dev/full", 1),
        ("load demo missing 2>/dev/full", 2),
        ("load demo missing 2>&-", 2),
        ("runs >&-", 0),
        ("doctor >&-", 2),
        ("load demo missing 2>&1 | true; exit ${PIPESTATUS[0]}", 2),
    ],
)
def test_what_cannot_be_said_is_no_bug(command: str, status: int, alone: Workdir) -> None:
    """A command keeps its exit code when nobody takes its words, and fails when its words are all that it has to give."""
    alone.shell(f"cdf-upsert {command}").exits(status)


def test_json_that_cannot_be_written_is_told(loading: Workdir) -> None:
    """Who asked for the report and cannot have it learns why, also when quiet."""
    done = loading.shell("cdf-upsert load $STREAM a.ndjson --json -q >/dev/full").exits(3)
    done.says("The report cannot be written to standard output (No space left on device).")


def test_a_load_that_is_started_in_a_terminal_wants_an_input(alone: Workdir) -> None:
    """It does not wait for somebody to type records."""
    status, written = run_in_terminal([*COMMAND, "load", "demo", "--sandbox"], directory=str(alone.path))
    assert status == 2
    assert b"There is nothing to read: name a file, or pipe records into standard input." in b" ".join(
        written.split(b"\r\n")
    )


COLOUR = re.compile(rb"\x1b\[[\d;]*3\dm")


def slow_pipe(alone: Workdir, count: int) -> str:
    """A line of shell that brings records so slowly that a bar is drawn."""
    alone.write("a.ndjson", b"".join(make_text(f"k{i}", i) + b"\n" for i in range(count)))
    return f"(cat a.ndjson; sleep 1.2) | {' '.join(COMMAND)} load demo - --linger 0"


def test_a_terminal_shows_a_bar_and_gets_the_summary(alone: Workdir) -> None:
    """While the load runs a bar is drawn; at its end only the lines of log and summary stand there."""
    with service(mutable_stream()) as served:
        status, written = run_in_terminal(
            ["bash", "-c", slow_pipe(alone, 50)],
            environment=served.variables,
            directory=str(alone.path),
            columns=120,
        )
    assert status == 0
    assert b"50 accepted" in written.split(b"50 accepted of 50 records")[0], "no bar was drawn"
    assert COLOUR.search(written)
    screen = seen(written, columns=120)
    lines = lines_of(screen)
    assert len(lines) == 2, lines
    assert re.match(r"\S+Z new load demo-", lines[0])
    assert lines[1].startswith("50 accepted of 50 records in ")
    assert not screen.cursor.hidden


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_a_terminal_is_not_sent_what_it_does_not_want(variables: dict[str, str], alone: Workdir) -> None:
    """NO_COLOR means no colours, and a dumb terminal gets plain lines."""
    with service(mutable_stream()) as served:
        status, written = run_in_terminal(
            ["bash", "-c", slow_pipe(alone, 50)],
            environment={**served.variables, **variables},
            directory=str(alone.path),
        )
    assert status == 0
    assert not COLOUR.search(written)
    if "TERM" in variables:
        assert b"\x1b" not in written


def test_a_terminal_is_given_back_after_ctrl_c(alone: Workdir) -> None:
    """Twice Ctrl+C leaves at once, and the cursor is visible again."""
    command = " ".join(COMMAND)
    script = f"mkfifo pipe; exec 3<>pipe; {command} load demo - <pipe & sleep 1.5; kill -INT $!; kill -TERM $!; wait $!"
    with service(mutable_stream()) as served:
        status, written = run_in_terminal(
            ["bash", "-c", script], environment=served.variables, directory=str(alone.path)
        )
    assert status in (130, 143), written
    assert b"\x1b[?25l" in written, "no bar was drawn"
    assert not seen(written).cursor.hidden


CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.mark.parametrize("progress", ["auto", "bar", "plain", "none"])
def test_a_log_holds_no_control_characters(progress: str, loading: Workdir) -> None:
    """Where standard error is no terminal, as in CI, no bar is drawn and nothing is written over, whatever is asked for."""
    loading.write("b.ndjson", RECORDS + b'\n{"\\u001b[2J": 1}\n\x1b[2J\n')
    done = loading.shell(
        f"(cat b.ndjson; sleep 0.6) | cdf-upsert load $STREAM - -v --progress {progress}", CI="true"
    ).exits(3)
    assert not CONTROL.search(done.stderr), done
