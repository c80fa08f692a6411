"""A verification finds what is stored otherwise, within the budgets, in flat memory, and what it finds can be loaded."""

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdf_upsert.cli.verifying import VerifyOptions, run_verify
from cdf_upsert.cli.wiring import TargetFlags, access
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.comparing import Missing
from cdf_upsert.core.framing import Frames, Place, Position, Unframed
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.querying import Query
from cdf_upsert.core.record import Failed, Record
from cdf_upsert.core.showing import Verbosity
from cdf_upsert.core.verifying import LAG_SECONDS, Counts, Sample, difference
from cdf_upsert.errors import LoaderError, RefusedError, UnavailableError, UsageError
from cdf_upsert.journal.failures import line_of
from cdf_upsert.sandbox.serve import Options, running
from cdf_upsert.verify import AT_ONCE, LastVersions, Verification
from tests.load.harness import MemoryInput
from tests.records import make_record, make_text
from tests.virtual_time import run

Fault = Callable[[], Reply | NoReply]


def error(status: int, message: str = "why", **more: Any) -> Reply:
    return Reply(status, json.dumps({"error": {"code": status, "message": message}}).encode(), **more)


@dataclass
class Shelf:
    """Answers questions from what is stored, meets a script of faults first, and keeps the times of questions.

    `appears` is when a stored record becomes visible; `poison` are keys that are answered with a 500, `unknown`
    keys with a 400.
    """

    stored: dict[str, int] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    forever: Fault | None = None
    appears: float = 0.0
    poison: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    latency: float = 0.2
    asked: list[tuple[float, Sequence[str]]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    blocked: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.script = deque(self.faults)

    async def ask(self, query: Query) -> Reply | NoReply:
        now = asyncio.get_running_loop().time()
        self.asked.append((now, query.external_ids))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.blocked is not None:
                await self.blocked.wait()
            await asyncio.sleep(self.latency)
            return self._answer(query, now)
        finally:
            self.at_once -= 1

    def _answer(self, query: Query, now: float) -> Reply | NoReply:
        if self.forever is not None:
            return self.forever()
        if self.script:
            return self.script.popleft()()
        keys = set(query.external_ids)
        if keys & self.poison:
            return error(500, "poisoned")
        if keys & self.unknown:
            return error(400, "no such container")
        visible = self.stored if now >= self.appears else {}
        items = [
            {"space": query.space, "externalId": key, "properties": {"s": {"c": {"value": visible[key]}}}}
            for key in query.external_ids
            if key in visible
        ]
        return Reply(200, json.dumps({"items": items}).encode())


@dataclass
class Result:
    """What a verification found, and how long that took."""

    counts: Counts
    differences: list[Failed]
    progress: list[tuple[int, int]]
    seconds: float

    @property
    def found(self) -> dict[str, str]:
        """Which keys differ, and how."""
        return {failed.key[1]: failed.failure.message for failed in self.differences if failed.key}


def verify(
    inputs: Sequence[Any], shelf: Shelf, *, sample: Sample | None = None, patience: float = 1800.0
) -> Result:
    """Run one verification on virtual time."""
    differences: list[Failed] = []
    progress: list[tuple[int, int]] = []

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with TemporaryDirectory() as directory, closing(LastVersions(Path(directory), b"salt")) as versions:
            verification = Verification(
                inputs=inputs,
                versions=versions,
                sample=sample or Sample(),
                ask=shelf.ask,
                differ=differences.append,
                explain=lambda status, message: f"refused {status}: {message}",
                progress=lambda done, of: progress.append((done, of)),
                patience=patience,
                dice=random.Random(1),
            )
            await verification.run()
            return Result(verification.counts, differences, progress, loop.time() - began)

    return run(main())


def input_of(*versions: tuple[str, int], block: int = 7, path: str = "a.ndjson") -> MemoryInput:
    texts = [make_text(key, value) for key, value in versions]
    return MemoryInput([texts[i : i + block] for i in range(0, len(texts), block)], path=path)


MISSING, DIFFERENT = "nothing is stored under this key", "what is stored differs in c.value"


def test_the_last_version_of_each_key_is_what_counts() -> None:
    """Older versions are superseded, over the bounds of inputs."""
    first = input_of(("a", 1), ("b", 1), ("a", 2), ("c", 1), ("d", 1))
    second = input_of(("a", 3), ("d", 2), path="b.ndjson")
    result = verify([first, second], Shelf({"a": 3, "b": 2, "d": 1}))
    requests = result.counts.requests
    assert result.counts == Counts(read=7, superseded=3, same=1, missing=1, different=2, requests=requests)
    assert result.found == {"b": DIFFERENT, "c": MISSING, "d": DIFFERENT}
    places = {failed.key[1]: failed.place for failed in result.differences if failed.key}
    assert (places["d"].path, places["d"].record) == ("b.ndjson", 2)
    assert (places["b"].path, places["b"].record) == ("a.ndjson", 2)


FAULTS: list[Fault] = [
    lambda: error(429),
    lambda: error(429, retry_after=3.0),
    lambda: error(503),
    lambda: error(500),
    lambda: Reply(502, b"<html>"),
    lambda: Reply(200, b"<html>"),
    lambda: NoReply("cut", sent=True),
]
KEYS = [f"k{i}" for i in range(12)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 2)), max_size=60),
    st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2)),
    st.lists(st.sampled_from(FAULTS), max_size=6),
    st.integers(1, 9),
)
def test_what_is_found_is_what_the_model_finds(
    versions: list[tuple[str, int]], stored: dict[str, int], faults: list[Fault], block: int
) -> None:
    """The model is two dictionaries; faults only make it take longer."""
    last = dict(versions)
    expected = {
        key: DIFFERENT if key in stored else MISSING
        for key, value in last.items()
        if stored.get(key) != value
    }
    result = verify([input_of(*versions, block=block)], Shelf(stored, faults=faults))
    assert result.found == expected
    assert len(result.differences) == len(expected)
    assert result.counts.same == len(last) - len(expected)
    assert result.counts.superseded == len(versions) - len(last)
    assert result.counts.is_balanced


