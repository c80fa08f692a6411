"""The journal of a load against a plain model of it, over runs that end well and runs that are killed."""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.record import FailureClass, Record
from cdf_upsert.core.standing import Checkpoint, Settlement
from cdf_upsert.journal import GoingOn, Journal
from cdf_upsert.journal.cases import NewLoad
from cdf_upsert.journal.store import Store
from tests.journal.making import (
    FAST,
    NOW,
    all_again,
    copied,
    intend,
    make_failed,
    make_input,
    make_plan,
    open_run,
)
from tests.records import make_record

RECORDS = [make_record(i, f"key-{i * 7 % 9}", i) for i in range(24)]


@dataclass
class Model:
    """What ought to be known of a load, in plain sets."""

    accepted: set[int] = field(default_factory=set)
    superseded: set[int] = field(default_factory=set)
    failed: dict[int, int] = field(default_factory=dict)
    """Ordinal: the number of the run that it failed in."""
    marked: dict[int, int] = field(default_factory=dict)
    """Ordinal of a failed record: that of the newer version that was accepted."""
    open: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    passed: list[Checkpoint] = field(default_factory=lambda: [Checkpoint()])
    run: int = 1

    @property
    def settled(self) -> set[int]:
        return self.accepted | self.superseded | set(self.failed)

    @property
    def start(self) -> Checkpoint:
        front = next(i for i in range(100) if i not in self.settled)
        return [one for one in self.passed if one.ordinal <= front][-1]

    @property
    def in_doubt(self) -> dict[tuple[str, str], int]:
        doubts: dict[tuple[str, str], int] = {}
        for ordinals in self.open.values():
            for i in set(ordinals) - self.settled:
                doubts[RECORDS[i].key] = max(i, doubts.get(RECORDS[i].key, i))
        return doubts

    def accept(self, ordinals: list[int]) -> None:
        self.accepted.update(ordinals)
        for i in ordinals:
            self.failed.pop(i, None)
        for i in ordinals:
            for one in self.failed:
                if RECORDS[one].key == RECORDS[i].key and one < i:
                    self.marked.setdefault(one, i)

    def to_do(self) -> list[int]:
        """What the run may still settle, with what is under way first."""
        earlier = [i for i, run in self.failed.items() if run < self.run and i not in self.marked]
        return [i for i in range(len(RECORDS)) if i not in self.settled] + earlier


def records(ordinals: list[int]) -> list[Record]:
    return [RECORDS[i] for i in ordinals]


def check_standing(journal: Journal, model: Model, overtaken: int) -> None:
    standing = journal.standing
    assert standing.run == model.run
    assert standing.start == model.start
    assert set(standing.settled) == model.settled
    assert standing.in_doubt == model.in_doubt
    assert standing.already_accepted == len(model.accepted) + len(model.superseded) - overtaken
    assert standing.again == len(model.failed)
    assert standing.superseded == overtaken


def check_failed_file(journal: Journal, model: Model, *, marks: bool = True) -> None:
    """The file holds exactly what is failed, in input order, and says which newer version took a record's place."""
    path = journal.failed_path
    lines = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    assert [line["source"]["record"] - 1 for line in lines] == sorted(model.failed)
    if marks:
        newer = {
            line["source"]["record"] - 1: line["supersededBy"]["record"] - 1
            for line in lines
            if "supersededBy" in line
        }
        assert newer == model.marked
    assert [line["record"] for line in lines] == [json.loads(RECORDS[i].text) for i in sorted(model.failed)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_known_after_any_end_is_what_was_written_down(data) -> None:
    """After any sequence of batches, settlements, kills and good ends, standing and failed file equal the model."""
    model = Model()
    with tempfile.TemporaryDirectory(dir=FAST) as name, asyncio.Runner() as runner:
        home = Path(name)
        plan = make_plan(make_input(home))
        directory, deaths, batches = home / "load", 0, 0
        journal = open_run(plan, directory)
        under_way: dict[int, list[int]] = {}
        for _ in range(data.draw(st.integers(1, 25))):
            busy = {i for some in under_way.values() for i in some}
            free = [i for i in model.to_do() if i not in busy]
            match data.draw(st.sampled_from(["intend", "intend", "settle", "settle", "read", "kill", "end"])):
                case "intend" if free:
                    chosen = data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=6, unique=True))
                    batches += 1
                    runner.run(intend(journal, batches, records(chosen), records(chosen)))
                    under_way[batches] = model.open[model.run, batches] = chosen
                case "settle" if under_way:
                    batch = data.draw(st.sampled_from(sorted(under_way)))
                    chosen = under_way.pop(batch)
                    ends = data.draw(
                        st.lists(st.sampled_from("aafso"), min_size=len(chosen), max_size=len(chosen))
                    )
                    parts = {
                        end: [i for i, e in zip(chosen, ends, strict=True) if e == end] for end in "afso"
                    }
                    settle(runner, journal, model, batch, parts, batches + 1)
                    if parts["o"]:
                        batches += 1
                        under_way[batches] = parts["o"]
                case "read":
                    end = data.draw(st.integers(model.passed[-1].ordinal, len(RECORDS)))
                    model.passed.append(Checkpoint(end))
                    journal.passed(Checkpoint(end))
                    runner.run(journal.settle(Settlement()))
                case "kill" | "end" as how:
                    if how == "end":
                        outcome = Outcome.FAILURES if model.failed else Outcome.STOPPED
                        journal.finish(outcome, "It was enough.", NOW)
                        check_failed_file(journal, model)
                    deaths += 1
                    left = copied(directory, home / f"load-{deaths}")
                    journal.close()
                    directory, under_way = left, {}
                    journal = reopened(runner, plan, directory, model, deaths)
        journal.finish(Outcome.STOPPED, "It was enough.", NOW)
        check_failed_file(journal, model)
        journal.close()


