"""`cdf-upsert plan` as a person runs it, against a sandbox; and the load that it foretells."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Options, Running, running


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(Options(project="plans")) as served:
        yield served


def line(i: int) -> str:
    source = {"type": "container", "space": "s", "externalId": "c"}
    return json.dumps(
        {"space": "s", "externalId": f"r{i}", "sources": [{"source": source, "properties": {"n": i}}]}
    )


def command(
    directory: Path, served: Running | None, *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CDF", "COGNITE"))
    }
    if served is not None:
        environment |= {
            "CDF_URL": served.address.base_url,
            "CDF_PROJECT": served.address.project,
            "LOGIN_FLOW": "token",
            "CDF_TOKEN": served.token,
        }
    return subprocess.run(
        [sys.executable, "-m", "cdf_upsert", *arguments],
        cwd=directory,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_plan_counts_what_a_load_sends(sandbox, tmp_path):
    """Records, failures, keys, requests and bytes of the plan are those of the load that follows."""
    lines = [line(i) for i in range(2500)] + ["not JSON", line(0)]
    (tmp_path / "a.ndjson").write_text("\n".join(lines) + "\n")
    planned = command(tmp_path, sandbox, "plan", "counted", "a.ndjson", "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["records"] == {"read": 2502, "failed": 1, "toSend": 2501}
    assert plan["keys"] == {"distinct": 2500, "exact": True}
    assert plan["room"]["fits"] is True
    assert plan["quota"]["created"] == 170_000
    loaded = command(tmp_path, sandbox, "load", "counted", "a.ndjson", "--json")
    report = json.loads(loaded.stdout)
    assert report["records"]["read"] == plan["records"]["read"]
    assert report["records"]["failed"] == plan["records"]["failed"]


def test_plan_sends_no_record(sandbox, tmp_path):
    """A plan only looks at the stream: nothing is stored."""
    (tmp_path / "a.ndjson").write_text(line(1) + "\n")
    command(tmp_path, sandbox, "plan", "untouched", "a.ndjson")
    verified = json.loads(command(tmp_path, sandbox, "plan", "untouched", "a.ndjson", "--json").stdout)
    assert verified["room"]["records"] == 5_000_000


def test_plan_takes_the_quota_that_the_user_names(sandbox, tmp_path):
    """At 1000 records in two minutes 2,500 take three windows: between three and four minutes."""
    text = "".join(line(i) + "\n" for i in range(2500))
    planned = command(tmp_path, sandbox, "plan", "named", "-", "--quota", "1000/2m", "--json", given=text)
    forecast = json.loads(planned.stdout)["whenNew"]
    assert (forecast["windows"], forecast["bottleneck"]) == (3, "records per window")
    assert forecast["secondsFrom"] == pytest.approx(180)
    assert 240 <= forecast["secondsExpected"] < forecast["secondsTo"] < 244


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plan", "named", "a.ndjson", "--quota", "many"), "write RECORDS/DURATION, such as 170000/10m"),
        (("plan", "named", "missing.ndjson"), "missing.ndjson"),
        (("plan", "Not A Stream", "a.ndjson"), "cannot be the id of a stream"),
    ],
    ids=["quota", "input", "stream"],
)
def test_plan_refuses_with_a_sentence(sandbox, tmp_path, arguments, sentence):
    """What cannot be used is named, on standard error, with exit code 2 and no plan."""
    (tmp_path / "a.ndjson").write_text(line(1) + "\n")
    done = command(tmp_path, sandbox, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""
