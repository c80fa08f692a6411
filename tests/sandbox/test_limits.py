"""Budgets and quotas, with the time passed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.sandbox.limits import BUDGETS, WINDOW, Amounts, Budgets, Kind, Quotas
from cdf_upsert.sandbox.world import Refusal
from cdf_upsert.sandbox.world.templates import TEMPLATES
from tests.sandbox.builders import patient

LIVE = TEMPLATES["BasicLiveData"]


def refused(call, *args) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*args)
    assert caught.value.status == 429
    return caught.value


def test_the_published_budgets_and_quotas():
    """Per second and at once, for the project and for one identity; created, changed and bytes in ten minutes."""
    assert {kind: [(one.per_second, one.at_once) for one in both] for kind, both in BUDGETS.items()} == {
        Kind.WRITE: [(40, 20), (30, 15)],
        Kind.FILTER: [(20, 20), (15, 15)],
        Kind.QUERY: [(40, 30), (30, 22)],
        Kind.STREAMS: [(5, 3), (3, 2)],
    }
    assert WINDOW == 600
    assert {
        name: (one.quota_created, one.quota_changed, one.quota_bytes) for name, one in TEMPLATES.items()
    } == {
        "BasicLiveData": (170_000, 85_000, 170_000_000),
        "BasicArchive": (170_000, 0, 170_000_000),
        "ImmutableTestStream": (800_000, 0, 1_500_000_000),
    }


@pytest.mark.parametrize("kind", Kind)
def test_an_identity_has_its_requests_per_second(kind):
    """One identity may make so many requests in a second, and as many again a second later."""
    budgets = Budgets()
    most = BUDGETS[kind][1].per_second
    for start in (0.0, 2.0):
        for number in range(most):
            budgets.enter(kind, "me", start + number / 1000)
            budgets.leave(kind, "me")
    assert "per second" in refused(budgets.enter, kind, "me", 2.5).message


@pytest.mark.parametrize("kind", Kind)
def test_an_identity_has_its_requests_at_once(kind):
    """One identity may have so many requests under way; one that is answered makes room."""
    budgets = Budgets()
    most = BUDGETS[kind][1].at_once
    for number in range(most):
        budgets.enter(kind, "me", float(number * 10))
    assert "at once" in refused(budgets.enter, kind, "me", 1e6).message
    budgets.leave(kind, "me")
    budgets.enter(kind, "me", 2e6)


def test_identities_share_the_project():
    """Two identities within their own budgets still share the project's."""
    budgets = Budgets()
    project, single = BUDGETS[Kind.WRITE]
    for number in range(project.per_second):
        who = f"identity {number % 2}"
        budgets.enter(Kind.WRITE, who, 0.5)
        budgets.leave(Kind.WRITE, who)
    assert project.per_second // 2 < single.per_second
    assert "project" in refused(budgets.enter, Kind.WRITE, "identity 0", 0.6).message


def test_refused_requests_count_too():
    """Hammering never pays: while refused requests keep coming, none is let in."""
    budgets = Budgets()
    most = BUDGETS[Kind.WRITE][1].per_second
    for number in range(most):
        budgets.enter(Kind.WRITE, "me", number / 1000)
        budgets.leave(Kind.WRITE, "me")
    for number in range(1, 200):
        refused(budgets.enter, Kind.WRITE, "me", 0.03 + number / 50)
    budgets.enter(Kind.WRITE, "me", 6.0)


def test_a_filter_is_a_query_too():
    """Filter requests use up the budget of all queries."""
    budgets = Budgets()
    for number in range(15):
        budgets.enter(Kind.FILTER, "me", number / 1000)
        budgets.leave(Kind.FILTER, "me")
    for number in range(15):
        budgets.enter(Kind.QUERY, "me", 0.1 + number / 1000)
        budgets.leave(Kind.QUERY, "me")
    refused(budgets.enter, Kind.QUERY, "me", 0.2)


def spend(quotas: Quotas, amounts: Amounts, now: float) -> float | None:
    """The seconds to wait, or None when the write was let in."""
    try:
        quotas.spend("s", LIVE, amounts, now)
    except Refusal as refusal:
        return refusal.retry_after
    return None


@patient
@given(st.lists(st.tuples(st.floats(0, 300), st.integers(1, 60_000), st.integers(0, 20_000)), max_size=40))
def test_a_quota_holds_in_any_ten_minutes(writes):
    """Whatever comes when, no window of ten minutes holds more than the quota, and what is refused is not counted."""
    quotas, now, taken = Quotas(), 0.0, []
    for pause, created, changed in writes:
        now += pause
        amounts = Amounts(created, changed, 100)
        wait = spend(quotas, amounts, now)
        if wait is None:
            taken.append((now, amounts))
            continue
        assert 0 < wait <= WINDOW
        again = Quotas(_written={"s": quotas._written["s"].copy()})
        assert spend(again, amounts, now + wait + 1e-6) is None
    for end, _ in taken:
        within = [amounts for time, amounts in taken if end - WINDOW < time <= end]
        assert sum(one.created for one in within) <= LIVE.quota_created
        assert sum(one.changed for one in within) <= LIVE.quota_changed


def test_what_never_fits_waits_for_a_whole_window():
    """A write larger than the quota is refused with ten minutes, however empty the window is."""
    assert spend(Quotas(), Amounts(LIVE.quota_created + 1, 0, 0), 0.0) == WINDOW


def test_bytes_have_a_quota_too():
    """The bytes of creates and updates together are counted."""
    quotas = Quotas()
    quotas.spend("s", LIVE, Amounts(1, 0, LIVE.quota_bytes - 10), 0.0)
    told = refused(quotas.spend, "s", LIVE, Amounts(0, 1, 11), 60.0)
    assert told.retry_after == pytest.approx(WINDOW - 60)
    quotas.spend("other", LIVE, Amounts(0, 1, 11), 60.0)
    quotas.spend("s", LIVE, Amounts(0, 1, 10), 60.0)
