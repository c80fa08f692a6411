"""Serving the sandbox: in the foreground for people, or in a thread for programs and tests.

Importing this module is cheap; the server and the world are imported when they are needed.
"""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

from cdf_upsert.sandbox.problem import SandboxError

if TYPE_CHECKING:
    import uvicorn

    from cdf_upsert.sandbox.service import Service
    from cdf_upsert.sandbox.traffic import Entry, Traffic
    from cdf_upsert.sandbox.world import World

T = TypeVar("T")

LOOPBACK_SECRET = "sandbox-secret"  # noqa: S105 - on purpose no secret: it opens a sandbox on this machine only


@dataclass(frozen=True, slots=True)
class Options:
    """How a sandbox is served; times are in seconds, the clock's speed in seconds per second."""

    data: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    strict: bool = False
    limits: Literal["off", "cdf"] = "off"
    clock_speed: float = 1.0
    faults: Path | None = None
    chaos: float = 0.0
    seed: int = 0
    project: str = "sandbox"
    seeds: tuple[Path, ...] = ()
    visible_after: float = 0.0
    token_seconds: float = 3600
    keep_writes: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a sandbox is found and how one signs in."""

    base_url: str
    project: str
    client_id: str
    client_secret: str
    token_url: str

    def environment(self) -> dict[str, str]:
        """The variables that point a tool for CDF at this sandbox."""
        return {
            "CDF_URL": self.base_url,
            "CDF_PROJECT": self.project,
            "LOGIN_FLOW": "client_credentials",
            "PROVIDER": "other",
            "IDP_TOKEN_URL": self.token_url,
            "IDP_CLIENT_ID": self.client_id,
            "IDP_CLIENT_SECRET": self.client_secret,
        }


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox that is being served in a thread of its own."""

    address: Address
    token: str
    _service: "Service"
    _loop: asyncio.AbstractEventLoop

    def ask(self, question: "Callable[[Service], T]") -> T:
        """Ask the service something in its own thread, where nothing changes meanwhile."""
        return asyncio.run_coroutine_threadsafe(_ask(question, self._service), self._loop).result()

    @property
    def world(self) -> "World":
        """What is stored. For reading while nothing is under way; otherwise use `ask`."""
        return self._service.world

    @property
    def traffic(self) -> "Traffic":
        """The requests so far: entries, counts, faults, and with `keep_writes` every written record."""
        if self._loop.is_closed():
            return self._service.traffic
        return self.ask(lambda service: service.traffic)  # in its turn, after what has just been answered

    def records(self, stream: str) -> dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]]:
        """Everything stored in a stream: key -> container -> property -> value."""
        return self.ask(lambda service: service.world.records(stream))


async def _ask(question: "Callable[[Service], T]", service: "Service") -> T:
    return question(service)


def make_service(options: Options, secret: str) -> "Service":
    """The service that options describe, with its state opened and its seeds sown.

    Raises:
        SandboxError: the state, the faults or a seed file cannot be used.
    """
    from cdf_upsert.sandbox import faults, service  # noqa: PLC0415 - only a server needs the world
    from cdf_upsert.sandbox.clock import Clock  # noqa: PLC0415
    from cdf_upsert.sandbox.identity import Identity  # noqa: PLC0415
    from cdf_upsert.sandbox.limits import Budgets, Quotas  # noqa: PLC0415
    from cdf_upsert.sandbox.seeds import sow  # noqa: PLC0415
    from cdf_upsert.sandbox.traffic import Traffic  # noqa: PLC0415
    from cdf_upsert.sandbox.world import World  # noqa: PLC0415

    script = faults.read_script(options.faults) if options.faults is not None else faults.Script()
    clock = Clock(options.clock_speed)
    world = World(options.data, strict=options.strict, visible_after=round(options.visible_after * 1000))
    try:
        sow(options.seeds, world, clock.milliseconds())
    except SandboxError:
        world.close()
        raise
    limited = options.limits == "cdf"
    return service.Service(
        options.project,
        world,
        clock,
        Identity(service.clients(secret), service.new_secret, options.token_seconds),
        faults.Faults(script, options.chaos, options.seed),
        Traffic(options.keep_writes),
        Budgets() if limited else None,
        Quotas() if limited else None,
        options.seed,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # Without the protocol's number asyncio would not turn Nagle's algorithm off: 40 ms for each small reply.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise SandboxError(
            f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror or error}. "
            "Choose another port with --port, or any free one with --port 0."
        ) from error
    return listener


def _address(options: Options, listener: socket.socket, secret: str) -> Address:
    from cdf_upsert.sandbox.service import CLIENT_ID  # noqa: PLC0415 - only a server needs it

    host = f"[{options.host}]" if ":" in options.host else options.host
    base_url = f"http://{host}:{listener.getsockname()[1]}"
    return Address(base_url, options.project, CLIENT_ID, secret, f"{base_url}/oauth2/token")


