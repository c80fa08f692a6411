"""What the log says of the events of a run."""

from typing import get_args

import msgspec
import pytest

from cdf_upsert.core.diagnosing import diagnostics_of
from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Outcome,
    Paced,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.framing import Place
from cdf_upsert.core.record import Failed, Failure, FailureClass
from cdf_upsert.core.showing import Verbosity

EVENTS: list[tuple[Event, str | None, str | None]] = [
    (InputOpened("a", "json", 2000), None, "Reading a (json, 2.0 kB)."),
    (InputOpened("-", "json", None), None, "Reading standard input (json)."),
    (BlockRead("a", 1, 1, 1), None, None),
    (BatchSent(1, 1, 1, retry=False, under_way=1), None, None),
    (BatchReplied(1, 202, 0.5, 1, 0), None, "Reply 202 after 0.500 s."),
    (BatchReplied(1, 429, 0.5, 1, 0, "r-1"), None, "Reply 429 after 0.500 s, request r-1."),
    (BatchReplied(1, None, 60, 1, 0), None, "No reply after 60.000 s."),
    (Settled(1, accepted=1), None, None),
    (Paced(1, 1, None), None, "Sending up to 1 request at once."),
    (
        Paced(1, 8, 30.0, None, 0.25),
        None,
        "Sending up to 8 requests at once, 30 a second, 25% of the quota left.",
    ),
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
    assert diagnostics_of(event, Verbosity.QUIET) == []
    for verbosity, sentence in ((Verbosity.NORMAL, normal), (Verbosity.VERBOSE, verbose)):
        told = [diagnostic.message for diagnostic in diagnostics_of(event, verbosity)]
        assert told == ([] if sentence is None else [sentence])


def test_each_kind_of_event_has_its_line_in_the_table():
    """A kind of event that is added has to say here what the log makes of it."""
    assert {type(event) for event, _, _ in EVENTS} == set(get_args(Event))


def test_the_parts_of_a_diagnostic_for_a_machine():
    """The numbers of a sentence are also told apart."""
    [diagnostic] = diagnostics_of(BatchReplied(1, 429, 0.5, 1, 3, "r-1"), Verbosity.VERBOSE)
    assert msgspec.structs.asdict(diagnostic) == {
        "name": "reply",
        "message": "Reply 429 after 0.500 s, request r-1.",
        "fields": {"status": 429, "seconds": 0.5, "requestId": "r-1", "underWay": 3},
        "level": "info",
    }


def test_values_are_told_of_each_record_that_is_stored_otherwise():
    """On demand alone, and only where something else is stored: a line for each, with its parts for a machine."""
    failure = Failure(FailureClass.CONFLICT, "what is stored differs in c.p", detail="c.p: stored 1, ours 2")
    place = Place("-", 2, 2, 10, 20)
    failed = [
        Failed(1, place, failure, b"{}", ("s", "x")),
        Failed(2, place, Failure(FailureClass.CONFLICT, "nothing is stored under this key"), b"{}"),
        Failed(3, Place("a.json", 7, None, 0, 1), failure, b"{}"),
    ]
    event = Settled(1, failed=failed)
    assert diagnostics_of(event, Verbosity.NORMAL) == []
    first, second = diagnostics_of(event, Verbosity.VERBOSE)
    assert first.message == "standard input, line 2, key s/x, is stored otherwise: c.p: stored 1, ours 2."
    assert second.message == "a.json, record 7, is stored otherwise: c.p: stored 1, ours 2."
    assert first.fields == {
        "path": "-",
        "record": 2,
        "line": 2,
        "key": {"space": "s", "externalId": "x"},
        "difference": "c.p: stored 1, ours 2",
    }
