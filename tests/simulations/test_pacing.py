"""Pacing against simulated services on a fake clock: one TOML file each, with ranges for what is measured."""

import tomllib
from pathlib import Path

import pytest

from cdf_upsert.core.pacing import Policy
from cdf_upsert.core.planning import Bounds, Work, forecast
from tests.simulations.service import Outcome, Service, policy_of, simulate

HERE = Path(__file__).parent
SCENARIOS = sorted(HERE.glob("pacing_*.toml"), key=lambda path: path.name)


def _measured(outcome: Outcome, name: str, settle: float, service: dict) -> float:
    end = outcome.seconds
    match name:
        case "requests_per_second":
            return sum(settle <= at < end for at, _ in outcome.accepted_at) / (end - settle)
        case "throttled_share":
            return outcome.throttled_share(settle, end)
        case "throttled_share_in_all":
            return outcome.throttled / outcome.requests
        case "failed_share":
            return outcome.failed / outcome.requests
        case "limit_after_10_seconds":
            return max(limit for at, limit in outcome.limits if at <= 10)
        case "limit_at_end":
            return outcome.limits[-1][1]
        case "mean_limit":
            limits = [limit for at, limit in outcome.limits if at >= settle]
            return sum(limits) / len(limits)
        case "failed_requests":
            return outcome.failed
        case "back_after":
            back = service["dead"][0][1]
            return min(at for at, _ in outcome.accepted_at if at >= back) - back
        case "accepted" | "seconds" | "most_at_once":
            return getattr(outcome, name)
    raise AssertionError(f"{name} is no measure")


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem.removeprefix("pacing_"))
def test_scenario(path: Path):
    """What is measured of each simulated service lies within the ranges that its file gives."""
    spec = tomllib.loads(path.read_text())
    load = spec["load"]
    outcome = simulate(
        Service(spec["service"], seed=1),
        policy_of(spec.get("policy", {})),
        records=load.get("records", 50_000_000),
        batch=load.get("batch", 1000),
        until=load.get("until", 20_000),
    )
    assert not outcome.stalled
    found = {name: _measured(outcome, name, load["settle"], spec["service"]) for name in spec["expect"]}
    out_of_range = {
        name: (round(found[name], 4), bounds)
        for name, bounds in spec["expect"].items()
        if not bounds[0] <= found[name] <= bounds[1]
    }
    assert not out_of_range


@pytest.mark.parametrize("concurrency", [None, 1, 4])
def test_chance_never_makes_a_short_load_crawl(concurrency: int | None):
    """Eighty requests with one 429 in fifty, at the beginning too: of 150 such loads none takes half a minute."""
    spec = {"latency": 0.02, "chance_429": 0.02}
    policy = Policy(concurrency=concurrency)
    took = [simulate(Service(spec, seed), policy, records=80_000).seconds for seed in range(150)]
    assert max(took) < 30


def test_scenarios_are_found():
    """The simulations that the pacing is held to are there: a wrong folder would pass everything."""
    assert len(SCENARIOS) > 25


@pytest.mark.parametrize("name", ["quota_fixed_known", "quota_sliding_known", "quota_sliding_known_uneven"])
def test_a_plan_is_right(name: str):
    """What a plan expects of windows is right within 15 %, and the load takes a time between its ends."""
    spec = tomllib.loads((HERE / f"pacing_{name}.toml").read_text())
    records, batch = spec["load"]["records"], spec["load"]["batch"]
    policy = policy_of(spec["policy"])
    bounds = Bounds(
        quota=policy.quota, requests_per_second=policy.requests_per_second, at_once=policy.ceiling
    )
    found = forecast(Work(records, records * 460, -(-records // batch)), bounds)
    took = simulate(Service(spec["service"], seed=2), policy, records=records, batch=batch).seconds
    assert found.low <= took <= found.high
    assert took == pytest.approx(found.expected, rel=0.15)
