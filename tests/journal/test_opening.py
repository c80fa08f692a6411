"""What becomes of the files of earlier runs when a run begins."""

import asyncio
import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.framing import Position
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.standing import Checkpoint, Settlement, Standing
from cdf_upsert.errors import BusyError, UsageError
from cdf_upsert.journal import Identity, Journal, cases
from cdf_upsert.journal.listing import LoadState, known_load
from cdf_upsert.journal.same import KEPT_EVERY
from cdf_upsert.journal.store import Store
from tests.journal.making import NOW, all_again, copied, intend, make_failed, make_input, make_plan, open_run
from tests.records import make_record, make_records


@pytest.fixture
def plan(tmp_path: Path) -> Identity:
    return make_plan(make_input(tmp_path))


def settle(journal: Journal, settlement: Settlement) -> None:
    asyncio.run(journal.settle(settlement))


def run(
    plan: Identity,
    directory: Path,
    run_id: str,
    *,
    accepted: int = 1,
    failed: int = 0,
    outcome: Outcome | None = None,
    failed_file: Path | None = None,
) -> None:
    """One run that accepts and fails some records; without an outcome it is cut off."""
    journal = open_run(plan, directory, run_id, failed=failed_file)
    records = make_records(*(f"{run_id}-{i}" for i in range(accepted + failed)))
    journal.passed(Checkpoint(accepted + failed, 1))
    settle(journal, Settlement(records[:accepted], failed=[make_failed(one) for one in records[accepted:]]))
    if outcome is not None:
        journal.finish(outcome, "", NOW)
    journal.close()


def keys_in(path: Path) -> list[str]:
    return [json.loads(line)["record"]["externalId"] for line in path.read_bytes().splitlines()]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_run_directory_is_for_its_owner_only(tmp_path: Path, plan: Identity) -> None:
    """The directories have mode 0700, all files in them 0600, and version control passes them by."""
    directory = tmp_path / ".cdf-upsert" / "load"
    journal = open_run(plan, directory)
    settle(journal, Settlement(failed=[make_failed(make_record(0, "a"))]))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert names(directory) >= {"journal.sqlite", "journal.sqlite-wal", "failed.ndjson", "lock"}
    assert (directory.parent / ".gitignore").read_text() == "*\n"
    journal.close()


def test_nothing_is_left_but_the_journal(tmp_path: Path, plan: Identity) -> None:
    """A load of which everything was accepted has no failed file, and its journal is one file."""
    run(plan, tmp_path / "load", "one", outcome=Outcome.COMPLETE)
    assert names(tmp_path / "load") == {"journal.sqlite", "lock"}


def test_a_new_load_begins_at_the_beginning(tmp_path: Path, plan: Identity) -> None:
    """An empty directory has no standing."""
    journal = open_run(plan, tmp_path / "load")
    assert journal.standing == Standing()
    assert journal.first_line == "new load load"
    assert journal.failed_path == tmp_path / "load" / "failed.ndjson"
    assert journal.report_path == tmp_path / "load" / "report.json"
    journal.close()


def test_a_load_that_was_cut_off_goes_on(tmp_path: Path, plan: Identity) -> None:
    """The next run knows what is settled, what failed, and what is left to do."""
    journal = open_run(plan, tmp_path / "load")
    records = make_records("a", "b", "c", "d")
    journal.passed(Checkpoint(4, 0, Position(40, 4, 4)))
    journal.passed(Checkpoint(4, 1))
    settle(journal, Settlement(records[:2], failed=[make_failed(records[3])]))
    journal.close()
    journal = open_run(plan, tmp_path / "load", "two")
    assert journal.first_line == "resuming run 1 of load: 2 accepted, 1 failed, 2 to go"
    assert (journal.standing.run, list(journal.standing.settled)) == (2, [0, 1])
    journal.close()


def test_what_failed_behind_what_is_unsettled_is_read_again_in_its_turn(
    tmp_path: Path, plan: Identity
) -> None:
    """An older version that was not settled must not land after the failed one: both are read in input order."""
    journal = open_run(plan, tmp_path / "load")
    records = make_records("a", "b", "a", "b")
    journal.passed(Checkpoint(2))
    journal.passed(Checkpoint(4, 1))
    settle(journal, Settlement([records[0]], failed=[make_failed(records[1]), make_failed(records[3])]))
    journal.close()
    journal = open_run(plan, tmp_path / "load", "two")
    assert journal.standing.start == Checkpoint(2)
    assert list(journal.standing.settled) == [0, 1]
    assert [one.ordinal for one in asyncio.run(all_again(journal))] == [1]
    assert keys_in(journal.failed_path) == ["b"]
    assert journal.first_line == "resuming run 1 of load: 1 accepted, 2 failed, 3 to go"
    journal.close()


