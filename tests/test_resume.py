"""Promise 3 by real processes: killed at random moments, whatever the input's form, a load ends as it should."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.killing import FORMS, Shell, Version, landed, make_versions, stored, write_input
from tests.records import make_text
from tests.workdir import until

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
        shell = Shell(sandbox, directory, form)
        under_way = killed = 0
        while killed < kills and shell.kill(shell.start(), dice, requests=max(count // 70 // kills, 1)):
            killed += 1
            under_way += shell.under_way()
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
            sent_again = sum(times - 1 for times in again.values())
            assert sent_again <= under_way
            assert sent_again <= killed * 6 * 50, (
                "four requests of fifty records, and two that were being settled"
            )


def some_now(forms: Sequence[str], now: Collection[str]):
    """All forms, those that are not for `now` in the long runs."""
    return [pytest.param(form, marks=() if form in now else pytest.mark.soak) for form in forms]


@pytest.mark.parametrize("form", some_now(FORMS, {"ndjson", "pretty.json", "stdin.gz"}))
def test_a_killed_load_sends_again_only_what_was_under_way(tmp_path: Path, form: str) -> None:
    """Killed three times: nothing is lost, no older version lands last, and no more is sent twice than was under way."""
    kill_until_done(tmp_path, form, 3, count=4000, keys=3000, chaos=0.0, seed=len(form))


@pytest.mark.parametrize("form", some_now(FORMS, {"ndjson"}))
def test_a_killed_load_ends_as_it_should_over_faults(tmp_path: Path, form: str) -> None:
    """Lost replies, partial lists and cut connections between the kills change nothing at the end."""
    kill_until_done(tmp_path, form, 3, count=4000, keys=2000, chaos=0.05, seed=len(form))


def killed_once(
    sandbox: Running, directory: Path, form: str = "ndjson", **more: bool
) -> tuple[Shell, list[Version]]:
    """A load that was killed after some requests."""
    versions = make_versions(2000, 2000, 3)
    write_input(directory, form, versions)
    shell = Shell(sandbox, directory, form, **more)
    process = shell.start()
    shell.sent(process, 8)
    process.kill()
    process.communicate()
    assert not shell.complete()
    return shell, versions


def test_a_second_run_ends_at_once_and_says_who_is_first(tmp_path: Path) -> None:
    """It exits with 75 and names the process; after that is killed, nothing holds the next one up."""
    with running(options(tmp_path, latency=0.3)) as sandbox:
        write_input(tmp_path, "ndjson", make_versions(1000, 1000, 3))
        shell = Shell(sandbox, tmp_path, "ndjson")
        first = shell.start()
        shell.sent(first, 1)
        code, _ = shell.run()
        assert code == 75
        assert f"process {first.pid} on " in shell.last_words()
        assert first.poll() is None
        first.kill()
        first.communicate()
        assert shell.run()[0] == 0
        assert stored(sandbox) == dict(make_versions(1000, 1000, 3))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_run_in_good_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """What is under way is finished and written down, so that the rerun sends nothing twice."""
    with running(options(tmp_path, latency=0.05)) as sandbox:
        versions = make_versions(2000, 2000, 3)
        write_input(tmp_path, "ndjson", versions)
        shell = Shell(sandbox, tmp_path, "ndjson")
        process = shell.start()
        shell.sent(process, 8)
        process.send_signal(number)
        ended, report = shell.end(process)
        assert (ended, report["outcome"]) == (code, "interrupted"), shell.last_words()
        check_ledger(report, report["records"]["read"])
        assert shell.under_way() == 0
        ended, report = shell.run()
        assert ended == 0
        check_ledger(report, 2000)
        assert report["records"]["alreadyAccepted"] >= 8 * 50
        assert stored(sandbox) == dict(versions)
        assert len({(write.key, write.digest) for write in sandbox.traffic.writes}) == len(
            sandbox.traffic.writes
        )


def test_the_second_signal_leaves_at_once(tmp_path: Path) -> None:
    """The requests under way are not waited for, and the journal stands all the same."""
    with running(options(tmp_path, latency=1.0)) as sandbox:
        versions = make_versions(2000, 2000, 3)
        write_input(tmp_path, "ndjson", versions)
        shell = Shell(sandbox, tmp_path, "ndjson")
        process = shell.start()
        shell.sent(process, 2)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # Two at once are one to the system.
        process.send_signal(signal.SIGTERM)
        ended, report = shell.end(process)
        assert (ended, report) == (143, {})
        under_way = shell.under_way()
        assert under_way > 0
        shell.options = ("--batch-records", "1000")
        assert shell.run()[0] == 0
        writes = [(write.key, write.digest) for write in sandbox.traffic.writes]
        assert len(writes) - len(set(writes)) <= min(under_way, 6 * 50)
        assert stored(sandbox) == dict(versions)


def test_a_changed_input_is_loaded_anew(tmp_path: Path) -> None:
    """The rerun says so in its first line and skips nothing."""
    with running(options(tmp_path)) as sandbox:
        shell, versions = killed_once(sandbox, tmp_path)
        versions = [*versions[1:], ("new", 2000)]
        path = write_input(tmp_path, "ndjson", versions)
        code, report = shell.run()
        assert code == 0
        assert f"new load load: {path} has changed since the last run" in shell.last_words()
        assert report["records"]["alreadyAccepted"] == 0
        assert stored(sandbox).items() >= dict(versions).items()


def test_a_moved_input_and_another_target_are_other_loads(tmp_path: Path) -> None:
    """Each has a run directory of its own by default, and the first load still goes on."""
    with running(options(tmp_path)) as sandbox, running(options(tmp_path)) as other:
        shell, versions = killed_once(sandbox, tmp_path, default_directory=True)
        shell.sandbox = other
        code, report = shell.run()
        assert (code, report["records"]["alreadyAccepted"]) == (0, 0)
        assert stored(other) == dict(versions)
        shell.sandbox = sandbox
        moved = tmp_path / "moved"
        moved.mkdir()
        shell.path.rename(moved / "input.ndjson")
        aside = Shell(sandbox, moved, "ndjson")
        code, report = aside.run("--run-dir", str(tmp_path / "elsewhere"))
        assert (code, report["records"]["alreadyAccepted"]) == (0, 0)
        (moved / "input.ndjson").rename(shell.path)
        code, report = shell.run()
        assert code == 0
        assert "resuming run 1 of events-" in shell.last_words()
        assert report["records"]["alreadyAccepted"] > 0
        assert stored(sandbox) == dict(versions)


def test_standard_input_with_other_bytes_is_refused(tmp_path: Path) -> None:
    """Nothing of them is sent, the sentence says where they differ, and `--fresh` loads them."""
    with running(options(tmp_path)) as sandbox:
        shell, versions = killed_once(sandbox, tmp_path, "stdin")
        other = [("other", 0), *versions[1:]]
        write_input(tmp_path, "stdin", other)
        code, _ = shell.run()
        assert code == 2
        assert (
            "standard input is not what it was in the earlier run: it differs between bytes 0 and"
            in shell.last_words()
        )
        assert not any(write.key.endswith(".other") for write in sandbox.traffic.writes)
        write_input(tmp_path, "stdin", versions[:10])
        code, _ = shell.run()
        assert code == 2
        assert "standard input is not what it was in the earlier run: it ends after" in shell.last_words()
        assert not any(write.key.endswith(".other") for write in sandbox.traffic.writes)
        write_input(tmp_path, "stdin", other)
        code, report = shell.run("--fresh")
        assert (code, report["records"]["alreadyAccepted"]) == (0, 0)
        assert stored(sandbox) == {**dict(versions), **dict(other)}


def test_standard_input_is_another_load_each_time(tmp_path: Path) -> None:
    """Without a named run directory nothing is gone on with."""
    with running(options(tmp_path)) as sandbox:
        shell, versions = killed_once(sandbox, tmp_path, "stdin", default_directory=True)
        code, report = shell.run()
        assert (code, report["records"]["alreadyAccepted"]) == (0, 0)
        assert stored(sandbox) == dict(versions)
        assert len(list((tmp_path / ".cdf-upsert").glob("events-*"))) == 2


def test_records_that_fail_are_tried_again_and_no_others(tmp_path: Path) -> None:
    """The rerun sends the failed record alone; its ledger counts all the others as accepted before."""
    with running(options(tmp_path)) as sandbox:
        versions = make_versions(500, 500, 3)
        path = write_input(tmp_path, "ndjson", versions)
        path.write_bytes(path.read_bytes() + make_text("bad", '"text"') + b"\n")
        shell = Shell(sandbox, tmp_path, "ndjson")
        first, second = shell.run(), shell.run()
        superseded = 500 - len(dict(versions))
        assert [code for code, _ in (first, second)] == [3, 3], shell.last_words()
        assert first[1]["records"] == {
            "read": 501,
            "accepted": 500 - superseded,
            "failed": 1,
            "superseded": superseded,
            "alreadyAccepted": 0,
            "unsent": 0,
        }
        assert second[1]["records"] == {
            "read": 501,
            "accepted": 0,
            "failed": 1,
            "superseded": 0,
            "alreadyAccepted": 500,
            "unsent": 0,
        }
        assert second[1]["requests"]["sent"] == 1
        assert "resuming run 1 of load: 500 accepted, 1 failed, 1 to go" in shell.last_words()
        (line,) = (shell.where / "failed.ndjson").read_bytes().splitlines()
        assert json.loads(line)["record"]["externalId"] == "bad"


def test_a_full_disk_stops_a_run_in_good_order(tmp_path: Path) -> None:
    """It exits with 1 and says what to do; the rerun goes on, and sends again only what was under way."""
    with running(options(tmp_path)) as sandbox:
        versions = make_versions(4000, 4000, 3)
        write_input(tmp_path, "ndjson", versions)
        shell = Shell(sandbox, tmp_path, "ndjson")
        code, report = shell.end(shell.start(limit=150_000))
        assert code == 1
        assert "cannot be written" in shell.last_words()
        assert "give the same command again to go on" in shell.last_words()
        check_ledger(report, report["records"]["read"])
        under_way = shell.under_way()
        code, report = shell.run()
        assert code == 0
        check_ledger(report, 4000)
        assert report["records"]["alreadyAccepted"] > 0
        again = Counter((write.key, write.digest) for write in sandbox.traffic.writes)
        assert sum(times - 1 for times in again.values()) <= under_way
        assert stored(sandbox) == dict(versions)


@pytest.mark.soak
@pytest.mark.parametrize("chaos", [0.0, 0.02])
def test_a_hundred_kills(tmp_path: Path, chaos: float) -> None:
    """A load of 50,000 records is killed a hundred times and loses nothing."""
    kill_until_done(tmp_path, "ndjson", 100, count=50_000, keys=40_000, chaos=chaos, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_million_records_go_on_at_99_percent(tmp_path: Path, end: signal.Signals) -> None:
    """Stopped when 99 % of a million records have landed: the rerun sends the rest alone, and is soon done."""
    count = 1_000_000
    with running(Options(keep_writes=True)) as sandbox:
        path = tmp_path / "input.ndjson"
        with path.open("wb") as file:
            for start in range(0, count, 1000):
                file.write(b"".join(make_text(f"k{i}", i) + b"\n" for i in range(start, start + 1000)))
        shell = Shell(sandbox, tmp_path, "ndjson", options=())
        began = time.monotonic()
        process = shell.start()
        until(lambda: len(sandbox.traffic.writes) >= 0.99 * count)
        process.send_signal(end)
        process.communicate(timeout=60)
        whole = time.monotonic() - began
        under_way = shell.under_way()
        assert under_way <= 20 * 1000
        assert under_way == 0 or end == signal.SIGKILL
        before = len(sandbox.traffic.writes)
        began = time.monotonic()
        code, report = shell.run()
        rest = time.monotonic() - began
        assert code == 0, shell.last_words()
        check_ledger(report, count)
        assert report["records"]["alreadyAccepted"] >= before - under_way
        assert before < len(sandbox.traffic.writes) <= count + under_way
        assert len({write.key for write in sandbox.traffic.writes}) == count
        assert stored(sandbox) == {f"k{i}": i for i in range(count)}
        assert rest < 0.5 * whole, "what was accepted is read again"
