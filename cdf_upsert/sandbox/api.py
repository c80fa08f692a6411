"""The way of every request of the API through the sandbox.

A request arrives, is let in (token, access, budget), read, met by a fault or none, answered by the world,
delivered, and noted. Nothing here decides; it asks the parts that do, waits and sends.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import assert_never
from urllib.parse import parse_qsl

from cdf_upsert.sandbox import wire
from cdf_upsert.sandbox.call import Call, Endpoint
from cdf_upsert.sandbox.faults import Answer, Cut, Delay, Expire, Fault, Lost, Partial, Throttle, Trickle
from cdf_upsert.sandbox.identity import OAuthError
from cdf_upsert.sandbox.service import Service
from cdf_upsert.sandbox.traffic import Entry
from cdf_upsert.sandbox.wire import Reply
from cdf_upsert.sandbox.world import Refusal


class Path:
    """One path of the API, as an ASGI application; without methods it is a path that there is not."""

    def __init__(
        self, service: Service, methods: Mapping[str, Endpoint], log: Callable[[Entry], None]
    ) -> None:
        self._service = service
        self._methods = methods
        self._log = log
        self._other = Endpoint("unknown", None, self._refuse, body="none")

    async def _refuse(self, _: Call) -> Reply:
        if not self._methods:
            raise Refusal(404, "Not found.")
        reply = wire.refusal_reply(Refusal(405, "This method is not allowed here."))
        return Reply(405, reply.body, {"allow": ", ".join(sorted(self._methods))})

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        """Answer one request."""
        service = self._service
        number = service.next_number()
        request_id = service.request_id(number)
        started = time.perf_counter()
        endpoint = self._methods.get(scope["method"], self._other)
        call = Call(
            service,
            scope["path"],
            scope.get("path_params", {}),
            parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
            number=number,
        )
        if endpoint.writes:
            call.flight = service.flights.arrive()
        status = 500
        try:
            reply = await self._answer(endpoint, call, scope, receive)
            await call.dwell()  # a write that was refused has not waited for its records
            status = await self._deliver(reply, call.plan.fault, request_id, scope, send)
        except wire.GoneError:
            status = 0
        finally:
            self._leave(endpoint, call)
            entry = Entry(
                number,
                service.clock.wall(),
                endpoint.operation,
                scope["method"],
                call.path,
                status,
                time.perf_counter() - started,
                call.records,
                call.wire_bytes,
                len(call.body),
                fault_name(call.plan.fault),
                call.grant.client_id if call.grant is not None else "",
                request_id,
            )
            service.traffic.add(entry)
            self._log(entry)

    async def _answer(
        self, endpoint: Endpoint, call: Call, scope: wire.Scope, receive: wire.Receive
    ) -> Reply:
        service = self._service
        try:
            header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            call.authorization = header.decode("latin-1")
            if endpoint.access is not None:
                call.token, call.grant = service.grant(
                    call.authorization, call.params.get("project"), endpoint.access
                )
            if service.budgets is not None and endpoint.kind is not None:
                assert call.grant is not None  # what has a budget needs a token
                service.budgets.enter(endpoint.kind, call.grant.subject, service.clock.now())
                call.entered = True
            if endpoint.body != "none":
                reading = (
                    wire.read_body(scope, receive) if endpoint.body == "json" else wire.read_form(receive)
                )
                body = await reading
                call.body, call.wire_bytes = body.content, body.wire_bytes
            call.plan = service.faults.plan(endpoint.operation, call.path, call.body)
            call.latency = call.plan.latency
            if not endpoint.writes:
                await call.dwell()
            reply = before(call.plan.fault, call)
            if reply is not None:
                return reply
            return await endpoint.answer(call)
        except Refusal as refusal:
            return wire.refusal_reply(refusal, service.clock.speed)
        except sqlite3.Error as error:  # a full disk, above all: nothing of the request is kept
            return wire.refusal_reply(Refusal(500, f"The sandbox cannot keep its state: {error}."))
        except OAuthError as error:
            return wire.json_reply(error.body(), error.status, wire.NOT_KEPT)

    def _leave(self, endpoint: Endpoint, call: Call) -> None:
        """The request is answered: others may have its keys and its place."""
        if call.flight is not None:
            self._service.depart(call.flight)
        if call.entered:
            assert self._service.budgets is not None  # it has let the request in
            assert endpoint.kind is not None
            assert call.grant is not None
            self._service.budgets.leave(endpoint.kind, call.grant.subject)

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
