"""Laws of pacing: whatever the service answers, the bounds hold and there is always a way on."""

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cdf_upsert.core.pacing import Go, Observation, Pacing, Policy, Signal, Wait, WaitReason
from cdf_upsert.core.quota import Quota
from tests.simulations.service import Service, simulate


def observation(
    signal: Signal = Signal.CALM,
    *,
    started: float = 0.0,
    ended: float = 0.1,
    retry_after: float | None = None,
    records: int = 0,
    under_way: int = 1,
) -> Observation:
    return Observation(started, ended, signal, retry_after, records, 460_000, under_way)


def ask(pacing: Pacing, now: float, under_way: int = 0, *, retry: bool = False) -> Go | Wait:
    return pacing.may_send(now, under_way=under_way, records=1000, nbytes=460_000, retry=retry)


def limit_of(pacing: Pacing, now: float) -> int:
    return pacing.state(now).limit


def calm_rounds(pacing: Pacing, now: float, rounds: int, latency: float = 0.1) -> float:
    """Use the whole limit for so many round trips; the time after them."""
    for _ in range(rounds):
        limit = limit_of(pacing, now)
        for under_way in range(1, limit + 1):
            seen = observation(started=now, ended=now + latency, records=1000, under_way=under_way)
            pacing.observed(now + latency, seen)
        now += latency
    return now


def test_doubles_until_the_ceiling():
    """Nothing pushes back: the limit doubles with each round trip in which it was reached, up to 15."""
    pacing = Pacing(Policy(), 0.0)
    now, limits = 0.0, [limit_of(pacing, 0.0)]
    for _ in range(4):
        now = calm_rounds(pacing, now, 1)
        limits.append(limit_of(pacing, now))
    assert limits == [2, 4, 8, 15, 15]


def test_a_round_of_which_some_were_refused_proves_nothing():
    """Of a burst the first is refused and the last accepted: the next 429 goes back to the round that was calm."""
    pacing = Pacing(Policy(requests_per_second=30.0), 0.0)
    now = calm_rounds(pacing, 0.0, 3)
    assert limit_of(pacing, now) == 15
    for under_way in range(1, 16):
        signal = Signal.CALM if under_way in (2, 15) else Signal.THROTTLED
        ended = now + 0.02 + under_way / 1000
        pacing.observed(ended, observation(signal, started=now, ended=ended, under_way=under_way))
    pacing.observed(9.02, observation(Signal.THROTTLED, started=9.0, ended=9.02, under_way=15))
    assert limit_of(pacing, 9.02) == 8


def test_what_is_refused_with_so_many_under_way_and_never_with_fewer_is_one_too_many():
    """A third at once that was accepted once, then refused three times while two never are, is given up again."""
    pacing = Pacing(Policy(requests_per_second=30.0), 0.0)
    now = calm_rounds(pacing, 0.0, 2)
    for number in range(200):
        under_way = 1 + number % 3
        refused = under_way == 3 and number > 120
        if limit_of(pacing, now) == 2:
            break
        signal = Signal.THROTTLED if refused else Signal.CALM
        seen = observation(signal, started=now, ended=now + 0.05, records=0 if refused else 1000)
        pacing.observed(now + 0.05, replace(seen, under_way=under_way))
        now += 2.0
    assert limit_of(pacing, now) == 2
    assert 120 < number <= 140


def test_does_not_grow_when_the_limit_was_not_reached():
    """One request at a time says nothing of two: the limit stays."""
    pacing = Pacing(Policy(), 0.0)
    for i in range(50):
        pacing.observed(i + 0.1, observation(started=i, ended=i + 0.1, records=1000, under_way=1))
    assert limit_of(pacing, 60.0) == 2


