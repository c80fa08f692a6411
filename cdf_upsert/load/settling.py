"""What becomes of a batch once its reply is understood: which records fail, and which go again, when and with whom.

Nothing here waits, sends or writes: the engine does as it is told here.
"""

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct, field

from cdf_upsert.core.comparing import difference_told, values_told
from cdf_upsert.core.events import Retrying
from cdf_upsert.core.interpret import NoReply, Reason, Reply, Said, Verdict
from cdf_upsert.core.isolating import Hunt, Part, halves, take_apart
from cdf_upsert.core.packing import body_bytes
from cdf_upsert.core.record import Failed, Failure, FailureClass, Record
from cdf_upsert.core.retrying import AskStored, Dice, FailAs, Tries, TryAgain, after, backoff
from cdf_upsert.load.outbox import Batch
from cdf_upsert.load.readback import Lookup

CONFLICT_RECORDS = 100
"""Records that were modified by somebody else at the same time go again in batches no larger than this."""


class Question(Struct, frozen=True):
    """What is stored under the keys of `batch`? Records of which something else is stored fail as `otherwise`.

    `refused` tells that the last try has refused them, so that they need no other ground to fail; `whole` that no
    reply named them, so that one of them may have spoilt it for all: they are taken apart before any fails.
    """

    batch: Batch
    otherwise: FailureClass
    said: Said
    refused: bool = False
    whole: bool = False


class Consequences(Struct):
    """What becomes of the records of one batch that are not accepted; times are those of the event loop.

    `again` has the batches that go again, and when they are due: the batch itself, or parts of it. `asked` are
    parts, too.
    """

    failed: list[Failed] = field(default_factory=list)
    again: list[tuple[Batch, float]] = field(default_factory=list)
    asked: list[Question] = field(default_factory=list)
    told: list[Retrying] = field(default_factory=list)


def consequences(
    batch: Batch,
    verdict: Verdict,
    reply: Reply | NoReply,
    now: float,
    *,
    alive: bool,
    ending: bool,
    dice: Dice,
) -> Consequences:
    """Decide by the verdict; the batch keeps what was learnt of it.

    `alive` tells that the service has accepted records of others meanwhile. When the run is `ending`, what would go
    again only waits to be counted.
    """
    found = Consequences()
    if batch.tries.unclear:
        _doubt(verdict.refused, batch, found, now, ending=ending)
    else:
        found.failed += [_failed(record, failure) for record, failure in verdict.refused]
    if verdict.suspects:
        found.again += [(part, now) for part in _taken_apart(batch, verdict)]
    for reason, records in verdict.again.items():
        if ending:
            found.again.append((Batch.of(records, batch), now))
            continue
        said = verdict.said.get(reason, Said(""))
        retry_after = reply.retry_after if isinstance(reply, Reply) else None
        step = after(
            reason,
            batch.tries,
            named=not verdict.whole,
            answered=isinstance(reply, Reply),
            alive=alive,
            retry_after=retry_after,
            dice=dice,
        )
        match step:
            case TryAgain(seconds, tries):
                most = CONFLICT_RECORDS if reason is Reason.CONFLICT else len(records)
                for part in _portions(batch, records, most):
                    part.tries = tries
                    found.again.append((part, now + seconds))
                found.told.append(Retrying(now, len(records), reason.value, said.message, seconds))
            case AskStored(otherwise):
                found.asked.append(Question(Batch.of(records, batch), otherwise, said, whole=verdict.whole))
            case FailAs(kind):
                failure = Failure(kind, said.message, said.status, said.request_id, batch.tries.all)
                found.failed += [_failed(record, failure) for record in records]
            case _:
                assert_never(step)
    if batch.hunt is not None:
        batch.hunt.accepted += len(verdict.accepted)
        batch.hunt.refused += len(verdict.refused)
        batch.hunt.misled += batch.named and bool(verdict.accepted)
    return found


def _doubt(
    refused: Sequence[tuple[Record, Failure]], batch: Batch, found: Consequences, now: float, *, ending: bool
) -> None:
    """Let what is stored tell of refused records: a try before this one may have stored them."""
    for record, failure in refused:
        part = Batch.of([record], batch)
        if ending:
            found.again.append((part, now))
        else:
            said = Said(failure.message, failure.status, failure.request_id)
            found.asked.append(Question(part, failure.kind, said, refused=True))


def consequences_of_answer(question: Question, found: Lookup, now: float, *, dice: Dice) -> Consequences:
    """Decide by what is stored; what nobody could tell is tried again."""
    batch, said = question.batch, question.said
    told = Consequences()

    def fail(record: Record, message: str, detail: str = "") -> None:
        failure = Failure(question.otherwise, message, said.status, said.request_id, batch.tries.all, detail)
        told.failed.append(_failed(record, failure))

    unanswered = found.unanswered
    if question.refused:
        # What the service takes neither as a record nor as a question is not stored.
        for record in [*(record for record, _ in found.other), *found.unreadable]:
            fail(record, said.message)
    elif question.whole and len(batch.records) > 1 and found.other:
        unanswered = [*unanswered, *found.unreadable]
        told.again += [
            (part, now) for part in _not_stored_apart(batch, [record for record, _ in found.other])
        ]
    else:
        unanswered = [*unanswered, *found.unreadable]
        for record, what in found.other:
            different = difference_told(what)
            fail(record, f"{said.message}; {different}" if said.message else different, values_told(what))
    if batch.hunt is not None:
        batch.hunt.accepted += len(found.same)
        batch.hunt.refused += len(told.failed)
    if unanswered:
        told.again.append((Batch.of(unanswered, batch), now + backoff(batch.tries.in_row, None, dice)))
    return told


def _taken_apart(batch: Batch, verdict: Verdict) -> list[Batch]:
    if verdict.too_large:
        parts = halves(verdict.suspects)
    else:
        batch.hunt = batch.hunt or Hunt()
        parts = take_apart(verdict.suspects, verdict.named, batch.hunt, in_turn=verdict.in_turn)
    return _batches(parts, batch, batch.tries.afresh())


def _not_stored_apart(batch: Batch, records: Sequence[Record]) -> list[Batch]:
    """The parts of what is known not to be stored, so that nothing about them is unclear any more."""
    batch.hunt = batch.hunt or Hunt()
    parts = take_apart(records, (), batch.hunt) if len(records) > 1 else [Part(records)]
    return _batches(parts, batch, Tries())


def _batches(parts: Sequence[Part], batch: Batch, tries: Tries) -> list[Batch]:
    return [
        Batch(
            part.records,
            body_bytes(part.records),
            tries=tries,
            hunt=batch.hunt,
            named=part.named,
            alone=part.alone,
            in_turn=part.in_turn,
            since=batch.since,
        )
        for part in parts
    ]


def _portions(batch: Batch, records: Sequence[Record], most: int) -> list[Batch]:
    """`records` of `batch`, so many at most together: the batch itself when that is all of it."""
    if len(batch.records) == len(records) <= most:
        return [batch]
    return [Batch.of(records[start : start + most], batch) for start in range(0, len(records), most)]


def _failed(record: Record, failure: Failure) -> Failed:
    return Failed(record.ordinal, record.place, failure, record.text, record.key)