def test_after_full_success_the_same_command_is_a_new_load(tmp_path: Path, plan: Identity) -> None:
    """Everything was accepted: nothing of it is known to the next run."""
    run(plan, tmp_path / "load", "one", accepted=3, outcome=Outcome.COMPLETE)
    journal = open_run(plan, tmp_path / "load", "two")
    assert (journal.case, journal.standing) == (cases.Repeated(), Standing())
    journal.close()


def test_failed_records_are_tried_again_and_the_file_says_what_is_failed_now(
    tmp_path: Path, plan: Identity
) -> None:
    """A rerun accepts one of three failures; the file then holds the other two, in input order."""
    directory = tmp_path / "load"
    run(plan, directory, "one", accepted=2, failed=3, outcome=Outcome.FAILURES)
    assert keys_in(directory / "failed.ndjson") == ["one-2", "one-3", "one-4"]
    journal = open_run(plan, directory, "two")
    assert journal.first_line == "resuming run 1 of load: 2 accepted, 3 failed, 3 to go"
    records = make_records(*(f"one-{i}" for i in range(5)))
    settle(journal, Settlement([records[3]], failed=[make_failed(records[4], "still")]))
    settle(journal, Settlement(failed=[make_failed(records[2], "still")]))
    journal.finish(Outcome.FAILURES, "", NOW)
    journal.close()
    lines = [json.loads(line) for line in (directory / "failed.ndjson").read_bytes().splitlines()]
    assert [(one["record"]["externalId"], one["error"]["message"]) for one in lines] == [
        ("one-2", "still"),
        ("one-4", "still"),
    ]


def test_a_failed_record_of_which_a_newer_version_is_accepted_is_marked(
    tmp_path: Path, plan: Identity
) -> None:
    """It stays in the failed file, says what took its place, and the next run counts it as superseded."""
    directory = tmp_path / "load"
    journal = open_run(plan, directory)
    old, other, new = make_records("a", "b", "a")
    journal.passed(Checkpoint(3, 1))
    settle(journal, Settlement(failed=[make_failed(old), make_failed(other)]))
    settle(journal, Settlement([new]))
    journal.finish(Outcome.FAILURES, "", NOW)
    journal.close()
    first, second = (json.loads(line) for line in (directory / "failed.ndjson").read_bytes().splitlines())
    assert first["supersededBy"] == {"path": "a.ndjson", "record": 3, "line": 3}
    assert "supersededBy" not in second
    journal = open_run(plan, directory, "two")
    assert (journal.standing.again, journal.standing.superseded, journal.standing.already_accepted) == (
        1,
        1,
        1,
    )
    assert [one.ordinal for one in asyncio.run(all_again(journal))] == [1]
    journal.close()
    journal = open_run(plan, directory, "three")
    assert (journal.standing.again, journal.standing.superseded, journal.standing.already_accepted) == (
        1,
        0,
        2,
    )
    assert keys_in(directory / "failed.ndjson") == ["b"]
    journal.close()


def test_a_failed_version_waits_for_a_newer_one_that_may_have_landed(tmp_path: Path, plan: Identity) -> None:
    """The next run tries a failed record only after the newer version that was under way at the kill."""
    journal = open_run(plan, tmp_path / "load")
    old, new, other = make_records("a", "a", "b")
    journal.passed(Checkpoint(1))
    settle(journal, Settlement(failed=[make_failed(old)]))
    asyncio.run(intend(journal, 1, [new, other], []))
    journal.close()
    journal = open_run(plan, tmp_path / "load", "two")
    assert [one.ordinal for one in asyncio.run(all_again(journal))] == [0]
    assert journal.standing.in_doubt == {("s", "a"): 1}
    journal.close()


def test_an_older_version_takes_no_place(tmp_path: Path, plan: Identity) -> None:
    """A failed record is not marked when an older version of its key is accepted after it."""
    journal = open_run(plan, tmp_path / "load")
    old, new = make_records("a", "a")
    settle(journal, Settlement(failed=[make_failed(new)]))
    settle(journal, Settlement([old]))
    journal.finish(Outcome.FAILURES, "", NOW)
    journal.close()
    assert b"supersededBy" not in (tmp_path / "load" / "failed.ndjson").read_bytes()