def test_the_budgets_are_kept() -> None:
    """Never more at once, nor more a second, than one identity may ask."""
    versions = [(str(i), i) for i in range(20_000)]
    shelf = Shelf(dict(versions), latency=0.9)
    result = verify([input_of(*versions, block=1000)], shelf)
    assert result.counts.same == 20_000
    assert result.counts.requests == 200
    assert shelf.most_at_once <= AT_ONCE
    times = [at for at, _ in shelf.asked]
    assert all(later - earlier >= 1 for earlier, later in zip(times, times[15:], strict=False))
    # And they are made use of.
    assert result.seconds < 200 / 12
    assert result.progress[-1] == (20_000, 20_000)


def test_what_was_just_written_is_waited_for() -> None:
    """Writes become visible after a few seconds: what is not there yet is no difference."""
    versions = [(str(i), i) for i in range(300)]
    shelf = Shelf(dict(versions), appears=1000 + LAG_SECONDS - 1)
    result = verify([input_of(*versions)], shelf)
    assert result.counts.is_same
    assert LAG_SECONDS - 1 <= result.seconds <= LAG_SECONDS + 1


def test_what_is_not_visible_in_time_is_missing() -> None:
    """And nothing is waited for twice: later questions are asked once."""
    versions = [(str(i), i) for i in range(20_000)]
    shelf = Shelf({})
    result = verify([input_of(*versions, block=1000)], shelf)
    assert result.counts.missing == 20_000
    assert LAG_SECONDS <= result.seconds < LAG_SECONDS + 200 / 12
    late = [keys for at, keys in shelf.asked if at > 1000 + LAG_SECONDS + 1]
    assert len({key for keys in late for key in keys}) == sum(map(len, late))


def test_retry_after_is_kept_by_every_question() -> None:
    """Nothing is asked before it is over, whoever was told."""
    versions = [(str(i), i) for i in range(5000)]
    shelf = Shelf(dict(versions), faults=[lambda: error(429, retry_after=100.0)])
    result = verify([input_of(*versions, block=1000)], shelf)
    assert result.counts.is_same
    assert result.counts.throttled == 1
    told_at = shelf.asked[0][0] + shelf.latency
    assert [at for at, _ in shelf.asked if told_at < at < told_at + 100] == []


