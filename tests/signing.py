"""What the tests of signing in share: a clock set by hand, settings for a sandbox, an empty desk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from cdf_upsert.auth import TokenSource, Vault, token_source
from cdf_upsert.core.access import ClientCredentials, Credentials, Network, Session
from cdf_upsert.core.redact import Secret
from cdf_upsert.network import Connections
from cdf_upsert.sandbox.serve import Running


class FakeClock:
    """Starts at the time of day given; sleeping takes no time, moves it on, and lets happen what is due."""

    def __init__(self, now: float) -> None:
        self.time = now
        self.slept: list[float] = []
        self.due: list[tuple[float, Callable[[], object]]] = []

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in a thread, as soon as so many seconds are slept."""
        self.due.append((self.time + seconds, action))

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)
        for at, action in list(self.due):
            if at <= self.time:
                self.due.remove((at, action))
                await asyncio.to_thread(action)


class DictVault:
    """A keyring in a dictionary, or one that is locked."""

    def __init__(self, *, locked: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = locked

    def get_password(self, service_name: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service_name, username))

    def set_password(self, service_name: str, username: str, password: str) -> None:
        self._open()
        self.kept[service_name, username] = password

    def delete_password(self, service_name: str, username: str) -> None:
        self._open()
        del self.kept[service_name, username]

    def _open(self) -> None:
        if self.locked:
            raise RuntimeError("the keyring is locked")


def source(
    credentials: Credentials,
    clock: FakeClock,
    *,
    patience: float = 600,
    learn: Callable[[Secret], None] = lambda _: None,
    vault: Vault | None = None,
    network: Network | None = None,
) -> TokenSource:
    return token_source(
        credentials,
        connections=Connections(network or Network(), clock.now),
        clock=clock,
        dice=Random(7),
        patience=patience,
        learn=learn,
        vault=lambda: vault,
    )


def client_of(sandbox: Running, **changes: Any) -> ClientCredentials:
    address = sandbox.address
    given = {
        "token_url": address.token_url,
        "client_id": address.client_id,
        "client_secret": Secret(address.client_secret),
    }
    return ClientCredentials(**(given | changes))


def person_of(sandbox: Running, store: Path, **changes: Any) -> Session:
    given = {
        "profile": "default",
        "provider": sandbox.address.base_url,
        "client_id": "sandbox-app",
        "store": store,
        "scopes": ("openid", "offline_access"),
        "redirect_port": 0,
        "remembered": (("project", "sandbox"),),
    }
    return Session(**(given | changes))


def token_requests(sandbox: Running) -> int:
    return sandbox.ask(
        lambda service: sum(n for (name, _), n in service.traffic.counts.items() if name == "token")
    )


def works(sandbox: Running, token: str) -> bool:
    """Whether the service takes the token."""
    reply = httpx.get(
        f"{sandbox.address.base_url}/api/v1/token/inspect", headers={"Authorization": f"Bearer {token}"}
    )
    return reply.status_code == 200


@dataclass
class Desk:
    """A desk where nobody sits: `answer` says what the browser does with the address it is sent to."""

    answer: Callable[[str], object] | None = None
    browser: bool = True
    told: list[str] = field(default_factory=list)
    tasks: list[asyncio.Future[object]] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def browse(self, url: str) -> bool:
        if self.answer is not None:
            self.tasks.append(asyncio.ensure_future(asyncio.to_thread(self.answer, url)))
        return self.browser


def allow(url: str) -> httpx.Response:
    """A person who allows everything, in a browser without a screen."""
    return _answer(url, "allow")


def deny(url: str) -> httpx.Response:
    """A person who does not."""
    return _answer(url, "deny")


def _answer(url: str, answer: str) -> httpx.Response:
    with httpx.Client(follow_redirects=True, timeout=20) as browser:
        assert browser.get(url).status_code == 200
        return browser.post(url, data={"answer": answer})


@asynccontextmanager
async def answering(reply: bytes, received: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server on loopback that gives every request the same bytes; yields its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readexactly(1)
            if head != b"\x16":  # Not TLS, which never sends a line.
                head += await reader.readuntil(b"\r\n\r\n")
            if received is not None:
                received.append(head)
            writer.write(reply)
            await writer.drain()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
