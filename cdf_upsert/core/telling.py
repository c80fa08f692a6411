"""A report in sentences: the line of summary, the failures, and what to do next."""

import shlex
from collections.abc import Sequence
from typing import assert_never

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.framing import NOTHING_BEHIND
from cdf_upsert.core.report import FailureReport, Report
from cdf_upsert.core.wording import count, duration, input_name, one_line, place, rate, size

MOST_TOLD = 10
"""So many groups of failures are told; the report holds them all."""


def summary(report: Report, *, sends: bool = True) -> str:
    """Return the one line that says how a run went; its first word is the number of accepted records.

    `sends` is false of a run that only looks: then it is the number of those that are fit to be sent.
    """
    records = report.records
    parts = [f"{records.accepted:,} accepted" if sends else f"{records.unsent:,} good"] + [
        f"{number:,} {settlement}"
        for number, settlement in (
            (records.failed, "failed"),
            (records.superseded, "superseded"),
            (records.already_accepted, "already accepted"),
            (records.unsent if sends else 0, "unsent"),
        )
        if number
    ]
    line = f"{', '.join(parts)} of {count(records.read, 'record')} in {duration(report.duration_seconds)}"
    if report.requests.sent:
        speed = records.accepted / max(report.duration_seconds, 0.001)
        line += f" ({rate(speed)}, {size(report.requests.bytes)} sent)"
    line += "."
    if report.reason:
        line += f" {report.reason}"
    elif not records.read:
        line += f" There was nothing to {'load' if sends else 'check'}."
    if records.failed and report.failed_file is not None:
        line += f" Failed: {report.failed_file}"
    return one_line(line)


def next_step(
    report: Report, command: Sequence[str], run_dir: str | None = None, *, sends: bool = True
) -> str | None:
    """Return what to do next, None when there is nothing to do.

    `command` is what loads another input into the same stream, but for that input. `run_dir` is the directory
    that a rerun has to name: that of a load from standard input. `sends` is false of a run that only looks.
    """
    rerun = "rerun the same command"
    if not sends and report.outcome in (Outcome.INTERRUPTED, Outcome.ERROR):
        return f"Next: to check all of it, {rerun}."
    if run_dir is not None:
        rerun += f" on the same bytes with --run-dir {shlex.quote(run_dir)}"
    match report.outcome:
        case Outcome.COMPLETE:
            return None
        case Outcome.FAILURES:
            return one_line(f"Next: {_mend(report, command)}")
        case Outcome.STOPPED if "--max-failures" in report.reason:
            return one_line(
                f"Next: to go on, {rerun} with a higher --max-failures: failed records are tried again first."
            )
        case Outcome.STOPPED | Outcome.INTERRUPTED:
            return one_line(f"Next: to go on, {rerun}; what was accepted is not sent again.")
        case Outcome.REFUSED:
            return one_line(f"Next: when this is mended, {rerun}; what was accepted is not sent again.")
        case Outcome.ERROR:
            return one_line(f"Next: {rerun}; what is known to be accepted is not sent again.")
        case _:
            assert_never(report.outcome)


def _mend(report: Report, command: Sequence[str]) -> str:
    """What to do about failures: a broken input cannot be mended record by record."""
    broken = [failure for failure in report.failures if failure.message.endswith(NOTHING_BEHIND)]
    number = sum(failure.count for failure in broken)
    anew, failed = "", "the failed records"
    if number:
        where = broken[0].example
        anew = f"{number:,} inputs are broken: get them whole, and load them again"
        if number == 1 and where is not None:
            anew = f"{input_name(where.path)} is broken: get it whole, and load it again"
        if number == report.records.failed:
            return f"{anew}."
        anew, failed = f"{anew}; ", "the other failed records"
    if report.failed_file is None:
        return f"{anew}mend {failed} and load them again."
    return f"{anew}mend {failed} and load them: {shlex.join([*command, report.failed_file])}"


def why(failure: FailureReport) -> str:
    """Return the class of a failure and the service's status, as `rejected (400)`."""
    return failure.kind if failure.status is None else f"{failure.kind} ({failure.status})"


def example(failure: FailureReport) -> str:
    """Return where to look at an example, as `a.ndjson, line 12, key weather/EWR-3`; empty without one."""
    where = failure.example
    if where is None:
        return ""
    key = None if where.key is None else (where.key.space, where.key.external_id)
    return place(where.path, where.record, where.line, key)


def message(failure: FailureReport) -> str:
    """Return what the failures of a group say."""
    return one_line(failure.message) or "(no message)"


def told(report: Report, *, sends: bool = True) -> tuple[list[FailureReport], str | None]:
    """Return the groups of failures that are worth the reader's time, and a sentence on the rest.

    `sends` is false of a run that only looks: it keeps no report unless it is asked to.
    """
    shown, rest = report.failures[:MOST_TOLD], report.failures[MOST_TOLD:]
    if not rest:
        return shown, None
    records = count(sum(failure.count for failure in rest), "record")
    where = "the report has them all" if sends else "--json tells them all"
    return shown, f"and {records} with {count(len(rest), 'other message')}; {where}."


def failure_lines(report: Report, *, sends: bool = True) -> list[str]:
    """Return the groups of failures as plain lines: two for each; `sends` as for `told`."""
    shown, rest = told(report, sends=sends)
    width = max((len(f"{failure.count:,}") for failure in shown), default=0)
    lines = []
    for failure in shown:
        lines.append(f"  {failure.count:>{width},} {why(failure)}: {message(failure)}")
        if where := example(failure):
            lines.append(f"  {'':>{width}} for example {where}")
    return lines if rest is None else [*lines, f"  {rest}"]