@pytest.mark.parametrize(
    "forever", [lambda: error(429), lambda: error(503), lambda: error(429, retry_after=9e5)]
)
def test_patience_ends(forever: Fault) -> None:
    """A service that never answers is given up, with the exit code for a run that may be tried again."""
    shelf = Shelf({}, forever=forever)
    with pytest.raises(UnavailableError, match=r"has not answered for 10 min 0 s.*--patience") as told:
        verify([input_of(("a", 1))], shelf, patience=600)
    assert told.value.exit_code == 5
    assert 590 <= shelf.asked[-1][0] - 1000 <= 600 or len(shelf.asked) == 1


def test_slow_reading_is_not_taken_for_a_service_that_does_not_answer() -> None:
    """Patience is with the service, not with a disk."""
    slow = MemoryInput([[make_text("a", 1)]], pauses=[100.0])
    result = verify([slow], Shelf({"a": 1}, faults=[lambda: error(503), lambda: error(429)]), patience=30)
    assert result.counts.is_same


def test_a_service_that_is_not_there_is_told_at_once() -> None:
    """It is more likely misspelt than down."""
    shelf = Shelf({}, forever=lambda: NoReply("The name x is not known.", sent=False))
    with pytest.raises(UsageError, match=r"The name x is not known"):
        verify([input_of(("a", 1))], shelf)
    assert shelf.asked[-1][0] - 1000 < 10


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_service_that_refuses_everything_ends_the_run(status: int) -> None:
    """With the sentence of who can explain it."""
    versions = [(str(i), i) for i in range(3000)]
    shelf = Shelf({}, forever=lambda: error(status, "no"))
    with pytest.raises(RefusedError, match=rf"refused {status}: no"):
        verify([input_of(*versions)], shelf)
    assert len(shelf.asked) <= AT_ONCE


@pytest.mark.parametrize(
    ("shelf", "message"),
    [
        (Shelf(poison=frozenset({"x"})), "it cannot be read back: poisoned"),
        (Shelf(unknown=frozenset({"x"})), "it cannot be read back: no such container"),
    ],
)
def test_a_question_without_an_answer_costs_its_own_records(shelf: Shelf, message: str) -> None:
    """The others are compared, and the run ends."""
    versions = [(str(i), i) for i in range(2000)]
    shelf.stored = dict(versions)
    result = verify([input_of(("x", 1), *versions, block=1000)], shelf)
    assert result.found["x"] == message
    assert set(result.found.values()) == {message}
    assert result.counts.unanswered == 100
    assert result.counts.same == 1901


def test_a_token_that_cannot_be_had_ends_the_run() -> None:
    """As itself, not in a group of errors."""

    async def ask(_: Query) -> Reply:
        raise RefusedError("The provider refuses.")

    shelf = Shelf()
    shelf.ask = ask  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=r"The provider refuses"):
        verify([input_of(("a", 1))], shelf)


class Changing(MemoryInput):
    """Gives something else when it is opened again."""

    def __init__(self, *contents: MemoryInput) -> None:
        super().__init__([])
        self._contents = deque(contents)

    def open(self, start: Position) -> Any:
        return self._contents.popleft().open(start)


@pytest.mark.parametrize("second", [[], [("a", 1)], [("a", 1), ("c", 2)], [("b", 2), ("a", 1)]])
def test_an_input_that_changes_meanwhile_is_not_compared(second: list[tuple[str, int]]) -> None:
    """What was the last version may no longer be, so nothing is said."""
    changing = Changing(input_of(("a", 1), ("b", 2)), input_of(*second))
    with pytest.raises(UsageError, match=r"changed while it was read"):
        verify([changing], Shelf({"a": 1, "b": 2}))


@dataclass
class Copied:
    """Is read from a place other than the one that was named: a record, then what is none."""

    path: str = "-"
    over: bool = False

    def open(self, start: Position) -> "Copied":
        self.over = False
        return self

    async def read(self) -> Sequence[Frames | Unframed] | None:
        if self.over:
            return None
        self.over = True
        end = Position()
        broken = Unframed(Place("/tmp/copy", 2, 2, 9, 1), "it is broken", "unreadable", b"{", end)
        return [Frames("/tmp/copy", [make_text("a", 1)], [0], [1], 1, end), broken]

    async def close(self) -> None:
        pass


