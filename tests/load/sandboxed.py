"""A whole load over the sandbox on virtual time: the real engine, client, journal, HTTP and world in one event loop.

Client and sandbox talk over a socket of this machine. What one has written the other can read at once, so time
never passes while anything is on its way, and back-offs and time-outs cost nothing.
"""

import asyncio
import json
import random
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cdf_upsert.client import Client
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.events import Ended, Outcome
from cdf_upsert.core.pacing import Pacing, Policy
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.record import Failed
from cdf_upsert.core.stopping import Stopping, StoppingPolicy
from cdf_upsert.core.tally import Tally
from cdf_upsert.journal import Journal
from cdf_upsert.load import Ending, Engine
from cdf_upsert.sandbox.clock import Clock
from cdf_upsert.sandbox.faults import Fault, Faults, Script
from cdf_upsert.sandbox.identity import Identity
from cdf_upsert.sandbox.serve import make_server
from cdf_upsert.sandbox.service import CLIENT_ID, Service, clients, new_secret
from cdf_upsert.sandbox.traffic import Traffic
from cdf_upsert.sandbox.world import Operation, Refusal, World
from tests.journal.making import FAST, NOW, make_plan, open_run
from tests.load.harness import MemoryBooks, MemoryInput
from tests.virtual_time import VirtualLoop

NO_TLS = ssl.create_default_context()
"""Never used, as there is no TLS here; but each connection would read all certificates of the machine for one."""

PROJECT, STREAM = "p", "events"
HANGS = 24 * 3600.0
"""Virtual seconds after which a load has hung."""

CONTAINER = {
    "space": "s",
    "externalId": "c",
    "usedFor": "record",
    "properties": {"value": {"type": {"type": "int64"}}, "pad": {"type": {"type": "text"}}},
}


class OneThread(VirtualLoop):
    """Does at once what a thread should do: virtual time cannot know that one is busy."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  told to whoever waits for it
            done.set_exception(error)
        return done


@dataclass(frozen=True, slots=True)
class LoopClock(Clock):
    """The sandbox's time, from the event loop."""

    def now(self) -> float:
        return 1.7e9 + asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.now()


class Tokens:
    """A token of the sandbox, and a new one whenever one has ended early."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._token = self._issue()

    def _issue(self) -> str:
        return self._service.identity.issue(CLIENT_ID, CLIENT_ID, "", self._service.clock.wall())

    async def token(self) -> str:
        return self._token

    async def renewed(self, refused: str) -> str | None:
        if self._token == refused:
            self._token = self._issue()
        return self._token


class WatchedBooks(MemoryBooks):
    """The journal of a real load, and beside it the settlement of each record."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    async def again(self) -> AsyncIterator[Any]:
        async for some in self.journal.again():
            yield some

    def foresee(self, *what: Any) -> None:
        super().foresee(*what)
        self.journal.foresee(*what)

    async def intend(self, *what: Any) -> None:
        await super().intend(*what)
        await self.journal.intend(*what)

    async def settle(self, *what: Any) -> None:
        await self.journal.settle(*what)
        await super().settle(*what)

    def passed(self, *what: Any) -> None:
        super().passed(*what)
        self.journal.passed(*what)


@dataclass(frozen=True)
class Case:
    """One load: blocks of texts with pauses between them, how they are sent, and what goes wrong."""

    blocks: Sequence[Sequence[bytes]]
    pauses: Sequence[float] = ()
    batch_records: int = 1000
    batch_bytes: int = 10_000_000
    concurrency: int | None = 4
    faults: Sequence[Fault] = ()
    chaos: float = 0.0
    visible_after: float = 0.0
    timeout: float = 5.0
    seed: int = 0

    @property
    def texts(self) -> list[bytes]:
        """All of the input, in its order."""
        return [text for block in self.blocks for text in block]


@dataclass(frozen=True)
class Loaded:
    """What a load left behind. `settled` and `failed` have the outcome of each record by its number, from 0.

    `stored` has the value under each external id, `written` the values under each in the order of writing.
    """

    ending: Ending
    tally: Tally
    settled: dict[int, str]
    failed: dict[int, Failed]
    failed_lines: list[bytes]
    again: int
    stored: dict[str, int]
    written: dict[str, list[int]]
    traffic: Traffic


def run_load(case: Case) -> Loaded:
    """Load once into a sandbox of its own; the ledger is checked."""
    with (
        tempfile.TemporaryDirectory(dir=FAST) as name,
        asyncio.Runner(loop_factory=OneThread) as runner,
    ):
        return runner.run(_run(case, Path(name)))