def test_does_not_grow_when_the_latency_has_doubled():
    """16 at once take 200 ms where 8 took 100: the limit stays; at three times as long it comes down."""
    pacing = Pacing(Policy(ceiling=40), 0.0)
    now = calm_rounds(pacing, 0.0, 3)
    assert limit_of(pacing, now) == 16
    now = calm_rounds(pacing, now, 8, latency=0.2)
    assert limit_of(pacing, now) == 16
    now = calm_rounds(pacing, now, 3, latency=0.6)
    assert limit_of(pacing, now) < 16


def test_after_an_outage_it_begins_with_one_at_once():
    """The breaker closes: one request, then two, not fifteen at a service that has just come back."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 5)
    for _ in range(5):
        pacing.observed(now, observation(Signal.UNAVAILABLE, started=now - 0.05, ended=now, under_way=15))
    pacing.observed(now + 2.0, observation(started=now + 1.5, ended=now + 2.0, records=1000))
    assert limit_of(pacing, now + 2.0) <= 2


def test_decides_once_a_round_trip():
    """Fifteen refusals of requests that were sent at the same moment are one push-back."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 4)
    for under_way in range(1, 16):
        seen = observation(Signal.UNAVAILABLE, started=now, ended=now + 0.1, under_way=under_way)
        if under_way < 5:  # The fifth in a row opens the breaker, which is another matter.
            pacing.observed(now + 0.1, seen)
    assert limit_of(pacing, now + 0.1) == 12


def test_a_single_failure_is_forgotten_after_a_calm_round_trip():
    """One 503 brings the limit down at once; when the next round trip is calm it is where it was."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 4)
    pacing.observed(now + 0.1, observation(Signal.UNAVAILABLE, started=now, ended=now + 0.1, under_way=3))
    assert limit_of(pacing, now) == 12
    now = calm_rounds(pacing, now + 0.1, 1)
    assert limit_of(pacing, now) == 15


def test_throttling_goes_back_to_what_was_fine():
    """429 at fifteen at once, eight were fine: eight."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 3)
    assert limit_of(pacing, now) == 15
    pacing.observed(now + 0.02, observation(Signal.THROTTLED, started=now, ended=now + 0.02, under_way=12))
    assert limit_of(pacing, now + 0.02) == 8