def test_a_changed_input_is_a_new_load_and_its_failures_are_kept(tmp_path: Path, plan: Identity) -> None:
    """Nothing is skipped that may be another record now; the failed file bears its run's name, and that is said."""
    directory = tmp_path / "load"
    run(plan, directory, "one", failed=2, outcome=Outcome.FAILURES)
    changed = make_plan(make_input(tmp_path, "{}\n{}\n"))
    journal = open_run(changed, directory, "two")
    kept = directory / "failed.one.ndjson"
    assert journal.standing == Standing()
    assert journal.kept == (kept,)
    assert journal.first_line == (
        f"new load load: {changed.inputs[0].path} has changed since the last run; "
        f"records that failed before are kept in {kept}"
    )
    assert keys_in(kept) == ["one-1", "one-2"]
    assert not journal.failed_path.exists()
    journal.close()


def test_a_failed_file_that_a_kill_left_behind_is_completed_before_it_is_kept(
    tmp_path: Path, plan: Identity
) -> None:
    """What the journal knows to be failed stands in the file that is kept aside, whatever the kill left of it."""
    directory = tmp_path / "load"
    run(plan, directory, "one", failed=2)
    (directory / "failed.ndjson").write_bytes(b'{"error":{"cl')
    journal = open_run(plan, directory, "two", fresh=True)
    assert journal.case == cases.Forgotten()
    assert keys_in(directory / "failed.one.ndjson") == ["one-1", "one-2"]
    journal.close()


@pytest.mark.parametrize("killed", [False, True])
def test_what_failed_of_a_pipe_is_kept_until_the_same_bytes_have_come(tmp_path: Path, killed: bool) -> None:
    """Failures behind the first open record are read again: from a pipe that may bring something else."""
    directory = tmp_path / "load"
    plan = make_plan("-")
    first, second, third = make_records("a", "b", "c")
    journal = open_run(plan, directory)
    asyncio.run(intend(journal, 1, [second], []))
    journal.passed(Checkpoint(1, 0, Position(30, 1, 1)))
    journal.passed(Checkpoint(3, 0, Position(90, 3, 3)))
    settle(journal, Settlement(failed=[make_failed(first), make_failed(third)]))
    if killed:
        journal.failed_path.write_bytes(b'{"error"')
    else:
        journal.finish(Outcome.STOPPED, "", NOW)
    journal.close()
    journal = open_run(plan, directory, "two")
    assert keys_in(directory / "failed.one.ndjson") == ["a", "c"]
    assert journal.kept == (directory / "failed.one.ndjson",)
    assert keys_in(directory / "failed.ndjson") == ["a"]
    journal.close()


def test_a_torn_failed_file_is_made_whole(tmp_path: Path, plan: Identity) -> None:
    """A kill in the middle of a line costs nothing: the next run writes the file anew from the journal."""
    directory = tmp_path / "load"
    run(plan, directory, "one", failed=2)
    path = directory / "failed.ndjson"
    path.write_bytes(path.read_bytes()[:-20])
    open_run(plan, directory, "two").close()
    assert keys_in(path) == ["one-1", "one-2"]


def test_a_failed_file_elsewhere_is_ours_only_while_we_wrote_it(tmp_path: Path, plan: Identity) -> None:
    """Two loads that name the same failed file keep each other's records aside, and each still knows its own."""
    elsewhere = tmp_path / "failed.ndjson"
    other = make_plan(make_input(tmp_path, name="b.ndjson"))
    run(plan, tmp_path / "load", "one", failed=1, outcome=Outcome.FAILURES, failed_file=elsewhere)
    run(other, tmp_path / "other", "two", failed=1, outcome=Outcome.FAILURES, failed_file=elsewhere)
    assert keys_in(elsewhere) == ["two-1"]
    assert [keys_in(path) for path in tmp_path.glob("failed.*.ndjson")] == [["one-1"]]
    journal = open_run(plan, tmp_path / "load", "three", failed=elsewhere)
    assert keys_in(elsewhere) == ["one-1"]
    assert [keys_in(path) for path in journal.kept] == [["two-1"]]
    journal.close()
    journal = open_run(plan, tmp_path / "load", "four", failed=elsewhere)
    assert journal.kept == ()
    journal.close()


def test_an_input_is_never_taken_for_the_failed_file(tmp_path: Path) -> None:
    """A failed file that is loaded in its own directory is refused before anything happens to it."""
    plan = make_plan(make_input(tmp_path, name="failed.ndjson"))
    with pytest.raises(UsageError, match="is an input of this load"):
        open_run(plan, tmp_path)
    assert (tmp_path / "failed.ndjson").read_text() == "{}\n"