async def _run(case: Case, directory: Path) -> Loaded:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(HANGS), _served(case, directory / "socket") as service:
        input_path = directory / "a.ndjson"
        input_path.write_bytes(b"".join(text + b"\n" for text in case.texts))
        plan = make_plan(str(input_path), stream=STREAM)
        with closing(open_run(plan, directory / "run")) as journal:
            books, tally = WatchedBooks(journal), Tally(loop.time())
            client = Client(
                base_url="http://sandbox",
                project=PROJECT,
                stream=STREAM,
                tokens=Tokens(service),
                transport={"uds": str(directory / "socket"), "verify": NO_TLS},
                explain=str,
                timeout=case.timeout,
                connections=(case.concurrency or 15) + 5,
                version="0",
                now=service.clock.wall,
            )
            async with client:
                ending = await _load(case, str(input_path), client, books, tally)
            journal.finish(Outcome.FAILURES if tally.failed else ending.outcome, ending.reason, NOW)
            failed = directory / "run" / "failed.ndjson"
            lines = failed.read_bytes().splitlines() if failed.exists() else []
        with closing(open_run(plan, directory / "run", "two")) as journal:
            again = journal.standing.again
        stored = {key[1]: one["s", "c"]["value"] for key, one in service.world.records(STREAM).items()}
        return Loaded(
            ending,
            tally,
            books.settled,
            books.failed,
            lines,
            again,
            stored,
            _written(case, service),
            service.traffic,
        )


async def _load(case: Case, path: str, client: Client, books: WatchedBooks, tally: Tally) -> Ending:
    loop = asyncio.get_running_loop()
    engine = Engine(
        inputs=[MemoryInput(case.blocks, case.pauses, path)],
        standing=books.journal.standing,
        checker=Checker(case.batch_bytes),
        packer=Packer(case.batch_records, case.batch_bytes),
        pacing=Pacing(Policy(concurrency=case.concurrency), loop.time()),
        stopping=Stopping(StoppingPolicy(patience=3600.0), loop.time()),
        sender=client,
        books=books,
        explain=lambda status, message: f"{status} {message}",
        emit=tally.hear,
        dice=random.Random(case.seed),
        linger=1.0,
        grace=10.0,
    )
    ending = await engine.run()
    tally.hear(Ended(loop.time(), ending.outcome, ending.reason, ending.unsent))
    if engine.error is not None:
        raise engine.error
    assert tally.balance() is None, tally.balance()
    return ending


@asynccontextmanager
async def _served(case: Case, path: Path) -> AsyncIterator[Service]:
    clock = LoopClock()
    world = World(visible_after=round(case.visible_after * 1000))
    world.models.apply_spaces(_items({"space": "s"}), clock.milliseconds())
    world.models.apply_containers(_items(CONTAINER), clock.milliseconds())
    template = {"externalId": STREAM, "settings": {"template": {"name": "BasicLiveData"}}}
    world.streams.create(_items(template), clock.milliseconds())
    service = Service(
        PROJECT,
        world,
        clock,
        Identity(clients("secret"), new_secret, 1e6),
        Faults(Script(tuple(case.faults)), case.chaos, case.seed),
        Traffic(keep_writes=True),
        seed=case.seed,
    )
    server = make_server(service, lambda _: None)
    with closing(world), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.001)
        try:
            yield service
        finally:
            await asyncio.sleep(10.0)  # Replies that nobody waits for any more are still on their way.
            server.should_exit = True
            await serving
            await asyncio.sleep(0.1)  # Connections are let go of in the next rounds.


def _items(one: object) -> bytes:
    return json.dumps({"items": [one]}).encode()


def _written(case: Case, service: Service) -> dict[str, list[int]]:
    """The values under each external id in the order of writing; the log tells them by digests of what is kept."""
    values: dict[tuple[str, str], int] = {}
    for text in case.texts:
        try:
            body = b'{"items":[' + text + b"]}"
            prepared = service.world.prepare(Operation.UPSERT, STREAM, body, service.clock.milliseconds())
        except Refusal:
            continue
        value = json.loads(text)["sources"][0]["properties"]["value"]
        values[prepared.keys[0], blake2b(prepared.bodies[0], digest_size=8).hexdigest()] = value
    written: dict[str, list[int]] = {}
    for write in service.traffic.writes:
        written.setdefault(write.key.removeprefix("s."), []).append(values[write.key, write.digest])
    return written
