"""JSON documents fall apart into the records in them, as their own bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdf_upsert.core.framing import MAX_RECORD, Position
from cdf_upsert.sources.documents import DocumentFramer
from tests.sources.feeding import cut, cuts, feed, feed_in_every_style


def new():
    return DocumentFramer("a.json")


space = st.sampled_from([b"", b"", b" ", b"\n", b"\r\n", b"\t \n "])
# Numbers at and over the edges of what parsers hold, strings full of brackets and escapes, the odd element.
odd = st.sampled_from(
    [
        b"1", b"-0", b"1e400", b"18446744073709551616", b"1.10", b"null", b"true", b'"a, ]}\\" b"', b'"\\\\"', b"[]", b"{}",
        b'[[{"a":[1]}],2]', b'{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":1}}}}}}}}}', b"1e99999999999999999999",
        b"[" * 30 + b"]" * 30,
    ]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
written = st.builds(
    lambda value, indent, plain: json.dumps(value, indent=indent, ensure_ascii=plain).encode(
        "utf-8", "surrogatepass"
    ),
    st.dictionaries(st.sampled_from(["space", "externalId", "sources", "a}", 'b"']), json_values, max_size=4),
    st.sampled_from([None, 1]),
    st.just(True) | st.booleans(),
)
elements = st.lists(st.one_of(written, written, odd), max_size=8)
members = st.lists(
    st.sampled_from([b'"next":null', b'"total": 5', b'"page":{"items":[1,{"a":"]}"}]}', b'"x y" : "\\"items\\":["', b'"n":[1,[2]]']),
    max_size=2,
)  # fmt: skip


def array(elements, spaces):
    spaces = iter(spaces)
    inner = b",".join(next(spaces, b"") + element + next(spaces, b"") for element in elements)
    return b"[" + inner + next(spaces, b"") + b"]"


def envelope(elements, spaces, before, behind):
    return b"{" + b" ,".join([*before, b'"items" :\n' + array(elements, spaces), *behind]) + b"}"


@settings(max_examples=100, deadline=None)
@given(elements=elements, spaces=st.lists(space, max_size=20), around=space, bom=st.booleans(), places=cuts)
def test_the_elements_of_an_array_are_texts(elements, spaces, around, bom, places):
    """An array gives its elements, each as the bytes that were written, at its place."""
    data = b"\xef\xbb\xbf" * bom + around + array(elements, spaces) + around
    framed = feed_in_every_style(new, data, places)
    assert framed.bare == elements
    assert not framed.faults


@settings(max_examples=100, deadline=None)
@given(elements=elements, spaces=st.lists(space, max_size=20), before=members, behind=members, places=cuts)
def test_the_items_of_an_envelope_are_texts(elements, spaces, before, behind, places):
    """An object with items gives the items; its other members are passed by."""
    data = envelope(elements, spaces, before, behind)
    framed = feed_in_every_style(new, data, places)
    assert framed.bare == elements
    assert not framed.faults


records = st.sampled_from(
    [
        b'{"space":"s","externalId":"items","sources":[]}', b'{"sources": [{"items":[1]}],\n "space":"s"}', b"{}", b'{"items": 5}',
        b'{"a":1}', b'{"a":{"items":[1]}}', b'{"a":1,"space":"s","items":[2]}', b'"text"', b'{"x":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}',
    ]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(values=st.lists(records, max_size=8), spaces=st.lists(space, max_size=8), places=cuts)
def test_values_one_after_the_other_are_texts(values, spaces, places):
    """Values that follow each other, with or without space, in one line or pretty-printed, are texts."""
    data = b"".join(value + gap for value, gap in zip(values, [*spaces, *[b""] * 8], strict=False))
    framed = feed_in_every_style(new, data, places)
    assert framed.bare == values
    assert not framed.faults


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b" \n\t ", []),
        (b"\xef\xbb\xbf", []),
        (b"[]", []),
        (b'{"items":[]}', []),
        (b"5", [b"5"]),
        (b'[1][2]\n{"items":[3]} {"a":4}', [b"1", b"2", b"3", b'{"a":4}']),
        (b'{"items":[1],"items":[2]}', [b"1", b"2"]),
        (b'{"items":[1],"x":{"y":"' + b"z" * 100_000 + b'"}}', [b"1"]),
        (b'{"x":"' + b"z" * 60_000 + b'","items":[1]}', [b"1"]),
        (b'{"items":{"a":1}}', [b'{"items":{"a":1}}']),
    ],
)  # fmt: skip
def test_documents_of_every_kind(data, texts):
    """Empty documents give nothing; arrays, envelopes and records may follow each other."""
    framed = feed(new, cut(data, range(0, len(data), 7 if len(data) < 1000 else 7000)))
    assert framed.bare == texts
    assert not framed.faults


def record(number, more=b""):
    return b'{"space":"s","externalId":"%d","sources":[{"p":{"x":%d.5%s}}]}' % (number, number, more)


@pytest.mark.parametrize("separator", [b",", b", ", b",\n  ", b" \n,"])
@pytest.mark.parametrize("text", ["plain", "brackets }{][ in text", "{{{"])
def test_many_elements_at_once_are_the_same(separator, text):
    """Thousands of elements, which are framed together, come out as one by one."""
    texts = [record(number, b',"t":' + json.dumps(text).encode()) for number in range(2000)]
    data = b"[\n" + separator.join(texts) + b"]"
    whole = feed(new, [data])
    whole.assert_lies_in(data)
    assert whole.bare == texts
    for step in (1000, 50_000):
        framed = feed(new, cut(data, range(0, len(data), step)))
        assert framed.texts == whole.texts
        framed.assert_lies_in(data)


def test_many_elements_in_many_lines_have_their_lines():
    """Pretty-printed elements, which are framed together, stand in the lines that they begin in."""
    data = json.dumps([json.loads(record(number)) for number in range(500)], indent=2).encode()
    framed = feed(new, [data])
    framed.assert_lies_in(data)
    assert list(map(json.loads, framed.bare)) == json.loads(data)


@settings(deadline=None)
@given(
    elements=elements,
    form=st.sampled_from(["array", "envelope", "bare"]),
    edits=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=2
    ),
    places=cuts,
)
def test_a_spoilt_document_is_framed_the_same_however_it_is_cut(elements, form, edits, places):
    """Whatever is wrong with a document, what comes out does not depend on how it comes in."""
    match form:
        case "array":
            data = array(elements, [b" ", b"\n"])
        case "envelope":
            data = envelope(elements, [], [b'"a":1'], [b'"b":[2]'])
        case _:
            data = b"\n".join(elements)
    for at, gone, new_bytes in edits:
        data = data[: at % (len(data) + 1)] + new_bytes + data[at % (len(data) + 1) + gone :]
    feed_in_every_style(new, data, places)


BREAKS = [
    (b'[{"a":1},{"b":tru},{"c":3}]', 1, 17),
    (b'[{"a":1},{"b" 2}]', 1, 14),
    (b'[{"a":1} {"b":2}]', 1, 9),
    (b'[{"a":1},,{"b":2}]', 1, 9),
    (b'[{"a":1},]', 1, 9),
    (b'[{"a":1}]]', 1, 9),
    (b'[{"a":1}}', 1, 8),
    (b'[{"a":1}] garbage', 1, 10),
    (b'[{"a":1}] trailing', 1, 12),  # Up to there it may become `true`.
    (b'[{"a":01}]', 0, 6),
    (b'[{"a":1, 2:3}]', 0, 9),
    (b'[{"a":1 2}]', 0, 8),
    (b'[{"a":1,}]', 0, 8),
    (b"[{'a':1}]", 0, 2),
    (b"[1.10\n.10,1]", 1, 6),
    (b'[{"a":"\x01"}]', 0, 7),
    (b'[{"a":"\\x"}]', 0, 8),
    (b'[{"a":1}, // why\n {"b":2}]', 1, 10),
    (b'{"a":1},{"b":2}', 1, 7),
    (b'{"items":[{"a":1}}', 1, 17),
    (b'{"items":[{"a":1}] "x":2}', 1, 19),
    (b'{"items":[{"a":1}],"x" 2}', 1, 23),
    (b"a,b,c\n1,2,3\n", 0, 0),
    (b"+5", 0, 0),
    (b"PK\x03\x04 and more", 0, 0),
]


@pytest.mark.parametrize(("data", "count", "at"), BREAKS)
def test_a_break_tells_its_byte_and_ends_the_input(data, count, at):
    """What came before a break is framed, one fault tells the very byte, and what stands behind is left alone."""
    framed = feed_in_every_style(new, data, [at, at + 1])
    assert len(framed.texts) == count
    (fault,) = framed.faults
    assert (fault.kind, fault.place.offset, fault.place.record) == ("unreadable", at, count + 1)
    assert fault.reason.startswith(f"the JSON breaks at byte {at:,}: ")


def test_a_break_far_into_a_document_is_exact():
    """A break behind thousands of records tells its byte, its line and its record, however the document is cut."""
    data = b"[" + b",\n".join(record(number) for number in range(2000)) + b',\n{"a"; 1},\n' + record(1) + b"]"
    for step in (len(data), 65_536, 999):
        framed = feed(new, cut(data, range(0, len(data), step)))
        framed.assert_lies_in(data)
        assert len(framed.texts) == 2000
        (fault,) = framed.faults
        assert (fault.place.offset, fault.place.line) == (data.index(b";"), 2001)


@settings(deadline=None)
@given(
    elements=elements,
    spaces=st.lists(space, max_size=10),
    form=st.booleans(),
    cut_at=st.floats(0, 1),
    places=cuts,
)
def test_a_document_that_is_cut_short(elements, spaces, form, cut_at, places):
    """A document that ends too early gives the elements that are whole, and one fault at its last byte."""
    data = array(elements, spaces) if form else envelope(elements, spaces, [], [])
    data = data[: int(cut_at * (len(data) - 1))]
    framed = feed_in_every_style(new, data, places)
    assert framed.bare == elements[: len(framed.bare)]
    if not data.strip():
        assert not framed.faults
        return
    (fault,) = framed.faults
    assert fault.reason == f"the JSON ends too early, at byte {len(data):,}; nothing behind it is read"
    assert fault.place.offset == len(data)


SPOILT = [
    b'{"a":NaN}',
    b'{"a":[-Infinity,1]}',
    b"Infinity",
    b'{"a":"\xff"}',
    b'{"a\xe9":1}',
    b'{"a":"\xed\xa0\x80"}',
    b"[1,[NaN]]",
    b'"\xff"',
    b'"\xe9"',
    b'"\xed\xa0\x80"',
]


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("around", [b"[%b]", b'{"next":1,"items":[%b],"x":2}'])
def test_a_value_that_is_not_json_costs_one_record(around, spoilt):
    """NaN, Infinity and bytes that are not UTF-8 spoil the record that they stand in, and no other."""
    data = around % b', {"b":2},'.join([b'{"a":1}', spoilt, spoilt, b'{"c":3}'])
    framed = feed_in_every_style(new, data, [20, 30])
    got = framed.bare
    if spoilt.isascii():  # NaN is found by whoever reads the text; here it only must not end the document.
        assert got == [b'{"a":1}', b'{"b":2}', spoilt, b'{"b":2}', spoilt, b'{"b":2}', b'{"c":3}']
        assert not framed.faults
    else:
        assert got == [b'{"a":1}', b'{"b":2}', b'{"b":2}', b'{"b":2}', b'{"c":3}']
        assert [fault.raw for fault in framed.faults] == [spoilt, spoilt]


@pytest.mark.parametrize(
    "number", [b"9" * 5000, b"-" + b"9" * 10_000, b"1e99999999999999999999", b"0.0e-99999999999999999999"]
)
@pytest.mark.parametrize("step", [10, 1000, 1_000_000])
def test_numbers_out_of_the_bounds_of_the_parser_are_passed_on(number, step):
    """A number that no parser of ours can hold is part of its record's text like any other, and what follows it too."""
    texts = [b"%d" % index for index in range(5)] + [b'{"a":' + number + b"}", number, b"{}"]
    framed = feed(new, cut(b"[" + b",".join(texts * 2) + b"]", range(0, 500_000, step)))
    assert framed.bare == texts * 2
    assert not framed.faults


