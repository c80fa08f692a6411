"""Looks at the way to the service step by step, and tells each check as soon as it is done."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from cdf_upsert.core import checkup
from cdf_upsert.core.access import Settings
from cdf_upsert.core.checkup import Check, Connected, Mark
from cdf_upsert.core.claims import claims_of
from cdf_upsert.core.diagnosis import ConnectionTrouble, Situation
from cdf_upsert.core.routes import proxy_for
from cdf_upsert.core.stream import StreamFacts, stream_facts
from cdf_upsert.errors import LoaderError

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS: Final = 20.0
_INSPECT: Final = "/api/v1/token/inspect"


class Tokens(Protocol):
    """Where a token comes from: `auth.TokenSource`."""

    async def token(self) -> str:
        """A token."""
        ...


class Connections(Protocol):
    """How connections leave this machine: `network.Connections`."""

    def client(self, url: str, *, timeout: float) -> "httpx.AsyncClient":
        """A client for this address."""
        ...

    def trouble(self, error: Exception, url: str) -> ConnectionTrouble:
        """What an error of that client means."""
        ...


class Now(Protocol):
    """The calendar."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...


class _Reply(Struct, frozen=True):
    status: int
    content: Any
    body: bytes
    seen: Connected

    @property
    def message(self) -> str:
        """The service's own words, when it has any."""
        error = self.content.get("error") if isinstance(self.content, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        return message if isinstance(message, str) else ""


class Doctor:
    """Examines one target.

    Args:
        settings: What is configured.
        tokens: Where the token comes from.
        connections: How connections leave this machine.
        clock: The calendar of this machine.
        stream: The stream that is to be loaded into; None: any.
    """

    def __init__(
        self,
        settings: Settings,
        tokens: Tokens,
        connections: Connections,
        clock: Now,
        stream: str | None = None,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._connections = connections
        self._clock = clock
        self._stream = stream

    async def examine(self) -> AsyncIterator[Check]:
        """All checks, in the order in which one needs the other; ends early where the next one cannot begin."""
        target = self._settings.target
        yield checkup.configuration(self._settings)
        first = await self._get(_INSPECT, None)
        seen = first.seen if isinstance(first, _Reply) else first
        for check in checkup.connection(seen):
            yield check
        if not isinstance(seen, Connected):
            return
        try:
            token = await self._tokens.token()
        except LoaderError as error:
            yield checkup.token_missing(str(error), error.exit_code)
            return
        claims = claims_of(token)
        situation = Situation(target, self._clock.now(), None, claims, seen.skew)
        had = checkup.token_had(claims, situation)
        yield had
        if had.mark is Mark.FAILED:
            return
        async for check in self._with_token(token, replace(situation, stream=self._stream)):
            yield check

    async def cause(self) -> str | None:
        """The first thing that is wrong, with its mend; None when all is well. For a load that was refused."""
        async for check in self.examine():
            if check.mark is Mark.FAILED:
                return f"{check.sentence} {check.mend}".strip()
        return None

    async def _with_token(self, token: str, situation: Situation) -> AsyncIterator[Check]:
        name = situation.target.project
        reply = await self._get(_INSPECT, token)
        if not isinstance(reply, _Reply):
            yield checkup.connection(reply)[-1]
            return
        inspected = checkup.inspected(reply.status, reply.content, reply.message)
        opened = checkup.project(inspected, situation)
        yield opened
        if opened.mark is Mark.FAILED:
            return
        permitted = checkup.permission(inspected, name)
        if permitted is not None:
            yield permitted
        async for check in self._streams(token, situation):
            yield check

    async def _streams(self, token: str, situation: Situation) -> AsyncIterator[Check]:
        streams = f"/api/v1/projects/{quote(situation.target.project, safe='')}/streams"
        if self._stream is None:
            reply = await self._get(streams, token)
            if isinstance(reply, _Reply):
                known = _facts(reply.content) if reply.status == 200 else None
                if known is not None:
                    yield checkup.streams(known)
                else:
                    yield checkup.stream_refused(reply.status, reply.message, situation, ())
            return
        path = f"{streams}/{quote(self._stream, safe='')}?includeStatistics=true"
        reply = await self._get(path, token)
        if not isinstance(reply, _Reply):
            yield checkup.connection(reply)[-1]
            return
        facts = stream_facts(reply.body) if reply.status == 200 else None
        if facts is None:
            listed = await self._get(streams, token) if reply.status == 404 else None
            known = _facts(listed.content) if isinstance(listed, _Reply) else None
            names = [one.external_id for one in known or ()]
            yield checkup.stream_refused(reply.status, reply.message, situation, names)
            return
        yield checkup.stream(facts)
        yield checkup.room(facts)
        if facts.mutable:
            yield checkup.budgets(facts.template)

    async def _get(self, path: str, token: str | None) -> _Reply | ConnectionTrouble:
        import httpx  # noqa: PLC0415  # Not for `doctor --help`.

        base = self._settings.target.base_url
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._connections.client(base, timeout=TIMEOUT_SECONDS) as client:
                asked = self._clock.now()
                async with client.stream("GET", base + path, headers=headers) as reply:
                    answered = self._clock.now()
                    seen = _connected(reply, self._settings, (asked + answered) / 2)
                    body = await reply.aread()
        except httpx.HTTPError as error:
            return self._connections.trouble(error, base)
        if token is not None:
            # Some gateways repeat what they were sent.
            body = body.replace(token.encode(), b"***")
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        return _Reply(reply.status_code, content, body, seen)


def failure(checks: Sequence[Check]) -> Check | None:
    """The check that says why it does not work: the first that failed, as the later ones follow from it."""
    return next((check for check in checks if check.mark is Mark.FAILED), None)


def report(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as `--json` writes them."""
    return {
        "schema": "cdf-upsert/doctor/1",
        "exitCode": checkup.exit_code(checks),
        "checks": [
            {
                "name": check.name,
                "mark": check.mark.value,
                "sentence": check.sentence,
                "mend": check.mend or None,
            }
            for check in checks
        ],
    }


def _connected(reply: "httpx.Response", settings: Settings, now: float) -> Connected:
    network, target = settings.network, settings.target
    proxy = proxy_for(network, target.base_url)
    wire = reply.extensions.get("network_stream")
    server = None if wire is None else wire.get_extra_info("server_addr")
    tls = None if wire is None else wire.get_extra_info("ssl_object")
    return Connected(
        host=target.host,
        address=server[0] if isinstance(server, tuple) and server else None,
        proxy=None if proxy is None else urlsplit(proxy.url).netloc,
        tls=None if tls is None else tls.version(),
        skew=_skew(reply.headers, now),
    )


def _skew(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds by which this machine's clock is behind the `Date` of the reply, which is cut to whole seconds."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp() + 0.5 - now
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _facts(content: Any) -> list[StreamFacts] | None:
    items = content.get("items") if isinstance(content, dict) else None
    if not isinstance(items, list):
        return None
    found = (stream_facts(json.dumps(item).encode()) for item in items)
    return [one for one in found if one is not None]
