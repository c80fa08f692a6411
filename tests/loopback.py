"""A server on loopback that does what a test's script says, byte by byte."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it came; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> bytes:
        """The body, unpacked."""
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Answers one request; a connection that it leaves open takes the next one."""


@dataclass
class Loopback:
    """What was asked, on how many connections, and where the server listens."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def reply(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    """Answer in one piece; `_` in a header's name stands for `-`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", *lines, "", ""])
    return raw(head.encode() + body)


def raw(data: bytes, *, cut: bool = False) -> Answer:
    """Answer these bytes; `cut` closes the connection behind them."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if cut:
            writer.close()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, the last one for all the rest."""
    turns: Iterator[Answer] = iter(answers)
    last = answers[-1]

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await next(turns, last)(asked, writer)

    return answer


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Loopback]:
    """Serve for as long as the block lasts."""
    loopback = Loopback()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loopback.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while not writer.is_closing() and (asked := await _read(reader)) is not None:
                loopback.asked.append(asked)
                await answer(asked, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    loopback.port = server.sockets[0].getsockname()[1]
    try:
        yield loopback
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Asked(method, target, headers, body)