def test_throttling_of_what_was_fine_is_about_the_pace():
    """429 at a number at once that was seen to be fine brings down the pace, not the number."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 20)
    assert pacing.state(now).pace is None
    pacing.observed(now + 0.02, observation(Signal.THROTTLED, started=now, ended=now + 0.02, under_way=12))
    state = pacing.state(now + 0.02)
    assert state.limit == 15
    assert state.pace == pytest.approx(150, abs=20)  # What was accepted in the last second.


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_429_before_anything_was_accepted_measures_no_pace(concurrency):
    """The first reply of a run is 429: half a second of pause for all, then on as before."""
    pacing = Pacing(Policy(concurrency=concurrency), 0.0)
    pacing.observed(0.1, observation(Signal.THROTTLED))
    assert pacing.state(0.1).pace is None
    assert ask(pacing, 0.1) == Wait(0.6, WaitReason.PACE)
    assert isinstance(ask(pacing, 0.6), Go)


def test_one_429_after_the_other_brings_an_unmeasured_pace_down():
    """Two refusals and nothing accepted: five a second, and half of that when more of them follow."""
    pacing = Pacing(Policy(concurrency=4), 0.0)
    paces = []
    for at in (0.1, 1.0, 2.5, 4.0):
        pacing.observed(at, observation(Signal.THROTTLED, started=at - 0.05, ended=at))
        paces.append(pacing.state(at).pace)
    assert paces == [None, 5.0, 2.5, 1.25]


@pytest.mark.parametrize("signal", [Signal.THROTTLED, Signal.UNAVAILABLE])
def test_retry_after_holds_for_all(signal):
    """One reply that says when to come back stops everything until then, at any number under way."""
    pacing = Pacing(Policy(), 0.0)
    pacing.observed(1.0, observation(signal, started=0.9, ended=1.0, retry_after=7.0))
    assert ask(pacing, 7.9) == Wait(8.0, WaitReason.RETRY_AFTER)
    assert ask(pacing, 7.9, under_way=1) in (Wait(8.0, WaitReason.RETRY_AFTER), Wait(inf, WaitReason.LIMIT))
    assert isinstance(ask(pacing, 8.01), Go)


def test_a_shorter_retry_after_does_not_shorten_a_longer_one():
    """The longest wait that any reply asked for counts."""
    pacing = Pacing(Policy(), 0.0)
    pacing.observed(1.0, observation(Signal.THROTTLED, started=0.9, ended=1.0, retry_after=7.0))
    pacing.observed(1.1, observation(Signal.THROTTLED, started=0.9, ended=1.1, retry_after=1.0))
    assert ask(pacing, 5.0) == Wait(8.0, WaitReason.RETRY_AFTER)


def test_retry_after_of_a_calm_reply_is_nothing():
    """A 202 that carries the header asks for nothing."""
    pacing = Pacing(Policy(), 0.0)
    pacing.observed(1.0, observation(Signal.CALM, started=0.9, ended=1.0, retry_after=7.0))
    assert isinstance(ask(pacing, 1.1), Go)


def test_fixed_concurrency():
    """`--concurrency 3` is three, after calm and after trouble; the wait for a reply has no end of its own."""
    pacing = Pacing(Policy(concurrency=3), 0.0)
    now = calm_rounds(pacing, 0.0, 10)
    pacing.observed(now, observation(Signal.UNAVAILABLE, started=now, ended=now))
    pacing.observed(now, observation(Signal.THROTTLED, started=now, ended=now, under_way=3))
    assert limit_of(pacing, now) == 3
    assert ask(pacing, now + 10, under_way=3) == Wait(inf, WaitReason.LIMIT)


def test_max_rate_holds_after_each_request():
    """At 500 records a second a batch of a thousand takes two seconds."""
    pacing = Pacing(Policy(max_rate=500.0), 0.0)
    pacing.sent(1.0, records=1000, nbytes=1, retry=False)
    assert ask(pacing, 1.0) == Wait(3.0, WaitReason.MAX_RATE)
    assert isinstance(ask(pacing, 3.0), Go)


def test_known_budget_paces_from_the_start():
    """30 a second known beforehand: one in 34 ms."""
    pacing = Pacing(Policy(requests_per_second=30.0), 0.0)
    pacing.sent(1.0, records=1000, nbytes=1, retry=False)
    pacing.sent(1.0, records=1000, nbytes=1, retry=False)
    answer = ask(pacing, 1.0)
    assert isinstance(answer, Wait)
    assert answer.reason is WaitReason.PACE
    assert answer.until == pytest.approx(1 + 1 / 29.1)


def test_breaker_opens_and_probes_alone():
    """Five failures in a row: a second of rest, then one request alone; a calm reply closes it."""
    pacing = Pacing(Policy(), 0.0)
    for _ in range(5):
        pacing.observed(1.0, observation(Signal.UNAVAILABLE, started=0.5, ended=1.0))
    assert ask(pacing, 1.5) == Wait(2.0, WaitReason.BREAKER)
    assert pacing.state(1.5).breaker_open
    assert isinstance(ask(pacing, 2.0), Go)
    assert isinstance(ask(pacing, 2.0, under_way=1), Wait)
    pacing.observed(2.5, observation(started=2.0, ended=2.5, records=1000))
    assert not pacing.state(2.5).breaker_open


def test_breaker_rests_longer_after_each_failed_probe():
    """1, 2, 4 … seconds, never more than thirty."""
    pacing = Pacing(Policy(), 0.0)
    now, rests = 1.0, []
    for _ in range(5):
        pacing.observed(now, observation(Signal.UNAVAILABLE, started=now - 0.5, ended=now))
    for _ in range(8):
        answer = ask(pacing, now)
        assert isinstance(answer, Wait)
        rests.append(answer.until - now)
        now = answer.until
        pacing.observed(now + 0.1, observation(Signal.UNAVAILABLE, started=now, ended=now + 0.1))
        now += 0.1
    assert rests == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30])


def test_a_reply_from_before_the_breaker_opened_does_not_lengthen_its_rest():
    """Ten requests were under way when the service died: they are one outage."""
    pacing = Pacing(Policy(), 0.0)
    for _ in range(10):
        pacing.observed(1.0, observation(Signal.UNAVAILABLE, started=0.5, ended=1.0))
    assert ask(pacing, 1.5) == Wait(2.0, WaitReason.BREAKER)


def test_after_two_rounds_of_429_one_request_goes_alone():
    """Nothing was calm between them: the next one goes by itself, after a pause; a calm reply ends that."""
    pacing = Pacing(Policy(concurrency=4), 0.0)
    now = calm_rounds(pacing, 0.0, 5)
    for at in (now + 0.5, now + 1.5):
        pacing.observed(at, observation(Signal.THROTTLED, started=at - 0.05, ended=at, under_way=4))
    now += 5.0
    assert isinstance(ask(pacing, now), Go)
    assert ask(pacing, now, under_way=1) == Wait(inf, WaitReason.LIMIT)
    pacing.observed(now + 0.1, observation(started=now, ended=now + 0.1, records=1000))
    assert ask(pacing, now + 5.0, under_way=1) != Wait(inf, WaitReason.LIMIT)


def test_what_a_spent_quota_refused_says_nothing_of_limit_and_pace():
    """Four 429 in a row brought both down; the next one says that it was the quota: both are as before."""
    pacing = Pacing(Policy(), 0.0)
    now = calm_rounds(pacing, 0.0, 20)
    before = pacing.state(now)
    for after in (0.1, 1.0, 2.5, 4.5):
        pacing.observed(
            now + after,
            observation(Signal.THROTTLED, started=now + after - 0.05, ended=now + after, under_way=15),
        )
    down = pacing.state(now + 4.5)
    assert down.pace is not None
    pacing.observed(now + 9.0, observation(Signal.THROTTLED, started=now + 8.9, ended=now + 9.0))
    after = pacing.state(now + 9.0)
    assert (after.limit, after.pace) == (before.limit, before.pace) != (down.limit, down.pace)


def test_a_batch_that_is_accepted_in_part_does_not_open_the_breaker():
    """503 for one record of each batch is trouble, but the service is there."""
    pacing = Pacing(Policy(), 0.0)
    for i in range(20):
        pacing.observed(i, observation(Signal.UNAVAILABLE, started=i - 0.5, ended=i, records=999))
    assert not pacing.state(20.0).breaker_open


def test_retry_budget():
    """Sixty retries at once are too many; what goes well earns the next ones, and time does."""
    pacing = Pacing(Policy(), 0.0)
    for _ in range(60):
        pacing.sent(0.0, records=1000, nbytes=1, retry=True)
    assert ask(pacing, 1.0, retry=True) == Wait(2.0, WaitReason.RETRY_BUDGET)
    assert isinstance(ask(pacing, 1.0), Go)
    assert isinstance(ask(pacing, 2.0, retry=True), Go)
    for _ in range(2):
        pacing.observed(1.1, observation(started=1.0, ended=1.1, records=1000))
    assert isinstance(ask(pacing, 1.1, retry=True), Wait)
    pacing.observed(1.1, observation(started=1.0, ended=1.1, records=1000))
    assert isinstance(ask(pacing, 1.2, retry=True), Go)


def test_the_question_changes_nothing():
    """Asked a hundred times, the answer and the state are the same."""
    pacing = Pacing(Policy(quota=Quota(created=5000)), 0.0)
    calm_rounds(pacing, 0.0, 2)
    answers = {ask(pacing, 1.0, retry=True) for _ in range(100)}
    assert len(answers) == 1
    assert len({pacing.state(1.0) for _ in range(3)}) == 1


def test_state_tells_the_throttled_share_and_the_wait():
    """Screen, log and report see what holds things up."""
    pacing = Pacing(Policy(quota=Quota(created=10_000)), 0.0)
    pacing.observed(1.0, observation(started=0.0, ended=1.0, records=1000))
    pacing.observed(1.0, observation(Signal.THROTTLED, started=0.5, ended=1.0, retry_after=20.0))
    state = pacing.state(2.0)
    assert state.throttled_share == 0.5
    assert state.wait is not None
    assert state.wait.until == 21.0


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(Signal),
        st.floats(0.0, 3.0),  # Seconds until the next reply.
        st.floats(0.001, 5.0),  # How long that one took.
        st.one_of(st.none(), st.floats(0.0, 90.0)),
        st.integers(0, 1000),
        st.integers(1, 15),
    ),
    max_size=60,
)
POLICIES = st.builds(
    Policy,
    concurrency=st.one_of(st.none(), st.integers(1, 15)),
    requests_per_second=st.one_of(st.none(), st.floats(0.5, 60.0)),
    max_rate=st.one_of(st.none(), st.floats(1.0, 1e6)),
    quota=st.one_of(
        st.none(),
        st.builds(
            Quota,
            window=st.floats(1.0, 1000.0),
            created=st.one_of(st.none(), st.integers(1, 200_000)),
            updated=st.one_of(st.none(), st.integers(1, 200_000)),
            nbytes=st.one_of(st.none(), st.integers(1000, 10**9)),
        ),
    ),
    jitter=st.floats(0.0, 0.999),
)


@given(policy=POLICIES, happened=EVENTS, retry=st.booleans())
def test_whatever_happened_there_is_a_way_on(policy, happened, retry):
    """With nothing under way a wait has an end; after some waits a request may go, and the limit is 1 to 15."""
    now = 0.0
    pacing = Pacing(policy, now)
    for signal, later, latency, retry_after, records, under_way in happened:
        now += later
        accepted = 0 if signal is Signal.THROTTLED else records
        if signal is not Signal.THROTTLED:
            pacing.sent(now - latency, records=records, nbytes=records * 460, retry=retry)
        pacing.observed(
            now, Observation(now - latency, now, signal, retry_after, accepted, records * 460, under_way)
        )
        assert 1 <= limit_of(pacing, now) <= 15
    for _ in range(200):
        answer = ask(pacing, now, retry=retry)
        if isinstance(answer, Go):
            assert answer.records_at_most is None or answer.records_at_most >= 1
            return
        assert now < answer.until < inf
        now = answer.until
    pytest.fail("it waits for ever")


SERVICES = st.fixed_dictionaries(
    {
        "latency": st.just(0.2),
        "at_once": st.integers(1, 15),
        "retry_after": st.booleans(),
        "chaos": st.just(0.02),
    },
    optional={
        "quota": st.fixed_dictionaries(
            {
                "records": st.integers(1200, 50_000),
                "window": st.just(60.0),
                "kind": st.sampled_from(["fixed", "sliding", "bucket"]),
            }
        )
    },
)


@given(policy=POLICIES, spec=SERVICES, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_service_that_accepts_gets_everything(policy, spec, seed):
    """Whatever the limits and whatever was believed of them: the load ends, with every record accepted."""
    outcome = simulate(Service(spec, seed), policy, records=20_000, until=1e9)
    assert not outcome.stalled
    assert outcome.accepted == 20_000


@given(seed=st.integers(0, 10_000), limit=st.integers(1, 15))
@settings(max_examples=20, deadline=None)
def test_never_more_under_way_than_the_limit(seed, limit):
    """The simulated loader, which asks before each request, never has more under way than was wanted."""
    dice = random.Random(seed)
    spec = {"latency": dice.uniform(0.01, 1.0), "spread": 0.5, "chaos": 0.1}
    outcome = simulate(Service(spec, seed), Policy(concurrency=limit), records=200_000, until=60)
    assert outcome.most_at_once <= limit
