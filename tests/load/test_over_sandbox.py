"""The engine and the real client against the sandbox, over a real socket, under chaos."""

import asyncio
import json
import random

import pytest

from cdf_upsert.client import Client
from cdf_upsert.core.checking import Checker
from cdf_upsert.core.events import Outcome
from cdf_upsert.core.pacing import Pacing, Policy
from cdf_upsert.core.packing import Packer
from cdf_upsert.core.standing import Standing
from cdf_upsert.core.stopping import Stopping, StoppingPolicy
from cdf_upsert.core.tally import Tally
from cdf_upsert.load import Engine
from cdf_upsert.sandbox.serve import Options, Running, running
from tests.load.harness import MemoryBooks, MemoryInput
from tests.records import make_text


class Tokens:
    """A token of the sandbox, and a new one whenever one has ended early."""

    def __init__(self, sandbox: Running) -> None:
        self._sandbox = sandbox
        self._token = sandbox.token

    async def token(self) -> str:
        return self._token

    async def renewed(self, refused: str) -> str | None:
        if self._token == refused:
            self._token = self._sandbox.ask(
                lambda service: service.identity.issue("cdf-upsert", "cdf-upsert", "", service.clock.wall())
            )
        return self._token


async def load(sandbox: Running, texts: list[bytes], seed: int) -> tuple[Outcome, Tally, MemoryBooks]:
    loop = asyncio.get_running_loop()
    books, tally = MemoryBooks(), Tally(loop.time())
    client = Client(
        base_url=sandbox.address.base_url,
        project=sandbox.address.project,
        stream="events",
        tokens=Tokens(sandbox),
        transport={},
        explain=str,
        timeout=5.0,
        connections=9,
        version="0",
    )
    async with client:
        engine = Engine(
            inputs=[MemoryInput([texts[i : i + 60] for i in range(0, len(texts), 60)])],
            standing=Standing(),
            checker=Checker(10_000_000),
            packer=Packer(40, 10_000_000),
            pacing=Pacing(Policy(concurrency=8), loop.time()),
            stopping=Stopping(StoppingPolicy(patience=60.0), loop.time()),
            sender=client,
            books=books,
            explain=lambda status, message: f"{status} {message}",
            emit=tally.hear,
            dice=random.Random(seed),
            linger=1.0,
            grace=10.0,
        )
        ending = await engine.run()
    assert engine.error is None
    return ending.outcome, tally, books


def digests(count: int) -> dict[str, int]:
    """The value of each digest in the sandbox's log of writes: a digest speaks of the values alone, not of the key."""
    texts = [make_text(f"k{number}", number) for number in range(count)]
    with running(Options(keep_writes=True)) as sandbox:
        asyncio.run(load(sandbox, texts, seed=0))
        return {write.digest: int(write.key.removeprefix("s.k")) for write in sandbox.traffic.writes}


@pytest.mark.parametrize("seed", range(6))
def test_chaos_never_puts_an_older_version_over_a_newer_one(seed: int) -> None:
    """With a fault in every fifth request, many versions of few keys: the last stand, and each key's writes are in order."""
    dice = random.Random(seed)
    keys = [f"k{dice.randrange(50)}" for _ in range(800)]
    texts = [make_text(key, number) for number, key in enumerate(keys)]
    ordinal_of = digests(len(texts))
    with running(Options(chaos=0.2, seed=seed, keep_writes=True)) as sandbox:
        outcome, tally, books = asyncio.run(load(sandbox, texts, seed))
        stored = sandbox.records("events")
        writes = list(sandbox.traffic.writes)
    assert outcome is Outcome.COMPLETE
    assert tally.read == tally.accepted + tally.superseded + tally.failed == len(texts)
    assert not books.failed, json.dumps([str(f.failure) for f in books.failed.values()])
    last = {key: number for number, key in enumerate(keys)}
    assert {key[1]: record["s", "c"]["value"] for key, record in stored.items()} == last
    written: dict[str, int] = {}
    for write in writes:
        assert written.get(write.key, -1) <= ordinal_of[write.digest], (
            "an older version lands after a newer one"
        )
        written[write.key] = ordinal_of[write.digest]
