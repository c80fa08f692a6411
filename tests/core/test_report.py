"""The report: its JSON, its exit codes, and what it says to people."""

import signal
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from msgspec.structs import replace

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Outcome,
    Settled,
)
from cdf_upsert.core.framing import NOTHING_BEHIND
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.report import Report, RunFacts, exit_code, iso, make_report, to_json
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.telling import failure_lines, next_step, summary
from tests.core.test_grouping import a_failure

FACTS = RunFacts(
    run="demo-3",
    stream="demo",
    project="p",
    base_url="https://example.org",
    started=datetime(2026, 5, 28, 14, 0, tzinfo=timezone(timedelta(hours=2))),
    finished=datetime(2026, 5, 28, 12, 0, 1, 200_999, tzinfo=UTC),
    failed_file=".cdf-upsert/demo/failed.ndjson",
)
COMMAND = ["cdf-upsert", "load", "demo"]


def a_report(*events: Event, facts: RunFacts = FACTS) -> Report:
    tally = Tally(100.0)
    for event in events:
        tally.hear(event)
    return make_report(tally, facts)


def ended(
    outcome: Outcome, *, accepted: int = 0, failed: int = 0, unsent: int = 0, reason: str = ""
) -> Report:
    return a_report(
        InputOpened("a", "ndjson", None),
        BlockRead("a", accepted + failed + unsent, 0, 0),
        BatchSent(100, accepted, 460_000, retry=False, under_way=1),
        Settled(100, accepted=accepted, failed=[a_failure("x", ordinal=i) for i in range(failed)]),
        Ended(101.2, outcome, reason, unsent),
    )


FAILURES: list[Event] = [
    InputOpened("a.ndjson", "ndjson", 460_000),
    BlockRead("a.ndjson", 1003, 458_000, 460_000),
    BatchSent(100.1, 1000, 460_013, retry=False, under_way=1),
    BatchReplied(100.3, 202, 0.2, 70_000, 0, "r1"),
    Settled(
        101.2,
        accepted=995,
        superseded=3,
        failed=[
            a_failure("Unknown property 'b'", ordinal=41, key=("weather", "EWR-3")),
            a_failure("Unknown property 'a'", ordinal=11, key=("weather", "EWR-2")),
            a_failure("not JSON", ordinal=2, kind=FailureClass.UNREADABLE, status=None),
            a_failure("Unknown property 'c'", ordinal=71, key=("weather", "EWR-4")),
            a_failure("not JSON", ordinal=500, kind=FailureClass.UNREADABLE, status=None),
        ],
    ),
    Ended(101.2, Outcome.FAILURES, "", 0),
]


def test_the_report_as_json():
    """The JSON holds what scripts rely on, under these names and in this order."""
    assert to_json(a_report(*FAILURES)) == orjson.dumps(
        {
            "schema": "cdf-upsert/report/1",
            "run": "demo-3",
            "stream": "demo",
            "project": "p",
            "baseUrl": "https://example.org",
            "started": "2026-05-28T12:00:00.000Z",
            "finished": "2026-05-28T12:00:01.200Z",
            "durationSeconds": 1.2,
            "outcome": "failures",
            "reason": "",
            "exitCode": 3,
            "inputs": [{"path": "a.ndjson", "format": "ndjson", "records": 1003, "bytes": 458000}],
            "records": {
                "read": 1003,
                "accepted": 995,
                "failed": 5,
                "superseded": 3,
                "alreadyAccepted": 0,
                "unsent": 0,
            },
            "requests": {"sent": 1, "retried": 0, "throttled": 0, "bytes": 460013, "wireBytes": 70000},
            "latencySeconds": {"p50": 0.196, "p95": 0.196, "p99": 0.196},
            "pacing": {
                "limit": None,
                "requestsPerSecond": None,
                "throttledShare": 0.0,
                "waitedSeconds": {},
            },
            "failures": [
                {
                    "class": "rejected",
                    "status": 400,
                    "message": "Unknown property 'a'",
                    "count": 3,
                    "example": {
                        "path": "a.ndjson",
                        "record": 12,
                        "line": 12,
                        "key": {"space": "weather", "externalId": "EWR-2"},
                    },
                },
                {
                    "class": "unreadable",
                    "status": None,
                    "message": "not JSON",
                    "count": 2,
                    "example": {"path": "a.ndjson", "record": 3, "line": 3, "key": None},
                },
            ],
            "failedFile": ".cdf-upsert/demo/failed.ndjson",
        }
    )


def test_the_report_to_read():
    """Indented, the report is the same JSON."""
    report = a_report(*FAILURES)
    indented = to_json(report, indent=2)
    assert indented.startswith(b'{\n  "schema"')
    assert orjson.loads(indented) == orjson.loads(to_json(report))


