"""What is shown, in which form, and when."""

import dataclasses
from itertools import pairwise
from typing import get_args

import pytest

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Outcome,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.showing import (
    LogFormat,
    Progress,
    Showing,
    Verbosity,
    diagnostic_of,
    form_of,
    next_line_at,
    progress_diagnostic,
    progress_line,
    view_of,
)
from cdf_upsert.core.tally import Tally

AUTO, BAR, PLAIN, NONE = Progress


@pytest.mark.parametrize(
    ("progress", "is_terminal", "term", "form"),
    [
        (AUTO, True, "xterm", BAR),
        (AUTO, True, "dumb", PLAIN),
        (AUTO, True, "", PLAIN),
        (AUTO, False, "xterm", PLAIN),
        (BAR, True, "xterm", BAR),
        (BAR, False, "xterm", PLAIN),
        (BAR, True, "dumb", PLAIN),
        (PLAIN, True, "xterm", PLAIN),
        (NONE, True, "xterm", NONE),
        (NONE, False, "", NONE),
    ],
)
def test_the_form_of_progress(progress, is_terminal, term, form):
    """A bar is drawn only where a cursor can move and no JSON lines stand; a quiet run shows nothing."""
    assert form_of(Showing(progress), is_terminal=is_terminal, term=term) is form
    json_form = form_of(Showing(progress, LogFormat.JSON), is_terminal=is_terminal, term=term)
    assert json_form is (PLAIN if form is BAR else form)
    quiet = Showing(progress, verbosity=Verbosity.QUIET)
    assert form_of(quiet, is_terminal=is_terminal, term=term) is NONE


def test_plain_lines_come_ever_more_seldom():
    """The first lines are ten seconds apart, the gaps never shrink, and none is longer than a minute."""
    times = [0.0]
    while times[-1] < 3600:
        times.append(next_line_at(times[-1], 0.0))
    gaps = [round(after - before, 6) for before, after in pairwise(times)]
    assert gaps[:3] == [10, 10, 10]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60
    assert len(gaps) < 80


def a_tally(*events) -> Tally:
    tally = Tally(0.0)
    for event in events:
        tally.hear(event)
    return tally


READ = [InputOpened("a", "ndjson", 100), BlockRead("a", 10, 50, 50)]


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (a_tally(), "0 accepted of 0 read, 0/s"),
        (a_tally(*READ), "0 accepted of 10 read, 0/s, 0% done"),
        (
            a_tally(*READ, Settled(5, accepted=4, failed=[])),
            "4 accepted of 10 read, 0.4/s, 20% done, 40 s left",
        ),
        (
            a_tally(*READ, Settled(5, already_accepted=2), Waiting(5, "quota spent", 100)),
            "0 accepted, 2 already accepted of 12 read, 0/s, 8% done, waiting: quota spent, next try in 1:30",
        ),
    ],
)
def test_a_line_of_progress(tally, line):
    """A line says what is known, and nothing of what is not."""
    view = view_of(tally, 10.0)
    assert progress_line(view) == line
    assert progress_diagnostic(view).message == f"{line}."


@pytest.mark.parametrize(
    ("at", "until", "told"),
    [
        (10.0, 10.9, None),
        (10.0, 12.0, "paced, next try in 0:02"),
        (8.0, 10.5, "paced, next try in 0:00"),
        (10.0, None, None),
        (9.0, None, "paced"),
    ],
)
def test_only_a_wait_that_is_felt_is_told(at, until, told):
    """A wait is told when it has lasted a second or will last one."""
    assert view_of(a_tally(Waiting(at, "paced", until)), 10.0).wait == told


EVENTS: list[tuple[Event, str | None, str | None]] = [
    (InputOpened("a", "json", 2000), None, "Reading a (json, 2.0 kB)."),
    (InputOpened("-", "json", None), None, "Reading - (json)."),
    (BlockRead("a", 1, 1, 1), None, None),
    (BatchSent(1, 1, 1, retry=False, under_way=1), None, None),
    (BatchReplied(1, 202, 0.5, 1, 0), None, "Reply 202 after 0.500 s."),
    (BatchReplied(1, 429, 0.5, 1, 0, "r-1"), None, "Reply 429 after 0.500 s, request r-1."),
    (BatchReplied(1, None, 60, 1, 0), None, "No reply after 60.000 s."),
    (Settled(1, accepted=1), None, None),
    (Waiting(1, "paced", None), None, "Waiting: paced."),
    (Waiting(1, "paced", 3), None, "Waiting: paced, next try in 2.0 s."),
    (Retrying(1, 1, "unavailable", "", 2), None, "Trying 1 record again in 2.0 s: unavailable."),
    (Retrying(1, 2, "unavailable", "why", 2), None, "Trying 2 records again in 2.0 s: unavailable (why)."),
    (Notice(1, "Hello."), "Hello.", "Hello."),
    (Ended(1, Outcome.COMPLETE, "", 0), None, None),
]


@pytest.mark.parametrize(("event", "normal", "verbose"), EVENTS)
def test_what_the_log_says_of_an_event(event, normal, verbose):
    """Notices are always told, tries and waits on demand, and nothing at all when quiet is asked for."""
    assert diagnostic_of(event, Verbosity.QUIET) is None
    for verbosity, sentence in ((Verbosity.NORMAL, normal), (Verbosity.VERBOSE, verbose)):
        diagnostic = diagnostic_of(event, verbosity)
        assert (None if diagnostic is None else diagnostic.message) == sentence


def test_each_kind_of_event_has_its_line_in_the_table():
    """A kind of event that is added has to say here what the log makes of it."""
    assert {type(event) for event, _, _ in EVENTS} == set(get_args(Event))


def test_the_parts_of_a_diagnostic_for_a_machine():
    """The numbers of a sentence are also told apart."""
    diagnostic = diagnostic_of(BatchReplied(1, 429, 0.5, 1, 3, "r-1"), Verbosity.VERBOSE)
    assert diagnostic is not None
    assert dataclasses.asdict(diagnostic) == {
        "name": "reply",
        "message": "Reply 429 after 0.500 s, request r-1.",
        "fields": {"status": 429, "seconds": 0.5, "requestId": "r-1", "underWay": 3},
        "level": "info",
    }
