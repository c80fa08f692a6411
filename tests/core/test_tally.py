"""The tally: counts, rates, percentiles and a ledger."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    InputOpened,
    Notice,
    Outcome,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.tally import WINDOW, Latencies, RecentRate, Tally
from tests.core.test_grouping import a_failure


def a_tally(*events, started: float = 100.0, total_bytes: int | None = None) -> Tally:
    tally = Tally(started, total_bytes)
    for event in events:
        tally.hear(event)
    return tally


def test_each_event_is_counted():
    """Every event lands in the count that it speaks of."""
    tally = a_tally(
        InputOpened("a", "ndjson", 1000),
        InputOpened("b", "json", None),
        BlockRead("a", 8, 900, 600),
        BlockRead("b", 2, 50, 70),
        BatchSent(101, 10, 900, retry=False, under_way=1),
        BatchSent(102, 2, 50, retry=True, under_way=2),
        Retrying(102, 2, "unavailable", "busy", 0.5),
        Notice(102, "Hello."),
        BatchReplied(103, 202, 2.0, 300, 1),
        BatchReplied(104, 429, 2.0, 20, 0),
        BatchReplied(104, None, 60.0, 0, 0),
        Settled(105, accepted=6, superseded=1, already_accepted=2, failed=[a_failure("x"), a_failure("x")]),
        Ended(107, Outcome.STOPPED, "Enough.", 1),
    )
    assert (tally.read, tally.accepted, tally.failed, tally.superseded) == (12, 6, 2, 1)
    assert (tally.already_accepted, tally.unsent, tally.settled) == (2, 1, 11)
    assert (tally.sent, tally.retried, tally.throttled, tally.nbytes, tally.wire_bytes) == (2, 1, 1, 950, 320)
    assert [(i.path, i.format, i.records, i.nbytes, i.position) for i in tally.inputs] == [
        ("a", "ndjson", 8, 900, 600),
        ("b", "json", 2, 50, 70),
    ]
    assert tally.latencies.percentile(99) == pytest.approx(2, rel=0.02)
    assert tally.groups.most_common()[0].count == 2
    assert (tally.seconds, tally.under_way) == (7, 0)
    assert tally.balance() is None


def test_one_input_twice():
    """An input that is named twice is two inputs."""
    tally = a_tally(
        InputOpened("a", "ndjson", 10),
        BlockRead("a", 1, 9, 10),
        InputOpened("a", "ndjson", 10),
        BlockRead("a", 2, 9, 10),
    )
    assert [source.records for source in tally.inputs] == [1, 2]


def test_failed_records_of_an_earlier_run():
    """Records that are tried again count for the input that they came from, opened in this run or not."""
    tally = a_tally(
        Settled(100, already_accepted=7),
        BlockRead("a", 1, 0, 0),
        BlockRead("b", 1, 0, 0),
        BlockRead("", 1, 0, 0),
        InputOpened("b", "ndjson", 100),
        BlockRead("b", 4, 40, 50),
        Settled(101, accepted=7),
    )
    assert [(source.path, source.format, source.records) for source in tally.inputs] == [
        ("a", None, 1),
        ("b", "ndjson", 5),
    ]
    assert (tally.read, tally.settled, tally.share()) == (14, 14, 0.5)


ENDED = Ended(100, Outcome.STOPPED, "", 0)
OPENED = InputOpened("a", "ndjson", None)


@given(st.tuples(*[st.integers(0, 50)] * 5), st.integers(-3, 3))
def test_the_ledger_balances_exactly_when_the_sum_is_right(counts, off):
    """The ledger balances if and only if every record that was read is in one of the other five counts."""
    accepted, failed, superseded, already_accepted, unsent = counts
    read = sum(counts) - already_accepted + off
    tally = a_tally(
        OPENED,
        BlockRead("a", read, 0, 0),
        Settled(100, accepted, superseded, already_accepted, [a_failure("x")] * failed),
        Ended(100, Outcome.STOPPED, "", unsent),
    )
    assert (tally.balance() is None) is (off == 0)


@pytest.mark.parametrize(
    ("failed", "unsent", "outcome", "dry_run", "balanced"),
    [
        (0, 0, Outcome.COMPLETE, False, True),
        (0, 1, Outcome.COMPLETE, False, False),
        (0, 1, Outcome.COMPLETE, True, True),
        (1, 0, Outcome.FAILURES, False, True),
        (1, 1, Outcome.FAILURES, False, False),
        (1, 1, Outcome.FAILURES, True, True),
        (1, 1, Outcome.STOPPED, False, True),
        (1, 1, Outcome.INTERRUPTED, False, True),
    ],
)
def test_an_outcome_that_the_counts_deny(failed, unsent, outcome, dry_run, balanced):
    """A run that is called complete or finished with records that are not is off the books."""
    tally = a_tally(
        OPENED,
        BlockRead("a", 5 + failed + unsent, 0, 0),
        Settled(100, accepted=5, failed=[a_failure("x")] * failed),
        Ended(100, outcome, "", unsent),
    )
    assert (tally.balance(dry_run=dry_run) is None) is balanced


def test_the_sentence_on_books_that_are_off():
    """What is off is said with every number that it takes to see where."""
    tally = a_tally(OPENED, BlockRead("a", 1003, 0, 0), Settled(100, accepted=995, superseded=2), ENDED)
    assert tally.balance() == (
        "The books do not balance: 1,003 records were read, but 997 are accounted for "
        "(995 accepted, 0 failed, 2 superseded, 0 already accepted, 0 unsent)."
    )


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_near(durations, percent):
    """A percentile is at most 2 % from the duration that stands at its rank."""
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    exact = sorted(durations)[ceil(len(durations) * percent / 100) - 1]
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.021)


@given(st.lists(st.floats(-1, 1e300), max_size=300))
def test_percentiles_take_flat_memory(durations):
    """Any number of any durations takes at most as many buckets as there are between 0.1 ms and a day."""
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    assert len(latencies._buckets) <= 530
    assert (latencies.percentile(50) is None) is (not durations)


def test_the_recent_rate_forgets():
    """A recent rate speaks of the last seconds: it follows a change and falls to nothing in silence."""
    rate = RecentRate(0.0)
    for second in range(100):
        rate.add(second, 1000 if second < 50 else 10)
    assert rate.per_second(100.0) == pytest.approx(10, rel=0.15)
    assert rate.per_second(100.0 + 2 * WINDOW) == 0


def test_the_recent_rate_before_a_whole_window():
    """At the beginning the rate is over the time since the start, and at the very start it is nothing."""
    rate = RecentRate(50.0)
    rate.add(51.0, 100)
    assert rate.per_second(52.0) == 50
    assert rate.per_second(50.0) == 0


def test_the_recent_rate_takes_flat_memory():
    """However often something is counted, a window holds a fixed number of slots and loses nothing."""
    rate = RecentRate(0.0)
    for event in range(10_000):
        rate.add(event / 1000, 1)
    assert len(rate._slots) <= 41
    assert rate.per_second(10.0) == pytest.approx(1000, rel=0.03)


def test_the_share_counts_what_is_settled():
    """Of what has been read, only what is settled is done; what is read ahead is not."""
    tally = a_tally(InputOpened("a", "ndjson", 1000), BlockRead("a", 100, 800, 800))
    assert tally.share() == 0
    tally.hear(Settled(110, accepted=50))
    assert tally.share() == pytest.approx(0.4)
    assert tally.seconds_left(110) == pytest.approx(15)


def test_the_share_of_several_inputs():
    """The share is of all inputs that were opened, and one of unknown size makes it unknown."""
    tally = a_tally(
        InputOpened("a", "ndjson", 100),
        BlockRead("a", 1, 60, 60),
        BlockRead("a", 1, 40, 100),
        InputOpened("b", "ndjson", 300),
        BlockRead("b", 1, 100, 100),
        Settled(101, accepted=3),
    )
    assert tally.share() == 0.5
    tally.hear(InputOpened("-", "ndjson", None))
    tally.hear(InputOpened("c", "ndjson", 100))
    assert tally.share() is None


def test_the_time_left_is_by_the_work_of_this_run():
    """What an earlier run has accepted says nothing of how fast this one is."""
    tally = a_tally(
        InputOpened("a", "ndjson", 1000),
        BlockRead("a", 100, 100, 900),
        Settled(100, already_accepted=800),
        Settled(110, accepted=100),
    )
    assert tally.share() == pytest.approx(0.9)
    assert tally.seconds_left(110) == pytest.approx(10)


@pytest.mark.parametrize(
    ("sizes", "total_bytes", "share"),
    [([100], None, 0.5), ([None], None, None), ([100], 200, 0.25), ([None], 200, 0.25), ([0], None, None)],
)
def test_the_share_is_known_when_the_size_is(sizes, total_bytes, share):
    """The share is of what was said at the start, else of the inputs' own sizes, else not known."""
    tally = a_tally(*(InputOpened("a", "ndjson", size) for size in sizes), total_bytes=total_bytes)
    tally.hear(BlockRead("a", 10, 50, 50))
    tally.hear(Settled(101, accepted=10))
    assert tally.share() == share


def test_a_wait_ends_with_the_next_request():
    """A wait stands until something is sent."""
    tally = a_tally(Waiting(101, "quota spent", 300))
    assert tally.waiting is not None
    tally.hear(BatchSent(300, 1, 1, retry=True, under_way=1))
    assert tally.waiting is None


def test_waits_are_summed_by_reason():
    """Each wait lasts until something is sent, another one begins, or the run ends."""
    tally = Tally(0.0)
    for event in (
        Waiting(1.0, "quota spent", 9.0),
        Waiting(4.0, "the service asked to wait", 6.0),
        BatchSent(6.0, 1, 1, retry=False, under_way=1),
        Waiting(7.0, "quota spent", None),
        Ended(9.5, Outcome.COMPLETE, "", 0),
    ):
        tally.hear(event)
    assert tally.waited == {"quota spent": 5.5, "the service asked to wait": 2.0}
