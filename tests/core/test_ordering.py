"""Of each key one version at most is unsettled, and the last that can be accepted stands."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.ordering import Ordering
from cdf_upsert.core.record import Record
from tests.records import make_record, make_records


def ordinals(records: object) -> list[int]:
    return [record.ordinal for record in records]  # type: ignore[attr-defined]


def test_records_of_different_keys_pass_at_once() -> None:
    """Nothing waits when no key is held."""
    ordering = Ordering()
    records = make_records("a", "b", "c")
    assert ordering.admit(records) == records
    assert ordering.held == 3
    assert not ordering.accepted(records).due
    assert ordering.held == 0


def test_of_versions_that_come_together_the_newest_goes() -> None:
    """The same key twice in one block: the later goes, and the earlier is superseded when it was accepted."""
    ordering = Ordering()
    records = make_records("a", "b", "a")
    due = ordering.admit(records)
    assert sorted(ordinals(due)) == [1, 2]
    freed = ordering.accepted([records[2]])
    assert ordinals(freed.superseded) == [0]
    assert not freed.due


def test_a_newer_version_waits_for_the_one_under_way() -> None:
    """While a version is under way the newer ones wait; then only the newest is sent."""
    ordering = Ordering()
    records = make_records("a", "a", "a", "a")
    assert ordinals(ordering.admit(records[:1])) == [0]
    assert not ordering.admit(records[1:3])
    assert not ordering.admit(records[3:])
    assert ordinals(ordering.accepted(records[:1]).due) == [3]
    freed = ordering.accepted([records[3]])
    assert ordinals(freed.superseded) == [1, 2]
    assert ordering.held == 0
    assert ordering.waiting_bytes == 0


def test_an_older_version_is_sent_when_the_newer_is_refused() -> None:
    """A version is given up only when a newer one was accepted: after a refusal the next older has its turn."""
    ordering = Ordering()
    records = make_records("a", "a", "a")
    ordering.admit(records)
    assert ordinals(ordering.failed([records[2]])) == [1]
    assert ordinals(ordering.failed([records[1]])) == [0]
    assert ordering.failed([records[0]]) == []
    assert ordering.held == 0


def test_a_version_that_may_have_landed_before_goes_first() -> None:
    """An older version that arrives after a cut-off run waits for the newer one that may have landed."""
    ordering = Ordering({("s", "a"): 2})
    records = make_records("a", "b", "a", "a")
    assert ordinals(ordering.admit(records[:2])) == [1]
    assert ordinals(ordering.admit(records[2:3])) == [2]
    assert not ordering.admit(records[3:])
    freed = ordering.accepted([records[2]])
    assert (ordinals(freed.superseded), ordinals(freed.due)) == ([0], [3])


def test_what_waits_for_a_version_that_never_comes_is_sent() -> None:
    """No doubt holds a record back for ever."""
    ordering = Ordering({("s", "a"): 9})
    records = make_records("a", "a")
    assert not ordering.admit(records)
    assert ordinals(ordering.give_up_doubt()) == [1]
    assert ordinals(ordering.failed([records[1]])) == [0]


@given(
    keys=st.lists(st.sampled_from("abc"), max_size=40),
    cuts=st.lists(st.integers(1, 5), max_size=40),
    good=st.lists(st.booleans(), min_size=40, max_size=40),
    choose=st.randoms(use_true_random=False),
)
def test_any_course_of_events_ends_as_one_by_one(
    keys: list[str], cuts: list[int], good: list[bool], choose: object
) -> None:
    """Whatever the blocks and the order of the replies: one version of a key under way, every version settled once, and the last good one stands."""
    records = [make_record(i, key) for i, key in enumerate(keys)]
    ordering = Ordering()
    under_way: list[Record] = []
    settled: dict[int, str] = {}
    stored: dict[str, int] = {}
    pick: Callable[[list[Record]], Record] = choose.choice  # type: ignore[attr-defined]
    left = list(records)
    while left or under_way:
        if left and (not under_way or choose.random() < 0.5):  # type: ignore[attr-defined]
            count = cuts.pop() if cuts else 1
            under_way += ordering.admit(left[:count])
            left = left[count:]
            names = [record.key for record in under_way]
            assert len(set(names)) == len(names)
            continue
        record = pick(under_way)
        under_way.remove(record)
        assert record.ordinal not in settled
        if good[record.ordinal]:
            assert stored.get(record.key[1], -1) < record.ordinal
            stored[record.key[1]] = record.ordinal
            settled[record.ordinal] = "accepted"
            freed = ordering.accepted([record])
            under_way += freed.due
            for old in freed.superseded:
                assert old.ordinal not in settled
                assert old.ordinal < record.ordinal
                settled[old.ordinal] = "superseded"
        else:
            settled[record.ordinal] = "failed"
            under_way += ordering.failed([record])
    assert sorted(settled) == list(range(len(records)))
    assert stored == {record.key[1]: record.ordinal for record in records if good[record.ordinal]}
    assert ordering.held == 0
    assert ordering.waiting_bytes == 0
    assert list(ordering.waiting()) == []
