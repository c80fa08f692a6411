"""When to try again, and when to give up."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.interpret import Reason
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.retrying import (
    LONGEST_SECONDS,
    AskStored,
    FailAs,
    Next,
    Tries,
    TryAgain,
    after,
    backoff,
)


class Longest:
    """Dice that always fall on the longest wait."""

    def uniform(self, a: float, b: float, /) -> float:
        return b


def course(reason: Reason, tries: int = 100, **facts: Any) -> tuple[int, Next]:
    """How many tries are made for one reason, and what comes then."""
    given_facts = {
        "named": True,
        "answered": True,
        "alive": True,
        "retry_after": None,
        "dice": Longest(),
        **facts,
    }
    state = Tries()
    for count in range(1, tries + 1):
        step = after(reason, state.started(), **given_facts)
        if not isinstance(step, TryAgain):
            return count, step
        state = step.tries
    return tries, step


@pytest.mark.parametrize(
    ("reason", "facts", "tries", "end"),
    [
        (Reason.UNAVAILABLE, {}, 8, FailAs(FailureClass.UNAVAILABLE)),
        (Reason.UNAVAILABLE, {"named": False}, 8, AskStored(FailureClass.UNAVAILABLE)),
        (Reason.BROKEN, {}, 3, FailAs(FailureClass.UNAVAILABLE)),
        (Reason.BROKEN, {"named": False}, 3, AskStored(FailureClass.UNAVAILABLE)),
        (Reason.CONFLICT, {}, 4, AskStored(FailureClass.CONFLICT)),
        (Reason.UNKNOWN, {}, 4, AskStored(FailureClass.UNKNOWN)),
        (
            Reason.UNKNOWN,
            {"named": False, "answered": False, "alive": False},
            4,
            AskStored(FailureClass.UNKNOWN),
        ),
    ],
)
def test_tries_end(reason: Reason, facts: dict[str, Any], tries: int, end: Next) -> None:
    """A record that the service does not take after so many tries fails, or what is stored is asked."""
    assert course(reason, **facts) == (tries, end)


UNCLEAR = [
    (Reason.UNKNOWN, True),
    (Reason.UNKNOWN, False),
    (Reason.BROKEN, False),
    (Reason.UNAVAILABLE, False),
    (Reason.CONFLICT, False),
]
"""Why a record is tried again, and whether a reply named it, where nobody said whether it is stored."""


@pytest.mark.parametrize("reason", [Reason.BROKEN, Reason.UNAVAILABLE])
@pytest.mark.parametrize(("before", "named"), UNCLEAR)
def test_what_may_be_stored_never_fails_unasked(before: Reason, named: bool, reason: Reason) -> None:
    """After one try without a word on the record, the end of other tries is to ask what is stored, also in another batch."""
    facts: dict[str, Any] = {"answered": True, "alive": False, "retry_after": None, "dice": Longest()}
    first = after(before, Tries().started(), named=named, **facts)
    assert isinstance(first, TryAgain)
    for tries in (first.tries, first.tries.afresh()):
        step: Next = TryAgain(0, tries)
        while isinstance(step, TryAgain):
            step = after(reason, step.tries.started(), named=True, **facts)
        assert step == AskStored(FailureClass.UNAVAILABLE)


@pytest.mark.parametrize("before", [Reason.THROTTLED, Reason.UNREACHABLE])
def test_what_is_surely_not_stored_fails_unasked(before: Reason) -> None:
    """Neither a 429 nor a connection that did not come about stores anything."""
    facts: dict[str, Any] = {"answered": True, "alive": False, "retry_after": None, "dice": Longest()}
    step = after(before, Tries().started(), named=False, **facts)
    while isinstance(step, TryAgain):
        step = after(Reason.BROKEN, step.tries.started(), named=True, **facts)
    assert step == FailAs(FailureClass.UNAVAILABLE)


def test_in_other_company_tries_are_counted_anew() -> None:
    """A batch that is taken apart may have suffered for one of its records; what was clear stays clear."""
    tries = Tries().started().again(Reason.BROKEN, counts=True, unclear=False)
    assert tries.afresh() == Tries()


@pytest.mark.parametrize(
    ("reason", "facts"),
    [
        (Reason.THROTTLED, {}),
        (Reason.UNREACHABLE, {"answered": False}),
        (Reason.UNAVAILABLE, {"named": False, "alive": False}),
        (Reason.UNKNOWN, {"named": False, "alive": False}),
    ],
)
def test_a_service_that_takes_nothing_at_all_costs_no_record(reason: Reason, facts: dict[str, Any]) -> None:
    """While nobody is accepted, nobody is blamed: the run's patience decides."""
    assert isinstance(course(reason, **facts)[1], TryAgain)


@given(st.integers(1, 200), st.none() | st.floats(0, 1000), st.integers())
def test_waits_are_within_bounds(in_row: int, retry_after: float | None, seed: int) -> None:
    """A wait is never shorter than was asked for, and jitter spreads it between nothing and a bound that grows."""
    seconds = backoff(in_row, retry_after, random.Random(seed))
    assert seconds >= (retry_after or 0.0)
    assert seconds <= max(retry_after or 0.0, min(LONGEST_SECONDS, 0.5 * 2.0 ** (in_row - 1)))


def test_waits_grow() -> None:
    """The bound doubles from half a second to thirty."""
    assert [backoff(i, None, Longest()) for i in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
