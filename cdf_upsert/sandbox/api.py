"""The API's endpoints: what each needs, and the way of every request through the sandbox.

A request arrives, is let in (token, access, budget), read, met by a fault or none, answered by the world, delivered,
and noted. Nothing here decides; it asks the parts that do, waits and sends.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any, assert_never
from urllib.parse import parse_qsl

from cdf_upsert.sandbox import wire
from cdf_upsert.sandbox.faults import (
    WRITES,
    Answer,
    Cut,
    Delay,
    Expire,
    Fault,
    Lost,
    Partial,
    Plan,
    Throttle,
    Trickle,
    failing,
)
from cdf_upsert.sandbox.flights import Flight
from cdf_upsert.sandbox.identity import Grant
from cdf_upsert.sandbox.limits import Amounts, Kind
from cdf_upsert.sandbox.service import Service
from cdf_upsert.sandbox.traffic import Entry, Write
from cdf_upsert.sandbox.wire import Reply, json_reply
from cdf_upsert.sandbox.world import Operation, Refusal


@dataclass(slots=True)
class Call:
    """One request on its way; filled in as it goes."""

    service: Service
    path: str
    params: Mapping[str, str]
    query: list[tuple[str, str]]
    body: bytes = b""
    token: str = ""
    grant: Grant | None = None
    plan: Plan = field(default_factory=Plan)
    flight: Flight | None = None
    number: int = 0
    records: int = 0

    @property
    def stream(self) -> str:
        """The stream in the path."""
        return self.params["stream_id"]

    @property
    def now(self) -> int:
        """The sandbox's time in milliseconds."""
        return self.service.clock.milliseconds()

    def one(self, name: str) -> str | None:
        """A query parameter, the last one where it stands twice."""
        return next((value for key, value in reversed(self.query) if key == name), None)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false."""
        value = self.one(name)
        if value not in (None, "true", "false"):
            raise Refusal(400, f"{name}: expected true or false, got `{value[:60]}`")
        return value == "true"

    def limit(self) -> int:
        """The `limit` of a list: 10 by default, never more than 1000."""
        value = self.one("limit")
        if value is None:
            return 10
        if not value.isascii() or not value.isdigit() or int(value[:9]) < 1:
            raise Refusal(400, f"limit: expected a number from 1 to 1000, got `{value[:60]}`")
        return min(int(value[:9]), 1000)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    operation: str
    access: str
    answer: Callable[[Call], Reply]
    kind: Kind | None = None
    reads_body: bool = True
    write: Operation | None = None


class Path:
    """One path of the API, as an ASGI application."""

    def __init__(
        self, service: Service, methods: Mapping[str, Endpoint], log: Callable[[Entry], None]
    ) -> None:
        self._service = service
        self._methods = methods
        self._log = log

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        """Answer one request."""
        service = self._service
        number = service.next_number()
        request_id = service.request_id(number)
        started = time.perf_counter()
        endpoint = self._methods.get(scope["method"])
        if endpoint is None:
            allow = ", ".join(sorted(self._methods))
            refusal = Refusal(405, f"The method {scope['method']} is not allowed here.")
            reply = Reply(405, wire.refusal_reply(refusal).body, {"allow": allow})
            await wire.deliver(reply, request_id, send)
            return
        call = Call(
            service,
            scope["path"],
            scope["path_params"],
            parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
            number=number,
        )
        if endpoint.write is not None:
            call.flight = service.flights.arrive()
        status, wire_bytes = 0, 0
        try:
            reply, wire_bytes = await self._answer(endpoint, call, scope, receive)
            status = await self._deliver(reply, call.plan.fault, request_id, scope, send)
        except wire.GoneError:
            pass
        finally:
            if call.flight is not None:
                service.depart(call.flight)
            entry = Entry(
                number,
                service.clock.wall(),
                endpoint.operation,
                scope["method"],
                call.path,
                status,
                time.perf_counter() - started,
                call.records,
                wire_bytes,
                len(call.body),
                fault_name(call.plan.fault),
                call.grant.client_id if call.grant is not None else "",
                request_id,
            )
            service.traffic.add(entry)
            self._log(entry)

    async def _answer(
        self, endpoint: Endpoint, call: Call, scope: wire.Scope, receive: wire.Receive
    ) -> tuple[Reply, int]:
        service = self._service
        entered = False
        identity = ""
        wire_bytes = 0
        try:
            header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            call.token, call.grant = service.grant(
                header.decode("latin-1"), call.params.get("project"), endpoint.access
            )
            identity = call.grant.subject
            if service.budgets is not None and endpoint.kind is not None:
                service.budgets.enter(endpoint.kind, identity, service.clock.now())
                entered = True
            if endpoint.reads_body:
                body = await wire.read_body(scope, receive)
                call.body, wire_bytes = body.content, body.wire_bytes
            call.plan = service.faults.plan(endpoint.operation, call.path, call.body)
            if call.plan.latency and endpoint.write is None:
                await asyncio.sleep(call.plan.latency)
            reply = before(call.plan.fault, call)
            if reply is None:
                reply = (
                    await write(endpoint.write, call) if endpoint.write is not None else endpoint.answer(call)
                )
        except Refusal as refusal:
            reply = wire.refusal_reply(refusal, service.clock.speed)
        finally:
            if entered and service.budgets is not None and endpoint.kind is not None:
                service.budgets.leave(endpoint.kind, identity)
        return reply, wire_bytes

    async def _deliver(
        self, reply: Reply, fault: Fault | None, request_id: str, scope: wire.Scope, send: wire.Send
    ) -> int:
        """Send the reply, or do what the fault does instead; returns the status that went out, 0 for none."""
        match fault:
            case Cut() | Lost():
                await wire.cut(scope)
                return 0
            case Trickle(seconds=seconds):
                await wire.deliver(reply, request_id, send, over=seconds)
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
                await wire.deliver(reply, request_id, send)
            case Throttle() | Answer() | Partial() | Expire() | None:
                await wire.deliver(reply, request_id, send)
            case _:
                assert_never(fault)
        return reply.status


def fault_name(fault: Fault | None) -> str:
    """What a fault is called in a script, with its status where it has one."""
    match fault:
        case None:
            return ""
        case Answer(status=status):
            return f"answer {status}"
        case Partial(code=code):
            return f"partial {code}"
        case _:
            return type(fault).__name__.lower()


def before(fault: Fault | None, call: Call) -> Reply | None:
    """What a fault answers in place of the world; None lets the world answer."""
    wall = call.service.clock.wall()
    match fault:
        case Throttle(retry_after=seconds, as_date=as_date):
            reply = wire.refusal_reply(Refusal(429, "Too many requests: the sandbox was told to say so."))
            if seconds is None:
                return reply
            return Reply(429, reply.body, {"retry-after": wire.retry_after(seconds, wall, as_date=as_date)})
        case Answer():
            return _gateway(fault, wall)
        case Expire():
            call.service.identity.end(call.token)
            return wire.refusal_reply(
                Refusal(401, "Unauthorized: the token is missing, not valid or expired.")
            )
        case Cut():
            return Reply(0)
        case Partial() | Lost() | Trickle() | Delay() | None:
            return None
        case _:
            assert_never(fault)


def _gateway(fault: Answer, wall: float) -> Reply:
    headers = {}
    if fault.retry_after is not None:
        headers["retry-after"] = wire.retry_after(fault.retry_after, wall)
    if fault.auto_retryable:
        headers["cdf-is-auto-retryable"] = "true"
    if fault.html:
        page = (
            f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>\n"
        )
        return Reply(fault.status, page.encode(), headers, "text/html")
    return Reply(fault.status, wire.refusal_reply(Refusal(fault.status, fault.message)).body, headers)


async def write(operation: Operation, call: Call) -> Reply:
    """Ingest, upsert or delete: the only answers that wait, because writes that overlap are in conflict."""
    service, world = call.service, call.service.world
    prepared = world.prepare(operation, call.stream, call.body, call.now)
    taken: frozenset[str] = frozenset()
    if prepared.stream.template.mutable and call.flight is not None:
        taken = service.flights.claim(call.flight, call.stream, prepared.keys)
    if operation is Operation.DELETE:
        taken = frozenset()  # the API knows no 409 for a delete
    if call.plan.latency:
        await asyncio.sleep(call.plan.latency)
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
        return _partial(prepared.keys, conflicts, failed, left_out, fault, dice)
    if conflicts:
        return _partial(prepared.keys, conflicts, frozenset(), frozenset(), None, dice)
    return Reply(200 if operation is Operation.DELETE else 202)


def _note(call: Call, keys: Any, bodies: Any, left: frozenset[str]) -> None:
    for key, body in zip(keys, bodies or [b""] * len(keys), strict=True):
        if key not in left:
            digest = blake2b(body, digest_size=8).hexdigest()
            call.service.traffic.writes.append(Write(key, call.number, digest))


_CONFLICT = "The record exists already, or is being modified by another request."


def _partial(
    keys: Any,
    conflicts: frozenset[str],
    failed: frozenset[str],
    left_out: frozenset[str],
    fault: Partial | None,
    dice: Random,
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


def _streams_create(call: Call) -> Reply:
    return json_reply(call.service.world.streams.create(call.body, call.now), 201)


def _streams_list(call: Call) -> Reply:
    return json_reply({"items": [stream.read() for stream in call.service.world.streams.all()]})


def _stream(call: Call) -> Reply:
    statistics = call.flag("includeStatistics")
    return json_reply(call.service.world.retrieve_stream(call.stream, call.now, statistics=statistics))


def _streams_delete(call: Call) -> Reply:
    deleted = call.service.world.streams.delete(call.body)
    return json_reply(deleted)


def _stream_gone(call: Call) -> Reply:
    raise Refusal(
        410,
        "This endpoint is deprecated and no longer supported. Use POST /streams/delete with the body "
        f'{{"items": [{{"externalId": "{call.stream}"}}]}}.',
    )


def _filter(call: Call) -> Reply:
    return json_reply(call.service.world.filter(call.stream, call.body, call.now))


def _sync(call: Call) -> Reply:
    return json_reply(call.service.world.sync(call.stream, call.body, call.now))


def _aggregate(call: Call) -> Reply:
    return json_reply(call.service.world.aggregate(call.stream, call.body, call.now))


def _inspect(call: Call) -> Reply:
    assert call.grant is not None  # every endpoint is behind a token
    return json_reply(call.service.inspect(call.grant))


def _spaces_list(call: Call) -> Reply:
    call.flag("includeGlobal")  # the sandbox has no global spaces, so either answer is the same
    return json_reply(call.service.world.models.list_spaces(call.limit(), call.one("cursor")))


def _containers_list(call: Call) -> Reply:
    call.flag("includeGlobal")  # no global containers either
    used_for = [part for name, value in call.query if name == "usedFor" for part in value.split(",")]
    unknown = set(used_for) - {"node", "edge", "record", "all"}
    if unknown:
        raise Refusal(400, f"usedFor: expected node, edge, record or all, got `{sorted(unknown)[0][:60]}`")
    models = call.service.world.models
    return json_reply(models.list_containers(call.limit(), call.one("cursor"), call.one("space"), used_for))


def _models(name: str) -> Callable[[Call], Reply]:
    """An endpoint that hands its body to a method of the models."""

    def answer(call: Call) -> Reply:
        models = call.service.world.models
        if name.startswith("apply"):
            return json_reply(getattr(models, name)(call.body, call.now))
        return json_reply(getattr(models, name)(call.body))

    return answer


def _none(call: Call) -> Reply:
    raise AssertionError(f"{call.path} is a write and is answered elsewhere")


_PROJECT = "/api/v1/projects/{project}"
_RECORDS = f"{_PROJECT}/streams/{{stream_id}}/records"


def _record_write(operation: Operation) -> dict[str, Endpoint]:
    assert operation in WRITES  # faults and the log use the same words
    return {"POST": Endpoint(operation, "streamRecordsAcl:WRITE", _none, Kind.WRITE, write=operation)}


def _model(name: str, access: str) -> dict[str, Endpoint]:
    return {"POST": Endpoint("models", f"dataModelsAcl:{access}", _models(name))}


_STREAM = {
    "GET": Endpoint("streams", "streamsAcl:READ", _stream, Kind.STREAMS, reads_body=False),
    "DELETE": Endpoint("streams", "streamsAcl:DELETE", _stream_gone, reads_body=False),
}

ENDPOINTS: dict[str, dict[str, Endpoint]] = {
    f"{_PROJECT}/streams": {
        "POST": Endpoint("streams", "streamsAcl:CREATE", _streams_create),
        "GET": Endpoint("streams", "streamsAcl:READ", _streams_list, reads_body=False),
    },
    f"{_PROJECT}/streams/delete": {"POST": Endpoint("streams", "streamsAcl:DELETE", _streams_delete)},
    f"{_PROJECT}/streams/{{stream_id}}": _STREAM,
    _RECORDS: _record_write(Operation.INGEST),
    f"{_RECORDS}/upsert": _record_write(Operation.UPSERT),
    f"{_RECORDS}/delete": _record_write(Operation.DELETE),
    f"{_RECORDS}/filter": {"POST": Endpoint("filter", "streamRecordsAcl:READ", _filter, Kind.FILTER)},
    f"{_RECORDS}/sync": {"POST": Endpoint("sync", "streamRecordsAcl:READ", _sync, Kind.QUERY)},
    f"{_RECORDS}/aggregate": {"POST": Endpoint("aggregate", "streamRecordsAcl:READ", _aggregate, Kind.QUERY)},
    f"{_PROJECT}/models/spaces": {
        **_model("apply_spaces", "WRITE"),
        "GET": Endpoint("models", "dataModelsAcl:READ", _spaces_list, reads_body=False),
    },
    f"{_PROJECT}/models/spaces/byids": _model("spaces_by_ids", "READ"),
    f"{_PROJECT}/models/spaces/delete": _model("delete_spaces", "WRITE"),
    f"{_PROJECT}/models/containers": {
        **_model("apply_containers", "WRITE"),
        "GET": Endpoint("models", "dataModelsAcl:READ", _containers_list, reads_body=False),
    },
    f"{_PROJECT}/models/containers/byids": _model("containers_by_ids", "READ"),
    f"{_PROJECT}/models/containers/delete": _model("delete_containers", "WRITE"),
    "/api/v1/token/inspect": {"GET": Endpoint("inspect", "", _inspect, reads_body=False)},
}
