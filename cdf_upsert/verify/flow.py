"""The way of a verification.

    first reading    inputs → check → which version of each key is the last, on disk
    second reading   inputs → check → last versions → portions → ask → compare → differences

Memory is bounded by what is under way. Everything runs in one event loop, so that no lock guards any state.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from math import inf
from typing import Protocol, assert_never

from msgspec.structs import replace

from cdf_upsert.core.checking import Checked, Checker, failed_of
from cdf_upsert.core.comparing import Comparison, Same
from cdf_upsert.core.framing import MAX_RECORD, Frames, Position, Unframed
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.querying import Findings, Portion, Query, portions
from cdf_upsert.core.rates import known_pace
from cdf_upsert.core.record import Failed, Record
from cdf_upsert.core.retrying import Dice, backoff
from cdf_upsert.core.traffic import Observation, Signal
from cdf_upsert.core.verifying import (
    LAG_SECONDS,
    MOST_TRIES,
    UNREACHABLE_TRIES,
    Answered,
    AskLater,
    Counts,
    Meaning,
    NoAnswer,
    Refused,
    Sample,
    difference,
    understand,
)
from cdf_upsert.core.wording import duration
from cdf_upsert.errors import LoaderError, RefusedError, UnavailableError, UsageError
from cdf_upsert.verify.versions import LastVersions

AT_ONCE = 12
"""Questions at once; one identity may ask 15 of mutable streams (published limits)."""

PER_SECOND = 15.0
"""Questions a second that one identity may ask of mutable streams (published limits)."""

_TOGETHER, _TOGETHER_BYTES = 1000, 8_000_000
"""Records, and their bytes, that are collected before they are split into questions."""

_LOOK_AGAIN = 1.5
"""Seconds until what is not visible yet is looked up again."""


class Reader(Protocol):
    """One input, being read."""

    async def read(self) -> Sequence[Frames | Unframed] | None:
        """The next records, in input order; None at the end."""
        ...

    async def close(self) -> None:
        """Let go of the input."""
        ...


class Input(Protocol):
    """An input that gives the same records each time it is opened."""

    @property
    def path(self) -> str:
        """The name that was given."""
        ...

    def open(self, start: Position) -> Reader:
        """Begin to read."""
        ...


Ask = Callable[[Query], Awaitable[Reply | NoReply]]
"""Asks one question, once. Raises only what ends the run (`errors.LoaderError`)."""


class Verification:
    """One comparison of inputs with what is stored.

    Args:
        inputs: What is compared.
        versions: An empty book of last versions.
        sample: Which of the keys are looked at.
        ask: Asks the service one question.
        differ: Takes what is not stored as it is in the inputs, and what could never be sent.
        explain: Puts a status that refuses everything, and its message, into whole sentences.
        progress: Told how many keys are compared, and how many there are to compare, time and again.
        patience: Seconds without an answer to any question after which the run ends.
        dice: For the pauses between tries.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[Input],
        versions: LastVersions,
        sample: Sample,
        ask: Ask,
        differ: Callable[[Failed], None],
        explain: Callable[[int, str], str],
        progress: Callable[[int, int], None],
        patience: float,
        dice: Dice,
    ) -> None:
        self._inputs = inputs
        self._versions = versions
        self._sample = sample
        self._ask = ask
        self._differ = differ
        self._explain = explain
        self._progress = progress
        self._patience = patience
        self._dice = dice
        self._chosen = 0
        self._answers = 0
        self._under_way = 0
        self._answered_at = self._closed_until = -inf
        self._pace = known_pace(PER_SECOND)
        self._turn = asyncio.Lock()
        self.counts = Counts()

    async def run(self) -> None:
        """Read the inputs twice, and compare; `counts` tells what was found, also when it ends early.

        Raises:
            UsageError: an input has changed between the two readings, or the service is not there.
            RefusedError: the service refuses every question.
            UnavailableError: it answered none for as long as the patience lasts.
            LoaderError: the counts do not add up, or no token can be had.
        """
        self._now = asyncio.get_running_loop().time
        await self._first_reading()
        self._visible_at = self._now() + LAG_SECONDS
        try:
            await self._compare_all()
        except BaseExceptionGroup as errors:
            # The first one has ended the run; what others tell is the same, or comes of it.
            raise _first(errors) from None
        if not self.counts.is_balanced:
            raise LoaderError(f"The counts of this run do not add up, which is a bug: {self.counts}.")

    async def _first_reading(self) -> None:
        counts, valid = self.counts, 0
        async with aclosing(self._check()) as blocks:
            async for checked in blocks:
                counts.read += checked.count
                counts.invalid += len(checked.failed)
                counts.superseded += len(checked.superseded)
                valid += len(checked.records)
                for failed in checked.failed:
                    self._differ(failed)
                self._versions.see(checked.records)
        keys, self._chosen = self._versions.choose(self._sample)
        counts.superseded += valid - keys
        counts.not_sampled = keys - self._chosen

    async def _compare_all(self) -> None:
        queue: asyncio.Queue[Portion | None] = asyncio.Queue(AT_ONCE)
        async with asyncio.TaskGroup() as tasks, aclosing(self._second_reading()) as found:
            for _ in range(AT_ONCE):
                tasks.create_task(self._work(queue))
            async for portion in found:
                await queue.put(portion)
            for _ in range(AT_ONCE):
                await queue.put(None)

    async def _second_reading(self) -> AsyncGenerator[Portion, None]:
        wanted = self._versions.chosen()
        due = next(wanted, None)
        together: list[Record] = []
        nbytes = 0
        async with aclosing(self._check()) as blocks:
            while due is not None:
                checked = await anext(blocks, None)
                if checked is None:
                    raise _changed()
                for record in checked.records:
                    if due is None or record.ordinal != due[0]:
                        continue
                    if self._versions.digest(record.key) != due[1]:
                        raise _changed()
                    due = next(wanted, None)
                    together.append(record)
                    nbytes += len(record.text)
                    if len(together) >= _TOGETHER or nbytes >= _TOGETHER_BYTES:
                        for portion in portions(together):
                            yield portion
                        together, nbytes = [], 0
        for portion in portions(together):
            yield portion

    async def _check(self) -> AsyncGenerator[Checked, None]:
        """Read all inputs and check their records, a block at a time."""
        checker, ordinal = Checker(MAX_RECORD), 0
        for source in self._inputs:
            reader = source.open(Position())
            try:
                while (found := await reader.read()) is not None:
                    for each in found:
                        match each:
                            case Frames():
                                yield checker.check(replace(each, path=source.path), ordinal)
                                ordinal += len(each.texts)
                            case Unframed():
                                failed = failed_of(each, ordinal)
                                yield Checked(
                                    failed=[replace(failed, place=replace(failed.place, path=source.path))]
                                )
                                ordinal += 1
                            case _:
                                assert_never(each)
            finally:
                await reader.close()

    async def _work(self, queue: asyncio.Queue[Portion | None]) -> None:
        while (portion := await queue.get()) is not None:
            await self._compare(portion)

    async def _compare(self, portion: Portion) -> None:
        """Compare some records; while earlier writes may not be visible yet, look again before anything differs."""
        left: Portion | None = portion
        while left is not None:
            asked_at = self._now()
            findings = await self._find(left.queries)
            others: list[Record] = []
            for record in left.records:
                found = findings if isinstance(findings, NoAnswer) else findings.compare(record)
                if asked_at >= self._visible_at or isinstance(found, Same | NoAnswer):
                    self._settle(record, found)
                else:
                    others.append(record)
            self._progress(self.counts.compared, self._chosen)
            left = next(portions(others), None)
            if left is not None:
                await asyncio.sleep(min(_LOOK_AGAIN, max(0.0, self._visible_at - self._now())))

    def _settle(self, record: Record, found: Comparison | NoAnswer) -> None:
        self.counts.add(found)
        failed = difference(record, found)
        if failed is not None:
            self._differ(failed)

    async def _find(self, queries: Sequence[Query]) -> Findings | NoAnswer:
        """Ask until every question is answered, or one of them surely will not be."""
        findings = Findings()
        for query in queries:
            tries = in_row = 0
            # Before this nobody waited for an answer: reading up to here may have taken long.
            since = self._now()
            while True:
                others = self._answers
                match await self._try(query, findings, since):
                    case Answered():
                        break
                    case NoAnswer() as none:
                        return none
                    case Refused(status, message):
                        raise RefusedError(self._explain(status, message))
                    case AskLater(signal, message, _, reached):
                        in_row += 1
                        if not reached and not self._answers and in_row >= UNREACHABLE_TRIES:
                            raise UsageError(message)
                        tries += _is_its_own_fault(signal, alive=self._answers > others)
                        if tries >= MOST_TRIES:
                            return NoAnswer(message)
                        await self._pause(backoff(in_row, None, self._dice), message, since)
                    case never:
                        assert_never(never)
        return findings

    async def _try(self, query: Query, findings: Findings, since: float) -> Meaning:
        """Ask one question once, when its turn has come; it has waited for that since `since`."""
        async with self._turn:
            while (wait := max(self._pace.wait_until(self._now()), self._closed_until) - self._now()) > 0:
                await self._pause(wait, "the service asks to wait", since)
            self._pace.sent(self._now())
        self._under_way += 1
        began, under_way = self._now(), self._under_way
        try:
            meaning = understand(await self._ask(query), findings)
        finally:
            self._under_way -= 1
        now = self._now()
        seen = Observation(began, now, Signal.CALM, None, 0, 0, under_way)
        self.counts.requests += 1
        match meaning:
            case Answered() | NoAnswer():
                self._answers += 1
                self._answered_at = now
                self._pace.observe_calm(now, seen)
            case AskLater(signal, _, retry_after):
                self._closed_until = max(self._closed_until, now + (retry_after or 0.0))
                if signal is Signal.THROTTLED:
                    self.counts.throttled += 1
                    self._pace.observe_throttled(now, seen)
                    self._pace.rest(now)
            case Refused():
                pass
            case _:
                assert_never(meaning)
        return meaning

    async def _pause(self, seconds: float, message: str, since: float) -> None:
        """Wait, but not beyond the patience with a service that has answered nobody since `since`.

        Raises:
            UnavailableError: the patience is at its end.
        """
        left = max(self._answered_at, since) + self._patience - self._now()
        if left <= 0:
            raise UnavailableError(
                f"The service has not answered for {duration(self._patience)}, the last time with: {message}. "
                "Try again later, or allow more with --patience."
            )
        await asyncio.sleep(min(seconds, left))


def _is_its_own_fault(signal: Signal, *, alive: bool) -> bool:
    """Whether a question that was not answered is to blame itself; `alive`: others were answered meanwhile."""
    match signal:
        case Signal.CALM:
            return True
        case Signal.UNAVAILABLE:
            return alive
        case Signal.THROTTLED:
            return False
        case _:
            assert_never(signal)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _changed() -> UsageError:
    return UsageError("An input has changed while it was read: compare again when nothing writes to it.")
