"""k bad records among n are found in O(k log n) requests, and no good one is blamed."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.isolating import Hunt, take_apart
from cdf_upsert.core.record import Record
from tests.records import make_record


def requests_for(count: int, bad: set[int], named: object = lambda records, bad: []) -> tuple[int, set[int]]:
    """Take one batch apart until every record is settled: how many requests that took, and whom it blamed."""
    hunt = Hunt()
    queue: list[list[Record]] = [[make_record(i, str(i)) for i in range(count)]]
    pointed: list[bool] = [False]
    requests, blamed, accepted = 0, set(), set()
    while queue:
        records, was_named = queue.pop(0), pointed.pop(0)
        requests += 1
        culprits = [record for record in records if record.ordinal in bad]
        if not culprits:
            accepted |= {record.ordinal for record in records}
            hunt.accepted += len(records)
            hunt.misled += was_named
        elif len(records) == 1:
            blamed.add(records[0].ordinal)
            hunt.refused += 1
        else:
            for part in take_apart(records, named(records, bad), hunt):  # type: ignore[operator]
                texts = [[record] for record in part.records] if part.alone else [list(part.records)]
                queue += texts
                pointed += [part.named] * len(texts)
    assert accepted | blamed == set(range(count))
    return requests, blamed


@pytest.mark.parametrize("bad", [{0}, {999}, {500, 501}, set(range(0, 1000, 50))])
def test_a_few_bad_records_cost_few_requests(bad: set[int]) -> None:
    """K bad ones among 1,000 cost no more than about 2 k log2(1000) requests."""
    requests, blamed = requests_for(1000, bad)
    assert blamed == bad
    assert requests <= 1 + 2 * len(bad) * ceil(log2(1000))


def test_a_batch_that_is_bad_throughout_costs_little_more_than_a_request_a_record() -> None:
    """When everything is bad a few singles tell, and there is no halving all the way."""
    requests, blamed = requests_for(1000, set(range(1000)))
    assert len(blamed) == 1000
    assert requests <= 1020


def test_a_named_culprit_is_found_at_once() -> None:
    """When the reply names the culprit, three requests settle the batch."""
    requests, blamed = requests_for(
        1000, {123}, lambda records, bad: [r for r in records if r.ordinal in bad]
    )
    assert (requests, blamed) == (3, {123})


def test_a_reply_that_always_names_the_wrong_record_is_believed_only_a_few_times() -> None:
    """A message that points at good records costs a few requests, not one for each record."""
    requests, blamed = requests_for(1000, {999}, lambda records, bad: [records[0]])
    assert blamed == {999}
    assert requests < 40


@given(count=st.integers(1, 120), bad=st.sets(st.integers(0, 119)), lies=st.booleans())
def test_exactly_the_bad_are_blamed(count: int, bad: set[int], lies: bool) -> None:
    """Whatever is bad and whomever the replies point at, exactly the bad records are blamed."""
    bad = {ordinal for ordinal in bad if ordinal < count}
    requests, blamed = requests_for(
        count, bad, (lambda records, bad: records[1:3]) if lies else (lambda r, b: [])
    )
    assert blamed == bad
    assert requests <= 2 * count + 8
