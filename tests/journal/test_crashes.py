"""Engine and journal together, stopped at any point: before, inside and after the writing of an intent and of a settlement, after a landing, after a reply."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.record import Key, Record
from cdf_upsert.core.standing import Again, Checkpoint, Settlement
from cdf_upsert.core.tally import Tally
from cdf_upsert.journal import Identity, Journal
from tests.journal.making import FAST, NOW, copied, make_input, make_plan, open_run
from tests.load.harness import Fault, MemoryInput, Service, partial, run_engine
from tests.records import make_text
from tests.virtual_time import run


@dataclass
class Moment:
    """What the disk and the service hold when the process is killed."""

    where: str
    directory: Path
    stored: dict[Key, Record]
    writes: dict[Key, list[int]]


class Keep(Protocol):
    """Keeps a moment; of what the journal's log has beyond `whole` bytes only a part is written yet."""

    def __call__(self, where: str, whole: int | None = None) -> None: ...


def log_of(directory: Path) -> Path:
    return directory / "journal.sqlite-wal"


class Witness:
    """Stands between engine, journal and service, and keeps a moment whenever something could be lost."""

    fail_after = None

    def __init__(self, journal: Journal, service: "WatchedService", keep: "Keep") -> None:
        self.intended: set[int] = set()
        self._foreseen: dict[int, set[int]] = {}
        self._journal = journal
        self._keep = keep
        service.landed = keep

    def again(self) -> AsyncIterator[Sequence[Again]]:
        return self._journal.again()

    def foresee(self, batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> None:
        self._journal.foresee(batch, records, overtaking)
        self._foreseen[batch] = {record.ordinal for record in records}

    async def intend(self, batch: int) -> None:
        self._keep("before an intent")
        whole = log_of(self._journal.directory).stat().st_size
        await self._journal.intend(batch)
        self._keep("inside an intent's write", whole)
        self.intended |= self._foreseen.pop(batch, set())
        self._keep("after an intent")

    async def settle(self, settlement: Settlement) -> None:
        self._keep("before a settlement")
        whole = log_of(self._journal.directory).stat().st_size
        await self._journal.settle(settlement)
        self._keep("inside a settlement's write", whole)
        # Parts are known to the journal by the settlement that opens them.
        self.intended |= {record.ordinal for _, records in settlement.opened for record in records}
        self._keep("after a settlement")

    def passed(self, checkpoint: Checkpoint) -> None:
        self._journal.passed(checkpoint)


class WatchedService(Service):
    """A service that tells when records have landed, before it replies; `mended`, it accepts everything."""

    landed: Keep
    done_before: frozenset[int]
    mended = False
    ordered = True

    async def send(self, records: Sequence[Record]) -> Reply | NoReply:
        again = self.done_before.intersection(record.ordinal for record in records)
        assert not again, "an accepted record is sent again"
        if self.mended:
            self._write(records)
            return Reply(202)
        return await super().send(records)

    def _write(self, records: Iterable[Record]) -> None:
        if not self.ordered:
            # One that is failed after many tries may have landed all the same, and an older one has its turn.
            self.writes.clear()
        super()._write(records)
        self.landed("after a landing")


@dataclass
class Case:
    """An input, what happens to its requests, and how it is cut into requests."""

    texts: list[bytes]
    faults: list[Fault]
    batch_records: int
    concurrency: int
    seed: int

    @property
    def keys(self) -> list[str]:
        return [text.split(b'"externalId":"')[1][:1].decode() for text in self.texts]

    @property
    def good(self) -> list[int]:
        return [i for i, text in enumerate(self.texts) if b'"value":-' not in text]

    @property
    def model(self) -> dict[str, int]:
        """The newest good version of each key: what the stream holds when records are sent one by one."""
        return {self.keys[i]: i for i in self.good}

    def input(self) -> MemoryInput:
        return MemoryInput([self.texts[i : i + 7] for i in range(0, len(self.texts), 7)])


@st.composite
def cases(draw: st.DrawFn, most_faults: int) -> Case:
    versions = draw(
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.sampled_from([1, 1, 1, -1])), min_size=1, max_size=40
        )
    )
    return Case(
        [make_text(key, sign * (i + 1)) for i, (key, sign) in enumerate(versions)],
        draw(st.lists(st.sampled_from(Fault), max_size=most_faults)),
        draw(st.integers(1, 9)),
        draw(st.sampled_from([1, 2, 5])),
        draw(st.integers(0, 1000)),
    )