def settle(  # noqa: PLR0917  All of it is one step of the law.
    runner: asyncio.Runner,
    journal: Journal,
    model: Model,
    batch: int,
    parts: dict[str, list[int]],
    opened: int,
) -> None:
    for i in parts["s"]:
        model.failed.pop(i, None)
        model.superseded.add(i)
    for i in parts["f"]:
        model.failed[i] = model.run
    model.accept(parts["a"])
    model.open.pop((model.run, batch))
    if parts["o"]:
        model.open[model.run, opened] = parts["o"]
    runner.run(
        journal.settle(
            Settlement(
                accepted=records(parts["a"]),
                superseded=records(parts["s"]),
                failed=[make_failed(one) for one in records(parts["f"])],
                closed=batch,
                opened=[(opened, records(parts["o"]))] if parts["o"] else (),
            )
        )
    )


def reopened(runner: asyncio.Runner, plan, directory: Path, model: Model, deaths: int) -> Journal:
    """The next run of the load, held against the model."""
    journal = open_run(plan, directory, run_id=f"after-{deaths}")
    if not (model.settled or model.open):
        assert journal.case == NewLoad(), "no record was settled or sent"
        model.run, model.passed = 1, [Checkpoint()]
        check_standing(journal, model, 0)
        return journal
    model.run += 1
    failed = len(model.failed) - len(model.marked)
    overtaken = set(model.marked)
    start = model.start
    # What failed behind the checkpoint is read again, in input order with what is unsettled there.
    model.failed = {i: run for i, run in model.failed.items() if i < start.ordinal and i not in overtaken}
    model.superseded |= overtaken
    check_standing(journal, model, len(overtaken))
    assert isinstance(journal.case, GoingOn)
    assert journal.case.failed == failed
    model.marked.clear()
    model.open = {at: some for at, some in model.open.items() if set(some) - model.settled}
    model.passed = [start]
    again = runner.run(all_again(journal))
    assert [one.ordinal for one in again] == sorted(model.failed)
    assert all(json.loads(one.line)["record"] == json.loads(RECORDS[one.ordinal].text) for one in again)
    check_failed_file(journal, model)
    return journal


def entries_in(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(directory / "journal.sqlite")) as db:
        return int(db.execute("SELECT count(*) FROM entry").fetchone()[0])


def test_a_long_load_is_folded_and_means_the_same(tmp_path: Path) -> None:
    """Facts are folded into a snapshot as they become many: the file stays small and nothing is forgotten."""
    plan = make_plan(make_input(tmp_path))
    size = 1000

    async def long(journal: Journal) -> None:
        for i in range(150):
            batch = [
                make_record(i * size + j, f"{(i * size + j) * 0x9E3779B97F4A7C15:x}") for j in range(size)
            ]
            await intend(journal, i + 1, batch, batch)
            journal.passed(Checkpoint((i + 1) * size))
            if i % 50:
                await journal.settle(Settlement(batch, closed=i + 1))

    journal = open_run(plan, tmp_path / "load")
    asyncio.run(long(journal))
    left = copied(tmp_path / "load", tmp_path / "left")
    journal.close()
    assert 0 < entries_in(left) < 150, "some 300 facts were written down, most of which are folded"
    journal = open_run(plan, left)
    assert list(journal.standing.settled.spans) == [(1000, 50_000), (51_000, 100_000), (101_000, 150_000)]
    assert set(journal.standing.in_doubt.values()) == {
        *range(1000),
        *range(50_000, 51_000),
        *range(100_000, 101_000),
    }
    assert journal.standing.start == Checkpoint()
    journal.close()


