"""Fakes that are real implementations of what the engine needs, and one run of the engine with them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from cdf_upsert.core.checking import Checker
from cdf_upsert.core.comparing import Different, Found, Missing, Same
from cdf_upsert.core.events import Ended, Event
from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.pacing import Pacing, Policy
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.record import Failed, Key, Record
from cdf_upsert.core.standing import Again, Checkpoint, Settlement, Standing
from cdf_upsert.core.stopping import Stopping, StoppingPolicy
from cdf_upsert.core.tally import Tally
from cdf_upsert.errors import LoaderError
from cdf_upsert.load import Ending, Engine
from tests.records import make_text


class Fault(Enum):
    """What can happen to one request."""

    THROTTLED = "429"
    UNAVAILABLE = "503 without a list"
    BROKEN = "500 without a list"
    GATEWAY = "502 with HTML, nothing written"
    GATEWAY_AFTER = "504, all written"
    LOST = "the reply is lost after the write"
    CUT = "the connection is cut before the write"
    REFUSED_CONNECTION = "no connection"
    SOME_UNAVAILABLE = "503 with a list: some not written"
    SOME_CONFLICT = "409 with a list: some not written"
    SOME_BROKEN = "500 with a list: some not written"
    SOME_OMITTED = "503 with a list that leaves some out, all written"
    STRANGE = "200 with a strange body, all written"
    TOO_LARGE = "413 when there is more than one record"
    DUPLICATED = "422 that names records as duplicated"


@dataclass
class Service:
    """Stores records as CDF does, meets a script of faults first, and keeps a log of what was written.

    A record whose value is negative is bad: 400 for the whole request. `naming` lets the message name a bad record.
    """

    faults: list[Fault] = field(default_factory=list)
    seed: int = 0
    naming: bool = False
    latency: float = 0.05
    most_faults: int = 2
    visible_after: float = 0.0
    stored: dict[Key, Record] = field(default_factory=dict)
    writes: dict[Key, list[int]] = field(default_factory=dict)
    requests: int = 0
    looks: int = 0
    at_once: int = 0
    most_at_once: int = 0
    on_send: Callable[[Sequence[Record]], None] = lambda records: None
    forever: Fault | None = None
    _suffered: dict[int, int] = field(default_factory=dict)
    _keys: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.script = list(self.faults)

    async def send(self, records: Sequence[Record]) -> Reply | NoReply:
        self.on_send(records)
        self.requests += 1
        keys = {record.key for record in records}
        assert len(keys) == len(records), "a key stands twice in one request"
        assert keys.isdisjoint(self._keys), "a key is in two requests at once"
        self._keys |= keys
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.latency * self.dice.uniform(0.5, 1.5))
            reply = self._answer(records)
            await asyncio.sleep(self.latency * self.dice.uniform(0.0, 0.5))
            return reply
        finally:
            self.at_once -= 1
            self._keys -= keys

    async def compare(self, records: Sequence[Record]) -> dict[Key, Found] | None:
        assert len(records) <= 100
        self.looks += 1
        await asyncio.sleep(self.latency)
        answer: dict[Key, Found] = {}
        for record in records:
            stored = self.stored.get(record.key)
            if stored is None:
                answer[record.key] = Missing()
            else:
                answer[record.key] = Same() if stored.text == record.text else Different(["c.value"])
        return answer

    def _next_fault(self, records: Sequence[Record]) -> Fault | None:
        if self.forever is not None:
            return self.forever
        if not self.script or any(self._suffered.get(r.ordinal, 0) >= self.most_faults for r in records):
            return None
        for record in records:
            self._suffered[record.ordinal] = self._suffered.get(record.ordinal, 0) + 1
        return self.script.pop(0)

    def _answer(self, records: Sequence[Record]) -> Reply | NoReply:
        fault = self._next_fault(records)
        match fault:
            case Fault.THROTTLED:
                return Reply(429, retry_after=self.dice.choice([None, 0.0, 2.0]))
            case Fault.UNAVAILABLE:
                return error(503, "later")
            case Fault.BROKEN:
                return error(500, "internal")
            case Fault.GATEWAY:
                return Reply(502, b"<html>Bad Gateway</html>")
            case Fault.CUT:
                return NoReply("the connection was lost", sent=True)
            case Fault.REFUSED_CONNECTION:
                return NoReply("no connection", sent=False)
            case Fault.TOO_LARGE if len(records) > 1:
                return error(413, "too large")
            case Fault.DUPLICATED if len(records) > 1:
                named = self.dice.sample(list(records), self.dice.randint(1, len(records)))
                return error(422, "duplicated", duplicated=[{"externalId": ".".join(r.key)} for r in named])
            case _:
                pass
        bad = [record for record in records if is_bad(record)]
        if bad:
            told = f"record '{bad[0].key[1]}' is wrong" if self.naming else "a record is wrong"
            return error(400, told)
        some = {Fault.SOME_UNAVAILABLE: 503, Fault.SOME_CONFLICT: 409, Fault.SOME_BROKEN: 500}
        if fault in some:
            left_out = self.dice.sample(list(records), self.dice.randint(1, len(records)))
            codes = {record.key: some[fault] if record in left_out else 202 for record in records}
            self._write([record for record in records if record not in left_out])
            return partial(some[fault], records, codes, self.dice)
        self._write(records)
        match fault:
            case Fault.LOST:
                return NoReply("no reply came within 60 seconds", sent=True)
            case Fault.GATEWAY_AFTER:
                return Reply(504, b"")
            case Fault.STRANGE:
                return Reply(200, b"[1]")
            case Fault.SOME_OMITTED:
                named = self.dice.sample(list(records), len(records) // 2)
                return partial(503, named, {record.key: 202 for record in named}, self.dice)
            case _:
                return Reply(202, b"{}")

    def _write(self, records: Iterable[Record]) -> None:
        for record in records:
            log = self.writes.setdefault(record.key, [])
            assert not log or log[-1] <= record.ordinal, "an older version lands after a newer one"
            log.append(record.ordinal)
            self.stored[record.key] = record


def is_bad(record: Record) -> bool:
    return b'"value":-' in record.text


def error(status: int, message: str, **more: object) -> Reply:
    return Reply(
        status, json.dumps({"error": {"code": status, "message": message, **more}}).encode(), "req-1"
    )


def partial(status: int, records: Sequence[Record], codes: dict[Key, int], dice: random.Random) -> Reply:
    entries = [
        {"space": r.key[0], "externalId": r.key[1], "code": codes[r.key], "message": "m"} for r in records
    ]
    dice.shuffle(entries)
    return error(status, "some failed", partial=entries)


@dataclass
class MemoryBooks:
    """Books in memory, which see to it that every record settles once, and was intended before it was sent."""

    settled: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Failed] = field(default_factory=dict)
    intended: set[int] = field(default_factory=set)
    open: dict[int, set[int]] = field(default_factory=dict)
    again_lines: list[Again] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    fail_after: int | None = None
    settlements: int = 0

    async def again(self) -> AsyncIterator[Sequence[Again]]:
        if self.again_lines:
            yield self.again_lines

    def foresee(self, batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> None:
        self.open[batch] = {record.ordinal for record in records}

    async def intend(self, batch: int) -> None:
        await asyncio.sleep(0)
        self.intended |= self.open.get(batch, set())  # A part was intended with its whole.

    async def settle(self, settlement: Settlement) -> None:
        self.settlements += 1
        if self.fail_after is not None and self.settlements > self.fail_after:
            raise LoaderError("The disk is full: make room and rerun.")
        for record in settlement.accepted:
            self._settle(record.ordinal, "accepted")
        for record in settlement.superseded:
            self._settle(record.ordinal, "superseded")
        for ordinal in settlement.skipped:
            self._settle(ordinal, "superseded")
        for failed in settlement.failed:
            self._settle(failed.ordinal, "failed")
            self.failed[failed.ordinal] = failed
        if settlement.closed is not None:
            known = self.open.pop(settlement.closed, None)
            assert known is not None, "a batch is closed that was never opened"
            assert {record.ordinal for record in settlement.accepted} <= known
            assert {failed.ordinal for failed in settlement.failed} <= known
            assert {record.ordinal for _, part in settlement.opened for record in part} <= known
        for number, records in settlement.opened:
            self.open[number] = {record.ordinal for record in records}
        await asyncio.sleep(0.001)

    def passed(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def _settle(self, ordinal: int, outcome: str) -> None:
        assert ordinal not in self.settled, f"record {ordinal} settles twice"
        self.settled[ordinal] = outcome


class MemoryInput:
    """An input whose frames come as `blocks` of texts, each after a pause in seconds."""

    def __init__(
        self, blocks: Sequence[Sequence[bytes]], pauses: Sequence[float] = (), path: str = "a.ndjson"
    ) -> None:
        self.path = path
        self._blocks = blocks
        self._pauses = pauses

    def open(self, start: Position) -> "MemoryReader":
        return MemoryReader(self.path, self._blocks, self._pauses, start)


class MemoryReader:
    format = "ndjson"
    total_bytes = None

    def __init__(
        self, path: str, blocks: Sequence[Sequence[bytes]], pauses: Sequence[float], start: Position
    ) -> None:
        self.position = start.offset
        self._path = path
        self._start = start
        self._blocks = list(blocks)
        self._pauses = list(pauses)
        self._at = Position()

    async def read(self) -> Sequence[Frames | Unframed] | None:
        while self._blocks:
            if self._pauses:
                await asyncio.sleep(self._pauses.pop(0))
            texts = list(self._blocks.pop(0))
            frames = self._frame(texts)
            if frames is not None:
                return [frames]
        return None

    async def close(self) -> None:
        self._blocks.clear()

    def _frame(self, texts: list[bytes]) -> Frames | None:
        first, offset = self._at.record + 1, self._at.offset
        offsets = []
        for text in texts:
            offsets.append(offset)
            offset += len(text) + 1
        end = Position(offset, self._at.line + len(texts), self._at.record + len(texts))
        frames = Frames(self._path, texts, offsets, list(range(first, first + len(texts))), first, end)
        self._at = end
        self.position = offset
        skip = max(0, self._start.record - (first - 1))
        return frames.part(skip, len(texts)) if skip < len(texts) else None


@dataclass
class Outcome:
    """What a run left behind."""

    ending: Ending
    tally: Tally
    books: MemoryBooks
    service: Service
    events: list[Event]
    seconds: float


async def run_engine(
    inputs: Sequence[MemoryInput],
    service: Service,
    *,
    books: MemoryBooks | None = None,
    standing: Standing | None = None,
    batch_records: int = 1000,
    batch_bytes: int = 10_000_000,
    concurrency: int | None = 4,
    policy: StoppingPolicy | None = None,
    linger: float = 1.0,
    grace: float = 60.0,
    meanwhile: Callable[[Engine], object] | None = None,
    seed: int = 0,
) -> Outcome:
    """Run the engine once; the ledger is checked, whatever happens."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    books = books or MemoryBooks()
    tally = Tally(began)
    seen: list[Event] = []

    def emit(event: Event) -> None:
        tally.hear(event)
        seen.append(event)

    def intended(records: Sequence[Record]) -> None:
        assert all(record.ordinal in books.intended for record in records), "sent without intent"

    service.on_send = intended
    engine = Engine(
        inputs=inputs,
        standing=standing or Standing(),
        checker=Checker(batch_bytes),
        packer=Packer(batch_records, batch_bytes),
        pacing=Pacing(Policy(concurrency=concurrency), began),
        stopping=Stopping(policy or StoppingPolicy(), began),
        sender=service,
        books=books,
        explain=lambda status, message: f"refused {status}: {message}",
        emit=emit,
        dice=random.Random(seed),
        linger=linger,
        grace=grace,
    )
    if meanwhile is not None:
        meanwhile(engine)
    ending = await engine.run()
    emit(Ended(loop.time(), ending.outcome, ending.reason, ending.unsent))
    if engine.error is not None and not isinstance(engine.error, LoaderError):
        raise engine.error
    assert tally.balance() is None, tally.balance()
    return Outcome(ending, tally, books, service, seen, loop.time() - began)


def input_of(*versions: tuple[str, int], block: int = 1000, pad: int = 0) -> MemoryInput:
    """An input of records `(external id, value)`; a negative value is bad."""
    texts = [make_text(external_id, value, pad=pad) for external_id, value in versions]
    return MemoryInput([texts[i : i + block] for i in range(0, len(texts), block)])