def test_reports_of_earlier_runs_are_kept(tmp_path: Path, plan: Identity) -> None:
    """The report's name is free for each run; the earlier one has its run's name."""
    run(plan, tmp_path / "load", "one")
    (tmp_path / "load" / "report.json").write_text("{}")
    journal = open_run(plan, tmp_path / "load", "two")
    assert not journal.report_path.exists()
    assert (tmp_path / "load" / "report.one.json").read_text() == "{}"
    journal.close()


def test_the_directory_of_another_unfinished_load_is_refused(tmp_path: Path, plan: Identity) -> None:
    """Its journal stays, so that the other load can still go on."""
    directory = tmp_path / "load"
    run(plan, directory, "one", accepted=3)
    other = make_plan(make_input(tmp_path), stream="other")
    with pytest.raises(UsageError, match="an unfinished load into stream events"):
        open_run(other, directory, "two")
    journal = open_run(plan, directory, "three")
    assert journal.standing.already_accepted == 3
    journal.close()


def test_a_moved_input_goes_on_in_its_directory(tmp_path: Path, plan: Identity) -> None:
    """With the run directory named, a file that was moved is the same input, also the next time."""
    directory = tmp_path / "load"
    run(plan, directory, "one", accepted=3)
    moved = tmp_path / "moved.ndjson"
    (tmp_path / "a.ndjson").rename(moved)
    for run_id in ("two", "three"):
        journal = open_run(make_plan(str(moved)), directory, run_id)
        assert journal.standing.already_accepted == 3
        journal.close()
    assert known_load(directory).inputs == (str(moved),)


def test_who_looks_sees_one_moment(tmp_path: Path, plan: Identity) -> None:
    """What is read beside a run belongs together, although the run goes on writing."""
    journal = open_run(plan, tmp_path / "load")
    settle(journal, Settlement(make_records("a")))
    with contextlib.closing(Store(tmp_path / "load" / "journal.sqlite", read_only=True)) as store:
        settle(journal, Settlement([make_record(1, "b")], failed=[make_failed(make_record(2, "c"))]))
        assert (store.state().accepted, store.failed_count()) == (1, 0)
    journal.close()
    with contextlib.closing(Store(tmp_path / "load" / "journal.sqlite", read_only=True)) as store:
        assert (store.state().accepted, store.failed_count()) == (2, 1)


def test_a_run_that_sent_nothing_holds_nobody_up(tmp_path: Path, plan: Identity) -> None:
    """Another load may have a directory in which no record was settled or sent."""
    open_run(plan, tmp_path / "load").close()
    journal = open_run(make_plan(make_input(tmp_path), stream="other"), tmp_path / "load", "two")
    assert journal.case == cases.NewLoad()
    journal.close()


def test_tries_that_sent_nothing_are_no_runs_to_go_on_with(tmp_path: Path, plan: Identity) -> None:
    """However often a load was refused before its first record: the next run is the first one of a new load."""
    for run_id in ("one", "two"):
        journal = open_run(plan, tmp_path / "load", run_id)
        journal.finish(Outcome.REFUSED, "No such stream.", NOW)
        journal.close()
    journal = open_run(plan, tmp_path / "load", "three")
    assert (journal.case, journal.standing.run) == (cases.NewLoad(), 1)
    settle(journal, Settlement(make_records("a")))
    journal.close()
    journal = open_run(plan, tmp_path / "load", "four")
    assert journal.standing.run == 2
    journal.close()


def test_two_runs_of_a_load_at_once(tmp_path: Path, plan: Identity) -> None:
    """The second is told who holds the directory, and changes nothing in it."""
    journal = open_run(plan, tmp_path / "load")
    with pytest.raises(BusyError, match=f"process {os.getpid()} on "):
        open_run(plan, tmp_path / "load", "two", fresh=True)
    settle(journal, Settlement(make_records("a")))
    journal.close()
    journal = open_run(plan, tmp_path / "load", "three")
    assert journal.standing.already_accepted == 1
    journal.close()


@pytest.mark.parametrize("what", ["a file", "below a file"])
def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, plan: Identity, what: str) -> None:
    """Before anything is sent, with the path and the mend."""
    (tmp_path / "file").write_text("")
    directory = tmp_path / "file" if what == "a file" else tmp_path / "file" / "load"
    with pytest.raises(
        UsageError, match=f"The run directory {directory} is not usable .*choose another --run-dir"
    ):
        open_run(plan, directory)


