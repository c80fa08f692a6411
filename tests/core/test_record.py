"""What is checked before a record is sent."""

import json

import pytest

from cdf_upsert.core.checking import Checked, Checker, failed_of
from cdf_upsert.core.framing import Frames, Place, Position, Unframed
from cdf_upsert.core.record import FailureClass

SOURCE = {"source": {"type": "container", "space": "s", "externalId": "c"}, "properties": {"a": 1}}


def record(**changed: object) -> bytes:
    members = {"space": "s", "externalId": "a", "sources": [SOURCE], **changed}
    return json.dumps({name: value for name, value in members.items() if value != "absent"}).encode()


def frames(*texts: bytes, path: str = "a.ndjson") -> Frames:
    offsets = [sum(len(text) + 1 for text in texts[:i]) for i in range(len(texts))]
    return Frames(path, list(texts), offsets, list(range(1, len(texts) + 1)), 1, Position())


def check(*texts: bytes, body_bytes: int = 10_000_000) -> Checked:
    return Checker(body_bytes).check(frames(*texts), 100)


def test_good_records_keep_their_bytes_and_their_place() -> None:
    """A good record is the bytes that were read, with its key, its ordinal and where it stood."""
    texts = [record(externalId="a"), b" " + record(externalId="b"), record(externalId="\u00e6")]
    checked = check(*texts)
    assert [r.text for r in checked.records] == texts
    assert [r.key for r in checked.records] == [("s", "a"), ("s", "b"), ("s", "\u00e6")]
    assert [r.ordinal for r in checked.records] == [100, 101, 102]
    assert checked.records[1].place == Place("a.ndjson", 2, 2, len(texts[0]) + 1, len(texts[1]))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b"[1]", "invalid", "record: expected object, got array"),
        (b'"x"', "invalid", "record: expected object, got string"),
        (record(space="absent"), "invalid", "space: missing"),
        (record(externalId="absent"), "invalid", "externalId: missing"),
        (record(sources="absent"), "invalid", "sources: missing"),
        (record(more=1), "invalid", "more: unknown member; allowed are space, externalId and sources"),
        (record(space=1), "invalid", "space: expected string, got integer"),
        (record(space="1a"), "invalid", "space: expected 1 to 43 letters, digits, _ or -, the first of them a letter"),
        (record(space="a" * 44), "invalid", "space: expected 1 to 43 letters, digits, _ or -, the first of them a letter"),
        (record(externalId=""), "invalid", "externalId: expected 1 to 256 characters"),
        (record(externalId="x" * 257), "invalid", "externalId: expected 1 to 256 characters"),
        (record(externalId="a\0b"), "invalid", "externalId: holds a NUL character"),
        (record(externalId=None), "invalid", "externalId: expected string, got null"),
        (record(sources=[]), "invalid", "sources: expected 1 to 100 sources"),
        (record(sources=[SOURCE] * 101), "invalid", "sources: expected 1 to 100 sources"),
        (record(sources={}), "invalid", "sources: expected array, got object"),
        (record(sources=[1]), "invalid", "sources[0]: expected object, got integer"),
        (record(sources=[{"source": {}}]), "invalid", "sources[0].properties: missing"),
        (record(sources=[{**SOURCE, "x": 1}]), "invalid", "sources[0].x: unknown member; allowed are source and properties"),
        (record(sources=[SOURCE, {**SOURCE, "properties": "x"}]), "invalid", "sources[1].properties: expected object, got string"),
        (record(sources=[{**SOURCE, "source": 5}]), "invalid", "sources[0].source: expected object, got integer"),
        (record(sources=[{**SOURCE, "source": {"type": "container", "space": "s"}}]), "invalid", "sources[0].source.externalId: missing"),
        (record(sources=[{**SOURCE, "source": {"type": "container", "space": "s", "externalId": "c", "v": 1}}]), "invalid", "sources[0].source.v: unknown member; allowed are type, space and externalId"),
        (record(sources=[{**SOURCE, "source": {"type": "container", "space": "-", "externalId": "c"}}]), "invalid", "sources[0].source.space: expected 1 to 43 letters, digits, _ or -, the first of them a letter"),
        (record(sources=[{**SOURCE, "source": {"type": "container", "space": "s", "externalId": "c-d"}}]), "invalid", "sources[0].source.externalId: expected 1 to 255 letters, digits or _, the first of them a letter, the last not _"),
        (record()[:-1], "unreadable", "not JSON: it ends in the middle"),
        (b"oops", "unreadable", "not JSON: invalid character at byte 1 of the record"),
        (record().replace(b'"a": 1', b'"a": NaN'), "unreadable", "not JSON: invalid character at byte 134 of the record"),
        (record().replace(b'"a": 1', b'"a": 01'), "unreadable", "not JSON: invalid number at byte 135 of the record"),
        (record(externalId="\ud800"), "unreadable", "not JSON: half a surrogate pair"),
        (b"[" * 100_000, "unreadable", "nested too deeply to be read"),
        (b'{"space":' + b"[" * 100_000, "unreadable", "nested too deeply to be read"),
        (record(space=1)[:-2], "unreadable", "not JSON: it ends in the middle"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_path(text: bytes, kind: str, message: str) -> None:
    """What the service would refuse the whole request for fails here, with the path of the fault; its neighbours do not."""
    checked = check(record(externalId="before"), text, record(externalId="after"))
    assert [(f.failure.kind, f.failure.message, f.text) for f in checked.failed] == [(kind, message, text)]
    assert checked.failed[0].ordinal == 101
    assert checked.failed[0].place.line == 2
    assert [r.key[1] for r in checked.records] == ["before", "after"]


@pytest.mark.parametrize(
    "text",
    [
        record(externalId="x" * 256),
        record(externalId="\\"),
        record(externalId="0"),
        record(externalId="\U0001f600" * 256),
        record(space="a" * 43),
        record(space="a-"),
        record(sources=[SOURCE] * 100),
        record(sources=[{"source": {"type": "view", "space": "s", "externalId": "v", "version": "1"}, "properties": {}}]),
        record().replace(b'"a": 1', b'"a": 1e400, "b": 123456789012345678901234567890, "c": 1.10'),
        record().replace(b'"a": 1', b'"a": null, "a": 2'),
        b'{"sources":[{"properties":{},"source":{"externalId":"c","space":"s","type":"container"}}],"externalId":"k","space":"s"}',
    ],
)  # fmt: skip
def test_what_the_service_may_take_is_sent(text: bytes) -> None:
    """Nothing is refused that the service might accept, and the bytes stay as they are."""
    checked = check(text)
    assert [r.text for r in checked.records] == [text]


def test_a_record_must_fit_into_a_request_alone() -> None:
    """A record that with its envelope is one byte over the ceiling fails as oversize; one byte less goes."""
    text = record()
    room = len(text) + len('{"items":[]}')
    assert len(check(text, body_bytes=room).records) == 1
    (failed,) = check(text, body_bytes=room - 1).failed
    assert failed.failure.kind is FailureClass.OVERSIZE


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (record(sources=[]), ("s", "a")),
        (record(more=1), ("s", "a")),
        (record(externalId="long", sources=[{**SOURCE, "properties": {"a": "x" * 500}}]), ("s", "long")),
        (b'{"space":"s","externalId":"x"}', ("s", "x")),
        (record(space="1a"), None),
        (record(externalId="x" * 257), None),
        (record(externalId="a\0b"), None),
        (record(externalId="absent"), None),
        (record(space=1), None),
        (b"[1]", None),
        (record()[:-1], None),
    ],
)  # fmt: skip
def test_a_record_that_fails_here_has_its_key_where_it_can_be_read(
    text: bytes, key: tuple[str, str] | None
) -> None:
    """A newer version may be accepted: by the key the failed one is known, and is not loaded over it later."""
    (failed,) = check(text, body_bytes=500).failed
    assert failed.key == key


