"""Feed a framer in every style, and put what comes out side by side with the input."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import strategies as st

from cdf_upsert.core.framing import Framer, Frames, Position, Unframed


@dataclass
class Framed:
    """All that came out of one input: `(record, line, offset, text)` of each text, and the faults."""

    texts: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    faults: list[Unframed] = field(default_factory=list)
    ends: list[Position] = field(default_factory=list)

    def take(self, pieces: Iterable[Frames | Unframed]) -> None:
        for piece in pieces:
            self.ends.append(piece.end)
            match piece:
                case Frames():
                    assert len(piece.texts) == len(piece.offsets) == len(piece.lines) > 0
                    for index, text in enumerate(piece.texts):
                        place = piece.place(index)
                        assert place.line is not None
                        assert place.length == len(text)
                        self.texts.append((place.record, place.line, place.offset, text))
                case Unframed():
                    self.faults.append(piece)

    @property
    def bare(self) -> list[bytes]:
        return [text for _, _, _, text in self.texts]

    def assert_lies_in(self, data: bytes) -> None:
        """Every offset points at the very bytes, and the record numbers are consecutive, with no gap and in order."""
        for _, line, offset, text in self.texts:
            assert data[offset : offset + len(text)] == text
            assert data[:offset].count(b"\n") + 1 == line
        for fault in self.faults:
            place = fault.place
            assert 0 <= place.offset <= place.offset + place.length <= len(data)
            assert place.line == data[: place.offset].count(b"\n") + 1
            if fault.raw is not None:
                assert data[place.offset : place.offset + place.length] == fault.raw
        numbers = sorted(
            [record for record, *_ in self.texts] + [fault.place.record for fault in self.faults]
        )
        assert numbers == list(range(1, len(numbers) + 1))
        for end in self.ends:
            assert end.line == data[: end.offset].count(b"\n")
        assert self.ends == sorted(self.ends, key=lambda end: (end.record, end.offset))


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Cut `data` at the places."""
    edges = [0, *sorted({min(place, len(data)) for place in places}), len(data)]
    return (data[start:stop] for start, stop in pairwise(edges))


def feed(new: Callable[[], Framer], pieces: Iterable[bytes], broken: str | None = None) -> Framed:
    """Feed the pieces, then the end of the input, or that it is `broken`."""
    framer, framed = new(), Framed()
    for piece in pieces:
        framed.take(framer.feed(piece))
    framed.take(framer.finish() if broken is None else framer.abort(broken))
    return framed


def feed_in_every_style(new: Callable[[], Framer], data: bytes, places: Iterable[int] = ()) -> Framed:
    """Feed whole, byte by byte and cut at the places: what comes out is the same and lies in the data."""
    whole = feed(new, [data])
    whole.assert_lies_in(data)
    for pieces in (cut(data, range(len(data))), cut(data, places)):
        other = feed(new, pieces)
        assert (other.texts, other.faults) == (whole.texts, whole.faults)
        other.assert_lies_in(data)
    return whole


cuts = st.lists(st.integers(0, 400), max_size=8)
"""Where to cut."""