def test_records_one_after_the_other_survive_a_spoilt_one():
    """Also outside of an array one spoilt value costs one record."""
    spoilt = b'{"space":"s","a":NaN}'
    framed = feed_in_every_style(new, record(1) + spoilt + record(2) + spoilt, [70])
    assert framed.bare == [record(1), spoilt, record(2), spoilt]


@pytest.mark.parametrize("step", [100_000_000, 524_288])
@pytest.mark.parametrize(
    ("before", "behind"),
    [(b"[", b"]"), (b'{"items":[', b'],"next":0}'), (b"", b"")],
    ids=["array", "envelope", "bare"],
)
def test_an_element_that_is_too_long_costs_one_record(before, behind, step):
    """An element of 12 MB is one fault with its true place and length; those around it are texts."""
    comma = b"," if before else b"\n"
    long = b'{"space":"' + b"\n".replace(b"\n", b"x") * 12_000_000 + b'}","a":[1,\n{}]}'
    data = before + record(1) + comma + long + comma + record(2) + behind
    framed = feed(new, cut(data, range(0, len(data), step)))
    framed.assert_lies_in(data)
    assert framed.bare == [record(1), record(2)]
    (fault,) = framed.faults
    assert (fault.kind, fault.raw, fault.place.record) == ("oversize", None, 2)
    assert (fault.place.offset, fault.place.length) == (data.index(long[:20], len(before) + 5), len(long))