BROKEN_BY = {
    "a snapshot that is no JSON": "UPDATE snapshot SET body = x'00'",
    "a snapshot of bytes that are no text": """UPDATE snapshot SET body = '{"superseded":"' || x'c328' || '"}'""",
    "an entry of no facts": "INSERT INTO entry (run, facts) VALUES (1, '[7]')",
    "an identity that lacks a part": "UPDATE load SET identity = '{}'",
    "an identity that is no text": "UPDATE load SET identity = 7",
    "a key that is no text": "UPDATE failed SET external_id = CAST(x'c328' AS TEXT) WHERE ordinal = 600",
    "a digit of what is settled": "UPDATE snapshot SET body = flip(body, '5')",
    "a digit of the identity": "UPDATE load SET identity = flip(identity, '1')",
    "a letter of a failed record": "UPDATE failed SET line = flip(line, 'e') WHERE ordinal = 600",
    "a column that is not there": "ALTER TABLE run RENAME COLUMN ended TO rnded",
    "a table that is not there": "DROP TABLE failed",
    "an index of something else": "PRAGMA writable_schema = 1; UPDATE sqlite_master SET rootpage = "
    "(SELECT rootpage FROM sqlite_master WHERE name = 'heard') WHERE name = 'failed_key'",
}


def flip(blob: bytes, character: str) -> bytes:
    """Another bit in the last such character, which leaves JSON what it is."""
    head, found, tail = blob.rpartition(character.encode())
    assert found
    return head + bytes([found[0] ^ 1]) + tail


