"""What `verify` decides: which keys it looks at, what a reply to a question means, and what it tells at the end."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from cdf_upsert.core.comparing import Comparison, Different, Missing, Same, difference_told, values_told
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.querying import Findings
from cdf_upsert.core.record import Failed, Failure, FailureClass, Record
from cdf_upsert.core.report import iso
from cdf_upsert.core.traffic import Signal
from cdf_upsert.core.wording import count, one_line, shown

SCHEMA = "cdf-upsert/verify/1"

UNREACHABLE_TRIES = 4
"""Tries to reach a service that was never reached: it is more likely misspelt than down."""

MOST_TRIES = 8
"""Tries of one question that fails by itself: with a 500, or while others are answered."""

LAG_SECONDS = 6.0
"""Until what was written before is surely visible: one or two seconds as published, sometimes a few more."""


class Sample(Struct, frozen=True):
    """How many of the keys are looked at, picked by chance: so many, so many in a hundred, or all."""

    keys: int | None = None
    percent: float | None = None


def parse_sample(text: str) -> Sample:
    """Read `500` or `2.5%`.

    Raises:
        ValueError: it is neither; the message is a whole sentence.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,15}", text) and int(text) > 0:
        return Sample(keys=int(text))
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", text)
    if found and 0 < float(found[1]) <= 100:
        return Sample(percent=float(found[1]))
    raise ValueError(
        f"{text!r} is neither a number of keys, such as 500, nor a percentage up to 100, such as 5%."
    )


class Answered(Struct, frozen=True):
    """What is stored is among the findings."""


class AskLater(Struct, frozen=True):
    """No answer yet. `reached` tells whether a connection to the service came about."""

    signal: Signal
    message: str
    retry_after: float | None = None
    reached: bool = True


class NoAnswer(Struct, frozen=True):
    """This question will not be answered, but others may be."""

    message: str
    status: int | None = None
    request_id: str | None = None


class Refused(Struct, frozen=True):
    """No question will be answered; `message` is the service's own."""

    status: int
    message: str


Meaning = Answered | AskLater | NoAnswer | Refused


def understand(reply: Reply | NoReply, findings: Findings) -> Meaning:
    """What a reply to a question means; an answer is added to the findings.

    reply                             meaning
    200 of the known shape            answered
    429                               ask later
    500                               ask later; after some tries there is no answer
    none, 408, other 5xx and 2xx,     ask later; after some tries that others did not need there is no answer
    and what calls itself retryable
    401, 403, 404, 3xx                refused: the run ends
    400 and other 4xx                 no answer: what the records name is not known, or of another type
    """
    if isinstance(reply, NoReply):
        return AskLater(Signal.UNAVAILABLE, reply.message, reached=reply.sent)
    message = said(reply)
    match reply.status:
        case 200:
            if findings.add(reply.body):
                return Answered()
            return AskLater(Signal.UNAVAILABLE, "the answer is not of the known shape", reply.retry_after)
        case 429:
            return AskLater(Signal.THROTTLED, message, reply.retry_after)
        case 500:
            return AskLater(Signal.CALM, message, reply.retry_after)
        case status if status in (401, 403, 404) or 300 <= status < 400:
            return Refused(status, message)
        case status if 400 <= status < 500 and status != 408 and not reply.auto_retryable:
            return NoAnswer(message, status, reply.request_id)
        case _:
            return AskLater(Signal.UNAVAILABLE, message, reply.retry_after)


def said(reply: Reply) -> str:
    """What a reply that is no answer says of the reason, on one line; its status where it says nothing."""
    try:
        content: Any = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    match content:
        case {"error": {"message": str(message)}} if message.strip():
            return one_line(" ".join(message.split()))[:1000]
        case _:
            return f"status {reply.status}"


def may_not_read(stream: str, project: str, message: str) -> str:
    """What a 403 means for who only reads, and the mend."""
    return (
        f"The sign-in works, but has no permission to read the records of stream {stream} in project {project} "
        f'("{message}"). Ask an administrator of the project for a group with streamRecordsAcl:READ and '
        "dataModelsAcl:READ for your spaces, and that your sign-in is a member of it."
    )


