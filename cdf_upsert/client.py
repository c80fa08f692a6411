"""The records API over HTTP: batch -> reply. Nothing of httpx leaves this file.

httpx's transport is called without its client: what the client adds (redirects, cookies, authentication,
event hooks) is not wanted here, and takes a fifth of a request's time.

Bodies are put together and compressed in a thread of their own, for isal lets go of the interpreter: that takes
a sixth off the event loop's time per batch of 440 KB (2.6 ms against 3.1, checks included), and a pool of more
threads is no faster. isal's level 1 makes records of that kind 15 times smaller in 0.25 ms; levels 0 and 2 are no
better, level 3 takes 7 times as long.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

from isal import isal_zlib
from msgspec.structs import replace

from cdf_upsert.core.comparing import Found, Unreadable
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.querying import Findings, Query, portions
from cdf_upsert.core.record import Key, Record, texts_of
from cdf_upsert.core.stream import StreamFacts, stream_facts
from cdf_upsert.errors import UsageError

# httpx brings its own command line along when rich is installed: a third of its import, and never used here.
# None is how Python is told that a module cannot be imported; httpx then goes without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # The typeshed does not know of None.
import httpx  # noqa: E402  # After the line above.

API_VERSION = b"20230101"
GZIP_LEVEL = 1
GZIP_WBITS = 31
"""zlib's way to say: with the header and the end of gzip."""

MOST_REPLY_BYTES = 8_000_000
"""An upsert's reply has at most 1000 entries of a key and a message; what is longer is cut off."""
MOST_ANSWER_BYTES = 32_000_000
"""A filter's reply: the service promises at most 20 MB."""

SHORTEST_TOKEN = 16
"""No token that guards anything is shorter; a shorter one may stand in any word of a reply."""

KEEPALIVE_SECONDS = 30.0
"""How long an idle connection is kept: below the minute after which gateways commonly close one."""

_HEADER_SAFE = re.compile(r"[!-~]+")


class TokenSource(Protocol):
    """Where tokens come from. Both raise only what ends the run (`errors.LoaderError`)."""

    async def token(self) -> str:
        """A token that is good now."""
        ...

    async def renewed(self, refused: str) -> str | None:
        """A token other than `refused`, which the service has not accepted; None when there is no other."""
        ...


class Client:
    """Talks to one stream. An async context manager; each call is one request, or two when a token has ended.

    Args:
        base_url: Scheme, host and perhaps a path, no slash at its end.
        project: The project's name.
        stream: The stream's id.
        tokens: Where tokens come from.
        transport: How to connect: keyword arguments of `httpx.AsyncHTTPTransport` (`verify`, `proxy`, …).
        explain: Puts an error that kept a connection from coming about into words; no secret may be in them.
        timeout: Seconds for one request, from the first byte sent to the last one received.
        connections: How many requests may be under way at once.
        version: The version of this program, for the headers that say who calls.
        now: The wall clock, in seconds since 1970: a `Retry-After` may be a date.
    """

    def __init__(
        self,
        *,
        base_url: str,
        project: str,
        stream: str,
        tokens: TokenSource,
        transport: Mapping[str, Any],
        explain: Callable[[Exception], str],
        timeout: float,
        connections: int,
        version: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        # Redirects are followed by httpx's client, never by its transport.
        options = {name: value for name, value in transport.items() if name != "follow_redirects"}
        limits = httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS
        )
        # A pool looks at each of its connections several times a request, a quarter of a request's time with
        # eight of them; so there is a pool for each, and the one used last goes first.
        self._transports = [httpx.AsyncHTTPTransport(**options, limits=limits) for _ in range(connections)]
        self._free: asyncio.LifoQueue[httpx.AsyncHTTPTransport] = asyncio.LifoQueue()
        for each in self._transports:
            self._free.put_nowait(each)
        self._packer = ThreadPoolExecutor(1, "pack")
        self._tokens = tokens
        self._explain = explain
        self._timeout = timeout
        self._now = now
        self._stream_url = httpx.URL(
            f"{base_url}/api/v1/projects/{quote(project, safe='')}/streams/{quote(stream, safe='')}"
        )
        self._upsert_url = httpx.URL(f"{self._stream_url}/records/upsert")
        self._filter_url = httpx.URL(f"{self._stream_url}/records/filter")
        self._headers = [
            (b"Host", self._stream_url.netloc),
            (b"Accept", b"application/json"),
            (b"User-Agent", f"cdf-upsert/{version}".encode()),
            (b"x-cdp-sdk", f"cdf-upsert:{version}".encode()),
            (b"x-cdp-app", b"cdf-upsert"),
            (b"cdf-version", API_VERSION),
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._packer.shutdown()
        for transport in self._transports:
            await transport.aclose()

    async def send(self, records: Sequence[Record]) -> Reply | NoReply:
        """Upsert `records`, once.

        Raises:
            LoaderError: no token can be had.
        """
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(self._packer, _packed_items, records)
        return await self._post(self._upsert_url, content, MOST_REPLY_BYTES)

    async def ask(self, query: Query) -> Reply | NoReply:
        """Ask what is stored under some keys, once; `querying.Findings` takes the reply.

        Raises:
            LoaderError: no token can be had.
        """
        return await self._post(self._filter_url, _packed(query.body()), MOST_ANSWER_BYTES)

    async def compare(self, records: Sequence[Record]) -> dict[Key, Found] | None:
        """Compare `records`, no two of which have the same key, with what is stored; None: no answer came.

        Raises:
            LoaderError: no token can be had.
        """
        found: dict[Key, Found] = {}
        for portion in portions(records):
            match await self._find(portion.queries):
                case None:
                    return None
                case Unreadable() as nothing:
                    found |= {record.key: nothing for record in portion.records}
                case findings:
                    found |= {record.key: findings.compare(record) for record in portion.records}
        return found

    async def _find(self, queries: Sequence[Query]) -> Findings | Unreadable | None:
        findings = Findings()
        for query in queries:
            reply = await self.ask(query)
            if isinstance(reply, Reply) and reply.status == 400:
                return Unreadable()
            if not (isinstance(reply, Reply) and reply.status == 200 and findings.add(reply.body)):
                return None
        return findings

    async def stream(self) -> StreamFacts | Reply | NoReply:
        """What kind of stream it is and how much room it has; else the reply that does not tell.

        Raises:
            LoaderError: no token can be had.
        """
        url = self._stream_url.copy_with(params={"includeStatistics": "true"})
        reply = await self._exchange("GET", url, [], b"", MOST_REPLY_BYTES)
        if isinstance(reply, Reply) and reply.status == 200:
            return stream_facts(reply.body) or reply
        return reply

    async def _post(self, url: httpx.URL, content: bytes, most: int) -> Reply | NoReply:
        headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Encoding", b"gzip"),
            (b"Content-Length", b"%d" % len(content)),
        ]
        return await self._exchange("POST", url, headers, content, most)

    async def _exchange(
        self, method: str, url: httpx.URL, headers: list[tuple[bytes, bytes]], content: bytes, most: int
    ) -> Reply | NoReply:
        """Send a request, and once more with another token when the first one is not accepted."""
        token = await self._tokens.token()
        reply = await self._try(method, url, [*headers, _bearer(token)], content, most)
        if isinstance(reply, Reply) and reply.status == 401:
            renewed = await self._tokens.renewed(token)
            if renewed is not None:
                again = await self._try(method, url, [*headers, _bearer(renewed)], content, most)
                return _without(renewed, again)
        return _without(token, reply)

    async def _try(
        self, method: str, url: httpx.URL, headers: list[tuple[bytes, bytes]], content: bytes, most: int
    ) -> Reply | NoReply:
        stream = _Content(content)
        request = httpx.Request(method, url, headers=self._headers + headers, stream=stream)
        transport = await self._free.get()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                response = await transport.handle_async_request(request)
                try:
                    body = await _read(response, most)
                finally:
                    await response.aclose()
        except TimeoutError:
            message = f"no reply came within {self._timeout:g} seconds"
        except (httpx.HTTPError, OSError) as error:  # TLS fails as an OSError when it fails in the middle.
            message = self._told(error)
        else:
            seconds = time.monotonic() - began
            return _reply(response, body, seconds, stream.wire_bytes, self._now())
        finally:
            self._free.put_nowait(transport)
        return NoReply(message, stream.taken, time.monotonic() - began, stream.wire_bytes)

    def _told(self, error: httpx.HTTPError | OSError) -> str:
        """One error in words. The library's own words are not repeated where they may hold what was sent."""
        match error:
            case httpx.ConnectError() | httpx.ProxyError() | httpx.UnsupportedProtocol():
                return self._explain(error)
            case httpx.RemoteProtocolError() | httpx.DecodingError():
                return "the connection ended before the reply did, or the reply is not HTTP"
            case httpx.LocalProtocolError():
                return "the request is not fit to be sent"
            case _:
                return "the connection was lost"


