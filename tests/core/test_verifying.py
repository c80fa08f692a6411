"""What a verification picks, takes a reply for, and tells."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cdf_upsert.core.comparing import Different, Missing, Same
from cdf_upsert.core.framing import Place
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.querying import Findings
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.traffic import Signal
from cdf_upsert.core.verifying import (
    Answered,
    AskLater,
    Counts,
    Meaning,
    NoAnswer,
    Outcome,
    Refused,
    Sample,
    difference,
    make_report,
    may_not_read,
    parse_sample,
    said,
    summary,
    understand,
)
from tests.records import make_record


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("1", Sample(keys=1)),
        (" 500 ", Sample(keys=500)),
        ("5%", Sample(percent=5)),
        ("0.25 %", Sample(percent=0.25)),
        ("100%", Sample(percent=100)),
    ],
)
def test_a_sample_is_a_number_or_a_percentage(text: str, sample: Sample) -> None:
    """Both as people write them."""
    assert parse_sample(text) == sample


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "0%", "100.1%", "%", "1.5", "a", "5%%", "1e3", "٣", "9" * 16]
)
def test_anything_else_is_no_sample(text: str) -> None:
    """The message says what would be one."""
    with pytest.raises(ValueError, match=r"neither a number of keys, such as 500, nor a percentage"):
        parse_sample(text)


def error(status: int, message: str = "why", **more: Any) -> Reply:
    return Reply(status, json.dumps({"error": {"code": status, "message": message}}).encode(), "r-1", **more)


TABLE: list[tuple[Reply | NoReply, Meaning]] = [
    (Reply(200, b'{"items":[]}'), Answered()),
    (Reply(200, b"<html>"), AskLater(Signal.UNAVAILABLE, "the answer is not of the known shape")),
    (Reply(200, b"{}"), AskLater(Signal.UNAVAILABLE, "the answer is not of the known shape")),
    (Reply(202, b'{"items":[]}'), AskLater(Signal.UNAVAILABLE, "status 202")),
    (error(429, retry_after=7.0), AskLater(Signal.THROTTLED, "why", 7.0)),
    (error(408), AskLater(Signal.UNAVAILABLE, "why")),
    (error(500), AskLater(Signal.CALM, "why")),
    (error(503, retry_after=2.0), AskLater(Signal.UNAVAILABLE, "why", 2.0)),
    (Reply(502, b"<html>Bad</html>"), AskLater(Signal.UNAVAILABLE, "status 502")),
    (error(400, auto_retryable=True), AskLater(Signal.UNAVAILABLE, "why")),
    (error(400), NoAnswer("why", 400, "r-1")),
    (error(413), NoAnswer("why", 413, "r-1")),
    (error(422), NoAnswer("why", 422, "r-1")),
    (error(401), Refused(401, "why")),
    (error(403), Refused(403, "why")),
    (error(404), Refused(404, "why")),
    (Reply(302, b""), Refused(302, "status 302")),
    (NoReply("cut", sent=True), AskLater(Signal.UNAVAILABLE, "cut")),
    (NoReply("no name", sent=False), AskLater(Signal.UNAVAILABLE, "no name", reached=False)),
]


@pytest.mark.parametrize(("reply", "meaning"), TABLE, ids=lambda each: str(getattr(each, "status", "")))
def test_a_reply_has_one_meaning(reply: Reply | NoReply, meaning: Meaning) -> None:
    """The table of `understand`, row by row."""
    assert understand(reply, Findings()) == meaning


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"  two\\n lines "}}', "two lines"),
        (b'{"error":{"message":""}}', "status 500"),
        (b'{"error":"text"}', "status 500"),
        (b"[1]", "status 500"),
        (b"", "status 500"),
        (b'{"error":{"message":"\xff"}}', "status 500"),
        (b'{"error":{"message":"\\u001b[31mred"}}', r"\x1b[31mred"),
    ],
)
def test_what_a_reply_says_is_one_line(body: bytes, message: str) -> None:
    """Nothing in it moves a terminal's cursor."""
    assert said(Reply(500, body)) == message


