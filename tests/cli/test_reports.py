"""What a run tells: standard output, standard error, the report, the failed file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Running
from tests.cli.service import ACCEPTED, Asked, mutable_stream, refusal, service
from tests.loopback import Answer
from tests.records import make_text
from tests.workdir import Workdir

GOOD = [make_text(f"k{i}", i) for i in range(5)]
REJECTED = make_text("wrong", '"text"').replace(b",", b" , ")
INVALID = b'{"space":"s","externalId":"x"}'
UNREADABLE = b'{"space": "s",'
NOT_UTF8 = make_text("y").replace(b"y", b"\xff")
MIXED = b"\n".join([*GOOD[:2], REJECTED, INVALID, *GOOD[2:], UNREADABLE, NOT_UTF8, b""])


def refuse_text(asked: Asked) -> Answer:
    """Refuse a request that holds the rejected record, naming nobody."""
    return refusal(400, "value: expected a number") if b'"text"' in asked.content else ACCEPTED


SHAPE = {
    "schema": str,
    "run": str,
    "stream": str,
    "project": str,
    "baseUrl": str,
    "started": str,
    "finished": str,
    "durationSeconds": float,
    "outcome": str,
    "reason": str,
    "exitCode": int,
    "inputs": [{"path": str, "format": str, "records": int, "bytes": int}],
    "records": dict.fromkeys(("read", "accepted", "failed", "superseded", "alreadyAccepted", "unsent"), int),
    "requests": dict.fromkeys(("sent", "retried", "throttled", "bytes", "wireBytes"), int),
    "latencySeconds": dict.fromkeys(("p50", "p95", "p99"), float),
    "pacing": {
        "limit": int,
        "requestsPerSecond": float | None,
        "throttledShare": float,
        "waitedSeconds": {},
    },
    "failures": [
        {
            "class": str,
            "status": int | None,
            "message": str,
            "count": int,
            "example": {
                "path": str,
                "record": int,
                "line": int | None,
                "key": {"space": str, "externalId": str},
            },
        }
    ],
    "failedFile": str,
}
"""The report as design and README promise it to scripts."""


def check_shape(value: object, shape: object, path: str = "") -> None:
    if isinstance(shape, dict):
        assert isinstance(value, dict), path
        assert list(value) == list(shape), path
        for name, inner in shape.items():
            check_shape(value[name], inner, f"{path}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), path
        for one in value:
            check_shape(one, shape[0], f"{path}[]")
    else:
        assert isinstance(value, shape), path


def test_the_report_is_what_scripts_rely_on(alone: Workdir) -> None:
    """Standard output has the report alone, the file has the same, both in the promised shape, and the ledger balances."""
    alone.write("a.ndjson", MIXED)
    with service(mutable_stream(refuse_text)) as served:
        done = alone.run("load", "demo", "a.ndjson", "--json", "--run-dir", "run", **served.variables).exits(
            3
        )
        report = done.report
        assert alone.json("run/report.json") == report
        for failure in report["failures"]:
            if failure["class"] == "unreadable":
                assert failure["example"].pop("key") is None
                failure["example"]["key"] = {"space": "", "externalId": ""}
            if failure["class"] == "invalid":
                assert failure["example"]["key"] == {"space": "s", "externalId": "x"}
        check_shape(report, SHAPE)
        assert report["schema"] == "cdf-upsert/report/1"
        assert (report["outcome"], report["exitCode"], report["reason"]) == ("failures", 3, "")
        assert (report["stream"], report["project"], report["baseUrl"]) == ("demo", "acme", served.heard.url)
        assert report["inputs"][0]["records"] == 9
        assert done.counts == {"read": 9, "accepted": 5, "failed": 4}
        assert report["requests"]["sent"] == len(served.bodies)
        assert report["failedFile"] == "run/failed.ndjson"
        kinds = [failure["class"] for failure in report["failures"]]
        assert sorted(kinds) == ["invalid", "rejected", "unreadable", "unreadable"]
        done.says(
            "5 accepted, 4 failed of 9 records", "Failed: run/failed.ndjson", "a.ndjson, line 3, key s/wrong"
        )


def test_the_failed_file_holds_what_failed_and_loads_again(alone: Workdir) -> None:
    """Each failed record stands there with its place, its fault and its own bytes; mended, the file is an input."""
    alone.write("a.ndjson", MIXED)
    with service(mutable_stream(refuse_text)) as served:
        alone.run("load", "demo", "a.ndjson", "--run-dir", "run", **served.variables).exits(3)
    lines = alone.read("run/failed.ndjson").splitlines()
    failed = [json.loads(line) for line in lines]
    assert [(one["error"]["class"], one["source"]["line"]) for one in failed] == [
        ("rejected", 3),
        ("invalid", 4),
        ("unreadable", 8),
        ("unreadable", 9),
    ]
    assert failed[0]["error"] == {
        "class": "rejected",
        "status": 400,
        "message": "value: expected a number",
        "requestId": None,
        "attempts": failed[0]["error"]["attempts"],
    }
    content = alone.read("a.ndjson")
    for one, text in zip(failed, [REJECTED, INVALID, UNREADABLE, NOT_UTF8], strict=True):
        source = one["source"]
        assert source["path"] == "a.ndjson"
        assert content[source["offset"] :][: source["length"]] == text
    assert lines[0].endswith(b',"record":' + REJECTED + b"}")
    assert lines[1].endswith(b',"record":' + INVALID + b"}")
    assert failed[2]["raw"].encode() == UNREADABLE
    assert "rawBase64" in failed[3]

    mended = alone.read("run/failed.ndjson").replace(b'"text"', b"7").splitlines()[0]
    alone.write("mended.ndjson", mended)
    with service(mutable_stream(refuse_text)) as served:
        done = alone.run("load", "demo", "mended.ndjson", "--json", **served.variables).exits(0)
        assert done.counts == {"read": 1, "accepted": 1}
        assert served.bodies == [b'{"items":[' + REJECTED.replace(b'"text"', b"7") + b"]}"]


def test_a_rerun_sends_what_failed_and_nothing_else(alone: Workdir) -> None:
    """The same command line sends the failed records only, and when all are accepted the failed file is gone."""
    alone.write("a.ndjson", b"\n".join([*GOOD, REJECTED, INVALID]))
    mended = False
    with service(mutable_stream(lambda asked: ACCEPTED if mended else refuse_text(asked))) as served:
        command = ("load", "demo", "a.ndjson", "--json", "--run-dir", "run")
        first = alone.run(*command, **served.variables).exits(3)
        assert first.counts == {"read": 7, "accepted": 5, "failed": 2}
        sent, mended = len(served.bodies), True
        second = alone.run(*command, **served.variables).exits(3)
        assert second.counts == {"read": 7, "accepted": 1, "alreadyAccepted": 5, "failed": 1}
        assert served.bodies[sent:] == [b'{"items":[' + REJECTED + b"]}"]
        assert [line["error"]["class"] for line in alone.lines("run/failed.ndjson")] == ["invalid"]


def test_failed_records_of_another_load_are_kept(alone: Workdir) -> None:
    """A failed file with records in it is set aside when another load uses the directory, and that is said."""
    alone.write("a.ndjson", INVALID)
    alone.write("b.ndjson", b"\n".join(GOOD))
    with service(mutable_stream()) as served:
        alone.run("load", "demo", "a.ndjson", "--run-dir", "run", **served.variables).exits(3)
        before = alone.read("run/failed.ndjson")
        done = alone.run("load", "demo", "b.ndjson", "--run-dir", "run", **served.variables).exits(0)
    [kept] = (alone.path / "run").glob("failed.*.ndjson")
    assert kept.read_bytes() == before
    done.says(kept.name)


def test_files_are_put_where_they_are_asked_for(alone: Workdir) -> None:
    """`--failed` and `--report` name the places, and the report tells of them."""
    alone.write("a.ndjson", INVALID)
    (alone.path / "out").mkdir()
    with service(mutable_stream()) as served:
        alone.run(
            *("load", "demo", "a.ndjson", "--failed", "out/f.ndjson", "--report", "out/r.json"),
            **served.variables,
        ).exits(3)
    assert alone.lines("out/f.ndjson")[0]["error"]["class"] == "invalid"
    assert alone.json("out/r.json")["failedFile"] == "out/f.ndjson"


@pytest.mark.parametrize(
    ("command", "report", "said"),
    [
        (
            "load demo",
            "nowhere/r.json",
            "nowhere, the directory of the report, does not exist: make it first.",
        ),
        ("load demo --dry-run", "nowhere/r.json", "the directory of the report, does not exist"),
        ("check", "nowhere/r.json", "the directory of the report, does not exist"),
        ("load demo", "folder", "folder is a directory: name a file in it with --report."),
        ("load demo", "-", "the report comes to standard output with --json"),
        (
            "load demo",
            "./a.ndjson",
            "a.ndjson is an input, and the report would overwrite it: name another --report.",
        ),
        (
            "load demo --failed f.ndjson",
            "folder/../f.ndjson",
            "is another file of this run: name another --report.",
        ),
        ("load demo --run-dir folder", "folder/failed.ndjson", "is another file of this run"),
        ("check --failed f.ndjson", "f.ndjson", "is another file of this run"),
    ],
)
def test_a_report_that_cannot_be_written_is_found_out_first(
    command: str, report: str, said: str, alone: Workdir
) -> None:
    """Before anything is sent, and without harm to an input or to the failed records."""
    (alone.path / "folder").mkdir()
    alone.write("a.ndjson", GOOD[0])
    variables = {
        "CDF_URL": "http://127.0.0.1:9",
        "CDF_PROJECT": "p",
        "LOGIN_FLOW": "token",
        "CDF_TOKEN": "token",
    }
    alone.run(*command.split(), "a.ndjson", "--report", report, **variables).exits(2).says(said)
    assert alone.read("a.ndjson") == GOOD[0]


def test_what_is_not_asked_for_is_not_said(shell: Workdir, sandbox: Running, stream: str) -> None:
    """Standard output is empty without `--json`; with `-q` a load that goes well says nothing at all."""
    shell.write("a.ndjson", b"\n".join(GOOD))
    done = shell.run("load", stream, "a.ndjson").exits(0)
    assert done.stdout == b""
    done.says("5 accepted of 5 records")
    quiet = shell.run("load", stream, "a.ndjson", "-q").exits(0)
    assert (quiet.stdout, quiet.stderr) == (b"", b"")


def test_a_quiet_load_still_tells_what_is_wrong(shell: Workdir, stream: str) -> None:
    """`-q` is silent about good news only."""
    shell.run("load", stream, "-q", stdin=INVALID).exits(3).says("1 failed of 1 record", "failed.ndjson")


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_the_log_is_for_people_or_for_machines(shell: Workdir, stream: str) -> None:
    """`-v` tells of inputs and replies; with `--log-format json` every line of standard error is an object."""
    shell.write("a.ndjson", MIXED)
    text = shell.run("load", stream, "a.ndjson", "-v").exits(3)
    assert re.search(rf"^{STAMP} Reading a\.ndjson \(ndjson, .*\)\.$", text.said, re.MULTILINE), text
    assert re.search(rf"^{STAMP} Reply 202 after .* s, request .+\.$", text.said, re.MULTILINE), text

    lines = shell.run("load", stream, "a.ndjson", "-v", "--log-format", "json").exits(3).stderr.splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        assert list(entry)[:4] == ["time", "level", "event", "message"]
        assert re.fullmatch(STAMP, entry["time"])
    assert {"notice", "ended", "failures", "next"} <= {entry["event"] for entry in entries}
    [ended] = [entry for entry in entries if entry["event"] == "ended"]
    assert (ended["outcome"], ended["exitCode"]) == ("failures", 3)


def test_a_dry_run_sends_nothing(alone: Workdir) -> None:
    """`--dry-run` reads, checks and packs, asks the service for nothing, and leaves no file behind."""
    alone.write("a.ndjson", MIXED)
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a.ndjson", "--dry-run", "--json", **served.variables).exits(3)
        assert done.counts == {"read": 9, "failed": 3, "unsent": 6}
        assert served.heard.asked == []
    assert [path.name for path in alone.path.iterdir()] == ["a.ndjson"]


@pytest.mark.parametrize("command", ["check", "load demo --dry-run"])
def test_nobody_is_sent_to_a_report_that_is_not_kept(command: str, alone: Workdir) -> None:
    """Where not all failures are told, a run that only looks says how to see them all."""
    broken = str(Path(__file__).parents[2] / "samples" / "broken.ndjson")
    told = alone.run(*command.split(), broken).exits(3).says("other messages; --json tells them all.")
    told.says_nothing_of("the report")
    assert not list(alone.path.iterdir())


def test_a_part_of_a_report_is_not_left_behind(tmp_path: Path) -> None:
    """Where there is no room for it, no file is better for a script than one that is cut off."""
    program = (
        "import resource, sys; from pathlib import Path; from cdf_upsert.cli.reporting import put\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "print(put('x' * 100, Path(sys.argv[1])))"
    )
    path = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith(f"The report cannot be written to {path} (File too large)")
    assert not path.exists()
