"""What a reply means for each record, as a table."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.interpret import NoReply, Reason, Reply, Verdict, interpret
from cdf_upsert.core.record import Record
from tests.records import make_records

RECORDS = make_records("a", "b", "c")


def body(code: int, message: str = "why", **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, **more}}).encode()


def entry(external_id: str, code: Any, **more: Any) -> dict[str, Any]:
    return {"space": "s", "externalId": external_id, "code": code, **more}


def told(verdict: Verdict) -> dict[str, str]:
    """Where each record went, by its externalId."""
    places: dict[str, str] = {}

    def put(record: Record, where: str) -> None:
        assert record.key[1] not in places, "a record is in two places"
        places[record.key[1]] = where

    for record in verdict.accepted:
        put(record, "accepted")
    for reason, records in verdict.again.items():
        for record in records:
            put(record, reason.value if verdict.stop is None else "stop")
    for record, failure in verdict.refused:
        put(record, failure.kind.value)
    for record in verdict.suspects:
        put(record, "too large" if verdict.too_large else "suspect")
    return places


def all_are(where: str) -> dict[str, str]:
    return dict.fromkeys("abc", where)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(202, b"{}"), all_are("accepted")),
        (Reply(202, b""), all_are("accepted")),
        (Reply(202, b'{"more":1}'), all_are("accepted")),
        (Reply(202, b"<html>"), all_are("unclear outcome")),
        (Reply(202, b"[]"), all_are("unclear outcome")),
        (Reply(202, body(202)), all_are("unclear outcome")),
        (Reply(200, b"{}"), all_are("unclear outcome")),
        (Reply(204, b""), all_are("unclear outcome")),
        (Reply(400, body(400)), all_are("suspect")),
        (Reply(400, b"not JSON"), all_are("suspect")),
        (Reply(413, b"<html>"), all_are("too large")),
        (Reply(422, body(422, duplicated=[{"externalId": "s.b"}])), all_are("suspect")),
        (Reply(422, body(422, duplicated=["s.b"])), all_are("suspect")),
        (Reply(422, body(422, duplicated={"s.b": 2})), all_are("suspect")),
        (Reply(422, body(422, duplicated=[])), all_are("stop")),
        (Reply(422, body(422)), all_are("stop")),
        (Reply(401, b""), all_are("stop")),
        (Reply(403, body(403)), all_are("stop")),
        (Reply(404, b"<html>"), all_are("stop")),
        (Reply(301, b""), all_are("stop")),
        (Reply(415, b""), all_are("stop")),
        (Reply(404, b"", auto_retryable=True), all_are("unavailable")),
        (Reply(408, b""), all_are("unclear outcome")),
        (Reply(409, body(409)), all_are("conflict")),
        (Reply(429, b"slow down"), all_are("throttled")),
        (Reply(500, body(500)), all_are("internal error")),
        (Reply(502, b"<html>"), all_are("unclear outcome")),
        (Reply(503, body(503)), all_are("unavailable")),
        (Reply(504, b""), all_are("unclear outcome")),
        (Reply(520, b""), all_are("unclear outcome")),
        (NoReply("no connection", sent=False), all_are("unreachable")),
        (NoReply("time-out", sent=True), all_are("unclear outcome")),
        (
            Reply(409, body(409, partial=[entry("c", 409), entry("a", 202), entry("b", 503)])),
            {"a": "accepted", "b": "unavailable", "c": "conflict"},
        ),
        (
            Reply(500, body(500, partial=[entry("b", 500), entry("a", 202)])),
            {"a": "accepted", "b": "internal error", "c": "unclear outcome"},
        ),
        (
            Reply(503, body(503, partial=[entry("a", 400, message="bad"), entry("b", 429), entry("c", 777)])),
            {"a": "rejected", "b": "unavailable", "c": "unclear outcome"},
        ),
        (
            Reply(409, body(409, partial=[entry("a", 202), entry("a", 409), entry("b", "202"), {"x": 1}, 5])),
            {"a": "conflict", "b": "unclear outcome", "c": "unclear outcome"},
        ),
        (
            Reply(409, body(409, partial=[entry("a", 409), entry("a", 202), entry("b", 501), entry("c", 408)])),
            {"a": "conflict", "b": "unclear outcome", "c": "unclear outcome"},
        ),
        (Reply(202, b'{"\xff":1}'), all_are("unclear outcome")),
        (Reply(500, b'{"error":{"message":"\xff"}}'), all_are("internal error")),
        (Reply(202, body(202, partial=[entry("a", 202)])), {"a": "accepted", "b": "unclear outcome", "c": "unclear outcome"}),
        (Reply(409, body(409, partial={"a": 202})), all_are("conflict")),
        (Reply(503, body(503, partial=[])), all_are("unclear outcome")),
        (Reply(500, b'{"error": "text"}'), all_are("internal error")),
        (Reply(500, b"[" * 100_000), all_are("internal error")),
    ],
)  # fmt: skip
def test_each_reply_has_one_meaning_for_each_record(reply: Reply | NoReply, expected: dict[str, str]) -> None:
    """The table of replies: every record is in exactly one place, and accepted only when the reply says so."""
    assert told(interpret(RECORDS, reply, 1)) == expected


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(400, body(400, "wrong type"), "req-9"), "rejected"),
        (Reply(413, b""), "oversize"),
        (Reply(422, body(422, duplicated=[{"externalId": "s.a"}])), "rejected"),
    ],
)
def test_a_record_that_is_refused_alone_has_failed(reply: Reply, kind: str) -> None:
    """Only a reply to the record alone blames it, with the service's words and request id."""
    verdict = interpret(RECORDS[:1], reply, 3)
    ((record, failure),) = verdict.refused
    assert (record, failure.kind, failure.status, failure.attempts) == (RECORDS[0], kind, reply.status, 3)
    assert failure.request_id == reply.request_id


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("Property value is not valid for record 'b'", ["b"]),
        ('the record "s.c" refers to an unknown container', ["c"]),
        ("items[1].sources[0]: unknown property", ["b"]),
        ("Record at index 2 is invalid", ["c"]),
        ("invalid value for a and b", ["a", "b"]),
        ("items[99] is wrong", []),
        ("something is wrong", []),
    ],
)
def test_a_message_that_points_at_records_is_read(message: str, named: list[str]) -> None:
    """The record that a message names, by externalId or by index, goes first."""
    verdict = interpret(RECORDS, Reply(400, body(400, message)), 1)
    assert [record.key[1] for record in verdict.named] == named


def test_the_named_duplicates_are_split_at_the_first_dot() -> None:
    """A key in `duplicated` is joined by a dot, and an externalId may hold dots itself."""
    records = make_records("x.y", "z")
    reply = Reply(422, body(422, duplicated=[{"externalId": "s.x.y"}]))
    assert [record.key[1] for record in interpret(records, reply, 1).named] == ["x.y"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "partial", "code", "space", "externalId", "message", "duplicated"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    status=st.integers(100, 599),
    content=st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()),
)
def test_no_reply_is_too_strange(status: int, content: bytes) -> None:
    """Whatever comes back, each record is in exactly one place, and nothing is accepted without a 202."""
    verdict = interpret(RECORDS, Reply(status, content), 1)
    places = told(verdict)
    assert sorted(places) == ["a", "b", "c"]
    if status != 202 and b"202" not in content:
        assert not verdict.accepted


def test_reasons_are_words_for_people() -> None:
    """Each reason to try again can stand in a sentence."""
    assert all(reason.value.islower() for reason in Reason)