def test_a_difference_says_where_the_user_knows_it_to_be() -> None:
    """Not where a copy of the input is kept."""
    result = verify([Copied()], Shelf({}))
    assert {failed.place.record: failed.place.path for failed in result.differences} == {1: "-", 2: "-"}


def test_a_line_that_a_newer_version_has_replaced_is_not_compared() -> None:
    """A failed file marks such lines."""
    failed = difference(make_record(0, "a", 1), Missing())
    assert failed is not None
    line = line_of(failed)[:-1] + b',"supersededBy":{"path":"a.ndjson","record":2,"line":2}}'
    result = verify([MemoryInput([[line, make_text("b", 2)]])], Shelf({"b": 2}))
    assert result.counts == Counts(read=2, superseded=1, same=1, requests=1)


def test_what_could_never_be_sent_is_a_difference() -> None:
    """It is in no stream, so not everything is the same; and it is in the file with its own class."""
    texts = [make_text("a", 1), b"{", b'{"space":"s"}', make_text("b", 2)]
    result = verify([MemoryInput([texts])], Shelf({"a": 1, "b": 2}))
    assert (result.counts.invalid, result.counts.same) == (2, 2)
    assert not result.counts.is_same
    assert [failed.failure.kind for failed in result.differences] == ["unreadable", "invalid"]
    assert [failed.place.record for failed in result.differences] == [2, 3]


def test_differences_are_an_input() -> None:
    """Each line of the file is read as its record, byte for byte, from where it first stood."""
    versions = [("a", 1), ("b", 2), ("c", 3)]
    result = verify([input_of(*versions)], Shelf({"b": 2}))
    lines = [line_of(failed) for failed in result.differences]
    frames = Frames("d.ndjson", lines, [0, 1], [1, 2], 1, Position())
    checked = Checker(10_000_000).check(frames, 0)
    assert [(record.text, record.path, record.number) for record in checked.records] == [
        (make_text("a", 1), "a.ndjson", 1),
        (make_text("c", 3), "a.ndjson", 3),
    ]
    again = verify([MemoryInput([lines])], Shelf({"a": 1, "b": 2, "c": 3}))
    assert again.counts.is_same
    assert again.counts.same == 2


VERSIONS = [(str(i % 1000), i) for i in range(3000)]
LAST = dict(VERSIONS)


