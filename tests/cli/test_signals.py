"""Signals: the first one stops in good order, the second leaves at once, and the same command goes on."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.cli.service import ACCEPTED, mutable_stream, service, silence, variables_of
from tests.loopback import Asked
from tests.records import make_text
from tests.workdir import Workdir, until

COUNT = 3000


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A sandbox that takes its time for each write, and remembers them."""
    script = tmp_path_factory.mktemp("faults") / "slow.toml"
    script.write_text('[[fault]]\nkind = "delay"\non = ["upsert"]\nseconds = 0.3\n')
    with running(Options(keep_writes=True, faults=script)) as served:
        yield served


@pytest.fixture
def shell(tmp_path: Path, slow: Running, stream: str) -> Workdir:
    """A directory with records of a stream's own, and the slow sandbox as the target."""
    shell = Workdir(tmp_path, variables_of(slow))
    shell.write("a.ndjson", b"\n".join(make_text(f"{stream}-{i}", i) for i in range(COUNT)))
    return shell


def written(slow: Running, stream: str) -> list[str]:
    """The keys that were written for a stream, as often as that happened."""
    return [write.key for write in list(slow.traffic.writes) if write.key.startswith(f"s.{stream}-")]


LOAD = ("a.ndjson", "--json", "--concurrency", "2", "--batch-records", "250")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_the_first_signal_stops_in_good_order(
    number: signal.Signals, status: int, shell: Workdir, slow: Running, stream: str
) -> None:
    """Requests under way finish, the ledger balances, all is written down, and a rerun sends only the rest."""
    with shell.start("load", stream, *LOAD) as load:
        until(lambda: bool(written(slow, stream)))
        load.signal(number)
        done = load.ends().exits(status)
    report, records = done.report, done.report["records"]
    assert (report["outcome"], report["exitCode"]) == ("interrupted", status)
    assert report["reason"] == f"Interrupted by {number.name}."
    assert records["accepted"] == len(written(slow, stream)) > 0
    assert records["read"] == records["accepted"] + records["unsent"]
    done.says("to go on, rerun the same command; what was accepted is not sent again")

    again = shell.run("load", stream, *LOAD).exits(0)
    assert again.counts == {
        "read": COUNT,
        "alreadyAccepted": records["accepted"],
        "accepted": COUNT - records["accepted"],
    }
    keys = written(slow, stream)
    assert len(keys) == len(set(keys)) == COUNT


def test_a_signal_that_comes_twice_at_once_is_one(alone: Workdir) -> None:
    """`timeout` sends its signal to the load and to the load's group: the run still ends in good order."""
    alone.write("a.ndjson", make_text("a"))
    heard = asyncio.Event()

    async def accept_late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await heard.wait()
        await ACCEPTED(asked, writer)

    with (
        service(mutable_stream(lambda _: accept_late)) as served,
        alone.start("load", "demo", "a.ndjson", "--json", **served.variables) as load,
    ):
        until(lambda: bool(served.upserts))
        load.signal(signal.SIGTERM)
        load.signal(signal.SIGTERM)
        served.call(heard.set)
        assert load.ends().exits(143).counts == {"read": 1, "accepted": 1}


def test_the_second_signal_leaves_at_once_and_the_journal_stands(alone: Workdir) -> None:
    """Nobody has to wait for a service that does not answer; what was accepted before is not sent again."""
    alone.write("a.ndjson", b"\n".join(make_text(f"k{i}", i) for i in range(4)))
    mute = True

    def answer(asked):
        return silence if mute and len(served.upserts) > 2 else accepted(asked)

    accepted = mutable_stream()
    with service(mutable_stream(answer)) as served:
        command = ("load", "demo", "a.ndjson", "--concurrency", "1", "--batch-records", "1")
        with alone.start(*command, **served.variables) as load:
            until(lambda: len(served.upserts) == 3)
            load.signal(signal.SIGINT)
            load.signal(signal.SIGTERM)
            ended = load.ends(5)
        assert ended.status in (130, 143), ended
        mute = False
        done = alone.run(*command, "--json", **served.variables).exits(0)
        assert done.counts == {"read": 4, "alreadyAccepted": 2, "accepted": 2}
        keys = [record["externalId"] for batch in served.batches for record in batch]
        assert keys == ["k0", "k1", "k2", "k2", "k3"]


