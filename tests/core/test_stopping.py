"""When a run stops by itself, and when it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.events import BatchSent, Retrying, Settled
from cdf_upsert.core.framing import Place
from cdf_upsert.core.record import Failed, Failure, FailureClass
from cdf_upsert.core.stopping import (
    FIRST_ALIKE,
    FailureCount,
    FailurePercent,
    StopKind,
    Stopping,
    StoppingPolicy,
    parse_max_failures,
)


def failures(
    number: int, message: str = "no container 'c1'", kind: FailureClass = FailureClass.REJECTED
) -> list[Failed]:
    place = Place("a.ndjson", 1, 1, 0, 10)
    return [Failed(i, place, Failure(kind, message, 400, "id", 1), b"{}") for i in range(number)]


def stopping(**policy) -> Stopping:
    return Stopping(StoppingPolicy(**policy), 100.0)


def kind_of(run: Stopping, now: float) -> StopKind | None:
    stop = run.verdict(now)
    return None if stop is None else stop.kind


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0", FailureCount(0)),
        ("100", FailureCount(100)),
        ("2%", FailurePercent(2.0)),
        ("0.5 %", FailurePercent(0.5)),
    ],
)
def test_parse_max_failures(text, meant):
    """A count or a percentage."""
    assert parse_max_failures(text) == meant


@pytest.mark.parametrize("text", ["", "-1", "many", "101%", "1.5", "%"])
def test_parse_max_failures_names_the_fault(text):
    """Anything else is refused with a sentence that shows both forms."""
    with pytest.raises(ValueError, match="write a count such as 100, or a share such as 2%"):
        parse_max_failures(text)


@given(allowed=st.integers(0, 50), failed=st.integers(0, 60))
def test_max_failures_is_how_many_may_fail(allowed, failed):
    """Exactly the allowed number goes on, one more stops."""
    run = stopping(max_failures=FailureCount(allowed))
    run.hear(Settled(101.0, accepted=5, failed=failures(failed)))
    assert (kind_of(run, 101.0) is StopKind.MAX_FAILURES) == (failed > allowed)


def test_the_reason_of_max_failures_is_a_sentence_with_the_numbers():
    """The user sees what failed, of how many, and what was allowed."""
    run = stopping(max_failures=FailureCount(2))
    run.hear(Settled(101.0, accepted=1997, failed=failures(3)))
    stop = run.verdict(101.0)
    assert stop is not None
    assert stop.reason == "Stopped because 3 of 2,000 records failed, and --max-failures allows 2."


def test_a_percentage_waits_for_a_sample():
    """Three of the first ten say nothing of a million; thirty of the first thousand do."""
    run = stopping(max_failures=FailurePercent(2.0))
    run.hear(Settled(101.0, accepted=7, failed=failures(3)))
    assert run.verdict(101.0) is None
    run.hear(Settled(102.0, accepted=963, failed=failures(27)))
    assert kind_of(run, 102.0) is StopKind.MAX_FAILURES


@pytest.mark.parametrize(("percent", "sample"), [(5.0, 1000), (1.0, 1000), (0.1, 10_000), (0.0, 1000)])
def test_a_low_percentage_needs_a_large_sample(percent, sample):
    """Ten failures are expected in the sample when the percentage is just reached."""
    assert FailurePercent(percent).sample == sample


def test_max_duration():
    """After an hour, not before; the deadline says when to look."""
    run = stopping(max_duration=3600.0)
    assert run.deadline(100.0) == 3700.0
    assert run.verdict(3699.0) is None
    assert kind_of(run, 3700.0) is StopKind.MAX_DURATION
    assert run.deadline(3700.0) is None


def test_patience_counts_while_the_service_puts_off():
    """Thirty minutes without a record being accepted, from the first batch that was put off."""
    run = stopping(patience=1800.0)
    run.hear(Retrying(500.0, 1000, "throttled", "", 1.0))
    run.hear(Retrying(900.0, 1000, "throttled", "", 1.0))
    assert run.deadline(900.0) == 2300.0
    assert run.verdict(2299.0) is None
    assert kind_of(run, 2300.0) is StopKind.PATIENCE


def test_patience_begins_anew_with_each_accepted_record():
    """One record that is accepted shows that waiting pays."""
    run = stopping(patience=1800.0)
    run.hear(Retrying(500.0, 1000, "throttled", "", 1.0))
    run.hear(Settled(2200.0, accepted=1))
    assert run.verdict(9999.0) is None
    run.hear(Retrying(3000.0, 1000, "throttled", "", 1.0))
    assert run.verdict(4799.0) is None
    assert kind_of(run, 4800.0) is StopKind.PATIENCE


def test_a_silent_input_does_not_wear_out_the_patience():
    """An input that brings nothing for an hour is no fault of the service."""
    run = stopping(patience=1800.0)
    run.hear(BatchSent(200.0, 1, 1, retry=False, under_way=1))
    run.hear(Settled(201.0, accepted=1))
    assert run.verdict(10_000.0) is None
    assert run.deadline(10_000.0) is None


def test_first_records_that_all_fail_alike_stop_the_run():
    """Messages that differ in names are one fault, and the reason says what it is."""
    run = stopping()
    for i in range(FIRST_ALIKE):
        assert run.verdict(101.0) is None
        run.hear(Settled(101.0, failed=failures(1, f"no container 'c{i}'")))
    stop = run.verdict(101.0)
    assert stop is not None
    assert stop.kind is StopKind.ALL_ALIKE
    assert "the first 100 failed in the same way: rejected 400: no container 'c0'." in stop.reason
    assert "--max-failures" in stop.reason


@pytest.mark.parametrize(
    "otherwise",
    [
        Settled(101.0, accepted=1),
        Settled(101.0, failed=failures(1, "another fault altogether")),
    ],
    ids=["one accepted", "one fails otherwise"],
)
def test_one_that_fares_otherwise_lets_the_run_go_on(otherwise):
    """One record that is accepted, or fails in another way, makes it no common fault."""
    run = stopping()
    run.hear(otherwise)
    run.hear(Settled(102.0, failed=failures(5000)))
    assert run.verdict(102.0) is None


def test_the_hundredth_that_fails_otherwise_lets_the_run_go_on():
    """99 alike and one of another kind have nothing in common."""
    run = stopping()
    run.hear(Settled(101.0, failed=failures(FIRST_ALIKE - 1)))
    run.hear(Settled(101.5, failed=failures(1, "another fault altogether")))
    assert run.verdict(102.0) is None


def test_what_fails_before_it_is_sent_says_nothing_of_the_service():
    """A thousand lines that are not JSON are failures, but no fault that all batches have in common."""
    run = stopping()
    run.hear(Settled(101.0, failed=failures(1000, "not JSON", FailureClass.UNREADABLE)))
    assert run.verdict(101.0) is None


def test_max_failures_says_otherwise():
    """Who allows a million failures gets them, alike or not."""
    run = stopping(max_failures=FailureCount(1_000_000))
    run.hear(Settled(101.0, failed=failures(5000)))
    assert run.verdict(101.0) is None