def test_failures_cost_no_memory(tmp_path: Path) -> None:
    """What again() hands out at a time is bounded in bytes, whatever has failed before."""
    plan = make_plan(make_input(tmp_path))
    big = [make_record(i, f"k{i}", pad=300_000) for i in range(10)]
    journal = open_run(plan, tmp_path / "load")
    journal.passed(Checkpoint(len(big), 1))
    asyncio.run(journal.settle(Settlement(failed=[make_failed(one) for one in big])))
    journal.close()
    journal = open_run(plan, tmp_path / "load")

    async def sizes() -> list[int]:
        return [len(some) async for some in journal.again()]

    assert asyncio.run(sizes()) == [4, 4, 2]
    journal.close()


def test_records_without_a_key_fail_and_come_again(tmp_path: Path) -> None:
    """A record that never had a key is kept like any other, and an accepted one does not take its place."""
    plan = make_plan(make_input(tmp_path))
    failed = make_failed(RECORDS[3], kind=FailureClass.INVALID)
    failed = type(failed)(failed.ordinal, failed.place, failed.failure, b'{"space":1}', None)
    journal = open_run(plan, tmp_path / "load")
    journal.passed(Checkpoint(len(RECORDS), 1))
    asyncio.run(journal.settle(Settlement(failed=[failed])))
    asyncio.run(journal.settle(Settlement(accepted=[*RECORDS[:3], *RECORDS[4:]])))
    journal.close()
    journal = open_run(plan, tmp_path / "load")
    (again,) = asyncio.run(all_again(journal))
    assert again.ordinal == 3
    assert json.loads(again.line)["record"] == {"space": 1}
    journal.close()


def test_a_batch_takes_one_transaction_when_batches_follow_each_other(tmp_path: Path) -> None:
    """What is foreseen goes with the next settlement, so that the batch that takes the free place need not wait."""
    journal = open_run(make_plan(make_input(tmp_path)), tmp_path / "run")

    async def go() -> list[int]:
        written = []

        async def count(step: Awaitable[None]) -> None:
            await step
            written.append(journal._store._one("SELECT count(*) FROM entry"))

        for batch in 1, 2, 3:
            journal.foresee(batch, [make_record(batch - 1, str(batch))], [])
        await count(journal.intend(1))
        await count(journal.intend(2))
        journal.foresee(4, [make_record(3, "4")], [])
        await count(journal.settle(Settlement(accepted=[make_record(0, "1")], closed=1)))
        await count(journal.intend(4))
        journal.foresee(5, [make_record(4, "5")], [])
        await count(journal.intend(5))
        return written

    assert asyncio.run(go()) == [1, 1, 2, 2, 3]
    journal.foresee(6, [make_record(5, "6")], [])
    journal.finish(Outcome.STOPPED, "", NOW)
    # What no request has had cannot have landed.
    assert list(journal._state.under_way()) == [1, 3, 4]
    journal.close()


def test_what_was_foreseen_and_not_sent_is_in_doubt_after_a_kill_alone(tmp_path: Path) -> None:
    """A run that ends in good order knows which batches it has not sent; one that is killed does not."""
    plan = make_plan(make_input(tmp_path))
    journal = open_run(plan, tmp_path / "run")
    for batch in 1, 2, 3:
        journal.foresee(batch, [make_record(batch - 1, str(batch))], [])
    asyncio.run(journal.intend(1))
    asyncio.run(journal.intend(2))
    asyncio.run(journal.settle(Settlement(accepted=[make_record(0, "1")], closed=1)))
    for end, in_doubt in ("kill", [1, 2]), ("end", [1]):
        if end == "end":
            journal.finish(Outcome.INTERRUPTED, "Interrupted.", NOW)
        left = copied(tmp_path / "run", tmp_path / end)
        with contextlib.closing(Store(left / "journal.sqlite", read_only=True)) as store:
            assert list(store.state().under_way()) == in_doubt
    journal.close()


def test_what_was_in_doubt_stays_so_while_its_failure_may_be_taken_back(tmp_path: Path) -> None:
    """Cut off in run 1, failed in run 2 behind an unsettled record: run 3 reads it again, and it may have landed."""
    plan = make_plan(make_input(tmp_path))
    record = make_record(1, "key")
    journal = open_run(plan, tmp_path / "run")
    asyncio.run(intend(journal, 1, [record], [record]))
    journal.close()
    journal = open_run(plan, tmp_path / "run", "two")
    asyncio.run(intend(journal, 1, [record], [record]))
    asyncio.run(journal.settle(Settlement(failed=[make_failed(record)], closed=1)))
    journal.finish(Outcome.STOPPED, "It was enough.", NOW)
    journal.close()
    journal = open_run(plan, tmp_path / "run", "three")
    assert journal.standing.in_doubt == {record.key: 1}
    journal.close()