@pytest.mark.parametrize("number", [1, 10, 999, 1000, 5000])
def test_a_sample_holds_so_many_keys(number: int) -> None:
    """Fewer only when there are no more, and each in its last version."""
    result = verify([input_of(*VERSIONS, block=500)], Shelf(LAST), sample=Sample(keys=number))
    expected = min(number, 1000)
    assert result.counts == Counts(
        read=3000,
        superseded=2000,
        not_sampled=1000 - expected,
        same=expected,
        requests=result.counts.requests,
    )
    assert result.counts.requests == -(-expected // 100)


@pytest.mark.parametrize(("percent", "low", "high"), [(100, 1000, 1000), (50, 420, 580), (5, 20, 90)])
def test_a_sample_holds_about_so_many_in_a_hundred(percent: float, low: int, high: int) -> None:
    """By chance, so about."""
    result = verify([input_of(*VERSIONS, block=500)], Shelf(LAST), sample=Sample(percent=percent))
    assert low <= result.counts.same <= high
    assert result.counts.not_sampled == 1000 - result.counts.same


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=100), st.integers(1, 25), st.binary(max_size=16))
def test_the_last_versions_are_those_of_a_dictionary(keys: list[int], number: int, salt: bytes) -> None:
    """And a sample is a part of them, in input order."""
    records = [make_record(i, str(key)) for i, key in enumerate(keys)]
    last = {str(key): i for i, key in enumerate(keys)}
    for sample, expected in ((Sample(), len(last)), (Sample(keys=number), min(number, len(last)))):
        with TemporaryDirectory() as directory, closing(LastVersions(Path(directory), salt)) as versions:
            versions.see(records[: len(records) // 2])
            versions.see(records[len(records) // 2 :])
            assert versions.choose(sample) == (len(last), expected)
            chosen = list(versions.chosen())
            assert [ordinal for ordinal, _ in chosen] == sorted(ordinal for ordinal, _ in chosen)
            assert len(chosen) == expected
            assert all(last[str(keys[ordinal])] == ordinal for ordinal, _ in chosen)
            assert all(digest == versions.digest(("s", str(keys[ordinal]))) for ordinal, digest in chosen)


def test_samples_of_two_salts_are_not_the_same() -> None:
    """Else the same keys would be looked at every night, and the others never."""
    records = [make_record(i, str(i)) for i in range(1000)]
    samples: list[set[int]] = []
    for salt in (b"one", b"two"):
        with TemporaryDirectory() as directory, closing(LastVersions(Path(directory), salt)) as versions:
            versions.see(records)
            versions.choose(Sample(keys=100))
            samples.append({ordinal for ordinal, _ in versions.chosen()})
    assert len(samples[0] & samples[1]) < 40


@dataclass
class Made:
    """An input whose blocks of 500 records are made while it is read; `taken` counts them."""

    blocks: int
    path: str = "a.ndjson"
    taken: int = 0

    def open(self, start: Position) -> "Made":
        self.taken = 0
        return self

    async def read(self) -> Sequence[Frames] | None:
        if self.taken == self.blocks:
            return None
        first = self.taken * 500
        self.taken += 1
        texts = [make_text(str(first + i)) for i in range(500)]
        return [Frames(self.path, texts, [0] * 500, [1] * 500, first + 1, Position())]

    async def close(self) -> None:
        pass


def test_reading_stops_while_questions_wait() -> None:
    """Memory does not depend on how long the input is."""
    source = Made(80)
    shelf = Shelf()
    read_while_blocked: list[int] = []

    async def watch(event: asyncio.Event) -> None:
        await asyncio.sleep(30)
        read_while_blocked.append(source.taken)
        event.set()

    async def ask(query: Query) -> Reply | NoReply:
        if shelf.blocked is None:
            shelf.blocked = asyncio.Event()
            watcher.append(asyncio.ensure_future(watch(shelf.blocked)))
        return await Shelf.ask(shelf, query)

    watcher: list[asyncio.Future[None]] = []
    shelf.ask = ask  # type: ignore[method-assign]
    result = verify([source], shelf)
    assert result.counts.missing == 40_000
    # What is under way, what waits in line, and what is being split: a small part of 80 blocks.
    assert read_while_blocked[0] <= (2 * AT_ONCE * 100 + 2 * 1000) // 500 + 1


# The command as a whole, over loopback.


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[Record]], None]]:
    """An empty directory, and a stream of a sandbox that the environment names; gives what stores records there."""
    monkeypatch.chdir(tmp_path)
    with running(Options()) as sandbox:
        for name, value in sandbox.address.environment().items():
            monkeypatch.setenv(name, value)

        def store(records: Sequence[Record]) -> None:
            async def main() -> None:
                with access(TargetFlags(), sandbox=False) as way:
                    async with way.client("st", timeout=5, connections=1, patience=5) as client:
                        reply = await client.send(records)
                        assert isinstance(reply, Reply)
                        assert reply.status == 202

            asyncio.run(main())

        yield store


def options(*inputs: str, **more: Any) -> VerifyOptions:
    defaults: dict[str, Any] = {
        "stream": "st",
        "inputs": inputs,
        "target": TargetFlags(),
        "sandbox": False,
        "format": None,
        "sample": None,
        "differences": None,
        "timeout": 5.0,
        "patience": 5.0,
        "json": False,
    }
    return VerifyOptions(**{**defaults, **more})


def write(path: str, records: Sequence[Record]) -> str:
    Path(path).write_bytes(b"".join(record.text + b"\n" for record in records))
    return path


FILE = Path(".cdf-upsert", "st-differences.ndjson")


def test_what_is_found_can_be_repaired(stream: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify, load what differs, verify: then all is the same, and the file is gone."""
    old = [make_record(i, str(i), i) for i in range(250)]
    new = [make_record(i, str(i), i + (i % 100 == 0)) for i in range(255)]
    stream(old)
    name = write("a.ndjson", new)
    assert run_verify(options(name)) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "255 records read: 247 same, 5 missing, 3 different.",
        f"{FILE} holds 8 records to load again: cdf-upsert load st {FILE}",
    ]
    assert FILE.stat().st_mode & 0o077 == 0, "others may read the records"
    lines = FILE.read_bytes().splitlines()
    frames = Frames("d", lines, [0] * 8, [1] * 8, 1, Position())
    stream(Checker(10_000_000).check(frames, 0).records)
    assert run_verify(options(name, verbosity=Verbosity.QUIET)) == 0
    assert capsys.readouterr() == ("", "")
    assert not FILE.exists()


def test_values_that_differ_are_told_on_demand(stream: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With -v on the screen, never in the file; a long value is cut."""
    stream([make_record(0, "a", 1), make_record(1, "b", 2, pad=9)])
    name = write(
        "a.ndjson", [make_record(0, "a", 1), make_record(1, "b", 3, pad=500), make_record(2, "c", 7)]
    )
    assert run_verify(options(name, verbosity=Verbosity.VERBOSE)) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        'a.ndjson, line 2, key s/b, is stored otherwise: c.value: stored 2, ours 3; c.pad: stored "xxxxxxxxx", '
        f'ours "{"x" * 56}....'
    )
    assert said[1] == "3 records read: 1 same, 1 missing, 1 different."
    [different, missing] = [json.loads(line)["error"] for line in FILE.read_bytes().splitlines()]
    assert different["message"] == "what is stored differs in c.value, c.pad"
    assert missing["message"] == "nothing is stored under this key"


def test_what_comes_through_a_pipe_is_kept_for_the_second_reading(
    stream: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gives its bytes once; places are those of the pipe."""
    records = [make_record(i, str(i), i) for i in range(30)]
    stream(records)
    os.mkfifo("pipe")
    writer = threading.Thread(target=write, args=("pipe", [Record(b"{", ("", ""), 0, "", 1, 1, 0), *records]))
    writer.start()
    assert run_verify(options("pipe", json=True, differences=Path("d.ndjson"))) == 3
    writer.join()
    report = json.loads(capsys.readouterr().out)
    assert (report["outcome"], report["exitCode"], report["inputs"]) == ("differences", 3, ["pipe"])
    assert (report["records"]["same"], report["records"]["invalid"]) == (30, 1)
    assert report["differencesFile"] == "d.ndjson"
    [line] = Path("d.ndjson").read_bytes().splitlines()
    assert json.loads(line)["source"] == {"path": "pipe", "record": 1, "line": 1, "offset": 0, "length": 1}


def test_an_input_is_never_written_over(stream: Any) -> None:
    """Not under another name, either."""
    name = write("a.ndjson", [make_record(0, "a")])
    os.link(name, "b.ndjson")
    with pytest.raises(UsageError, match=r"is an input"):
        run_verify(options(name, differences=Path("b.ndjson")))
    assert Path(name).read_bytes() == make_record(0, "a").text + b"\n"


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"stream": "No"}, r"cannot be the id of a stream"),
        ({"inputs": ("nowhere.ndjson",)}, r"nowhere.ndjson does not exist"),
        ({"differences": Path()}, r"is no file"),
    ],
)
def test_what_is_not_usable_is_told_before_anything_is_asked(
    stream: Any, more: dict[str, Any], match: str
) -> None:
    """Exit code 2, and nothing is lost."""
    name = write("a.ndjson", [make_record(0, "a")])
    with pytest.raises(UsageError, match=match):
        run_verify(options(name, **more) if "inputs" not in more else options(**more))


def test_no_room_on_disk_is_told(stream: Any) -> None:
    """With what to do about it."""
    Path("taken").write_text("")
    with pytest.raises(LoaderError, match=r"make room"):
        run_verify(options(write("a.ndjson", [make_record(0, "a")]), differences=Path("taken/d.ndjson")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_found(
    stream: Any, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """The exit code is the signal's."""
    os.mkfifo("pipe")  # Nobody writes into it: reading waits for ever.
    keep_open = os.open("pipe", os.O_RDWR)

    def send_when_reading() -> None:
        while not any(thread.name == "read pipe" for thread in threading.enumerate()):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_when_reading).start()
    assert run_verify(options("pipe", json=True)) == 128 + number
    os.close(keep_open)
    said = capsys.readouterr()
    assert json.loads(said.out)["outcome"] == "interrupted"
    assert said.err.startswith(f"Interrupted by {number.name}. Until then: 0 records read")