def difference(record: Record, found: Comparison | NoAnswer) -> Failed | None:
    """A record that is not stored as it is in the input, as a line of a failed file; None when it is."""
    match found:
        case Same():
            return None
        case Missing() | Different():
            failure = Failure(FailureClass.UNKNOWN, difference_told(found), detail=values_told(found))
        case NoAnswer(message, status, request_id):
            failure = Failure(FailureClass.UNKNOWN, f"it cannot be read back: {message}", status, request_id)
        case _:
            assert_never(found)
    return Failed(record.ordinal, record.place, failure, record.text, record.key)


class Counts(Struct):
    """Where the records of the inputs are; at the end of a whole run each of them is in exactly one place."""

    read: int = 0
    invalid: int = 0
    superseded: int = 0
    not_sampled: int = 0
    same: int = 0
    missing: int = 0
    different: int = 0
    unanswered: int = 0
    requests: int = 0
    throttled: int = 0

    @property
    def compared(self) -> int:
        """How many keys are done with."""
        return self.same + self.missing + self.different + self.unanswered

    @property
    def is_balanced(self) -> bool:
        """Whether every record that was read is accounted for."""
        return self.read == self.invalid + self.superseded + self.not_sampled + self.compared

    @property
    def is_same(self) -> bool:
        """Whether nothing was found that is not stored as it is in the inputs."""
        return not (self.invalid or self.missing or self.different or self.unanswered)

    def add(self, found: Comparison | NoAnswer) -> None:
        """Count one key."""
        match found:
            case Same():
                self.same += 1
            case Missing():
                self.missing += 1
            case Different():
                self.different += 1
            case NoAnswer():
                self.unanswered += 1
            case _:
                assert_never(found)


class Outcome(StrEnum):
    """How a verification ended; the words of its report."""

    SAME = "same"
    DIFFERENCES = "differences"
    STOPPED = "stopped"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"


class _Records(msgspec.Struct, frozen=True, rename="camel"):
    read: int
    invalid: int
    superseded: int
    not_sampled: int
    same: int
    missing: int
    different: int
    unanswered: int


class _Requests(msgspec.Struct, frozen=True):
    sent: int
    throttled: int


class VerifyReport(msgspec.Struct, frozen=True, rename="camel"):
    """What a verification tells at its end; `reason` is a whole sentence, or empty."""

    schema: str
    stream: str
    project: str
    base_url: str
    started: str
    finished: str
    duration_seconds: float
    outcome: Outcome
    reason: str
    exit_code: int
    inputs: list[str]
    records: _Records
    requests: _Requests
    differences_file: str | None


def make_report(
    counts: Counts,
    *,
    stream: str,
    project: str,
    base_url: str,
    started: datetime,
    finished: datetime,
    outcome: Outcome,
    reason: str,
    exit_code: int,
    inputs: list[str],
    differences_file: str | None,
) -> VerifyReport:
    """Put the report together; `differences_file` is None when there is none."""
    return VerifyReport(
        SCHEMA,
        stream,
        project,
        base_url,
        iso(started),
        iso(finished),
        round((finished - started).total_seconds(), 3),
        outcome,
        reason,
        exit_code,
        [shown(name) for name in inputs],
        _Records(
            counts.read,
            counts.invalid,
            counts.superseded,
            counts.not_sampled,
            counts.same,
            counts.missing,
            counts.different,
            counts.unanswered,
        ),
        _Requests(counts.requests, counts.throttled),
        None if differences_file is None else shown(differences_file),
    )


def summary(counts: Counts) -> str:
    """The verification in one line."""
    parts = [f"{counts.same:,} same"]
    for number, word in (
        (counts.missing, "missing"),
        (counts.different, "different"),
        (counts.unanswered, "without an answer"),
        (counts.invalid, "not fit to be sent"),
        (counts.superseded, "superseded by a later version"),
        (counts.not_sampled, "not in the sample"),
    ):
        if number:
            parts.append(f"{number:,} {word}")
    return f"{count(counts.read, 'record')} read: {', '.join(parts)}."