def test_a_killed_run_is_gone_on_with(shell: Workdir, slow: Running, stream: str) -> None:
    """After kill -9 the same command sends what is missing, and at most the requests under way once more."""
    with shell.start("load", stream, *LOAD) as load:
        until(lambda: len(written(slow, stream)) >= 500)
        load.signal(signal.SIGKILL)
        assert load.ends().status == -signal.SIGKILL
    done = shell.run("load", stream, *LOAD).exits(0)
    done.says("resuming run 1")
    assert done.report["records"]["read"] == COUNT
    keys = written(slow, stream)
    assert len(set(keys)) == COUNT
    assert len(keys) <= COUNT + 2 * 250


def test_a_signal_ends_the_wait_for_a_slow_pipe(alone: Workdir) -> None:
    """A load that waits for standard input leaves soon, with what has come settled."""
    with (
        service(mutable_stream()) as served,
        alone.start("load", "demo", "--linger", "0", "--json", **served.variables) as load,
    ):
        load.feed(make_text("a") + b"\n")
        until(lambda: len(served.upserts) == 1)
        load.signal(signal.SIGTERM)
        load.process.wait(10)
        assert load.ends().exits(143).counts == {"read": 1, "accepted": 1}


def test_a_signal_ends_the_wait_for_a_mute_service(alone: Workdir) -> None:
    """A load that has not begun yet leaves at once, and says that nothing was sent."""
    with (
        service(lambda _: silence) as served,
        alone.start("load", "demo", "--json", **served.variables) as load,
    ):
        until(lambda: bool(served.heard.asked))
        load.signal(signal.SIGINT)
        done = load.ends(10).exits(130)
        assert done.counts == {}
        assert done.report["outcome"] == "interrupted"


def test_a_signal_ends_a_check(alone: Workdir) -> None:
    """`check` says what it has found until then, and nothing of sending."""
    with alone.start("check", "-", "-v") as check:
        check.feed(make_text("a") + b"\n" + b"x" * 600_000)
        check.hears("Reading standard input")
        check.signal(signal.SIGINT)
        check.process.wait(10)
        done = (
            check.ends()
            .exits(130)
            .says("Interrupted by SIGINT", "Next: to check all of it, rerun the same command.")
        )
        done.says_nothing_of("accepted is not sent again")


def test_who_is_told_to_ignore_a_hangup_goes_on(alone: Workdir) -> None:
    """Under `nohup` a load outlives its terminal."""
    with (
        service(mutable_stream()) as served,
        alone.start("load", "demo", "--json", before="trap '' HUP", **served.variables) as load,
    ):
        until(lambda: bool(served.heard.asked))
        load.signal(signal.SIGHUP)
        load.feed(make_text("a") + b"\n")
        assert load.ends().exits(0).counts == {"read": 1, "accepted": 1}


IMPORTED_WHEN_INTERRUPTED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize("begun", ["typer", "isal"], ids=["start-up", "command"])
def test_ctrl_c_during_start_up_says_nothing(tmp_path: Path, begun: str) -> None:
    """While modules are still imported, of the command line or of a command: exit code 130, and no traceback."""
    (tmp_path / begun).mkdir()
    (tmp_path / begun / "__init__.py").write_text(IMPORTED_WHEN_INTERRUPTED)
    (tmp_path / "a.ndjson").write_bytes(make_text("a", 1))
    done = subprocess.run(
        [sys.executable, "-m", "cdf_upsert", "load", "events", "a.ndjson"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "CDF_URL": "http://127.0.0.1:9",
            "CDF_PROJECT": "p",
            "LOGIN_FLOW": "token",
            "CDF_TOKEN": "any-token-will-do",
        },
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 130
    assert b"Traceback" not in done.stderr


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    """In the background of a script (`nohup`, `&`) the signal is ignored, and the command line leaves it so."""
    (tmp_path / "a.ndjson").write_bytes(make_text("a", 1))
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import sys; sys.argv = ['cdf-upsert', 'check', 'a.ndjson']\n"
        "import cdf_upsert.cli\n"
        "cdf_upsert.cli.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
        "from cdf_upsert.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=30, check=False, text=True
    )
    assert done.stdout == "True\n", done.stderr