class World:
    """Runs a case from any moment on, and keeps the moments of each run.

    With `endless` faults also good records may fail.
    """

    def __init__(self, case: Case, home: Path, *, endless: bool) -> None:
        self.case = case
        self._home = home
        self._endless = endless
        self._plan: Identity = make_plan(make_input(home))
        self._number = 0

    def run(self, start: Moment | None, keep_share: float, dice: random.Random) -> list[Moment]:
        """One run to its end; the moments of it that were kept."""
        directory, journal, service = self._begin(start)
        moments: list[Moment] = []

        def keep(where: str, whole: int | None = None) -> None:
            if whole == log_of(directory).stat().st_size:
                return  # It was written with what came before.
            if dice.random() < keep_share:
                to = self._home / f"{directory.name}-moment-{len(moments)}"
                log = {key: list(some) for key, some in service.writes.items()}
                moments.append(Moment(where, copied(directory, to), dict(service.stored), log))
                if whole is not None:
                    written = log_of(to).stat().st_size
                    assert whole < written, "it is written at the end of the log"
                    os.truncate(log_of(to), dice.randrange(whole, written))

        tally = self._go(journal, service, keep)
        assert tally.read == len(self.case.texts)
        failed = [line["source"]["record"] - 1 for line in lines_of(directory / "failed.ndjson")]
        assert failed == sorted(failed)
        assert len(failed) == journal.failures
        if not self._endless:
            assert {key[1]: record.ordinal for key, record in service.stored.items()} == self.case.model
            assert set(failed).isdisjoint(self.case.good), "a good record is blamed"
        return moments

    def mend(self, start: Moment) -> None:
        """One run in which everything is accepted: the newest version of each key stands in the end."""
        directory, journal, service = self._begin(start)
        service.mended = True
        self._go(journal, service, lambda where, whole=None: None)
        newest = {key: i for i, key in enumerate(self.case.keys)}
        assert {key[1]: record.ordinal for key, record in service.stored.items()} == newest
        assert not (directory / "failed.ndjson").exists()

    def _begin(self, start: Moment | None) -> tuple[Path, Journal, WatchedService]:
        self._number += 1
        directory = self._home / f"run-{self._number}"
        if start is not None:
            shutil.copytree(start.directory, directory)
        journal = open_run(self._plan, directory, directory.name)
        service = WatchedService(list(self.case.faults), seed=self.case.seed + self._number)
        if self._endless:
            service.most_faults = 99
            service.ordered = False
        if start is not None:
            service.stored = dict(start.stored)
            service.writes = {key: list(log) for key, log in start.writes.items()}
        failed = {line["source"]["record"] - 1 for line in lines_of(journal.failed_path)}
        service.done_before = frozenset(journal.standing.settled) - failed
        return directory, journal, service

    def _go(self, journal: Journal, service: WatchedService, keep: Keep) -> Tally:
        done = run(
            run_engine(
                [self.case.input()],
                service,
                books=Witness(journal, service, keep),  # type: ignore[arg-type]
                standing=journal.standing,
                batch_records=self.case.batch_records,
                concurrency=self.case.concurrency,
                seed=self.case.seed,
            )
        )
        assert done.ending.outcome is Outcome.COMPLETE
        journal.finish(Outcome.FAILURES if journal.failures else Outcome.COMPLETE, "", NOW)
        journal.close()
        return done.tally


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def check_crashes(case: Case, seed: int, chosen: int, *, endless: bool) -> None:
    """Run to the end; then from a few of its moments, and from moments of these runs again."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=FAST) as name:
        world = World(case, Path(name), endless=endless)
        for first in some(dice, world.run(None, 0.5, dice), chosen):
            for second in some(dice, world.run(first, 0.3, dice), 1):
                world.run(second, 0.0, dice)
                world.mend(second)


def some(dice: random.Random, moments: list[Moment], at_most: int) -> list[Moment]:
    return dice.sample(moments, min(at_most, len(moments)))


few_faults = given(cases(10), st.integers(0, 1 << 30))
many_faults = given(cases(60), st.integers(0, 1 << 30))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@few_faults
def test_a_load_that_is_killed_anywhere_ends_as_one_by_one(case: Case, seed: int) -> None:
    """Killed at any point, and the rerun killed again: the stream ends as the model, no older version is written after a newer one, no accepted record is sent again, no good record is blamed, every ledger balances, and when what was refused is accepted one day, the newest version stands."""
    check_crashes(case, seed, 2, endless=False)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@many_faults
def test_failures_and_kills_together_end_with_the_newest_version(case: Case, seed: int) -> None:
    """Where also good records fail, and the load is killed: once the service is well, a rerun ends as it should."""
    check_crashes(case, seed, 2, endless=True)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@few_faults
def test_kills_for_a_long_time(case: Case, seed: int) -> None:
    """The first law, many more times."""
    check_crashes(case, seed, 6, endless=False)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@many_faults
def test_failures_and_kills_for_a_long_time(case: Case, seed: int) -> None:
    """The second law, many more times."""
    check_crashes(case, seed, 6, endless=True)


class PickyService(WatchedService):
    """A service that cannot take the first record, until it is `mended`."""

    done_before = frozenset()

    async def send(self, records: Sequence[Record]) -> Reply | NoReply:
        if self.mended or all(record.ordinal for record in records):
            return await super().send(records)
        return partial(500, records, {record.key: 500 for record in records}, self.dice)


def test_what_takes_the_place_of_a_failed_version_is_known_to_overtake_it(tmp_path: Path) -> None:
    """Killed at any moment while the newer version goes: the failed one, tried again, does not land after it."""
    plan = make_plan(make_input(tmp_path))
    moments: list[Moment] = []

    def go(directory: Path, service: PickyService, keep: Keep) -> None:
        journal = open_run(plan, directory)
        inputs = [MemoryInput([[make_text("a", 1)], [make_text("a", 2)]])]
        books = Witness(journal, service, keep)
        run(run_engine(inputs, service, books=books, standing=journal.standing, batch_records=1))  # type: ignore[arg-type]
        journal.close()

    def keep(where: str, whole: int | None = None) -> None:
        if whole is None:
            kept = copied(tmp_path / "run", tmp_path / f"moment-{len(moments)}")
            log = {key: list(some) for key, some in service.writes.items()}
            moments.append(Moment(where, kept, dict(service.stored), log))

    service = PickyService()
    go(tmp_path / "run", service, keep)
    assert service.writes == {("s", "a"): [1]}
    assert [one.where for one in moments if one.writes], "it is killed before the landing is written down"
    for moment in moments:
        service = PickyService(
            stored=moment.stored, writes=moment.writes
        )  # It refuses to turn the order round.
        service.mended = True
        go(moment.directory, service, lambda where, whole=None: None)
        assert [record.ordinal for record in service.stored.values()] == [1]
