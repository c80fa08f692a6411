"""The format of an input is told from its content."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdf_upsert.core.framing import Format, Position
from cdf_upsert.errors import UsageError
from cdf_upsert.sources.detecting import HEAD, AutoFramer, detect
from tests.sources.feeding import cut, cuts, feed, feed_in_every_style

RECORD = (
    b'{"space":"s","externalId":"a","sources":[{"source":{"type":"container"},"properties":{"items":[1]}}]}'
)
LONG = b'{"space":"s","x":"' + b"y" * HEAD + b'"}'
PRETTY = b'{\n  "space": "s",\n  "sources": [\n{"a": 1},\n    {"b": 2}\n  ]\n}\n'

WHOLE = [
    (b"", Format.JSON),
    (b" \n\n ", Format.JSON),
    (RECORD, Format.NDJSON),
    (RECORD + b"\n", Format.NDJSON),
    (RECORD + b"\r\n" + RECORD + b"\r\n", Format.NDJSON),
    (b"\xef\xbb\xbf" + RECORD + b"\n", Format.NDJSON),
    (b"\n\n" + RECORD + b"\n", Format.NDJSON),
    (RECORD + b"\nbroken\n", Format.NDJSON),
    (b"broken\n" + RECORD + b"\n", Format.NDJSON),
    (RECORD[:40] + b"\n" + RECORD + b"\n", Format.NDJSON),
    (b'{"a":NaN}\n' + RECORD, Format.NDJSON),
    (b'{"a":NaN}\n{"b":NaN}\n', Format.NDJSON),
    (b'{"a":"\xff"}\n', Format.NDJSON),
    (b"\xff\n" + RECORD + b"\n", Format.NDJSON),
    (b'{"error":{"class":"invalid"},"source":{"path":"a"},"record":' + RECORD + b"}\n", Format.NDJSON),
    (LONG, Format.NDJSON),
    (LONG + b"\n" + LONG, Format.NDJSON),
    (b"[" + RECORD + b"]", Format.JSON),
    (b"  [\n" + RECORD + b",\n" + RECORD + b"\n]", Format.JSON),
    (b"\xef\xbb\xbf[]", Format.JSON),
    (b'{"items":[' + RECORD + b"]}", Format.JSON),
    (b'{"items":[' + RECORD + b"]}\n" + b'{"items":[' + RECORD + b"]}\n", Format.JSON),
    (b'{\n "cursor": "a",\n "total": {"x": [1]},\n "items": [\n' + RECORD + b"\n]}", Format.JSON),
    (b'{"cursor":"a","items":[' + LONG + b"]}", Format.JSON),
    (PRETTY, Format.JSON),
    (PRETTY * 2, Format.JSON),
    (b'{\n"sources": [\n{"a": 1}\n]\n}\n', Format.JSON),
    (RECORD + RECORD, Format.JSON),
    (RECORD * 2000, Format.JSON),
    (b"a,b,c\n1,2,3\n", Format.JSON),
    (b"{" + b'"a":{' * 30_000, Format.NDJSON),
]  # fmt: skip


@pytest.mark.parametrize(("data", "fmt"), WHOLE, ids=[str(data[:30]) for data, _ in WHOLE])
def test_the_format_of_a_whole_input(data, fmt):
    """Every layout is told by its content, also when all that is seen of it is its head."""
    assert detect(data, complete=True) is fmt
    if len(data) >= HEAD:
        assert detect(data[:HEAD], complete=False) is fmt


@pytest.mark.parametrize(("data", "fmt"), WHOLE, ids=[str(data[:30]) for data, _ in WHOLE])
def test_a_guess_is_never_taken_back(data, fmt):
    """What is told from less of an input is what is told from more of it."""
    step = 1 if len(data) < 1000 else 8000
    assert {detect(data[:end], complete=False) for end in range(0, len(data), step)} <= {None, fmt}


@pytest.mark.parametrize(
    ("data", "fmt"),
    [
        (RECORD + b"\n", Format.NDJSON),
        (b"broken\n" + RECORD + b"\n", Format.NDJSON),
        (b" [", Format.JSON),
        (b'{"items": [', Format.JSON),
        (b'{"next":null,"items":[', Format.JSON),
        (RECORD, None),
        (b"broken\n", None),
        (b'{\n "space":', None),
        (b" ", None),
    ],
)
def test_a_slow_input_is_told_as_soon_as_can_be(data, fmt):
    """One complete record, or the beginning of an array, is enough; less is not."""
    assert detect(data, complete=False) is fmt


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_have_a_format_when_they_are_complete(data, complete):
    """Detection never fails, and is always done once the input is complete or its head is full."""
    assert detect(data, complete=complete) or not complete
    assert detect(data + b"x" * HEAD, complete=False)


def new(start=None, fmt=None):
    return lambda: AutoFramer("a", fmt, start)


@pytest.mark.parametrize("data", [data for data, _ in WHOLE if len(data) < 1000])
@settings(max_examples=20, deadline=None)
@given(places=cuts)
def test_an_input_of_any_format_is_framed(data, places):
    """Whatever the format, an input that is cut anywhere gives the same texts and faults."""
    feed_in_every_style(new(), data, places)


def test_a_broken_first_line_costs_one_record():
    """NDJSON whose first line is broken is still NDJSON: every line is a text."""
    framed = feed(new(), [b"broken\n", RECORD + b"\n", b"broken, too\n"])
    assert framed.bare == [b"broken", RECORD, b"broken, too"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_one_fault_that_says_what_to_do(encoding):
    """UTF-16 and UTF-32 are told with and without their mark, and the mend is named."""
    data = RECORD.decode().encode(encoding) * 3
    for pieces in ([data], cut(data, range(len(data)))):
        framed = feed(new(), pieces)
        assert framed.bare == []
        (fault,) = framed.faults
        assert "UTF-16" in fault.reason
        assert "iconv" in fault.reason


INPUTS = [
    b"\n".join([RECORD] * 5) + b"\n",
    b"\xef\xbb\xbf" + RECORD + b"\r\n\n\xff\n" + RECORD + b"\nbroken\n" + RECORD,
    b"[" + b",\n".join([RECORD] * 5) + b"]",
    b'{"items":[1,{"a":NaN},2,"\xff",3],"x":1}',
    b"[1,2,3",
    RECORD * 3,
]


@pytest.mark.parametrize("data", INPUTS)
@pytest.mark.parametrize("count", range(6))
@settings(max_examples=20)
@given(places=cuts)
def test_an_input_is_read_past_what_is_consumed(data, count, places):
    """From the end of each record on, what comes out is what came out behind it, under the same numbers."""
    whole = feed(new(), cut(data, range(len(data))))
    records = sorted([text[0] for text in whole.texts] + [fault.place.record for fault in whole.faults])
    if count > len(records):
        return
    start = next((end for end in whole.ends if end.record == count), Position())
    rest = feed(new(start), cut(data, places))
    assert rest.texts == [text for text in whole.texts if text[0] > start.record]
    assert rest.faults == [fault for fault in whole.faults if fault.place.record > start.record]


@pytest.mark.parametrize("data", [RECORD + b"\n", b"[" + RECORD + b"]", b""])
def test_an_input_that_became_shorter_is_refused(data):
    """An input that ends before the position to start from is told to be another one, and how to go on."""
    with pytest.raises(UsageError, match=r"^a ends before .* --fresh\.$"):
        feed(new(Position(10_000, 100, 100)), [data])


def test_a_format_that_is_given_is_kept():
    """What the user says about the format goes before what the content looks like."""
    assert feed(new(fmt=Format.NDJSON), [b"[1,\n2]"]).bare == [b"[1,", b"2]"]
    assert feed(new(fmt=Format.JSON), [b"1\n2"]).bare == [b"1", b"2"]


@pytest.mark.parametrize(
    ("data", "texts"), [(b"", []), (b"bro", []), (RECORD + b"\n{", [RECORD]), (b"[1,2", [b"1"])]
)
def test_a_broken_input_of_any_format_is_one_fault(data, texts):
    """When reading breaks, even before the format is known, that is one fault with the reason."""
    framed = feed(new(), [data], broken="the disk is gone")
    framed.assert_lies_in(data)
    assert framed.bare == texts
    assert [fault.reason for fault in framed.faults] == ["the disk is gone; nothing behind it is read"]