def test_the_longest_element_is_a_text():
    """An element of exactly the most bytes is a text, one byte more is a fault."""
    for over in (0, 1):
        data = b'["' + b"x" * (MAX_RECORD - 2 + over) + b'",1]'
        for step in (len(data), 3_000_000):
            framed = feed(new, cut(data, range(0, len(data), step)))
            assert [len(text) for text in framed.bare] == [MAX_RECORD, 1][over:]
            assert [fault.place.length for fault in framed.faults] == [MAX_RECORD + 1] * over


def test_an_element_that_is_too_long_is_not_held():
    """While an element without end comes in, the framer holds no more than one record and one piece."""
    framer = new()
    framer.feed(b'[{"a":"')
    for _ in range(60):
        assert framer.feed(b"x" * 500_000) == []
        assert len(framer._held) <= MAX_RECORD + 500_000
    (fault,) = framer.finish()
    assert fault.reason == "the JSON ends too early, at byte 30,000,007; nothing behind it is read"


def test_an_endless_envelope_is_not_held():
    """What follows the items without end ends the input with one fault."""
    framer = new()
    pieces = framer.feed(b'{"items":[{"a":1}],"x":["')
    for _ in range(30):
        pieces += framer.feed(b"x" * 500_000)
        assert len(framer._held) <= MAX_RECORD + 500_000
    assert framer.ended
    assert pieces[-1].reason == "what follows the items is longer than 10,000,000 bytes"
    assert framer.finish() == []


