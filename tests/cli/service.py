"""A scripted service on loopback, in a thread: it keeps every request, and answers as a test says."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cdf_upsert.sandbox.serve import Running
from tests.loopback import Answer, Asked, Loopback, reply, serving


def variables_of(sandbox: Running) -> dict[str, str]:
    """The variables that make a sandbox the target; its token is given, so that no request is needed for one."""
    return {
        "CDF_URL": sandbox.address.base_url,
        "CDF_PROJECT": sandbox.address.project,
        "LOGIN_FLOW": "token",
        "CDF_TOKEN": sandbox.token,
    }


STREAM = {"externalId": "demo", "createdFromTemplate": "BasicLiveData", "type": "Mutable"}
TOKEN = "a-given-token"
ACCEPTED = reply(202)


def inspected(*access: str) -> Answer:
    """What the service tells of a token that opens project acme with this access, such as `streamsAcl:READ`."""
    capabilities = [
        {acl: {"actions": [action], "scope": {"all": {}}}, "projectScope": {"projects": ["acme"]}}
        for acl, action in (one.split(":") for one in access)
    ]
    told = {
        "subject": "you",
        "projects": [{"projectUrlName": "acme", "groups": [1]}],
        "capabilities": capabilities,
    }
    return reply(200, json.dumps(told).encode())


READ = ("streamsAcl:READ", "streamRecordsAcl:READ", "dataModelsAcl:READ", "projectsAcl:LIST")
WRITE = (*READ, "streamRecordsAcl:WRITE")


@dataclass(frozen=True)
class Service:
    """What was asked of the service, and how to make it the target."""

    heard: Loopback
    call: Callable[[Callable[[], object]], object]
    """Does something in the service's thread, soon."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables that make it the target."""
        return {"CDF_URL": self.heard.url, "CDF_PROJECT": "acme", "LOGIN_FLOW": "token", "CDF_TOKEN": TOKEN}

    @property
    def upserts(self) -> list[Asked]:
        """All upserts, in the order they came."""
        return [asked for asked in list(self.heard.asked) if asked.method == "POST"]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all upserts, unpacked."""
        return [asked.content for asked in self.upserts]

    @property
    def batches(self) -> list[list[Any]]:
        """The records of all upserts."""
        return [json.loads(body)["items"] for body in self.bodies]


def stream_that(**facts: Any) -> Answer:
    """The service's facts of the stream, but for what differs."""
    return reply(200, json.dumps(STREAM | facts).encode())


MUTABLE = stream_that()
MAY_WRITE = inspected(*WRITE)


def mutable_stream(
    upsert: Callable[[Asked], Answer] = lambda _: ACCEPTED,
    *,
    stream: Answer = MUTABLE,
    inspect: Answer = MAY_WRITE,
) -> Callable[[Asked], Answer]:
    """Answer as a service with one stream: `upsert` has the answer to each upsert."""

    def answer(asked: Asked) -> Answer:
        if asked.method != "GET":
            return upsert(asked)
        return inspect if asked.target.endswith("/token/inspect") else stream

    return answer


def refusal(status: int, message: str) -> Answer:
    """The service's way to refuse a whole request."""
    return reply(status, json.dumps({"error": {"code": status, "message": message}}).encode())


async def silence(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def cut(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Cut the connection instead of an answer."""
    writer.transport.abort()


@contextmanager
def service(answer: Callable[[Asked], Answer]) -> Iterator[Service]:
    """Serve while the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="service")
    thread.start()

    async def answering(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await answer(asked)(asked, writer)

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    context = serving(answering)
    try:
        yield Service(do(context.__aenter__()), loop.call_soon_threadsafe)
    finally:
        do(context.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
