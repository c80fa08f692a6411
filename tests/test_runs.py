"""`cdf-upsert runs`: what it lists, and what it takes away."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cdf_upsert.cli.runs import runs
from cdf_upsert.core.events import Outcome
from cdf_upsert.core.standing import Checkpoint, Settlement
from cdf_upsert.errors import UsageError
from cdf_upsert.journal import Journal, default_directory
from tests.journal.making import NOW, make_failed, make_input, make_plan, open_run
from tests.records import make_records

app = typer.Typer()
app.command()(runs)


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    with contextlib.chdir(tmp_path):
        yield tmp_path


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments, env={"CDF_UPSERT_RUN_DIR": ""})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def listed(*arguments: str) -> list[dict]:
    return json.loads(invoke("--json", *arguments).stdout)


def begin(name: str, *, failed: int = 0, to_go: int = 0) -> Journal:
    """A run that accepts three records of a load with an input of this name, and fails some."""
    plan = make_plan(make_input(Path.cwd(), name=name))
    journal = open_run(plan, default_directory(plan, NOW, 0), name)
    records = make_records(*(f"{i}" for i in range(3 + failed)))
    journal.passed(Checkpoint(3 + failed + to_go, 1))
    asyncio.run(journal.settle(Settlement(records[:3], failed=[make_failed(one) for one in records[3:]])))
    return journal


def end(journal: Journal, outcome: Outcome, reason: str = "") -> str:
    journal.finish(outcome, reason, NOW)
    journal.close()
    return journal.name


def test_a_directory_without_loads() -> None:
    """Nothing is said on standard output, and JSON is an empty list."""
    result = invoke()
    assert (result.stdout, result.stderr) == (
        "",
        "There is no run directory in .cdf-upsert; --run-dir names one that is elsewhere.\n",
    )
    assert listed() == []


def test_how_loads_stand(home: Path) -> None:
    """Complete, with failures, stopped, cut off, under way and unreadable ones are told apart."""
    names = {
        "complete": end(begin("a"), Outcome.COMPLETE),
        "failures": end(begin("b", failed=2), Outcome.FAILURES, "2 records failed."),
        "unfinished": end(begin("c", to_go=1500), Outcome.INTERRUPTED, "Interrupted by SIGINT."),
    }
    cut_off = begin("d")
    cut_off.close()
    names["unreadable"] = end(begin("e"), Outcome.COMPLETE)
    (home / ".cdf-upsert" / names["unreadable"] / "journal.sqlite").write_bytes(b"junk" * 1000)
    (home / ".cdf-upsert" / "sandbox").mkdir()
    under_way = begin("f")
    names["under way"] = under_way.name
    loads = {Path(one["directory"]).name: one for one in listed()}
    assert {name: one["state"] for name, one in loads.items()} == {
        **{name: state for state, name in names.items()},
        cut_off.name: "unfinished",
    }
    failures = loads[names["failures"]]
    assert {key: failures[key] for key in ("stream", "project", "baseUrl", "inputs", "run", "runId")} == {
        "stream": "events",
        "project": "p",
        "baseUrl": "https://cdf.test",
        "inputs": [str(home / "b")],
        "run": 1,
        "runId": "b",
    }
    assert (failures["accepted"], failures["failed"], failures["toGo"]) == (3, 2, 0)
    assert failures["failedFile"] == str(home / ".cdf-upsert" / names["failures"] / "failed.ndjson")
    assert loads[names["unfinished"]]["toGo"] == 1500
    assert loads[names["under way"]]["holder"]["pid"] > 0
    assert loads[cut_off.name]["ended"] is None
    told = invoke().stdout
    for line in [
        f".cdf-upsert/{names['complete']}: complete\n",
        f"  {home / 'a'} -> events in p at https://cdf.test\n",
        "  run 1: 2026-05-28T10:15:00Z to 2026-05-28T10:15:00Z. Interrupted by SIGINT.\n  3 accepted, 1,500 to go\n",
        "  run 1: 2026-05-28T10:15:00Z, cut off\n",
        f"  3 accepted, 2 failed ({failures['failedFile']})\n",
        f"  run 1: since 2026-05-28T10:15:00Z, process {loads[names['under way']]['holder']['pid']} on ",
        f".cdf-upsert/{names['unreadable']}: unreadable\n  The journal cannot be read: ",
    ]:
        assert line in told
    under_way.close()


def test_looking_disturbs_no_run(home: Path) -> None:
    """A run that is under way goes on writing while it is looked at, and each look shows what is written by then."""
    journal = begin("a")
    for i in range(3, 8):
        assert [one["accepted"] for one in listed()] == [i]
        asyncio.run(journal.settle(Settlement(make_records(*map(str, range(i + 1)))[i:])))
    end(journal, Outcome.COMPLETE)
    assert [(one["state"], one["accepted"]) for one in listed()] == [("complete", 8)]


def test_finished_loads_are_removed_and_no_others(home: Path) -> None:
    """Only loads of which everything was accepted go; what is not ours stays where it is."""
    gone = end(begin("a"), Outcome.COMPLETE)
    with_notes = end(begin("b"), Outcome.COMPLETE)
    (home / ".cdf-upsert" / with_notes / "notes.txt").write_text("mine")
    under_way = begin("f")
    staying = {
        end(begin("c", failed=1), Outcome.FAILURES),
        end(begin("d"), Outcome.STOPPED),
        end(begin("e"), Outcome.COMPLETE),
        under_way.name,
    }
    kept_aside = next(
        name for name in staying if listed("--run-dir", f".cdf-upsert/{name}")[0]["runId"] == "e"
    )
    (home / ".cdf-upsert" / kept_aside / "failed.earlier.ndjson").write_text("{}\n")
    result = invoke("--remove-finished")
    assert set(result.stderr.splitlines()) == {
        *(f"removed .cdf-upsert/{name}" for name in (gone, with_notes)),
        f"kept .cdf-upsert/{kept_aside}: an earlier run has left failed records there; remove it by hand.",
    }
    assert {Path(one["directory"]).name for one in listed()} == staying
    assert not (home / ".cdf-upsert" / gone).exists()
    assert [path.name for path in (home / ".cdf-upsert" / with_notes).iterdir()] == ["notes.txt"]
    under_way.close()


def test_one_run_directory(home: Path) -> None:
    """`--run-dir` looks at that one only, wherever it is, and a directory that is none is told."""
    plan = make_plan(make_input(home))
    open_run(plan, home / "elsewhere").close()
    begin("b").close()
    assert [one["directory"] for one in listed("--run-dir", "elsewhere")] == ["elsewhere"]
    with pytest.raises(UsageError, match="nowhere holds no journal"):
        invoke("--run-dir", "nowhere")
