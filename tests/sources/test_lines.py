"""NDJSON falls apart into its lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.framing import MAX_RECORD, Position
from cdf_upsert.sources.lines import LineFramer
from tests.sources.feeding import cut, cuts, feed, feed_in_every_style


def new():
    return LineFramer("a.ndjson")


def lines_of(data):
    """What NDJSON means, said slowly: `(line, offset, text)`."""
    found, offset = [], 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        start, text = offset, line
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            start, text = 3, line[3:]
        if text.strip():
            found.append((number, start, text.removesuffix(b"\r")))
        offset += len(line) + 1
    return found


texts = st.sampled_from(
    [b"{}", b'{"a":1}', b"x" * 50, b"", b" ", b"\t \r", b'  {"b":2} ', '{"é":"😀"}'.encode(), b"\r{}"]
)


@given(
    lines=st.lists(texts, max_size=12),
    ends=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    bom=st.booleans(),
    places=cuts,
)
def test_lines_are_texts(lines, ends, last, bom, places):
    """However it is cut, NDJSON gives its lines without line ends, blank ones skipped, each at its place."""
    data = b"\xef\xbb\xbf" * bom + ends.join(lines) + ends * last
    framed = feed_in_every_style(new, data, places)
    assert not framed.faults
    assert [(line, offset, text) for _, line, offset, text in framed.texts] == lines_of(data)


@given(data=st.binary(max_size=300).map(lambda data: data.replace(b"\x07", b"\n")), places=cuts)
def test_lines_that_are_not_utf8_fail_alone(data, places):
    """Of any bytes, each line is a text when it is UTF-8 and one fault that keeps its bytes when it is not."""
    framed = feed_in_every_style(new, data, places)
    both = sorted(
        [(line, offset, text) for _, line, offset, text in framed.texts]
        + [(fault.place.line, fault.place.offset, fault.raw) for fault in framed.faults]
    )
    assert both == lines_of(data)
    for _, _, _, text in framed.texts:
        text.decode()
    for fault in framed.faults:
        assert fault.kind == "unreadable"
        with pytest.raises(UnicodeDecodeError):
            fault.raw.decode()


def test_the_byte_that_is_not_utf8_is_told():
    """The reason names the byte of the line and its value."""
    framed = feed(new, [b'{"a":1}\n{"caf\xe9":1}\n{"b":2}\n'])
    assert framed.bare == [b'{"a":1}', b'{"b":2}']
    assert [fault.reason for fault in framed.faults] == ["byte 6 of the record is not UTF-8 (0xe9)"]


LONG = b'{"a":"' + b"x" * 30_000_000 + b'"}'


@pytest.mark.parametrize("step", [len(LONG) + 100, 1_000_000, 65_536])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_costs_one_record(step, end):
    """A line of 30 MB is one fault with its true place and length; the lines before and behind it are texts."""
    data = b"{}\n" + LONG + end + (b'{"b":2}\n' if end else b"")
    framed = feed(new, cut(data, range(0, len(data), step)))
    assert framed.texts == [(1, 1, 0, b"{}")] + (
        [(3, 3, 3 + len(LONG) + len(end), b'{"b":2}')] if end else []
    )
    (fault,) = framed.faults
    assert (fault.kind, fault.raw) == ("oversize", None)
    assert (fault.place.record, fault.place.line, fault.place.offset, fault.place.length) == (
        2,
        2,
        3,
        len(LONG),
    )
    assert fault.reason == "the text is 30,000,008 bytes long, and a record has at most 10,000,000"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("step", [20_000_000, 4_000_000])
@pytest.mark.parametrize("over", [0, 1, 2])
def test_the_longest_line_is_a_text(over, step, end):
    """A line of exactly the most bytes is a text, one byte more is a fault, however it ends and is cut."""
    data = b"x" * (MAX_RECORD + over) + end
    framed = feed(new, cut(data, [*range(0, len(data), step), len(data) - 1]))
    assert [len(text) for text in framed.bare] == ([MAX_RECORD] if over == 0 else [])
    assert [fault.place.length for fault in framed.faults] == ([MAX_RECORD + over] if over else [])


def test_a_line_that_is_too_long_is_not_held():
    """While a line without end comes in, the framer holds no more than one record's bytes."""
    framer = new()
    for _ in range(40):
        assert framer.feed(b"x" * 1_000_000) == []
        assert sum(map(len, framer._held)) <= MAX_RECORD + 1
    (fault,) = framer.finish()
    assert fault.place.length == 40_000_000


def test_framing_goes_on_from_a_position():
    """From the end of any piece on, the rest of the input gives the rest of the texts with the same numbers."""
    data = b'\xef\xbb\xbf{"a":1}\n\n  \n{"b":2}\r\n{"\xff":3}\n{"c":4}'
    whole = feed(new, cut(data, range(len(data))))
    for end in whole.ends:
        rest = feed(lambda end=end: LineFramer("a.ndjson", end), [data[end.offset :]])
        assert rest.texts == [text for text in whole.texts if text[0] > end.record]
        assert rest.faults == [fault for fault in whole.faults if fault.place.record > end.record]


@given(before=st.sampled_from([b"", b"{}\n", b"{}\n\n"]), part=st.sampled_from([b"", b'{"a":', b"  "]))
def test_a_broken_input_costs_the_line_that_is_not_complete(before, part):
    """When reading breaks, the complete lines are texts, and one fault holds the bytes of the line that is not."""
    framed = feed(new, [before + part], broken="the disk is gone")
    assert framed.bare == [b"{}"] * bool(before)
    (fault,) = framed.faults
    assert (fault.reason, fault.raw, fault.place.offset) == (
        "the disk is gone; nothing behind it is read",
        part,
        len(before),
    )
    framed.assert_lies_in(before + part)


def test_position_starts_at_zero():
    """Nothing fed is nothing found."""
    assert feed(new, []).ends == []
    assert Position() == Position(0, 0, 0)
