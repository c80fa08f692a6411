"""What a run tells at its end, as data: the JSON of the report, and the exit code."""

from collections.abc import Mapping
from datetime import UTC, datetime
from signal import SIGINT

import msgspec
from msgspec import Struct

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.grouping import FailureGroup
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.wording import shown

SCHEMA = "cdf-upsert/report/1"


class RunFacts(Struct, frozen=True):
    """What the events do not tell. The times are aware; `signal` is the one that interrupted the run."""

    run: str
    stream: str
    project: str | None
    base_url: str | None
    started: datetime
    finished: datetime
    failed_file: str | None
    signal: int | None = None
    dry_run: bool = False


class InputReport(Struct, frozen=True):
    """One input; `bytes` are those of its records, and `format` is None when it was not opened again."""

    path: str
    format: str | None
    records: int
    bytes: int


class RecordCounts(Struct, frozen=True, rename="camel"):
    """The settlements: `read` is the sum of the others."""

    read: int
    accepted: int
    failed: int
    superseded: int
    already_accepted: int
    unsent: int


class RequestCounts(Struct, frozen=True, rename="camel"):
    """All tries, those among them that were not the first, and the replies that said 429.

    `bytes` are those of the bodies before compression, `wire_bytes` what went out.
    """

    sent: int
    retried: int
    throttled: int
    bytes: int
    wire_bytes: int


class LatencyReport(Struct, frozen=True):
    """Seconds from sending to reply, of the tries that got one; None when none did."""

    p50: float | None
    p95: float | None
    p99: float | None


class PacingReport(Struct, frozen=True, rename="camel"):
    """What was in force at the end, the share of 429, and the seconds that were waited, by reason."""

    limit: int | None
    requests_per_second: float | None
    throttled_share: float
    waited_seconds: dict[str, float]


class KeyReport(Struct, frozen=True, rename="camel"):
    """A key in the words of the API."""

    space: str
    external_id: str


class ExampleReport(Struct, frozen=True):
    """Where the first record of a group stands; `record` and `line` count from 1, `line` is for NDJSON."""

    path: str
    record: int
    line: int | None
    key: KeyReport | None


class FailureReport(Struct, frozen=True, rename={"kind": "class"}):
    """Failures that say the same; `message` is that of the example."""

    kind: FailureClass
    status: int | None
    message: str
    count: int
    example: ExampleReport | None


class Report(Struct, frozen=True, rename="camel"):
    """What a run tells at its end."""

    schema: str
    run: str
    stream: str
    project: str | None
    base_url: str | None
    started: str
    finished: str
    duration_seconds: float
    outcome: Outcome
    reason: str
    exit_code: int
    inputs: list[InputReport]
    records: RecordCounts
    requests: RequestCounts
    latency_seconds: LatencyReport
    pacing: PacingReport
    failures: list[FailureReport]
    failed_file: str | None


EXIT_CODES: Mapping[Outcome, int] = {
    Outcome.COMPLETE: 0,
    Outcome.FAILURES: 3,
    Outcome.STOPPED: 5,
    Outcome.REFUSED: 4,
    Outcome.ERROR: 1,
}
"""Exit codes by outcome; an interrupted run ends in 128 and the number of its signal."""


def exit_code(outcome: Outcome, signal: int | None = None) -> int:
    """Return the exit code of a run: 130 after SIGINT, 143 after SIGTERM."""
    if outcome is Outcome.INTERRUPTED:
        return 128 + (SIGINT if signal is None else signal)
    return EXIT_CODES[outcome]


def make_report(tally: Tally, facts: RunFacts) -> Report:
    """Sum up a run that has ended.

    A complete run in which records failed is one with failures. Books that do not balance make any run an
    error, and the reason says so.
    """
    outcome, reason = Outcome.ERROR, "The run broke off."
    if tally.ended is not None:
        outcome, reason = tally.ended.outcome, tally.ended.reason
    if outcome is Outcome.COMPLETE and tally.failed:
        outcome = Outcome.FAILURES
    if imbalance := tally.balance(dry_run=facts.dry_run):
        outcome, reason = Outcome.ERROR, f"{imbalance} {reason}".rstrip()
    return Report(
        schema=SCHEMA,
        run=facts.run,
        stream=facts.stream,
        project=facts.project,
        base_url=facts.base_url,
        started=iso(facts.started),
        finished=iso(facts.finished),
        duration_seconds=round(tally.seconds, 3),
        outcome=outcome,
        reason=shown(reason),
        exit_code=exit_code(outcome, facts.signal),
        inputs=[
            InputReport(shown(source.path), source.format, source.records, source.nbytes)
            for source in tally.inputs
        ],
        records=RecordCounts(
            tally.read,
            tally.accepted,
            tally.failed,
            tally.superseded,
            tally.already_accepted,
            tally.unsent,
        ),
        requests=RequestCounts(tally.sent, tally.retried, tally.throttled, tally.nbytes, tally.wire_bytes),
        latency_seconds=LatencyReport(*(_latency(tally, percent) for percent in (50, 95, 99))),
        pacing=PacingReport(
            limit=None if tally.paced is None else tally.paced.limit,
            requests_per_second=None if tally.paced is None else tally.paced.pace,
            throttled_share=round(tally.throttled_share, 4),
            waited_seconds={reason: round(seconds, 3) for reason, seconds in tally.waited.items()},
        ),
        failures=[_failure(group) for group in tally.groups.most_common()],
        failed_file=None if facts.failed_file is None else shown(facts.failed_file),
    )


def to_json(report: Report, *, indent: int | None = None) -> bytes:
    """Return the report as JSON: on one line, or with `indent` spaces a level; no newline at the end."""
    encoded = msgspec.json.encode(report)
    return encoded if indent is None else msgspec.json.format(encoded, indent=indent)


def iso(moment: datetime) -> str:
    """Return an aware moment as ISO 8601 in UTC, to the millisecond: `2026-05-28T12:00:00.000Z`."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _latency(tally: Tally, percent: int) -> float | None:
    seconds = tally.latencies.percentile(percent)
    return None if seconds is None else float(f"{seconds:.3g}")


def _failure(group: FailureGroup) -> FailureReport:
    example = None
    if group.place is not None:
        key = None if group.key is None else KeyReport(*map(shown, group.key))
        example = ExampleReport(shown(group.place.path), group.place.record, group.place.line, key)
    return FailureReport(group.kind, group.status, shown(group.message), group.count, example)