def test_a_report_without_replies_or_end():
    """A run that broke off before any reply has a report too, and it is an error."""
    report = orjson.loads(to_json(a_report(InputOpened("a", "ndjson", None), BlockRead("a", 2, 9, 9))))
    assert (report["outcome"], report["exitCode"]) == ("error", 1)
    assert report["reason"].startswith(
        "The books do not balance: 2 records were read, but 0 are accounted for"
    )
    assert report["reason"].endswith("The run broke off.")
    assert report["latencySeconds"] == {"p50": None, "p95": None, "p99": None}


def test_what_json_cannot_hold():
    """A file name that is not UTF-8 is told with its bytes written out, and stops no report."""
    report = a_report(InputOpened("a\udcff.ndjson", "ndjson", 0), Ended(100, Outcome.COMPLETE, "", 0))
    assert orjson.loads(to_json(report))["inputs"][0]["path"] == "a\\xff.ndjson"


@pytest.mark.parametrize(
    ("outcome", "interrupted_by", "code"),
    [
        (Outcome.COMPLETE, None, 0),
        (Outcome.FAILURES, None, 3),
        (Outcome.REFUSED, None, 4),
        (Outcome.STOPPED, None, 5),
        (Outcome.ERROR, None, 1),
        (Outcome.INTERRUPTED, None, 130),
        (Outcome.INTERRUPTED, signal.SIGINT, 130),
        (Outcome.INTERRUPTED, signal.SIGTERM, 143),
        (Outcome.COMPLETE, signal.SIGINT, 0),
    ],
)
def test_exit_codes(outcome, interrupted_by, code):
    """Scripts rely on one exit code per outcome; a signal that came too late to matter changes nothing."""
    assert exit_code(outcome, interrupted_by) == code


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_an_exit_code(outcome):
    """No outcome is without its code, and only a complete run ends in 0."""
    assert (exit_code(outcome) == 0) is (outcome is Outcome.COMPLETE)


def test_a_complete_run_with_failures():
    """The counts decide: a run that came to its end is complete only when no record failed."""
    assert ended(Outcome.COMPLETE, accepted=1, failed=1).exit_code == 3
    assert ended(Outcome.STOPPED, accepted=1, failed=1).exit_code == 5


@pytest.mark.parametrize("outcome", Outcome)
def test_books_that_are_off_are_an_error(outcome):
    """Whatever a run says of itself, it ends in 1 when a record is not accounted for."""
    report = a_report(
        InputOpened("a", "ndjson", None),
        BlockRead("a", 2, 0, 0),
        Settled(100, accepted=1),
        Ended(100, outcome, "", 0),
    )
    assert report.exit_code == 1
    assert "2 records were read, but 1 are accounted for" in summary(report)


def test_a_dry_run_may_leave_all_unsent():
    """In a dry run nothing is sent, and that is no fault of the books."""
    events = [
        InputOpened("a", "ndjson", None),
        BlockRead("a", 2, 0, 0),
        Ended(100, Outcome.COMPLETE, "Dry run: nothing was sent.", 2),
    ]
    assert a_report(*events).exit_code == 1
    report = a_report(*events, facts=replace(FACTS, dry_run=True))
    assert report.exit_code == 0
    line = summary(report, sends=False)
    assert line == "2 good of 2 records in 0.0 s. Dry run: nothing was sent."


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            a_report(*FAILURES),
            (
                "995 accepted, 5 failed, 3 superseded of 1,003 records in 1.2 s (829/s, 460 kB sent). "
                "Failed: .cdf-upsert/demo/failed.ndjson"
            ),
        ),
        (
            ended(Outcome.COMPLETE, accepted=1),
            "1 accepted of 1 record in 1.2 s (0.8/s, 460 kB sent).",
        ),
        (
            ended(Outcome.STOPPED, accepted=10, unsent=5, reason="The 30 minutes of --patience are over."),
            (
                "10 accepted, 5 unsent of 15 records in 1.2 s (8.3/s, 460 kB sent). "
                "The 30 minutes of --patience are over."
            ),
        ),
        (
            a_report(Ended(100, Outcome.COMPLETE, "", 0)),
            "0 accepted of 0 records in 0.0 s. There was nothing to load.",
        ),
        (
            a_report(Ended(100, Outcome.REFUSED, "No\nsuch \x1b[31mstream.", 0)),
            r"0 accepted of 0 records in 0.0 s. No\nsuch \x1b[31mstream.",
        ),
    ],
)
def test_the_summary(report, line):
    """One line says how the run went, on one line whatever the reason holds."""
    assert summary(report) == line


def test_failures_in_plain_lines():
    """Each group is told by its count, class, status and message, and by one example."""
    assert failure_lines(a_report(*FAILURES)) == [
        "  3 rejected (400): Unknown property 'a'",
        "    for example a.ndjson, line 12, key weather/EWR-2",
        "  2 unreadable: not JSON",
        "    for example a.ndjson, line 3",
    ]


