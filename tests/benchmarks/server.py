"""The server that the benchmarks push against: it answers every upsert at once and looks into none.

`python -m tests.benchmarks.server` prints its port and serves until it is ended. A `PUT /control?…` begins
anew and sets what it does: `status=400` refuses every upsert, `hold_after=N` stops answering after N upserts
(a process can then be killed at a known place). A `GET /control` tells what it has counted since.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

STREAM = {
    "externalId": "bench",
    "createdTime": 0,
    "createdFromTemplate": "Benchmark",
    "type": "Mutable",
    "settings": {
        "lifecycle": {"retainedAfterSoftDelete": "P1D"},
        "limits": {
            "maxRecordsTotal": {"provisioned": 1e9, "consumed": 0},
            "maxGigaBytesTotal": {"provisioned": 1e6, "consumed": 0},
        },
    },
}
"""What `GET /streams/{id}` shows: a mutable stream with room for every benchmark, of no template that has quotas."""

REASONS = {200: b"OK", 202: b"Accepted", 400: b"Bad Request", 404: b"Not Found"}
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Desk:
    """What the server was told to do and what it has counted; one for all connections."""

    status: int = 202
    hold_after: int | None = None
    upserts: int = 0
    wire_bytes: int = 0


class Connection(asyncio.Protocol):
    """One client's connection: reads heads, counts bodies away, answers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._head = b""
        self._request = b""
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back to the client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came: the rest of a body, then heads as long as there are any."""
        while data:
            if self._body_left:
                taken = min(self._body_left, len(data))
                self._body_left -= taken
                data = data[taken:]
            else:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                if not end:
                    self._head = head
                    return
                self._head = b""
                self._request = head.partition(b"\r\n")[0]
                length = CONTENT_LENGTH.search(head)
                self._body_left = int(length[1]) if length else 0
                self._desk.wire_bytes += self._body_left
            if not self._body_left:
                self._answer()

    def _answer(self) -> None:
        method, target, _ = self._request.decode().split(" ")
        url = urlsplit(target)
        desk = self._desk
        match method, url.path.rpartition("/")[2]:
            case "POST", "upsert":
                if desk.hold_after is not None and desk.upserts >= desk.hold_after:
                    return
                desk.upserts += 1
                refused = {"error": {"code": desk.status, "message": "Refused by the benchmark's server"}}
                self._send(desk.status, {} if desk.status == 202 else refused)
            case "GET", "bench":
                self._send(200, STREAM)
            case "PUT", "control":
                told = {name: int(value) for name, value in parse_qsl(url.query)}
                desk.status, desk.hold_after = told.get("status", 202), told.get("hold_after")
                desk.upserts = desk.wire_bytes = 0
                self._send(200, {})
            case "GET", "control":
                self._send(200, {"upserts": desk.upserts, "wireBytes": desk.wire_bytes})
            case _:
                self._send(404, {"error": {"code": 404, "message": f"Nothing here: {method} {target}"}})

    def _send(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, REASONS[status], len(body), body)
        )


async def serve() -> None:
    """Serve on a free port of loopback and print it."""
    desk = Desk()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(desk), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the harness reads it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
