"""The real command finds out what a service takes, and uses it, over a real socket."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cdf_upsert.sandbox.limits import BUDGETS, Amounts, Budget, Budgets, Kind, Quotas
from cdf_upsert.sandbox.serve import Options, Running, running
from cdf_upsert.sandbox.world.templates import Template
from tests.records import make_text

MANY = 10**6
FOUND = 2.5
"""Seconds in which the loader finds out; what comes after them is the steady state."""


@dataclass
class Late:
    """What the service saw after the loader has found out."""

    per_second: float
    throttled_share: float


def late(sandbox: Running) -> Late:
    writes = [entry for entry in sandbox.traffic.requests if entry.operation == "upsert"]
    start, end = writes[0].at + FOUND, writes[-1].at
    seen = [entry.status for entry in writes if entry.at >= start]
    return Late(seen.count(202) / (end - start), seen.count(429) / len(seen))


def load(
    sandbox: Running, directory: Path, records: int, batch: int, arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """The report of a load of so many records in batches of this size."""
    (directory / "in.ndjson").write_bytes(b"".join(make_text(str(i), i) + b"\n" for i in range(records)))
    command = [sys.executable, "-m", "cdf_upsert", "load", "events", "in.ndjson", "--json", "-q", *arguments]
    done = subprocess.run(
        [*command, "--batch-records", str(batch)],
        cwd=directory,
        env={**os.environ, **sandbox.address.environment()},
        capture_output=True,
        timeout=120,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["records"]["accepted"] == records, done.stderr.decode()
    return report


def latency_of(directory: Path, seconds: float) -> Path:
    faults = directory / "faults.toml"
    faults.write_text(f"latency = {{ fixed = {seconds} }}\n")
    return faults


def throttled_share(report: dict[str, Any]) -> float:
    return float(report["requests"]["throttled"] / report["requests"]["sent"])


def test_a_slow_service_is_used_with_many_requests_at_once(tmp_path):
    """At 500 ms a request and no limits, at least 8 requests are under way at once within 10 seconds."""
    with running(Options(faults=latency_of(tmp_path, 0.5))) as sandbox:
        report = load(sandbox, tmp_path, 600, 10)
        assert sandbox.traffic.highest_at_once >= 8
    assert report["durationSeconds"] < 10


@pytest.mark.parametrize("latency", [0.0, 0.3])
def test_the_budgets_of_cdf_are_found_and_used(tmp_path, latency):
    """Of 30 requests a second 90 % are used once that is found, and 5 % are throttled with the finding of it."""
    with running(Options(limits="cdf", faults=latency_of(tmp_path, latency))) as sandbox:
        report = load(sandbox, tmp_path, 1800, 10)
        assert sandbox.traffic.highest_at_once <= 15
        steady = late(sandbox)
    assert throttled_share(report) < 0.05
    assert steady.throttled_share < 0.03
    assert steady.per_second > 0.9 * 30


def test_a_limit_on_requests_at_once_is_found_and_used(tmp_path):
    """Of 6 requests at once and any number a second 90 % are used once that is found, and 5 % are throttled in all."""
    only_at_once = {**BUDGETS, Kind.WRITE: (Budget(MANY, MANY), Budget(MANY, 6))}
    with running(Options(limits="cdf", faults=latency_of(tmp_path, 0.2))) as sandbox:
        sandbox.ask(lambda service: setattr(service, "budgets", Budgets(only_at_once)))
        report = load(sandbox, tmp_path, 2000, 10)
        steady = late(sandbox)
    assert throttled_share(report) < 0.05
    assert steady.throttled_share < 0.03
    assert steady.per_second > 0.9 * 6 / report["latencySeconds"]["p50"]


class SmallQuotas(Quotas):
    """The quotas of a stream that takes 20,000 new records in ten minutes."""

    def spend(self, stream: str, template: Template, amounts: Amounts, now: float) -> None:
        super().spend(stream, replace(template, quota_created=20_000), amounts, now)


@pytest.mark.parametrize("arguments", [("--quota", "20000/2.5s"), ()], ids=["named", "found out"])
def test_a_quota_is_used_up_and_waited_for(tmp_path, arguments):
    """Two and a half windows of 2.5 s take five; what is under way when a quota is spent that nobody named is refused.

    Windows of seconds are crude: `Retry-After` is in whole ones, and each window holds but 80 requests.
    """
    with running(Options(limits="cdf", clock_speed=240)) as sandbox:
        sandbox.ask(lambda service: setattr(service, "quotas", SmallQuotas()))
        report = load(sandbox, tmp_path, 50_000, 250, arguments)
    assert throttled_share(report) < (0.05 if arguments else 0.1)
    assert 5 <= report["durationSeconds"] < 9
