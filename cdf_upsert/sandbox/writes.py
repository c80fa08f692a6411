"""Writing records over HTTP: overlaps, faults and quotas, and the reply that says how each record went."""

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Any, assert_never

from cdf_upsert.sandbox.call import Call
from cdf_upsert.sandbox.faults import Partial, failing
from cdf_upsert.sandbox.limits import Amounts
from cdf_upsert.sandbox.traffic import Write
from cdf_upsert.sandbox.wire import Reply, json_reply
from cdf_upsert.sandbox.world import Operation


async def write(operation: Operation, call: Call) -> Reply:
    """Ingest, upsert or delete: the only answers that wait, because writes that overlap are in conflict."""
    service, world = call.service, call.service.world
    prepared = world.prepare(operation, call.stream, call.body, call.now)
    taken: frozenset[str] = frozenset()
    if prepared.stream.template.mutable and call.flight is not None:
        taken = service.flights.claim(call.flight, call.stream, prepared.keys)
    if operation is Operation.DELETE:
        taken = frozenset()  # the API knows no 409 for a delete
    await call.dwell()
    fault = call.plan.fault
    dice = Random(f"{service.seed}.{call.number}")  # noqa: S311 - the order of a list, repeatable
    failed: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    if isinstance(fault, Partial):
        failed, left_out = failing(fault, list(prepared.keys), call.plan.dice or dice)
    written = isinstance(fault, Partial) and fault.written
    change = world.measure(prepared)
    if service.quotas is not None:
        amounts = Amounts(change.created, change.changed, change.bytes)
        service.quotas.spend(call.stream, prepared.stream.template, amounts, service.clock.now())
    leave_out = taken if written else taken | failed
    world.apply(prepared, change, call.now, leave_out=leave_out)
    conflicts = taken | change.conflicts
    call.records = len(prepared.keys) - len(leave_out | change.conflicts)
    if service.traffic.keep_writes:
        _note(call, prepared.keys, prepared.bodies, leave_out | change.conflicts)
    if isinstance(fault, Partial) and (failed or left_out):
        return _partial(prepared.keys, conflicts, dice, fault=fault, failed=failed, left_out=left_out)
    if conflicts:
        return _partial(prepared.keys, conflicts, dice)
    return Reply(200 if operation is Operation.DELETE else 202)


def _note(call: Call, keys: Sequence[str], bodies: Sequence[bytes], left: frozenset[str]) -> None:
    for key, body in zip(keys, bodies or [b""] * len(keys), strict=True):
        if key not in left:
            digest = blake2b(body, digest_size=8).hexdigest()
            call.service.traffic.writes.append(Write(key, call.number, digest))


_CONFLICT = "The record exists already, or is being modified by another request."


def _partial(
    keys: Sequence[str],
    conflicts: frozenset[str],
    dice: Random,
    *,
    fault: Partial | None = None,
    failed: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
) -> Reply:
    """The reply that says for each record how it went, in shuffled order."""
    entries: list[dict[str, Any]] = []
    codes: set[int] = set()
    for key in keys:
        space, _, external_id = key.partition(".")
        entry: dict[str, Any] = {"space": space, "externalId": external_id, "code": 202}
        if fault is not None and key in failed:
            entry |= {"code": fault.code, "message": fault.message}
        elif key in conflicts:
            entry |= {"code": 409, "message": _CONFLICT}
        codes.add(entry["code"])
        if key not in left_out:
            entries.append(entry)
    dice.shuffle(entries)
    status = max(codes - {202}, default=fault.code if fault is not None else 409)
    message = f"{sum(entry['code'] != 202 for entry in entries)} of {len(keys)} records failed."
    error: dict[str, Any] = {"code": status, "message": message, "partial": entries}
    shape = fault.shape if fault is not None else "partial"
    match shape:
        case "partial":
            return json_reply({"error": error}, status)
        case "no list":
            del error["partial"]
            return json_reply({"error": error}, status)
        case "text":
            return Reply(status, message.encode(), media_type="text/plain")
        case "empty":
            return Reply(status, b"")
        case _:
            assert_never(shape)
