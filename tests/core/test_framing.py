"""Frames keep their places when they are cut, and what cannot be a record is set apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.framing import MAX_RECORD, Frames, Place, Position, Unframed, set_apart


def frames(texts):
    """Texts in one line each, from record 11 on."""
    offsets = [100 + sum(len(text) + 1 for text in texts[:index]) for index in range(len(texts))]
    end = Position(100 + sum(len(text) + 1 for text in texts), 20 + len(texts), 10 + len(texts))
    return Frames("a", texts, offsets, range(21, 21 + len(texts)), 11, end)


def test_a_place_counts_from_one():
    """The place of a text is its path, number, line, offset and length."""
    assert frames([b"{}", b"[12]"]).place(1) == Place("a", 12, 22, 103, 4)


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=6), st.data())
def test_a_part_keeps_its_places(texts, data):
    """Each text of a part stands where it stood, and the part ends where the next text begins."""
    whole = frames(texts)
    start = data.draw(st.integers(0, len(texts) - 1))
    stop = data.draw(st.integers(start + 1, len(texts)))
    part = whole.part(start, stop)
    places = [part.place(index) for index in range(len(part.texts))]
    assert places == [whole.place(index) for index in range(start, stop)]
    assert part.texts == texts[start:stop]
    if stop == len(texts):
        assert part.end == whole.end
    else:
        assert part.end == Position(whole.offsets[stop], 20 + stop, 10 + stop)


@given(st.lists(st.sampled_from([b"{}", b"\xff", "é".encode(), b"{\xe9}"]), min_size=1, max_size=8))
def test_only_texts_in_utf8_stay(texts):
    """In their order, texts in UTF-8 stay frames and each other one is a fault that keeps it."""
    found = []
    for piece in set_apart(frames(texts)):
        match piece:
            case Frames():
                found += [(piece.place(index), text) for index, text in enumerate(piece.texts)]
                assert all(text.decode() for text in piece.texts)
            case Unframed():
                found.append((piece.place, piece.raw))
                assert piece.kind == "unreadable"
        assert piece.end.record == found[-1][0].record
    assert found == [(frames(texts).place(index), text) for index, text in enumerate(texts)]


@pytest.mark.parametrize(("length", "kinds"), [(MAX_RECORD, []), (MAX_RECORD + 1, ["oversize"])])
def test_only_texts_that_a_request_can_hold_stay(length, kinds):
    """A text of the most bytes stays; with one more it is a fault, and its bytes are let go."""
    pieces = list(set_apart(frames([b"x" * length])))
    assert [(piece.kind, piece.raw) for piece in pieces if isinstance(piece, Unframed)] == [
        (kind, None) for kind in kinds
    ]
