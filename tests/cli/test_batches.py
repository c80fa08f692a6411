"""Requests as the service sees them: both ceilings, what is in them, and in which order versions arrive."""

import asyncio
import json
from random import Random

from cdf_upsert.sandbox.serve import Options, running
from tests.cli.service import ACCEPTED, TOKEN, mutable_stream, refusal, service, variables_of
from tests.loopback import Asked
from tests.records import make_text
from tests.workdir import Workdir

TEXTS = [make_text(f"k{i}", i, pad=(i * 37) % 400 if i > 1000 else 0) for i in range(2500)]
"""Short ones, of which a request is full by their number, then long ones, of which it is full by their bytes."""


def test_no_request_passes_a_ceiling(alone: Workdir) -> None:
    """Each body has at most so many records and bytes, and together they are the input, byte by byte."""
    alone.write("a.ndjson", b"\n".join(TEXTS))
    with service(mutable_stream()) as served:
        done = alone.run(
            *("load", "demo", "a.ndjson", "--json", "--concurrency", "1"),
            *("--batch-records", "90", "--batch-bytes", "20kB"),
            **served.variables,
        ).exits(0)
        assert max(map(len, served.bodies)) <= 20_000
        assert max(map(len, served.batches)) == 90
        assert any(len(batch) < 90 for batch in served.batches[:-1]), "the ceiling of bytes was never met"
        assert b",".join(body[len(b'{"items":[') : -2] for body in served.bodies) == b",".join(TEXTS)
        requests = done.report["requests"]
        assert requests["sent"] == len(served.bodies)
        assert requests["bytes"] == sum(map(len, served.bodies))
        assert requests["wireBytes"] == sum(len(asked.body) for asked in served.upserts)


def test_a_full_request_is_what_the_service_takes(alone: Workdir) -> None:
    """Without options a request has 1,000 records, is compressed, and names itself as JSON, its sender and its version."""
    with service(mutable_stream()) as served:
        alone.run("load", "demo", stdin=b"\n".join(TEXTS), **served.variables).exits(0)
        assert sorted(map(len, served.batches)) == [500, 1000, 1000]
        for asked in served.upserts:
            assert asked.target == "/api/v1/projects/acme/streams/demo/records/upsert"
            assert asked.headers["content-encoding"] == "gzip"
            assert asked.headers["content-type"] == "application/json"
            assert asked.headers["authorization"] == f"Bearer {TOKEN}"
            assert asked.headers["user-agent"].startswith("cdf-upsert/")


def test_a_record_that_no_request_can_hold_fails_alone(alone: Workdir) -> None:
    """Under a low ceiling a longer record fails as oversize, and the others are sent."""
    inputs = b"\n".join([make_text("a"), make_text("long", pad=2000), make_text("b")])
    with service(mutable_stream()) as served:
        done = alone.run(
            "load", "demo", "--batch-bytes", "1kB", "--json", stdin=inputs, **served.variables
        ).exits(3)
        assert done.counts == {"read": 3, "accepted": 2, "failed": 1}
        assert done.report["failures"][0]["class"] == "oversize"
        assert [record["externalId"] for batch in served.batches for record in batch] == ["a", "b"]


def test_versions_arrive_in_input_order(alone: Workdir) -> None:
    """Of each key no older version lands after a newer one, and the last one lands, over retries and disorder."""
    alone.write("a.ndjson", b"\n".join(make_text(f"k{(i * 7) % 400}", i, pad=500) for i in range(2000)))
    landed: dict[str, list[int]] = {}
    dice = Random(1)

    async def take(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(dice.random() / 50)
        good = dice.random() < 0.95
        for record in json.loads(asked.content)["items"] if good else []:
            landed.setdefault(record["externalId"], []).append(record["sources"][0]["properties"]["value"])
        await (ACCEPTED if good else refusal(502, "bad gateway"))(asked, writer)

    with service(mutable_stream(lambda _: take)) as served:
        options = ("--concurrency", "8", "--batch-records", "20")
        done = alone.run("load", "demo", "a.ndjson", "--json", *options, **served.variables).exits(0)
    assert len(landed) == 400
    for key, versions in landed.items():
        assert versions == sorted(set(versions)), key
    assert {versions[-1] for versions in landed.values()} == set(range(1600, 2000))
    accepted = sum(map(len, landed.values()))
    assert accepted > 700, "hardly a key had two versions under way"
    assert done.counts == {"read": 2000, "accepted": accepted, "superseded": 2000 - accepted}
    assert done.report["requests"]["retried"] > 0


def test_a_concurrency_that_is_named_is_kept(alone: Workdir) -> None:
    """As many requests are under way at once as `--concurrency` allows, and no more."""
    alone.write("a.ndjson", b"\n".join(TEXTS))
    slow = alone.write("slow.toml", b"latency = { fixed = 0.05 }")
    with running(Options(faults=slow)) as served:
        options = ("--concurrency", "3", "--batch-records", "100")
        alone.run("load", "demo", "a.ndjson", *options, **variables_of(served)).exits(0)
        assert served.traffic.highest_at_once == 3