class _Content(httpx.AsyncByteStream):
    """A request's body that knows whether it was taken: before that nothing can have been stored."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.taken = False

    @property
    def wire_bytes(self) -> int:
        """How many bytes of it were handed to the network."""
        return len(self._content) if self.taken else 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.taken = True
        yield self._content


def _packed_items(records: Sequence[Record]) -> bytes:
    return _packed(b'{"items":[' + b",".join(texts_of(records)) + b"]}")


def _packed(body: bytes) -> bytes:
    return isal_zlib.compress(body, GZIP_LEVEL, GZIP_WBITS)


def _without(token: str, reply: Reply | NoReply) -> Reply | NoReply:
    """The reply without the token: some gateways repeat what they were sent, and messages are written down."""
    if isinstance(reply, Reply) and len(token) >= SHORTEST_TOKEN and token.encode() in reply.body:
        return replace(reply, body=reply.body.replace(token.encode(), b"***"))
    return reply


def _bearer(token: str) -> tuple[bytes, bytes]:
    if not _HEADER_SAFE.fullmatch(token):
        raise UsageError(
            "The token holds spaces, line breaks or other characters that no header takes: "
            "check where it comes from."
        )
    return (b"Authorization", b"Bearer " + token.encode())


async def _read(response: httpx.Response, most: int) -> bytes:
    """The body, cut off behind `most` bytes."""
    parts: list[bytes] = []
    room = most
    async for part in response.aiter_bytes():
        parts.append(part[:room])
        room -= len(part)
        if room <= 0:
            break
    return b"".join(parts)


def _reply(response: httpx.Response, body: bytes, seconds: float, wire_bytes: int, now: float) -> Reply:
    headers = response.headers
    return Reply(
        response.status_code,
        body,
        headers.get("x-request-id"),
        retry_after(headers.get("retry-after"), now),
        headers.get("cdf-is-auto-retryable", "").lower() == "true",
        seconds,
        wire_bytes,
    )


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks to wait: a number, or an HTTP date (RFC 9110, 10.2.3).

    `now` is in seconds since 1970. None when the header is missing or makes no sense; never negative.
    """
    if value is None:
        return None
    value = value.strip()
    # Fractions are no standard, but some gateways send them.
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value, re.ASCII):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date that says -0000 comes without an offset; by RFC 5322 it is still UTC.
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