def _secret(options: Options) -> str:
    from cdf_upsert.sandbox.service import new_secret  # noqa: PLC0415 - only a server needs it

    return LOOPBACK_SECRET if is_loopback(options.host) else new_secret()


def make_server(service: "Service", log: "Callable[[Entry], None]") -> "uvicorn.Server":
    """The server of a service, for whatever sockets it is given; `log` is told of every answered request."""
    import uvicorn  # noqa: PLC0415 - heavy, and an extra
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415

    from cdf_upsert.sandbox.app import build  # noqa: PLC0415

    class Protocol(H11Protocol):
        """HTTP, with a way for the application to cut the connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the parent has it
            super().connection_made(transport)
            app = self.app

            async def wired(scope: Any, receive: Any, send: Any) -> None:
                scope["sandbox.abort"] = transport.abort
                await app(scope, receive, send)

            self.app = wired

    class Server(uvicorn.Server):
        """Leaves signals to whoever runs it."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        build(service, log),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


@contextmanager
def running(options: Options) -> Iterator[Running]:
    """Serve a sandbox in a daemon thread for as long as the context lasts.

    Raises:
        SandboxError: the sandbox cannot start.
    """
    secret = _secret(options)
    listener = _listen(options)
    with contextlib.closing(listener):
        service = make_service(options, secret)
        try:
            server = make_server(service, lambda _: None)
            loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=_run_in_thread, args=(loop, server, listener), name="sandbox", daemon=True
            )
            address = _address(options, listener, secret)
            from cdf_upsert.sandbox.service import CLIENT_ID  # noqa: PLC0415 - only a server needs it

            token = service.identity.issue(CLIENT_ID, CLIENT_ID, "", service.clock.wall())
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.001)
            try:
                yield Running(address, token, service, loop)
            finally:
                server.should_exit = True
                thread.join()
        finally:
            service.world.close()


def _run_in_thread(
    loop: asyncio.AbstractEventLoop, server: "uvicorn.Server", listener: socket.socket
) -> None:
    try:
        loop.run_until_complete(server.serve(sockets=[listener]))
    finally:
        loop.close()


def serve(options: Options, out: TextIO) -> int:
    """Serve a sandbox until Ctrl+C or SIGTERM, and log each request in one line; returns 0.

    Raises:
        SandboxError: the sandbox cannot start.
    """
    secret = _secret(options)
    with contextlib.closing(_listen(options)) as listener:
        service = make_service(options, secret)
        try:
            address = _address(options, listener, secret)
            server = make_server(service, lambda entry: _say(line(entry), out))
            asyncio.run(_serve_until_signal(server, listener, lambda: greet(address, options, out)))
        finally:
            service.world.close()
    return 0


async def _serve_until_signal(
    server: "uvicorn.Server", listener: socket.socket, ready: Callable[[], None]
) -> None:
    def stop() -> None:
        if server.should_exit:
            server.force_exit = True
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if sys.platform == "win32":
            signal.signal(number, lambda *_: stop())
        else:
            loop.add_signal_handler(number, stop)
    ready()  # only now: who reads the greeting may send a signal at once
    await server.serve(sockets=[listener])


def greet(address: Address, options: Options, out: TextIO) -> None:
    """Say where the sandbox is and what to paste into a shell."""
    _say(f"listening on {address.base_url}", out)
    if not is_loopback(options.host):
        _say(
            f"WARNING: {options.host} is not a loopback address. Everyone who reaches this machine reaches "
            "this sandbox, over plain HTTP. Its client secret is a fresh one, below.",
            out,
        )
    _say("", out)
    for name, value in address.environment().items():
        _say(f"export {name}={value}", out)
    _say("", out)
    kept = (
        f"State is kept in {options.data}." if options.data is not None else "State is kept in memory only."
    )
    _say(f"{kept} Ctrl+C stops.", out)


def line(entry: "Entry") -> str:
    """One answered request in one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(entry.at))
    words = [
        clock,
        entry.operation,
        entry.method,
        entry.path,
        str(entry.status) if entry.status else "no reply",
    ]
    if entry.records:
        words.append(f"{entry.records} records")
    if entry.bytes:
        words.append(f"{entry.bytes} bytes ({entry.wire_bytes} on the wire)")
    words.append(f"{entry.seconds * 1000:.1f} ms")
    if entry.fault:
        words.append(f"[{entry.fault}]")
    return " ".join(words)


def _say(text: str, out: TextIO) -> None:
    with contextlib.suppress(OSError):  # a reader that has gone, or a full disk, must not end a request
        out.write(f"{text}\n")
        out.flush()
