"""Facts and the state that they add up to."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.record import Record
from cdf_upsert.core.standing import Checkpoint
from cdf_upsert.journal import facts
from tests.records import make_record

spans = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 8)).map(lambda s: (s[0], s[0] + s[1])), max_size=25
)


def sent(batch: int, records: list[Record]) -> facts.Sent:
    """A batch of which each record overtakes an older version."""
    return facts.sent(batch, records, records)


@given(spans)
def test_spans_are_the_set_of_their_members(given_spans: list[facts.Span]) -> None:
    """Whatever the order in which spans come, they hold the same ordinals as a plain set, in the fewest spans."""
    grown, plain = facts.Spans(), set()
    for span in given_spans:
        grown.add(span)
        plain.update(range(*span))
        held = list(grown)
        assert [i for first, end in held for i in range(first, end)] == sorted(plain)
        assert all(end < first for (_, end), (first, _) in pairwise(held))
        assert grown.front == next(i for i in range(200) if i not in plain)
        assert all(grown.covers((i, i + 1)) == (i in plain) for i in range(60))


@given(spans, spans)
def test_what_is_taken_out_is_out(given_spans: list[facts.Span], taken: list[facts.Span]) -> None:
    """The others stay, whatever the spans that are taken out cover."""
    left = facts.Spans(given_spans).without(facts.Spans(taken))
    plain = {i for span in given_spans for i in range(*span)} - {i for span in taken for i in range(*span)}
    assert [i for span in left for i in range(*span)] == sorted(plain)


@given(st.sets(st.integers(0, 40)).flatmap(lambda some: st.permutations(sorted(some))))
def test_ordinals_in_any_order_become_their_spans(ordinals: list[int]) -> None:
    """Spans hold exactly the ordinals that they were made of."""
    assert [i for first, end in facts.spans_of(list(ordinals)) for i in range(first, end)] == sorted(ordinals)


@given(st.sets(st.integers(0, 40), min_size=1).flatmap(lambda some: st.permutations(sorted(some))))
def test_a_sent_batch_is_in_doubt_key_by_key(ordinals: list[int]) -> None:
    """However the records of a batch are arranged, each key is in doubt under its own ordinal."""
    state = facts.State()
    state.apply(1, sent(7, [make_record(i, f"key-{i}") for i in ordinals]))
    assert state.in_doubt() == {("s", f"key-{i}"): i for i in ordinals}


def test_of_two_versions_in_doubt_the_newer_counts() -> None:
    """A key that may have landed in two versions is in doubt under the higher ordinal."""
    state = facts.State()
    state.apply(1, sent(1, [make_record(8, "a")]))
    state.apply(2, sent(1, [make_record(3, "a")]))
    assert state.in_doubt() == {("s", "a"): 8}


def test_the_checkpoint_is_the_last_one_before_which_all_is_settled() -> None:
    """Places that reading has passed wait until everything before them is settled."""
    state = facts.State()
    state.read.extend([Checkpoint(2), Checkpoint(4), Checkpoint(6)])
    state.apply(1, facts.Settled([(2, 5)], 3, 0, None, []))
    assert state.move() is None
    state.apply(1, facts.Settled([(0, 2)], 2, 0, None, []))
    assert state.move() == facts.Moved(Checkpoint(4))
    assert list(state.read) == [Checkpoint(6)]


def test_the_checkpoint_never_goes_back() -> None:
    """What is read from its beginning again passes places that are known to be settled."""
    state = facts.State(checkpoint=Checkpoint(4), settled=facts.Spans([(0, 5)]))
    state.read.extend([Checkpoint(2), Checkpoint(3)])
    assert state.move() is None
    state.read.append(Checkpoint(5))
    assert state.move() == facts.Moved(Checkpoint(5))


every_fact = [
    sent(3, [make_record(0, "ä"), make_record(1, 'b"')]),
    facts.Settled([(0, 2), (5, 6)], 2, 1, 3, [sent(4, [make_record(7, "c")])]),
    facts.Settled([], 0, 0, None, []),
    facts.Moved(Checkpoint(2, 1)),
    facts.Counted(99),
    facts.Heard(0, 1 << 40, 0xFFFFFFFF),
    facts.Heard(1, 7, 9, ended=True),
]


@pytest.mark.parametrize("fact", every_fact, ids=lambda fact: type(fact).__name__)
def test_a_fact_is_read_as_it_was_written(fact: facts.Fact) -> None:
    """What goes into an entry comes out of it, and means the same."""
    (read,) = facts.facts_of(facts.entry_of([fact]))
    one, other = facts.State(), facts.State()
    one.apply(1, fact)
    other.apply(1, read)
    assert type(read) is type(fact)
    assert facts.encode_snapshot(one.snapshot()) == facts.encode_snapshot(other.snapshot())


def test_a_snapshot_holds_the_state() -> None:
    """A state that is made of its snapshot goes on like the one that it was taken of."""
    state = facts.State()
    for fact in every_fact:
        state.apply(2, fact)
    again = facts.State.of(facts.decode_snapshot(facts.encode_snapshot(state.snapshot())))
    assert again.snapshot() == state.snapshot()
    assert again.in_doubt() == state.in_doubt() != {}


@pytest.mark.parametrize("broken", [b"", b"junk", b'[{"type":"sent"}]', b'[{"type":"other"}]', b"[{]"])
def test_a_broken_entry_is_told(broken: bytes) -> None:
    """What is no entry raises, and is never taken for one."""
    with pytest.raises(msgspec.DecodeError):
        facts.facts_of(broken)


def test_only_what_overtakes_is_in_doubt() -> None:
    """Where it is known which records overtake an older version, only these are in doubt, also in a part."""
    records = [make_record(i, f"key-{i}") for i in range(6)]
    whole = facts.sent(1, records, [records[1], records[4]])
    state = facts.State()
    state.apply(1, whole)
    assert state.in_doubt() == {("s", "key-1"): 1, ("s", "key-4"): 4}
    assert list(state.under_way()) == [0, 1, 2, 3, 4, 5]
    state.apply(1, facts.Settled([(0, 3)], 3, 0, 1, [whole.part(2, records[3:5])]))
    assert state.in_doubt() == {("s", "key-4"): 4}
    assert list(state.under_way()) == [3, 4]


def test_closed_batches_of_earlier_runs_are_forgotten() -> None:
    """A batch that an earlier run left open is let go when all before its end is settled: only then for good."""
    state = facts.State()
    state.apply(1, sent(1, [make_record(0, "a"), make_record(1, "b")]))
    state.apply(2, facts.Settled([(0, 1)], 1, 0, None, []))
    state.forget_closed()
    assert state.in_doubt() == {("s", "b"): 1}
    state.apply(2, facts.Settled([(1, 2)], 1, 0, None, []))
    state.forget_closed()
    assert state.in_doubt() == {}
    assert state.open
    state.apply(2, facts.Moved(Checkpoint(2)))
    state.forget_closed()
    assert state.open == {}