@pytest.mark.parametrize("before", [b"", b"[", b'{"a":', b'[{"a":1},{"b":'])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_deep_nesting_is_a_fault_and_no_crash(before, bracket):
    """100,000 opening brackets that are never closed are one fault at the end of the input."""
    data = before + bracket * 100_000
    for step in (len(data), 10_000):
        framed = feed(new, cut(data, range(0, len(data), step)))
        (fault,) = framed.faults
        assert (fault.kind, fault.place.offset) == ("unreadable", len(data))


def test_deep_nesting_that_is_closed_is_a_text():
    """100,000 brackets that are closed again are one text, for whoever reads it to refuse."""
    deep = b"[" * 100_000 + b"]" * 100_000
    data = b"[" + record(1) + b"," + deep + b"," + record(2) + b"]"
    for step in (len(data), 10_000):
        assert feed(new, cut(data, range(0, len(data), step))).bare == [record(1), deep, record(2)]


@pytest.mark.parametrize("part", [b'[{"a":1},{"b":', b'{"items":[{"a":1}],"x":', b'[{"a":1},'])
def test_a_broken_input_is_one_fault_at_its_end(part):
    """When reading breaks, the records that are whole are texts, and one fault stands at the end of what was read."""
    framed = feed(new, cut(part, [3]), broken="the disk is gone")
    assert framed.bare == [b'{"a":1}']
    (fault,) = framed.faults
    assert (fault.reason, fault.place.offset) == ("the disk is gone; nothing behind it is read", len(part))


def test_nothing_follows_a_break():
    """After a break has ended the input, nothing more comes out of it."""
    framer = new()
    framer.feed(b"[1 2]")
    assert framer.ended
    assert framer.feed(b"[3]") == framer.finish() == framer.abort("late") == []


def test_positions_count_what_is_consumed():
    """The end of a piece tells the bytes, lines and records that are consumed with it."""
    (frames,) = new().feed(b'[{"a":1},\n{"b":2},\n')
    assert frames.end == Position(19, 2, 2)
