"""Every record has its one true outcome, whatever goes wrong: the real command, over the sandbox with scripted faults."""

from math import log2
from pathlib import Path

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.cli.service import ACCEPTED, mutable_stream, refusal, service, variables_of
from tests.killing import landed, stored
from tests.loopback import Answer, Asked
from tests.records import make_text
from tests.workdir import Workdir

BAD = {i * 487 + 13 for i in range(20)}
TEXTS = [make_text(f"k{i}", '"text"' if i in BAD else i) for i in range(10_000)]
MOST_REQUESTS = 20 * 2 * log2(1000)


def failed_places(shell: Workdir) -> list[int]:
    """The numbers, from 0, of the records in the failed file; all of them have to be rejected."""
    lines = shell.lines("run/failed.ndjson")
    assert {line["error"]["class"] for line in lines} == {"rejected"}
    return [line["source"]["record"] - 1 for line in lines]


def test_twenty_bad_records_among_ten_thousand_that_nobody_names(alone: Workdir) -> None:
    """Exactly they fail, in at most about 20·2·log2(1000) requests."""

    def refuse_text(asked: Asked) -> Answer:
        return refusal(400, "a value is not a number") if b'"text"' in asked.content else ACCEPTED

    alone.write("a.ndjson", b"\n".join(TEXTS))
    with service(mutable_stream(refuse_text)) as served:
        done = alone.run("load", "demo", "a.ndjson", "--json", "--run-dir", "run", **served.variables).exits(
            3
        )
        assert done.counts == {"read": 10_000, "accepted": 9980, "failed": 20}
        assert failed_places(alone) == sorted(BAD)
        assert len(served.upserts) <= MOST_REQUESTS


def sandbox_with(directory: Path, faults: str) -> Options:
    """A sandbox that fails as is told, and remembers the order of writes."""
    path = directory / "faults.toml"
    path.write_text(faults)
    return Options(keep_writes=True, faults=path)


def test_twenty_bad_records_that_the_sandbox_names(alone: Workdir) -> None:
    """It names one fault of a request, by its index: then two or three requests find each."""
    alone.write("a.ndjson", b"\n".join(TEXTS))
    with running(Options()) as sandbox:
        # So that the property is learnt to be a number.
        alone.run("load", "events", stdin=make_text("first", 0), **variables_of(sandbox)).exits(0)
        options = ("--json", "--run-dir", "run")
        done = alone.run("load", "events", "a.ndjson", *options, **variables_of(sandbox)).exits(3)
        assert done.counts == {"read": 10_000, "accepted": 9980, "failed": 20}
        assert failed_places(alone) == sorted(BAD)
        assert len(stored(sandbox)) == 9981
        assert sandbox.traffic.count("upsert") <= 11 + 3 * 20


FAULTS = """
[[fault]]
kind = "lost"
share = 0.10

[[fault]]
kind = "partial"
code = 503
of = 0.5
share = 0.05

[[fault]]
kind = "partial"
code = 409
of = 0.5
share = 0.02
"""


def check_order(sandbox: Running, path: Path) -> dict[str, list[int]]:
    """See that no older version was ever written after a newer one; the writes of each key."""
    logs = landed(sandbox, path)
    for values in logs.values():
        assert values == sorted(values), "an older version landed after a newer one"
    return logs


def test_the_last_version_of_each_key_stands_over_faults(alone: Workdir) -> None:
    """400 keys in 12,000 records at 8 at once, with 10 % lost replies, 5 % 503 and 2 % 409: the last of each stands, no older one was ever written after a newer one, exit 0."""
    versions = [(f"k{(i * 7) % 400}", i) for i in range(12_000)]
    path = alone.write("a.ndjson", b"\n".join(make_text(*version, pad=100) for version in versions))
    with running(sandbox_with(alone.path, FAULTS)) as sandbox:
        done = alone.run(
            *("load", "events", "a.ndjson", "--json", "--concurrency", "8", "--batch-records", "10"),
            **variables_of(sandbox),
        ).exits(0)
        assert stored(sandbox) == dict(versions)
        check_order(sandbox, path)
        for name in ("lost", "partial 503", "partial 409"):
            assert sandbox.traffic.faults[name], f"{name} never happened"
        assert done.counts == {
            "read": 12_000,
            "accepted": done.counts["accepted"],
            "superseded": 12_000 - done.counts["accepted"],
        }


def test_replies_that_are_always_lost_after_the_write(alone: Workdir) -> None:
    """All records are accepted, because reading back finds them; exit 0."""
    versions = [(f"k{i}", i) for i in range(250)]
    path = alone.write("a.ndjson", b"\n".join(make_text(*version) for version in versions))
    with running(sandbox_with(alone.path, '[[fault]]\nkind = "lost"\n')) as sandbox:
        done = alone.run("load", "events", "a.ndjson", "--json", **variables_of(sandbox)).exits(0)
        assert done.counts == {"read": 250, "accepted": 250}
        assert stored(sandbox) == dict(versions)
        check_order(sandbox, path)
        assert sandbox.traffic.count("upsert", 202) == 0
        assert sandbox.traffic.count("filter", 200) >= 3


def test_values_of_a_conflict_are_told_on_demand(alone: Workdir) -> None:
    """With -v standard error has what is stored and what was sent; failed file and report have names alone."""
    conflicts = '[[fault]]\nkind = "partial"\ncode = 409\nof = 1.0\nfirst = 2\n'
    with running(sandbox_with(alone.path, conflicts)) as sandbox:
        variables = variables_of(sandbox)
        alone.run("load", "events", stdin=make_text("k", 4711), **variables).exits(0)
        arguments = ("load", "events", "--json", "-v", "--run-dir", "run")
        done = alone.run(*arguments, stdin=make_text("k", 4712), **variables).exits(3)
    done.says("standard input, line 1, key s/k, is stored otherwise: c.value: stored 4711, ours 4712.")
    [failure] = done.report["failures"]
    [line] = alone.lines("run/failed.ndjson")
    assert line["error"]["class"] == failure["class"] == "conflict"
    assert line["error"]["message"].endswith("what is stored differs in c.value")
    for told in (alone.read("run/failed.ndjson"), alone.read("run/report.json"), done.stdout):
        assert b"4711" not in told
