"""The edge before there is a pace, and the steps of one that was found."""

from cdf_upsert.core.rates import EXPLORE_AFTER, Edge, Pace, known_pace
from cdf_upsert.core.traffic import Observation, Signal


def reply(started: float, ended: float, signal: Signal = Signal.CALM) -> Observation:
    return Observation(started, ended, signal, None, 1000, 460_000, 1)


def sent_within_a_second(edge: Edge) -> None:
    for number in range(edge.fine - len(edge.sent_at)):
        edge.sent(number / 1000)


def test_the_edge_lets_one_two_four_and_eight_more_go():
    """Each lot waits for a calm reply to the one before; after fifteen more there is no edge."""
    edge = Edge()
    sent_within_a_second(edge)
    now, lots = 0.1, []
    for _ in range(6):
        lot = 0
        while edge.wait_until(now) <= now and lot < 100:
            edge.sent(now)
            lot += 1
        lots.append(lot)
        if edge.observe_calm(reply(now, now + 0.01)):
            break
        now += 0.02
    assert lots == [1, 2, 4, 8]


def test_the_edge_waits_for_a_second_to_pass():
    """Without a calm reply nothing more goes until the first of the thirty requests is a second old."""
    edge = Edge()
    sent_within_a_second(edge)
    edge.sent(0.1)
    assert edge.wait_until(0.1) > 0.1
    assert edge.wait_until(0.1) == edge.sent_at[-edge.fine] + 1.0
    assert edge.wait_until(1.1) == 1.1


def test_a_reply_to_what_was_sent_before_the_edge_does_not_move_it():
    """It was sent when a second held fewer requests."""
    edge = Edge()
    sent_within_a_second(edge)
    edge.sent(0.1)
    edge.observe_calm(reply(0.02, 0.11))
    assert edge.wait_until(0.11) > 0.11


def test_a_refusal_beyond_the_edge_gives_the_pace_of_what_was_fine():
    """29 in a second were fine, one more was refused: nearly 29 a second, after a second of rest."""
    pace = known_pace(None)
    for number in range(30):
        pace.sent(number / 1000)
    assert pace.observe_throttled(0.05, reply(0.029, 0.05, Signal.THROTTLED))
    assert pace.value is not None
    assert 28 <= pace.value <= 29
    assert pace.wait_until(0.05) >= 1.0
    assert pace.edge is None


def steady(pace: Pace, now: float, replies: int) -> float:
    """So many calm replies, as fast as the pace allows."""
    for _ in range(replies):
        now = max(now, pace.wait_until(now))
        pace.sent(now)
        pace.observe_calm(now, reply(now, now))
    return now


def test_a_refused_step_goes_back_to_what_was_fine():
    """20 a second were fine, and a step up was not: 20 again; the next refusal is about 20 itself."""
    pace = Pace(value=20.0, bad=20.1)
    now = steady(pace, 0.0, EXPLORE_AFTER + 1)
    assert pace.value is not None
    assert pace.value > 20.1
    pace.observe_throttled(now, reply(now, now, Signal.THROTTLED))
    assert pace.value == 20.0
    pace.observe_throttled(now + 2.0, reply(now, now, Signal.THROTTLED))
    assert pace.value < 20.0


def test_a_step_lasts_a_second_at_least():
    """At 200 a second fifty replies are a quarter of a second, which a budget per second does not notice."""
    pace = Pace(value=190.0, bad=400.0)
    pace.observe_throttled(0.0, reply(0.0, 0.0, Signal.THROTTLED))
    before = pace.value
    assert before is not None
    steady(pace, 0.1, int(before * 0.9))
    assert pace.value == before


def test_a_pace_that_bounds_nothing_does_not_go_up():
    """20 a second are allowed and 2 are asked for: that they are calm says nothing of more."""
    pace = Pace(value=20.0, bad=40.0)
    now = 0.0
    for _ in range(200):
        now += 0.5
        pace.sent(now)
        pace.observe_calm(now, reply(now, now))
    assert pace.value == 20.0


def test_a_pace_that_rested_catches_up_with_nothing():
    """After a second that the service asked for, requests are an interval apart from the first on."""
    pace = Pace(value=10.0, next_at=4.9)
    pace.rest(5.0, 6.0)
    assert pace.wait_until(5.0) == 6.0
    pace.sent(6.0)
    assert pace.wait_until(6.0) == 6.1


def test_a_429_among_many_does_not_stand_alone():
    """Five of twelve refused, round after round, are no chance, however many calm replies lie between."""
    pace = Pace()
    for second in range(3):
        pace.each_refused.extend([float(second)] * 7)
        bounded = pace.observe_throttled(second, reply(second - 0.05, second, Signal.THROTTLED))
        assert bounded == (second > 0)
        for number in range(5):
            pace.observe_calm(second + 0.01 * number, reply(second, second + 0.01 * number))


def test_a_pace_that_was_not_to_blame_goes_up_beyond_what_was_refused():
    """What was refused for the number at once holds the pace back no longer."""
    pace = Pace(value=10.0, bad=10.2, step_at=10)
    pace.acquit()
    for number in range(10):
        pace.observe_calm(number / 10, reply(number / 10 - 0.05, number / 10))
    assert pace.value is not None
    assert pace.value > 10.2