def test_only_what_is_not_the_same_is_a_difference() -> None:
    """Its message names properties, never values."""
    record = make_record(3, "a", "123456789")
    assert difference(record, Same()) is None
    told = [
        difference(record, each)
        for each in (
            Missing(),
            Different(("c.p", "c.q"), [(1, 2), (3, 4)]),
            NoAnswer("no such container", 400, "r-1"),
        )
    ]
    assert [failed.failure.message for failed in told if failed] == [
        "nothing is stored under this key",
        "what is stored differs in c.p, c.q",
        "it cannot be read back: no such container",
    ]
    assert [failed.failure.detail for failed in told if failed] == [
        "",
        "c.p: stored 1, ours 2; c.q: stored 3, ours 4",
        "",
    ]
    for failed in told:
        assert failed is not None
        assert (failed.ordinal, failed.text, failed.key) == (3, record.text, ("s", "a"))
        assert failed.place == Place("a.ndjson", 4, 4, 3000, len(record.text))
        assert failed.failure.kind is FailureClass.UNKNOWN


def test_the_counts_balance_only_when_every_record_has_a_place() -> None:
    """Each of the places counts."""
    whole = {
        "invalid": 1,
        "superseded": 2,
        "not_sampled": 3,
        "same": 4,
        "missing": 5,
        "different": 6,
        "unanswered": 7,
    }
    assert Counts(read=28, **whole).is_balanced
    for name in whole:
        assert not Counts(read=28, **{**whole, name: 0}).is_balanced


@pytest.mark.parametrize("place", ["invalid", "missing", "different", "unanswered"])
def test_all_is_the_same_only_when_nothing_else_was_found(place: str) -> None:
    """A record that could never be sent is not stored either."""
    assert Counts(read=9, same=4, superseded=3, not_sampled=2).is_same
    assert not Counts(read=10, same=4, superseded=3, not_sampled=2, **{place: 1}).is_same


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Counts(), "0 records read: 0 same."),
        (Counts(read=1, same=1), "1 record read: 1 same."),
        (
            Counts(
                read=12_028,
                invalid=1,
                superseded=2,
                not_sampled=3,
                same=12_000,
                missing=4,
                different=5,
                unanswered=13,
            ),
            (
                "12,028 records read: 12,000 same, 4 missing, 5 different, 13 without an answer, "
                "1 not fit to be sent, 2 superseded by a later version, 3 not in the sample."
            ),
        ),
    ],
)
def test_the_summary_is_one_line(counts: Counts, line: str) -> None:
    """What there is none of is not told, but for what is the same."""
    assert summary(counts) == line


def test_the_report_is_stable() -> None:
    """Scripts read these names."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    report = make_report(
        Counts(read=3, same=1, missing=1, different=1, requests=2, throttled=1),
        stream="st",
        project="p",
        base_url="https://x",
        started=moment,
        finished=moment,
        outcome=Outcome.DIFFERENCES,
        reason="",
        exit_code=3,
        inputs=["a.ndjson"],
        differences_file="d.ndjson",
    )
    assert json.loads(msgspec.json.encode(report)) == {
        "schema": "cdf-upsert/verify/1",
        "stream": "st",
        "project": "p",
        "baseUrl": "https://x",
        "started": "2026-01-02T03:04:05.000Z",
        "finished": "2026-01-02T03:04:05.000Z",
        "durationSeconds": 0.0,
        "outcome": "differences",
        "reason": "",
        "exitCode": 3,
        "inputs": ["a.ndjson"],
        "records": {
            "read": 3,
            "invalid": 0,
            "superseded": 0,
            "notSampled": 0,
            "same": 1,
            "missing": 1,
            "different": 1,
            "unanswered": 0,
        },
        "requests": {"sent": 2, "throttled": 1},
        "differencesFile": "d.ndjson",
    }


def test_who_may_not_read_is_told_what_to_ask_for() -> None:
    """By the names of the capabilities."""
    told = may_not_read("st", "p", "no access")
    assert "streamRecordsAcl:READ" in told
    assert "dataModelsAcl:READ" in told
    assert '"no access"' in told
