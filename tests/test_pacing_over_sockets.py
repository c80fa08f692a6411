"""The real command finds out what a service takes, over a real socket."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.records import make_text


def load(sandbox: Running, directory: Path, records: int, batch: int) -> dict[str, Any]:
    """The report of a load of so many records in batches of this size."""
    (directory / "in.ndjson").write_bytes(b"".join(make_text(str(i), i) + b"\n" for i in range(records)))
    command = [sys.executable, "-m", "cdf_upsert", "load", "events", "in.ndjson", "--json", "-q"]
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


def test_a_slow_service_is_used_with_many_requests_at_once(tmp_path):
    """At 500 ms a request and no limits, at least 8 requests are under way at once within 10 seconds."""
    faults = tmp_path / "faults.toml"
    faults.write_text("latency = { fixed = 0.5 }\n")
    with running(Options(faults=faults)) as sandbox:
        report = load(sandbox, tmp_path, 800, 10)
        assert sandbox.traffic.highest_at_once >= 8
    assert report["durationSeconds"] < 10


def test_the_budgets_of_cdf_are_found_and_used(tmp_path):
    """With 30 requests a second and 15 at once, most of the pace is used, the first seconds of finding it included."""
    with running(Options(limits="cdf")) as sandbox:
        report = load(sandbox, tmp_path, 3600, 10)
        assert sandbox.traffic.highest_at_once <= 15
    sent = report["requests"]
    assert sent["throttled"] / sent["sent"] < 0.2
    assert 360 / report["durationSeconds"] > 0.5 * 30
