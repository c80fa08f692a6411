"""What the log says of the events of a run."""

from collections.abc import Sequence
from typing import Any, assert_never

from msgspec import Struct

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Paced,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.record import Failed
from cdf_upsert.core.showing import Verbosity
from cdf_upsert.core.viewing import View, progress_line
from cdf_upsert.core.wording import count, duration, input_name, place, size


class Diagnostic(Struct, frozen=True):
    """One line of the log: `message` is a whole sentence, `fields` are its parts for a machine."""

    name: str
    message: str
    fields: dict[str, Any]
    level: str = "info"


def diagnostics_of(event: Event, verbosity: Verbosity) -> Sequence[Diagnostic]:
    """Return what the log says of an event, a line each."""
    if isinstance(event, Notice):
        return [] if verbosity is Verbosity.QUIET else [Diagnostic("notice", event.message, {})]
    if verbosity is not Verbosity.VERBOSE:
        return []
    if isinstance(event, Settled):
        return [difference_diagnostic(failed) for failed in event.failed if failed.failure.detail]
    detail = _detail(event)
    return [] if detail is None else [detail]


def difference_diagnostic(failed: Failed) -> Diagnostic:
    """Return what is stored in place of a record, and what was sent, value by value."""
    where, key, detail = failed.place, failed.key, failed.failure.detail
    fields = {
        "path": where.path,
        "record": where.record,
        "line": where.line,
        "key": None if key is None else {"space": key[0], "externalId": key[1]},
        "difference": detail,
    }
    told = place(where.path, where.record, where.line, key)
    return Diagnostic("difference", f"{told}, is stored otherwise: {detail}.", fields)


def _detail(event: Event) -> Diagnostic | None:
    fields: dict[str, Any]
    match event:
        case InputOpened(path, format_, nbytes):
            length = "" if nbytes is None else f", {size(nbytes)}"
            fields = {"path": path, "format": format_, "bytes": nbytes}
            return Diagnostic("input", f"Reading {input_name(path)} ({format_}{length}).", fields)
        case BatchReplied(_, status, seconds, _, under_way, request_id):
            said = "No reply" if status is None else f"Reply {status}"
            message = f"{said} after {seconds:.3f} s"
            message += "." if request_id is None else f", request {request_id}."
            fields = {
                "status": status,
                "seconds": round(seconds, 6),
                "requestId": request_id,
                "underWay": under_way,
            }
            return Diagnostic("reply", message, fields)
        case Waiting(at, reason, until):
            seconds_left = None if until is None else round(until - at, 3)
            then = "" if seconds_left is None else f", next try in {duration(seconds_left)}"
            return Diagnostic(
                "wait", f"Waiting: {reason}{then}.", {"reason": reason, "seconds": seconds_left}
            )
        case Paced(_, limit, pace, _, left):
            told = f"{count(limit, 'request')} at once"
            told += "" if pace is None else f", {pace:.3g} a second"
            told += "" if left >= 1 else f", {left:.0%} of the quota left"
            fields = {"limit": limit, "requestsPerSecond": pace, "quotaLeft": left}
            return Diagnostic("pace", f"Sending up to {told}.", fields)
        case Retrying(_, records, reason, message, seconds):
            told = f"Trying {count(records, 'record')} again in {duration(seconds)}: {reason}"
            told += f" ({message})." if message else "."
            fields = {"records": records, "reason": reason, "said": message, "seconds": round(seconds, 3)}
            return Diagnostic("retry", told, fields)
        case BlockRead() | BatchSent() | Settled() | Notice() | Ended():
            return None
        case _:
            assert_never(event)


def progress_diagnostic(view: View) -> Diagnostic:
    """Return how a run stands, as a line of the log."""
    fields = {
        "read": view.read,
        "accepted": view.accepted,
        "alreadyAccepted": view.already_accepted,
        "failed": view.failed,
        "recordsPerSecond": round(view.rate, 1),
        "elapsedSeconds": round(view.elapsed, 1),
        "share": None if view.share is None else round(view.share, 4),
        "secondsLeft": None if view.left is None else round(view.left, 1),
        "underWay": view.under_way,
        "limit": view.limit,
        "requestsPerSecond": view.pace,
        "throttledShare": round(view.throttled, 4),
        "wait": view.wait,
    }
    return Diagnostic("progress", f"{progress_line(view)}.", fields)
