"""One run of a load.

    inputs → check → ordering → packing → ready ─┐
                        ↑                        ├→ pacing → send → interpret → settle → journal
                        │               due ─────┘                     │
                        └──── a key is free ───────── again, in parts ─┘

Everything here runs in one event loop, so that no lock is needed. Reading stops while too much waits to be sent,
and goes on when there is room; a part-filled batch goes out when it has waited for `linger` seconds, or when
nothing more can be read before it has gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import count
from math import inf
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.core import events
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.interpret import NoReply, Reply, Verdict, interpret
from cdf_upsert.core.ordering import Ordering
from cdf_upsert.core.pacing import Go, Observation, Pacing, Signal, Wait, WaitReason
from cdf_upsert.core.packing import Packed, Packer, body_bytes
from cdf_upsert.core.record import Record
from cdf_upsert.core.retrying import Dice
from cdf_upsert.core.standing import Settlement, Standing
from cdf_upsert.core.stopping import Stopping
from cdf_upsert.errors import LoaderError, RefusedError, UnavailableError
from cdf_upsert.load.intake import Intake, Taken
from cdf_upsert.load.outbox import Batch, Outbox
from cdf_upsert.load.ports import Books, Input, Sender
from cdf_upsert.load.readback import Budgeted, look_up
from cdf_upsert.load.settling import Consequences, Question, consequences, consequences_of_answer

MOST_READY = 2
"""Batches that are packed ahead of their sending."""

MOST_WAITING_BYTES = 24_000_000
"""Reading stops while more than this waits: to be sent, to be tried again, or behind another version."""

T = TypeVar("T")


class Ending(Struct, frozen=True):
    """How a run ended: `reason` is a whole sentence, or empty."""

    outcome: events.Outcome
    reason: str
    unsent: int


class _Halt(Struct, frozen=True):
    outcome: events.Outcome
    reason: str


_REASONS = {
    WaitReason.LIMIT: "as many requests as the service takes are under way",
    WaitReason.PACE: "the service takes no more requests a second",
    WaitReason.RETRY_AFTER: "the service asked to wait",
    WaitReason.QUOTA: "quota spent",
    WaitReason.MAX_RATE: "--max-rate",
    WaitReason.BREAKER: "the service is not available",
    WaitReason.RETRY_BUDGET: "too many retries",
}
_TOO_COMMON = {WaitReason.LIMIT, WaitReason.PACE, WaitReason.MAX_RATE}
"""Waits that come and go many times a second."""


class Engine:
    """Runs one load once.

    `explain` puts a status that refuses everything, and the service's message, into sentences. `grace` is how
    many seconds requests under way may take after a stop. Times are those of the event loop.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[Input],
        standing: Standing,
        checker: Checker,
        packer: Packer,
        pacing: Pacing,
        stopping: Stopping,
        sender: Sender,
        books: Books,
        explain: Callable[[int, str], str],
        emit: Callable[[events.Event], None],
        dice: Dice,
        linger: float,
        grace: float,
    ) -> None:
        self._standing = standing
        self._packer = packer
        self._pacing = pacing
        self._stopping = stopping
        self._sender = sender
        self._books = books
        self._explain = explain
        self._emit = emit
        self._dice = dice
        self._linger = linger
        self._grace = grace

        self._stored = Budgeted(sender.compare)
        self._ordering = Ordering(standing.in_doubt)
        self._outbox = Outbox()
        self._intake = Intake(
            inputs=inputs,
            standing=standing,
            checker=checker,
            books=books,
            emit=emit,
            wait_for=self._unless_cut_off,
            over=lambda: self._halt is not None,
        )
        self._under_way: set[Batch] = set()
        self._asking: set[Batch] = set()
        self._open_until: float | None = None
        self._numbers = count(1)
        self._accepted = 0
        self._reading = True
        self._halt: _Halt | None = None
        self._waiting: events.Waiting | None = None
        self._paced: events.Paced | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._interruptible: set[asyncio.Task[Any]] = set()
        self._unwritten = 0
        self.error: BaseException | None = None

    async def run(self) -> Ending:
        """Read, send and settle until everything is settled or the run has to stop."""
        self._loop = asyncio.get_running_loop()
        self._tell_standing()
        self._reader = self._spawn(self._read())
        await self._dispatch()
        await self._drain()
        return self._end()

    def _tell_standing(self) -> None:
        """Records that this run need not send: accepted earlier, or failed and then overtaken by a newer version."""
        accepted, superseded = self._standing.already_accepted, self._standing.superseded
        if accepted or superseded:
            self._emit(events.BlockRead("", superseded, 0, 0))
            self._hear(events.Settled(self._now(), already_accepted=accepted, superseded=superseded))

    def halt(self, outcome: events.Outcome, reason: str) -> None:
        """Stop in good order: read no more, let the requests under way finish. The first reason stands."""
        if self._halt is None:
            self._halt = _Halt(outcome, reason)
            self._changed.set()
            self._room.set()

    def _now(self) -> float:
        return self._loop.time()

    # ------------------------------------------------------------------ reading

    async def _read(self) -> None:
        async for block in self._intake.blocks():
            for taken in block:
                await self._take(taken)
            await self._wait_for_room()
        self._pack(self._ordering.give_up_doubt())
        self._reading = False
        self._changed.set()

    async def _take(self, taken: Taken) -> None:
        checked = taken.checked
        self._emit(events.BlockRead(taken.path, checked.count, taken.nbytes, taken.position))
        self._pack(self._ordering.admit(checked.records))
        if checked.failed or checked.superseded:
            await self._settle(Settlement(failed=checked.failed, skipped=checked.superseded))

    async def _wait_for_room(self) -> None:
        """Let others run; come back when there is room for more."""
        await asyncio.sleep(0)
        while self._halt is None and (self._outbox.new >= MOST_READY or (self._is_full() and self._moves())):
            self._changed.set()
            self._room.clear()
            await self._unless_cut_off(self._room.wait())

    def _is_full(self) -> bool:
        return self._outbox.weight + self._ordering.waiting_bytes > MOST_WAITING_BYTES

    def _moves(self) -> bool:
        """Whether room may come without reading on: versions that wait for one yet to be read give none."""
        return bool(self._outbox or self._packer.waiting or self._under_way or self._asking)

    async def _unless_cut_off(self, work: Awaitable[T]) -> T:
        """Wait for `work`; only here may a task be cancelled, so that no record is lost between two places."""
        task = asyncio.current_task()
        assert task is not None, "the engine runs in tasks"
        self._interruptible.add(task)
        try:
            return await work
        finally:
            self._interruptible.discard(task)

    def _pack(self, records: Sequence[Record]) -> None:
        if not records:
            return
        before = self._packer.waiting
        full = self._packer.add(records)
        for packed in full:
            self._make_ready(packed)
        if self._packer.waiting and (full or not before):
            self._open_until = self._now() + self._linger
        self._changed.set()

    def _make_ready(self, packed: Packed) -> None:
        self._outbox.add(Batch(packed.records, packed.nbytes))

    def _seal(self, now: float) -> None:
        """Close the part-filled batch when it has waited long enough, or when waiting would bring nothing."""
        if not self._packer.waiting:
            return
        patient = self._open_until is not None and now < self._open_until
        if self._reading and patient and (self._outbox.new or not self._is_full()):
            return
        self._make_ready(self._packer.flush())

    # ------------------------------------------------------------------ sending

    async def _dispatch(self) -> None:
        while self._halt is None:
            now = self._now()
            self._seal(now)
            if (verdict := self._stopping.verdict(now)) is not None:
                self.halt(events.Outcome.STOPPED, verdict.reason)
                break
            if not (self._reading or self._outbox or self._under_way or self._asking):
                break
            until = self._send_what_may_go(now)
            self._changed.clear()
            await self._sleep_until(until)

    def _send_what_may_go(self, now: float) -> float | None:
        """Start every request that may start now; when to look again at the latest."""
        while True:
            wait: Wait | None = None
            for batch in self._outbox.candidates(now):
                answer = self._pacing.may_send(
                    now,
                    under_way=len(self._under_way),
                    records=len(batch.records),
                    nbytes=batch.nbytes,
                    retry=batch.tries.all > 0,
                )
                if isinstance(answer, Go):
                    self._outbox.take(batch)
                    self._room.set()
                    self._launch(batch, answer.records_at_most, now)
                    break
                wait = answer if wait is None or answer.until < wait.until else wait
            else:
                self._tell_wait(wait, now)
                times = [
                    self._stopping.deadline(now),
                    self._outbox.next_due,
                    wait.until if wait is not None else None,
                    self._open_until if self._packer.waiting else None,
                ]
                return min((t for t in times if t is not None and now < t < inf), default=None)
            self._seal(now)

    def _launch(self, batch: Batch, records_at_most: int | None, now: float) -> None:
        most = 1 if batch.alone or batch.in_turn else records_at_most
        if most is not None and len(batch.records) > most:
            head, tail = batch.records[:most], batch.records[most:]
            # The journal knows the records under the batch's number, which the rest keeps.
            rest = replace(batch, records=tail, nbytes=body_bytes(tail))
            batch = replace(batch, records=head, nbytes=body_bytes(head), number=0)
            if batch.in_turn:
                batch.then = rest
            else:
                self._again(rest, now)
        retry = batch.tries.all > 0
        batch.tries = batch.tries.started()
        batch.accepted_before = self._accepted
        batch.since = min(batch.since, now)
        self._under_way.add(batch)
        self._pacing.sent(now, records=len(batch.records), nbytes=batch.nbytes, retry=retry)
        self._emit(events.BatchSent(now, len(batch.records), batch.nbytes, retry, len(self._under_way)))
        self._spawn(self._try(batch))

    def _foresee(self, batch: Batch) -> None:
        """Give a batch that no request has had its number."""
        self._number(batch)
        self._books.foresee(batch.number, batch.records, self._ordering.overtaking(batch.records))

    def _again(self, batch: Batch, when: float) -> None:
        self._outbox.put_off(batch, when)
        self._changed.set()

    async def _try(self, batch: Batch) -> None:
        if not batch.number:
            self._foresee(batch)
        await self._books.intend(batch.number)
        under_way, started = len(self._under_way), self._now()
        reply = await self._unless_cut_off(self._sender.send(batch.records))
        now = self._now()
        verdict = interpret(batch.records, reply, batch.tries.all)
        self._pacing.observed(
            now,
            Observation(
                started=started,
                ended=now,
                signal=_signal(reply),
                retry_after=reply.retry_after if isinstance(reply, Reply) else None,
                records=len(verdict.accepted),
                nbytes=batch.nbytes,
                under_way=under_way,
            ),
        )
        self._tell_pace(now)
        self._emit(
            events.BatchReplied(
                now,
                reply.status if isinstance(reply, Reply) else None,
                now - started,
                reply.wire_bytes,
                len(self._under_way) - 1,
                reply.request_id if isinstance(reply, Reply) else None,
            )
        )
        try:
            await self._apply(batch, verdict, reply, now)
        finally:
            # Not before its outcome is written down: what a killed run has to send again is what is under way.
            self._under_way.discard(batch)

    # ------------------------------------------------------------------ settling

    async def _apply(self, batch: Batch, verdict: Verdict, reply: Reply | NoReply, now: float) -> None:
        """Do what `verdict` says with each record of `batch`."""
        if verdict.too_large:
            self._packer.lower(max(batch.nbytes // 2, 1))
        became = consequences(
            batch,
            verdict,
            reply,
            now,
            alive=self._accepted > batch.accepted_before,
            ending=verdict.stop is not None or self._halt is not None,
            dice=self._dice,
        )
        if verdict.stop is not None:
            why = self._explain(verdict.stop.status, verdict.stop.message)
            # That a stream is not mutable is all there is to say.
            self._fail(RefusedError(why, unclear=verdict.stop.status != 422))
        await self._close(batch, verdict.accepted, became)

    async def _ask(self, question: Question) -> None:
        """Read back what is stored under the keys of a batch whose tries are used up."""
        batch = question.batch
        found = await self._unless_cut_off(look_up(self._stored.compare, batch.records, batch.since))
        self._asking.discard(batch)
        await self._close(
            batch, found.same, consequences_of_answer(question, found, self._now(), dice=self._dice)
        )

    def _go_on(self, batch: Batch, became: Consequences) -> list[Batch]:
        """Let what is left of `batch` go its ways; the parts it has become, which the journal has to know."""
        parts = []
        for part, due in became.again:
            if part is not batch:
                parts.append(self._number(part))
            self._again(part, due)
        for question in became.asked:
            parts.append(self._number(question.batch))
            self._asking.add(question.batch)
            self._spawn(self._ask(question))
        for retrying in became.told:
            self._hear(retrying)
        if batch.then is not None:
            left = [*(part for part, _ in became.again), *(question.batch for question in became.asked)]
            if left:
                left[0].then = batch.then  # It was a single record, and is not settled yet.
            else:
                self._again(batch.then, self._now())
        return parts

    def _number(self, batch: Batch) -> Batch:
        batch.number = next(self._numbers)
        return batch

    async def _close(self, batch: Batch, accepted: Sequence[Record], became: Consequences) -> None:
        """Settle what is settled of `batch`, and free its keys."""
        parts, failed = self._go_on(batch, became), became.failed
        self._changed.set()
        if not (accepted or failed or parts):
            return
        self._accepted += len(accepted)
        freed = self._ordering.accepted(accepted)
        by_ordinal = {record.ordinal: record for record in batch.records} if failed else {}
        due = [*freed.due, *self._ordering.failed([by_ordinal[one.ordinal] for one in failed])]
        self._pack(due)
        self._room.set()
        coming = self._outbox.first_new
        if coming is not None and not coming.number and self._halt is None and not failed:
            # It takes the place that becomes free, and need not wait for the journal. Where something has failed, it
            # waits: it may hold a newer version of that, of which the journal is only about to learn.
            self._foresee(coming)
        await self._settle(
            Settlement(
                accepted=accepted,
                superseded=freed.superseded,
                failed=failed,
                closed=batch.number,
                opened=[(part.number, part.records) for part in parts],
            )
        )

    async def _settle(self, settlement: Settlement) -> None:
        try:
            await self._books.settle(settlement)
        except BaseException:
            self._unwritten += len(settlement.accepted) + len(settlement.superseded)
            self._unwritten += len(settlement.failed) + len(settlement.skipped)
            raise
        now = self._now()
        self._hear(
            events.Settled(
                now,
                accepted=len(settlement.accepted),
                superseded=len(settlement.superseded) + len(settlement.skipped),
                failed=settlement.failed,
            )
        )

    def _hear(self, event: events.Event) -> None:
        """Emit what may also stop the run."""
        self._stopping.hear(event)
        self._emit(event)

    # ------------------------------------------------------------------ waiting and ending

    async def _sleep_until(self, until: float | None) -> None:
        if until is None:
            await self._changed.wait()
            return
        alarm = self._loop.call_at(until, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()

    def _tell_wait(self, wait: Wait | None, now: float) -> None:
        """Emit a wait when it begins, and when its reason or its end changes."""
        if wait is None or wait.reason in _TOO_COMMON:
            told = None
        else:
            told = events.Waiting(now, _REASONS[wait.reason], None if wait.until == inf else wait.until)
        before = self._waiting
        if told is not None and (
            before is None or (told.reason, told.until) != (before.reason, before.until)
        ):
            self._emit(told)
        self._waiting = told

    def _tell_pace(self, now: float) -> None:
        """Emit what is in force when it has changed."""
        state = self._pacing.state(now)
        # In steps of a twentieth: what is left changes with each request.
        left = 1.0 if state.quota_left is None else round(state.quota_left * 20) / 20
        paced = events.Paced(now, state.limit, state.pace, state.quota, left)
        if self._paced is None or replace(paced, at=self._paced.at) != self._paced:
            self._paced = paced
            self._emit(paced)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        reason = (
            str(error) if isinstance(error, LoaderError) else f"An unexpected error ended the run: {error!r}."
        )
        self.halt(outcome_of(error), reason)

    async def _drain(self) -> None:
        """Let what is under way finish, for `grace` seconds at most; what is being written down always does."""
        if self._reader in self._interruptible:
            self._reader.cancel()
        cut_off = self._now() + self._grace
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=max(cut_off - self._now(), 0.1))
            if self._now() >= cut_off:
                for task in self._interruptible:
                    task.cancel()

    def _end(self) -> Ending:
        batches = [*self._outbox, *self._under_way, *self._asking]
        unsent = (
            sum(batch.left for batch in batches)
            + self._packer.waiting
            + sum(1 for _ in self._ordering.waiting())
            + self._unwritten
        )
        halt = self._halt or _Halt(events.Outcome.COMPLETE, "")
        return Ending(halt.outcome, halt.reason, unsent)


def outcome_of(error: BaseException) -> events.Outcome:
    """How a run ends that `error` has ended."""
    match error:
        case RefusedError():
            return events.Outcome.REFUSED
        case UnavailableError():
            return events.Outcome.STOPPED
        case _:
            return events.Outcome.ERROR


def _signal(reply: Reply | NoReply) -> Signal:
    """What a reply says of the service's load."""
    if isinstance(reply, NoReply) or reply.status in {408, 502, 503, 504}:
        return Signal.UNAVAILABLE
    return Signal.THROTTLED if reply.status == 429 else Signal.CALM
