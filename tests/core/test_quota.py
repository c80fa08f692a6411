"""Quota windows: what is known beforehand, the sliding window, and what replies teach."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.quota import TEMPLATES, Quota, parse_quota
from cdf_upsert.core.spending import LONGEST_PROBE, PROBE_RECORDS, Spending, _Spent
from cdf_upsert.core.traffic import Go, Observation, Signal, Wait, WaitReason
from cdf_upsert.core.window import SlidingWindow

LIVE = TEMPLATES["BasicLiveData"]


def accept(spending: Spending, now: float, records: int = 1000, started: float | None = None) -> None:
    begun = now - 0.1 if started is None else started
    spending.sent(begun, records=records, nbytes=records * 460)
    spending.accepted(now, Observation(begun, now, Signal.CALM, None, records, records * 460, 1))


def refuse(spending: Spending, now: float, *, retry_after: float | None = None, under_way: int = 1) -> bool:
    seen = Observation(now - 0.1, now, Signal.THROTTLED, retry_after, 0, 460_000, under_way)
    return spending.refused(now, seen)


def ask(spending: Spending, now: float, records: int = 1000, under_way: int = 0) -> Go | Wait:
    return spending.ask(now, under_way=under_way, records=records, nbytes=records * 460)


def spend(spending: Spending, records: int, start: float = 1.0, step: float = 0.05) -> float:
    """Have so many records accepted, a thousand at a time; when that was done."""
    now = start
    for _ in range(records // 1000):
        accept(spending, now)
        now += step
    return now - step


def test_published_quotas():
    """The numbers are those that Cognite publishes for its templates."""
    assert Quota(600.0, 170_000, 85_000, 170_000_000) == LIVE
    assert TEMPLATES["ImmutableTestStream"].created == 800_000
    assert TEMPLATES["BasicArchive"].updated is None


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("170000/10m", Quota(600.0, 170_000, 170_000)),
        (" 5 / 1.5s ", Quota(1.5, 5, 5)),
        ("1000000/1h", Quota(3600.0, 1_000_000, 1_000_000)),
    ],
)
def test_parse_quota(text, quota):
    """A quota is written as RECORDS/DURATION."""
    assert parse_quota(text) == quota


@pytest.mark.parametrize("text", ["", "12", "12/", "/10m", "0/10m", "10/0s", "10/10x", "-1/10m", "1e3/10m"])
def test_parse_quota_names_the_fault(text):
    """Another form is refused with a sentence that shows the right one."""
    with pytest.raises(ValueError, match="write RECORDS/DURATION, such as 170000/10m"):
        parse_quota(text)


@given(
    added=st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(1, 1000)), min_size=1, max_size=400),
    later=st.floats(0.0, 700.0),
)
def test_sliding_window_holds_what_is_within_it(added, later):
    """The total is that of the last 600 s, give or take one of 240 parts, and memory stays flat."""
    window, now, log = SlidingWindow(600.0), 0.0, []
    for step, records in added:
        now += step
        window.add(now, records, records * 10)
        log.append((now, records))
    now += later
    records, nbytes = window.total(now)
    assert sum(n for at, n in log if at > now - 600.0) <= records
    assert records <= sum(n for at, n in log if at > now - 600.0 - 600.0 / 240)
    assert nbytes == records * 10
    assert len(window.slots) <= 242


def test_sliding_window_tells_when_there_is_room():
    """Room comes when the oldest part has left the window."""
    window = SlidingWindow(600.0)
    window.add(10.0, 100, 0)
    window.add(50.0, 200, 0)
    assert window.room_at(60.0, 300, inf) == 60.0
    assert window.room_at(60.0, 200, inf) == 610.0
    assert window.room_at(60.0, 0, inf) == 650.0


def test_a_known_quota_allows_the_burst_and_then_waits():
    """170,000 records go at once; the next one waits, and nothing was refused to find that out."""
    spending = Spending(LIVE)
    now = spend(spending, 169_000)
    assert ask(spending, now) == Go()
    assert ask(spending, now, under_way=1) == Wait(inf, WaitReason.QUOTA)
    accept(spending, now + 0.1)
    answer = ask(spending, now + 0.2)
    assert isinstance(answer, Wait)
    assert answer.reason is WaitReason.QUOTA
    assert spending.left(now + 0.2) == 0.0


def test_bytes_are_a_quota_too():
    """A hundred and seventy megabytes are spent before the records are."""
    spending = Spending(LIVE)
    for i in range(17):
        now = 1.0 + i
        spending.accepted(now, Observation(now - 0.5, now, Signal.CALM, None, 100, 10_000_000, 1))
    answer = spending.ask(20.0, under_way=0, records=100, nbytes=10_000_000)
    assert isinstance(answer, Wait)
    assert answer.reason is WaitReason.QUOTA


def test_the_books_open_again_when_the_window_has_passed():
    """What was accepted first leaves the window after ten minutes."""
    spending = Spending(LIVE)
    now = spend(spending, 170_000)
    for at in (now + 4, now + 60, now + 300):
        refuse(spending, at)
    assert isinstance(ask(spending, 590.0, under_way=1), Wait)
    assert ask(spending, 604.0) == Go()


def test_probes_are_small_rare_and_alone():
    """While the quota is spent there is a probe now and then, at growing intervals up to a minute."""
    spending = Spending(LIVE)
    now = spend(spending, 170_000)
    gaps = []
    while now < 590:
        answer = ask(spending, now)
        if isinstance(answer, Go):
            assert answer.records_at_most == PROBE_RECORDS
            assert isinstance(ask(spending, now, under_way=1), Wait)
            refuse(spending, now + 0.1)
            now += 0.1
        else:
            gaps.append(answer.until - now)
            now = answer.until
    probes = gaps[:-1]
    assert probes == pytest.approx(sorted(probes))
    assert probes[0] == pytest.approx(3.53, abs=0.01)  # In which a bucket would regain a thousand.
    assert max(probes) <= LONGEST_PROBE + 1e-6
    assert len(probes) < 20


def test_a_remainder_is_no_new_window():
    """With 430 records left the probe is larger than that, so that to accept it tells something."""
    spending = Spending(LIVE)
    now = spend(spending, 169_000)
    accept(spending, now + 0.1, records=570)
    wait = ask(spending, now + 0.2)
    assert isinstance(wait, Wait)
    assert ask(spending, wait.until) == Go(480)
    assert ask(spending, now + 0.2, records=430) == Go()


def test_what_was_left_of_a_refused_batch_is_no_new_window():
    """Of a batch that was refused a part may fit: that the part is accepted does not make a bucket."""
    spending = Spending(None)
    now = spend(spending, 170_000)
    for after in (0.2, 1.0, 3.0, 5.5):
        refuse(spending, now + after)
    now += 6
    for _ in range(10):
        wait = ask(spending, now)
        if isinstance(wait, Wait):
            now = wait.until
        assert ask(spending, now) == Go(PROBE_RECORDS)
        accept(spending, now, records=50, started=now)
        now += 0.3
        refuse(spending, now)
    assert isinstance(ask(spending, now), Wait)
    assert isinstance(spending.state, _Spent)


def test_an_accepted_probe_opens_the_window_step_by_step():
    """After a probe is accepted one batch goes alone, then a quarter as many at once as were accepted."""
    spending = Spending(LIVE)
    now = spend(spending, 170_000) + 100
    accept(spending, now, records=50)
    assert ask(spending, now) == Go()
    assert isinstance(ask(spending, now, under_way=1), Wait)
    for _ in range(8):
        now += 1
        accept(spending, now)
    assert ask(spending, now, under_way=1) == Go()
    assert isinstance(ask(spending, now, under_way=2), Wait)


def test_a_first_window_that_was_cut_short_tells_nothing_of_the_next():
    """It ended after five minutes: the next is probed once at that age, and then when ten minutes are nearly over."""
    spending = Spending(None)
    now = spend(spending, 170_000)
    refuse(spending, now + 0.1, retry_after=20.0)
    refuse(spending, 280.0)
    opened = 300.0
    now = spend(spending, 170_000, start=opened)
    refuse(spending, now + 1.0)
    ages = []
    while now < 900:
        wait = ask(spending, now)
        if isinstance(wait, Wait):
            now = wait.until
        else:
            ages.append(now - opened)
            refuse(spending, now + 0.1)
            now += 0.2
    assert ages == pytest.approx([299, 580, 585, 590, 595], abs=1.5)


def test_a_bucket_is_recognised_and_used_evenly():
    """Two openings that give next to nothing: what follows goes at 283 records a second."""
    spending = Spending(LIVE)
    now = spend(spending, 170_000)
    for _ in range(2):
        wait = ask(spending, now)
        assert isinstance(wait, Wait)
        now = wait.until
        accept(spending, now, records=50, started=now)
        accept(spending, now + 0.1, records=1000, started=now)
        now += 0.3
        refuse(spending, now)
    waits = []
    for _ in range(5):
        wait = ask(spending, now)
        assert isinstance(wait, Wait)
        waits.append(wait.until - now)
        now = wait.until
        accept(spending, now, started=now)
    assert waits[1:] == pytest.approx([1000 / 283.3 / 0.99] * 4, rel=0.02)


def test_a_429_at_the_quota_of_updates_is_taken_for_it():
    """At 85,000 records of a stream that takes 170,000 new ones the service counts them as updates."""
    spending = Spending(LIVE)
    now = spend(spending, 85_000)
    assert refuse(spending, now + 0.1)
    assert spending.left(now + 0.2) == 0.0
    assert spending.believed() == Quota(600.0, 85_000, 85_000, 170_000_000)


def test_a_429_far_from_the_quota_is_about_the_pace():
    """A first 429 with most of the quota left is no spent quota."""
    spending = Spending(LIVE)
    now = spend(spending, 20_000)
    assert not refuse(spending, now + 0.1)
    assert ask(spending, now + 0.2) == Go()


def test_a_429_that_outlasts_the_short_backoff_is_a_spent_quota():
    """Of an unknown template nothing is known but 429 and nothing else for five seconds."""
    spending = Spending(None)
    now = spend(spending, 20_000)
    assert [refuse(spending, now + after) for after in (0.2, 1.0, 3.0, 5.5)] == [False, False, False, True]
    assert isinstance(ask(spending, now + 5.6), Wait)


def test_three_429_of_a_slow_input_are_no_spent_quota():
    """Seconds apart they may be chance: it takes a fourth, and one record accepted between begins the count anew."""
    spending = Spending(None)
    now = spend(spending, 20_000)
    assert [refuse(spending, now + after) for after in (3.0, 6.0, 9.0)] == [False] * 3
    accept(spending, now + 12.0)
    assert [refuse(spending, now + after) for after in (15.0, 18.0, 21.0, 24.0)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_long_retry_after_is_a_spent_quota():
    """Budgets are per second: who asks for minutes means the window."""
    spending = Spending(None)
    now = spend(spending, 20_000)
    assert refuse(spending, now + 0.1, retry_after=400.0)
    assert ask(spending, now + 1) == Wait(pytest.approx(now + 400.1), WaitReason.QUOTA)
    assert ask(spending, now + 401) == Go(None)


def test_an_unknown_quota_is_not_bounded():
    """Nothing known, nothing refused: no wait, and nothing is said to be left."""
    spending = Spending(None)
    now = spend(spending, 500_000, step=0.01)
    assert ask(spending, now) == Go()
    assert spending.left(now) is None
    assert spending.believed() is None


def test_a_window_smaller_than_a_batch_gets_parts_of_it():
    """A quota of 300 records takes batches of 300."""
    assert ask(Spending(Quota(60.0, 300, 300)), 0.0) == Go(300)
