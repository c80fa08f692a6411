"""Between ASGI and the rest: request bodies and their ceilings, replies, connections cut on purpose."""

import asyncio
import email.utils
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson
from isal import isal_zlib

from cdf_upsert.sandbox.world import Refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY: Final = 10_000_000
MAX_FORM: Final = 65_536
NOT_KEPT: Final = MappingProxyType({"cache-control": "no-store"})  # what no cache may keep
_NO_HEADERS: Final = MappingProxyType[str, str]({})
_GZIP: Final = 31  # window bits: the largest window, with gzip's header
_PIECES: Final = 20


class GoneError(Exception):
    """The client has gone before its request was whole."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, and how many bytes came over the wire for it."""

    content: bytes
    wire_bytes: int


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), headers)


def refusal_reply(refusal: Refusal, speed: float = 1.0) -> Reply:
    """A refusal as the API writes it; `Retry-After` is in the client's seconds, not in the sandbox's."""
    reply = json_reply(refusal.body(), refusal.status)
    if refusal.retry_after is None:
        return reply
    seconds = math.ceil(refusal.retry_after / speed)
    return Reply(reply.status, reply.body, {"retry-after": str(seconds)})


def retry_after(seconds: float, wall: float, *, as_date: bool = False) -> str:
    """The text of a `Retry-After` header."""
    if as_date:
        return email.utils.formatdate(math.ceil(wall + seconds), usegmt=True)
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)


async def read_body(scope: Scope, receive: Receive) -> Body:
    """The whole body, unpacked.

    Raises:
        Refusal: 411, 413, 415, or 400 for what is not gzip.
        GoneError: the client has gone.
    """
    headers = dict(scope["headers"])
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        raise Refusal(411, "A Content-Length header is required.")
    media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise Refusal(
            415, f"Expected Content-Type application/json, got `{media_type.decode('latin-1')[:60]}`."
        )
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"gzip", b"identity"):
        raise Refusal(
            415, f"Expected Content-Encoding gzip or none, got `{encoding.decode('latin-1')[:60]}`."
        )
    content = await _receive(receive, MAX_BODY)
    return Body(gunzip(content) if encoding == b"gzip" else content, len(content))


async def read_form(receive: Receive) -> Body:
    """The whole body of a form.

    Raises:
        Refusal: 413.
        GoneError: the client has gone.
    """
    content = await _receive(receive, MAX_FORM)
    return Body(content, len(content))


async def _receive(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    room = most
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part = message.get("body", b"")
        room -= len(part)
        if room < 0:
            raise Refusal(413, f"The request is larger than {most:,} bytes.")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def gunzip(content: bytes) -> bytes:
    """Unpack gzip, never more than a request may hold.

    Raises:
        Refusal: 400 for what is not gzip or cut off, 413 for what unpacks to more than a request may hold.
    """
    unpacked: list[bytes] = []
    room = MAX_BODY
    while content or not unpacked:
        packer = isal_zlib.decompressobj(wbits=_GZIP)
        try:
            part = packer.decompress(content, room + 1)
        except isal_zlib.error as error:  # type: ignore[misc]  # a class, typed wrongly by its stubs
            raise Refusal(400, f"The request body is not valid gzip: {error}.") from None
        room -= len(part)
        if room < 0:
            raise Refusal(413, f"The unpacked request is larger than {MAX_BODY:,} bytes.")
        if not packer.eof:
            raise Refusal(400, "The request body is not valid gzip: it is cut off.")
        unpacked.append(part)
        content = packer.unused_data
    return b"".join(unpacked)


async def deliver(reply: Reply, request_id: str, send: Send, *, over: float = 0.0) -> None:
    """Send a reply, at once or in pieces over so many seconds."""
    headers = {
        "content-type": reply.media_type,
        "content-length": str(len(reply.body)),
        "x-request-id": request_id,
        **reply.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    if over:
        width = max(1, math.ceil(len(reply.body) / _PIECES))
        for start in range(0, len(reply.body), width):
            piece = reply.body[start : start + width]
            await asyncio.sleep(over * len(piece) / len(reply.body))
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.body", "body": reply.body})


async def cut(scope: Scope) -> None:
    """Cut the connection without a reply."""
    scope["sandbox.abort"]()
    for _ in range(3):  # the server learns of it in its next rounds, and then expects no reply
        await asyncio.sleep(0)
