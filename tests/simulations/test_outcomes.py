"""Outcomes of whole loads against simulated services: one TOML file each, with ranges for what they cost.

In every one of them the ledger is balanced, the stream ends as if the records had been sent one by one, and no older
version is written after a newer one.
"""

import random
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cdf_upsert.core.stopping import FailureCount, StoppingPolicy
from tests.load.harness import Fault, Service, input_of, run_engine
from tests.virtual_time import run

SCENARIOS = sorted(Path(__file__).parent.glob("outcomes_*.toml"))


def records_of(spec: dict[str, Any]) -> list[tuple[str, int]]:
    """Keys and values in input order; a negative value is a bad record."""
    amount, keys = spec["records"], spec.get("keys", spec["records"])
    bad = set(range(*spec["bad"])) if "bad" in spec else set()
    return [(f"k{i % keys}", -1 - i if i in bad else i) for i in range(amount)]


def service_of(spec: dict[str, Any], requests: int) -> Service:
    """Each request of a script meets a fault by its share."""
    dice = random.Random(spec.get("seed", 0))
    shares = {Fault[name.upper()]: share for name, share in spec.get("faults", {}).items()}
    script = dice.choices([*shares, None], [*shares.values(), 1 - sum(shares.values())], k=requests)
    forever = Fault[spec["always"].upper()] if "always" in spec else None
    return Service(
        script,  # type: ignore[arg-type]  # None is a request without a fault.
        naming=spec.get("naming", False),
        most_faults=spec.get("most_faults", 2),
        visible_after=spec.get("visible_after", 0.0),
        forever=forever,
    )


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem.removeprefix("outcomes_"))
def test_scenario(path: Path) -> None:
    """What the load costs and how its records settle lies within the ranges that the file gives."""
    spec = tomllib.loads(path.read_text())
    records, load = records_of(spec["input"]), spec.get("load", {})
    done = run(
        run_engine(
            [input_of(*records, block=load.get("block", 1000))],
            service_of(spec["service"], len(records)),
            batch_records=load.get("batch", 1000),
            concurrency=load.get("concurrency", 8),
            policy=StoppingPolicy(max_failures=FailureCount(len(records))),
        )
    )
    last = {key: at for at, (key, value) in enumerate(records) if value >= 0}
    assert {key[1]: record.ordinal for key, record in done.service.stored.items()} == last
    assert all(
        earlier <= later for writes in done.service.writes.values() for earlier, later in pairwise(writes)
    )
    found = {
        "requests": done.service.requests,
        "looks": done.service.looks,
        "accepted": done.tally.accepted,
        "failed": done.tally.failed,
        "superseded": done.tally.superseded,
        "seconds": done.seconds,
    }
    assert {name: found[name] for name in spec["expect"]} == {
        name: pytest.approx(sum(bounds) / 2, abs=(bounds[1] - bounds[0]) / 2)
        for name, bounds in spec["expect"].items()
    }


def test_scenarios_are_found() -> None:
    """The simulations are there: a wrong folder would pass everything."""
    assert len(SCENARIOS) >= 12
