"""A person signs in: in a browser on this machine, or with a code on any other."""

import asyncio
import html
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from cdf_upsert.auth.ports import Clock, Connections
from cdf_upsert.auth.provider import Provider, Unheard, refusal
from cdf_upsert.auth.sessions import Kept, SessionStore
from cdf_upsert.core.access import Endpoints, Session
from cdf_upsert.core.granting import Answer, Granted, Later, Pending, Refused
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import RefusedError, UsageError

PATIENCE_SECONDS: Final = 300.0
"""How long a browser may take: people look for their phone in between."""

_SLOWER_SECONDS: Final = 5.0
_LONGEST_LINE: Final = 16_384

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>cdf-upsert</title>
<meta name="viewport" content="width=device-width">
<body style="font: 1.1rem system-ui; max-width: 30rem; margin: 4rem auto; padding: 0 1rem">
<h1>{title}</h1><p>{text}</p><script>history.replaceState(null, "", "/")</script>
"""


class Desk(Protocol):
    """Where the person sits."""

    def tell(self, text: str) -> None:
        """Show a line to the person."""
        ...

    def browse(self, url: str) -> bool:
        """Open a browser without waiting for it; False when there is none."""
        ...


async def login(
    session: Session,
    store: SessionStore,
    *,
    connections: Connections,
    clock: Clock,
    desk: Desk,
    learn: Callable[[Secret], None],
    patience: float = PATIENCE_SECONDS,
) -> Granted:
    """Let a person sign in, and keep the session.

    Raises:
        RefusedError: The provider or the person says no, or nobody answers in time.
        UsageError: The provider cannot be reached, or knows no such way of signing in.
        LoaderError: The session cannot be kept.
    """
    provider = Provider(connections, clock)
    endpoints = await provider.endpoints(session)
    if session.device:
        answer = await _by_device(provider, session, endpoints, clock, desk)
    else:
        answer = await _by_browser(provider, session, endpoints, desk=desk, learn=learn, patience=patience)
    if not isinstance(answer, Granted):
        raise refusal(answer, endpoints.token, ())
    for secret in (answer.access, answer.refresh):
        if secret is not None:
            learn(secret)
    kept = Kept(
        session.client_id, endpoints.token, answer.access, answer.expires, answer.refresh, session.remembered
    )
    async with store.alone(session.profile):
        store.save(session.profile, kept)
    return answer


async def _by_device(
    provider: Provider, session: Session, endpoints: Endpoints, clock: Clock, desk: Desk
) -> Answer | Unheard:
    if endpoints.device is None:
        raise UsageError(
            f"The identity provider at {endpoints.token} knows no device codes. "
            "Run `cdf-upsert login` without --device on a machine with a browser."
        )
    device = await provider.device_code(session, endpoints.device)
    desk.tell(f"Open {device.address} on any device and enter the code {device.user_code}")
    ends, interval = clock.now() + device.lifetime, device.interval
    while True:
        await clock.sleep(interval)
        answer = await provider.by_device(session, endpoints.token, device)
        match answer:
            case Pending(slower=True):
                interval += _SLOWER_SECONDS
            case Pending() | Later() | Unheard():
                pass
            case Granted() | Refused():
                return answer
        if clock.now() >= ends:
            return answer


async def _by_browser(
    provider: Provider,
    session: Session,
    endpoints: Endpoints,
    *,
    desk: Desk,
    learn: Callable[[Secret], None],
    patience: float,
) -> Answer | Unheard:
    # Only here: nothing else needs authlib's part of this.
    from authlib.common.security import generate_token  # noqa: PLC0415  # Only a person who signs in pays for authlib.
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # noqa: PLC0415  # See above.
    from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415  # See above.

    verifier, state = Secret(generate_token(64)), generate_token(32)
    learn(verifier)
    async with _listening(session.redirect_port, state) as (port, returned):
        redirect_uri = f"http://localhost:{port}"
        url = prepare_grant_uri(
            endpoints.authorize,
            session.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=session.scopes,
            state=state,
            audience=session.audience,
            code_challenge=create_s256_code_challenge(verifier.reveal()),
            code_challenge_method="S256",
        )
        opened = desk.browse(url)
        desk.tell("Sign in with your browser" + ("; should it not open, go to:" if opened else ". Go to:"))
        desk.tell(url)
        try:
            came = await asyncio.wait_for(returned, patience)
        except TimeoutError:
            raise RefusedError(
                f"Nobody signed in within {round(patience)} seconds. Run `cdf-upsert login` again, or "
                "`cdf-upsert login --device` on a machine without a browser."
            ) from None
    if isinstance(came, Refused):
        return came
    learn(came)
    return await provider.by_code(session, endpoints.token, came, verifier, redirect_uri)


@asynccontextmanager
async def _listening(port: int, state: str) -> AsyncIterator[tuple[int, "asyncio.Future[Secret | Refused]"]]:
    """Listens on loopback for the browser that comes back; the future holds the code, or the refusal."""
    returned: asyncio.Future[Secret | Refused] = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = await _target(reader)
            status, title, text = _receive(target, state, returned)
            page = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
            head = (
                f"HTTP/1.1 {status}\r\nContent-Length: {len(page)}\r\n"
                "Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n"
                "Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + page)
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # A browser that goes away, or something else that knocks: whoever is waited for will come.
        finally:
            writer.close()

    servers = await _serve(handle, port)
    try:
        yield servers[0].sockets[0].getsockname()[1], returned
    finally:
        for server in servers:
            server.close()


async def _target(reader: asyncio.StreamReader) -> str:
    """The path and query of a GET; the rest of the request is read and left."""
    line = await reader.readline()
    while (await reader.readline()).strip():
        pass
    method, target, _ = line.decode("ascii").split(" ", 2)
    return target if method == "GET" else ""


def _receive(target: str, state: str, returned: "asyncio.Future[Secret | Refused]") -> tuple[str, str, str]:
    """Takes what a browser brings, once, and only with the state that was sent; gives the page to show."""
    query = parse_qs(urlsplit(target).query)
    one = {name: values[0] for name, values in query.items()}
    if one.get("state") != state or returned.done():
        return (
            "404 Not Found",
            "Nothing here",
            "This page waits for a sign-in that cdf-upsert has begun.",
        )
    if "code" in one:
        returned.set_result(Secret(one["code"]))
        return "200 OK", "Signed in", "You can close this page and go back to the terminal."
    returned.set_result(Refused(400, one.get("error", "no code"), one.get("error_description", "")))
    return "200 OK", "Not signed in", "The terminal says why."


async def _serve(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]], port: int
) -> Sequence[asyncio.Server]:
    """Listens on both numbers of localhost where both exist, at the port or, if it is in use, at another."""
    for candidate in (port, 0):
        try:
            first = await asyncio.start_server(handle, "127.0.0.1", candidate, limit=_LONGEST_LINE)
        except OSError:
            continue
        try:
            actual = first.sockets[0].getsockname()[1]
            second = await asyncio.start_server(handle, "::1", actual, limit=_LONGEST_LINE)
        except OSError:
            return [first]
        return [first, second]
    raise UsageError(
        "No port of this machine is free for the browser to come back to. Use `cdf-upsert login --device`."
    )
