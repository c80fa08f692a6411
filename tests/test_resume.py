"""Promise 3 by real processes: killed at random moments, whatever the input's form, a load ends as it should."""

import random
from collections import Counter
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Options, running
from tests.killing import FORMS, Shell, landed, make_versions, stored, write_input

LATENCY = "latency = {{ fixed = {seconds} }}\n"


def options(directory: Path, *, chaos: float = 0.0, latency: float = 0.01, seed: int = 0) -> Options:
    faults = directory / "faults.toml"
    faults.write_text(LATENCY.format(seconds=latency))
    return Options(keep_writes=True, chaos=chaos, seed=seed, faults=faults)


def check_ledger(report: dict, count: int) -> None:
    records = report["records"]
    assert records["read"] == count
    assert count == sum(
        records[name] for name in ("accepted", "failed", "superseded", "alreadyAccepted", "unsent")
    )


def kill_until_done(
    directory: Path, form: str, kills: int, *, count: int, keys: int, chaos: float, seed: int
) -> None:
    """Kill a load so many times, then let it end; hold all that it left behind against the input."""
    dice = random.Random(seed)
    versions = make_versions(count, keys, seed)
    path = write_input(directory, form, versions)
    with running(options(directory, chaos=chaos, seed=seed)) as sandbox:
        shell = Shell(sandbox, directory, form, ["--batch-records", "50", "--concurrency", "4"])
        under_way = killed = 0
        while killed < kills and shell.kill(shell.start(), dice, requests=max(count // 70 // kills, 1)):
            killed += 1
            under_way += len(shell.in_doubt())
            if shell.complete():
                break
        assert killed >= kills // 2, shell.last_words()
        while not shell.complete():
            code, report = shell.run()
            assert code == 0 or (code == 3 and chaos), shell.last_words()
            check_ledger(report, count)
        assert stored(sandbox) == dict(versions)
        for log in landed(sandbox, path).values():
            assert log == sorted(log), "an older version has landed after a newer one"
        if not chaos:
            again = Counter((write.key, write.digest) for write in sandbox.traffic.writes)
            assert sum(times - 1 for times in again.values()) <= under_way
            assert under_way <= killed * 6 * 50, (
                "four requests of fifty records, and two that were being settled"
            )


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_load_sends_again_only_what_was_under_way(tmp_path: Path, form: str) -> None:
    """Killed four times: nothing is lost, no older version lands last, and no more is sent twice than was under way."""
    kill_until_done(tmp_path, form, 4, count=4000, keys=3000, chaos=0.0, seed=len(form))


@pytest.mark.parametrize("form", ["ndjson", "stdin"])
def test_a_killed_load_ends_as_it_should_over_faults(tmp_path: Path, form: str) -> None:
    """Lost replies, partial lists and cut connections between the kills change nothing at the end."""
    kill_until_done(tmp_path, form, 3, count=4000, keys=2000, chaos=0.05, seed=len(form))


@pytest.mark.soak
@pytest.mark.parametrize("chaos", [0.0, 0.02])
def test_a_hundred_kills(tmp_path: Path, chaos: float) -> None:
    """A load of 50,000 records is killed a hundred times and loses nothing."""
    kill_until_done(tmp_path, "ndjson", 100, count=50_000, keys=40_000, chaos=chaos, seed=1)