def failed_line(**changed: object) -> bytes:
    line = {
        "error": {"class": "rejected", "status": 400, "message": "no", "requestId": "r", "attempts": 1},
        "source": {"path": "b.json", "record": 7, "line": 9, "offset": 50, "length": 60},
        **changed,
    }
    return json.dumps(line, separators=(",", ":")).encode()


def test_a_line_of_a_failed_file_is_the_record_in_it() -> None:
    """A failed file is a valid input: the record's own bytes are sent, and its first place is remembered."""
    text = b'{"space": "s" , "externalId":"a","sources":[{"source":{},"properties":{"n":1.10}}]}'
    line = failed_line()[:-1] + b',"record":' + text + b"}"
    (read,) = check(line).records
    assert read.text == text
    assert (read.path, read.number, read.line, read.offset) == ("b.json", 7, 9, 50)


def test_a_failed_line_without_a_record_fails_as_before() -> None:
    """What could not be read before still fails, as the same bytes from the same place."""
    checked = check(
        failed_line(raw="{oops"),
        failed_line(rawBase64="/w=="),
        failed_line(error={"class": "oversize", "message": "m"}),
        failed_line(error={"class": "unreadable", "message": "the JSON breaks at byte 9"}),
    )
    assert [f.text for f in checked.failed] == [b"{oops", b"\xff", None, None]
    assert [f.failure.kind for f in checked.failed] == ["rejected", "rejected", "oversize", "unreadable"]
    assert {f.place.path for f in checked.failed} == {"b.json"}


def test_a_superseded_failed_line_is_not_sent() -> None:
    """A line that is marked as superseded by a newer version never goes over that version."""
    line = failed_line(record=json.loads(record()), supersededBy={"path": "b.json", "record": 8, "line": 8})
    checked = check(line)
    assert checked.superseded == [100]
    assert not checked.records
    assert not checked.failed


def test_what_could_not_be_framed_is_settled_as_failed() -> None:
    """A text that never became a frame fails with its reason and its place."""
    place = Place("a", 3, 3, 10, 20_000_000)
    failed = failed_of(Unframed(place, "too long", "oversize", None, Position()), 2)
    assert (failed.failure.kind, failed.place, failed.text) == (FailureClass.OVERSIZE, place, None)