@pytest.mark.parametrize("damage", ["junk", "header", "middle", *BROKEN_BY])
def test_a_damaged_journal_is_told_and_kept(tmp_path: Path, plan: Identity, damage: str) -> None:
    """A journal that cannot be read is never dropped silently: it and the failed file are kept, and that is said."""
    directory = tmp_path / "load"
    run(plan, directory, "one", accepted=500, failed=400, outcome=Outcome.FAILURES)
    path = directory / "journal.sqlite"
    whole = path.read_bytes()
    match damage:
        case "junk":
            path.write_bytes(b"not a journal at all" * 100)
        case "header":
            path.write_bytes(b"\0" * 100 + whole[100:])
        case "middle":
            path.write_bytes(whole[: len(whole) // 2] + b"\xff" * 5000 + whole[len(whole) // 2 + 5000 :])
        case _:
            with sqlite3.connect(path) as db:
                db.create_function("flip", 2, flip)
                db.executescript(BROKEN_BY[damage])
            db.close()
    assert known_load(directory).state in {LoadState.UNREADABLE, LoadState.FAILURES}, (
        "looking at it does not fail"
    )
    damaged = path.read_bytes()
    journal = open_run(plan, directory, "two")
    assert isinstance(journal.case, cases.Damaged)
    assert journal.case.kept.read_bytes() == damaged
    assert f"is kept as {journal.case.kept}" in journal.first_line
    assert journal.standing == Standing()
    assert len(keys_in(*journal.kept)) == 400
    settle(journal, Settlement(make_records("a")))
    journal.close()
    journal = open_run(plan, directory, "three")
    assert journal.standing.already_accepted == 1
    journal.close()


@pytest.mark.parametrize("version", [1, 99])
def test_a_journal_of_another_version_is_refused(tmp_path: Path, plan: Identity, version: int) -> None:
    """The sentence names both versions; the journal is left as it was."""
    directory = tmp_path / "load"
    run(plan, directory, "one")
    with sqlite3.connect(directory / "journal.sqlite") as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = (directory / "journal.sqlite").read_bytes()
    with pytest.raises(
        UsageError, match=rf"another version of cdf-upsert \(journal version {version}, this one knows 2\)"
    ):
        open_run(plan, directory, "two")
    assert (known_load(directory).reason or "").endswith("choose another --run-dir.")
    assert (directory / "journal.sqlite").read_bytes() == before


def test_after_a_power_failure_the_state_is_an_earlier_one(tmp_path: Path, plan: Identity) -> None:
    """With the write-ahead log cut off at any length, what is known is what was known after some settlement."""
    journal = open_run(plan, tmp_path / "load")
    records = make_records(*(f"key-{i % 5}" for i in range(40)))
    for i, record in enumerate(records):
        journal.passed(Checkpoint(i + 1))
        failed = [make_failed(record)] if i % 3 == 0 else []
        settle(journal, Settlement([] if failed else [record], failed=failed))
    left = copied(tmp_path / "load", tmp_path / "left")
    journal.close()
    wal = (left / "journal.sqlite-wal").read_bytes()
    (left / "journal.sqlite-wal").unlink()
    (left / "failed.ndjson").unlink()  # A power failure takes whatever was not yet on the disk.
    seen = []
    for length in sorted({*range(0, len(wal), 2003), len(wal)}):
        directory = copied(left, tmp_path / f"cut-{length}")
        (directory / "journal.sqlite-wal").write_bytes(wal[:length])
        journal = open_run(plan, directory, "two")
        known = len(journal.standing.settled)
        seen.append(known)
        assert list(journal.standing.settled) == list(range(known))
        assert journal.standing.start == Checkpoint(known)
        failed = list(range(0, known, 3))
        counted = journal.standing.already_accepted + journal.standing.again + journal.standing.superseded
        assert counted == known
        assert journal.standing.again + journal.standing.superseded == len(failed)
        again = [one.ordinal for one in asyncio.run(all_again(journal))]
        assert again == [
            i for i in failed if not any(j > i and j % 5 == i % 5 and j % 3 for j in range(known))
        ]
        journal.close()
    assert seen == sorted(seen)
    assert seen[-1] == 40
    assert len(set(seen)) > 20


def test_standard_input_goes_on_only_with_the_same_bytes(tmp_path: Path) -> None:
    """The marks of what was heard are there in the next run, in the one after that, and gone in a new load."""
    plan = make_plan("-")
    data = os.urandom(KEPT_EVERY + 1000)
    journal = open_run(plan, tmp_path / "load")
    same = journal.same_bytes(0)
    assert same is not None
    same.feed(data[:-500])
    settle(journal, Settlement(make_records("a")))
    same.feed(data[-500:])
    settle(journal, Settlement([make_record(1, "b")]))
    journal.close()
    for run_id in ("two", "three"):
        journal = open_run(plan, tmp_path / "load", run_id)
        same = journal.same_bytes(0)
        assert same is not None
        assert same.verified == 0
        same.feed(data[: KEPT_EVERY + 999])
        settle(journal, Settlement([make_record(2, "c")]))
        assert same.verified == KEPT_EVERY + 500
        with pytest.raises(
            UsageError, match=f"differs between bytes {KEPT_EVERY + 500:,} and {KEPT_EVERY + 1000:,}"
        ):
            same.feed(bytes([data[-1] ^ 1]))
        journal.close()
    journal = open_run(plan, tmp_path / "load", "four", fresh=True)
    same = journal.same_bytes(0)
    assert same is not None
    assert same.verified is None
    journal.close()


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("kind", [None, FailureClass.REJECTED, FailureClass.UNREADABLE])
@pytest.mark.parametrize("heard_late", [False, True])
def test_more_may_follow_an_input_that_ended_only_where_records_keep_their_numbers_and_bytes(
    tmp_path: Path, others: int, kind: FailureClass | None, heard_late: bool
) -> None:
    """Not before another input, and not behind a record that was cut off: what was settled would be another record."""
    plan = make_plan("-", *(make_input(tmp_path) for _ in range(others)))
    journal = open_run(plan, tmp_path / "load")
    same = journal.same_bytes(0)
    assert same is not None
    same.feed(b"abc")
    if not heard_late:
        same.end()
    first, last = make_records("a", "b")
    journal.passed(Checkpoint(2, 1 + others))
    failed = [] if kind is None else [make_failed(last, kind=kind)]
    settle(journal, Settlement([first] if failed else [first, last], failed=failed))
    if heard_late:
        same.end()
    journal.finish(Outcome.STOPPED, "", NOW)
    journal.close()
    for run_id in ("two", "three"):
        journal = open_run(plan, tmp_path / "load", run_id)
        same = journal.same_bytes(0)
        assert same is not None
        same.feed(b"abc")
        settle(journal, Settlement())
        if others or kind is FailureClass.UNREADABLE:
            with pytest.raises(UsageError, match="it goes on after 3 bytes, where it ended then"):
                same.feed(b"d")
        else:
            same.feed(b"d")
            assert same.verified is None
        journal.close()


def test_files_are_not_listened_to(tmp_path: Path, plan: Identity) -> None:
    """Only what can be read once is compared byte by byte."""
    journal = open_run(plan, tmp_path / "load")
    assert journal.same_bytes(0) is None
    journal.close()