def test_an_example_of_a_document():
    """In a JSON document there are no lines: the example is told by its number."""
    failed = a_failure("x")
    failed = replace(failed, place=replace(failed.place, path="a.json", line=None, record=7))
    report = a_report(Settled(100, failed=[failed]))
    assert failure_lines(report)[1] == "    for example a.json, record 7"


def test_many_groups_are_not_all_told():
    """The screen tells the largest ten groups and how much there is beside them."""
    letters = "abcdefghijkl"
    failures = [a_failure(letter * (i + 1), ordinal=i) for i, letter in enumerate(letters)]
    lines = failure_lines(a_report(Settled(100, failed=[*failures, failures[0]])))
    assert len(lines) == 21
    assert lines[-1] == "  and 2 records with 2 other messages; the report has them all."


def test_a_run_that_only_looks_keeps_no_report():
    """It tells how to see all groups, and sends nobody to a file that is not there."""
    failures = [a_failure("x" * (i + 1), ordinal=i) for i in range(12)]
    lines = failure_lines(a_report(Settled(100, failed=failures)), sends=False)
    assert lines[-1] == "  and 2 records with 2 other messages; --json tells them all."


def test_what_a_terminal_would_obey_is_written_out():
    """A message of the service cannot move the cursor, change colours or begin a line of its own."""
    report = a_report(Settled(100, failed=[a_failure("\x1b[2J\r\nbad \x9b\u202e\x07")]))
    assert failure_lines(report)[0] == r"  1 rejected (400): \x1b[2J\r\nbad \x9b\u202e\x07"


@pytest.mark.parametrize(
    ("report", "run_dir", "sentence"),
    [
        (ended(Outcome.COMPLETE, accepted=1), None, None),
        (
            ended(Outcome.FAILURES, failed=1),
            None,
            (
                "Next: mend the failed records and load them: "
                "cdf-upsert load demo .cdf-upsert/demo/failed.ndjson"
            ),
        ),
        (
            ended(Outcome.STOPPED, unsent=1),
            None,
            "Next: to go on, rerun the same command; what was accepted is not sent again.",
        ),
        (
            ended(Outcome.INTERRUPTED, unsent=1),
            ".cdf-upsert/my run",
            (
                "Next: to go on, rerun the same command on the same bytes with "
                "--run-dir '.cdf-upsert/my run'; "
                "what was accepted is not sent again."
            ),
        ),
        (
            ended(Outcome.REFUSED, unsent=1),
            None,
            "Next: when this is mended, rerun the same command; what was accepted is not sent again.",
        ),
        (
            ended(Outcome.ERROR, unsent=1),
            None,
            "Next: rerun the same command; what is known to be accepted is not sent again.",
        ),
    ],
)
def test_what_to_do_next(report, run_dir, sentence):
    """Every run that is not complete ends with the command that goes on."""
    assert next_step(report, COMMAND, run_dir) == sentence


BROKEN = "the JSON ends too early, at byte 30" + NOTHING_BEHIND


@pytest.mark.parametrize(
    ("failures", "sentence"),
    [
        ([(BROKEN, "a.json")], "Next: a.json is broken: get it whole, and load it again."),
        ([(BROKEN, "-")], "Next: standard input is broken: get it whole, and load it again."),
        (
            [(BROKEN, "a.json"), (BROKEN, "b.json")],
            "Next: 2 inputs are broken: get them whole, and load them again.",
        ),
        (
            [(BROKEN, "a.json"), ("no such container", "a.json")],
            (
                "Next: a.json is broken: get it whole, and load it again; mend the other failed records and load "
                "them: cdf-upsert load demo .cdf-upsert/demo/failed.ndjson"
            ),
        ),
    ],
)
def test_a_broken_input_is_not_mended_record_by_record(failures, sentence):
    """What is cut short has to be got anew; other failures are mended in the failed file."""
    failed = [
        a_failure(message, ordinal=i, path=path, kind=FailureClass.UNREADABLE)
        for i, (message, path) in enumerate(failures)
    ]
    report = a_report(
        BlockRead("a.json", len(failed), 1, 1),
        Settled(1, failed=failed),
        Ended(100, Outcome.COMPLETE, "", 0),
    )
    assert next_step(report, COMMAND) == sentence


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.ERROR])
def test_what_only_looks_says_nothing_of_sending(outcome):
    """`check` sends nothing, so nothing is not sent again."""
    told = next_step(ended(outcome, unsent=1), COMMAND, sends=False)
    assert told == "Next: to check all of it, rerun the same command."


def test_times_are_utc():
    """Moments are told in UTC, whatever zone they were taken in."""
    assert iso(FACTS.started) == "2026-05-28T12:00:00.000Z"
