"""Dead networks: nobody there, nobody answers, somebody cuts."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.cli.service import ACCEPTED, cut, mutable_stream, service, silence
from tests.records import make_text
from tests.workdir import Workdir

RECORDS = b"\n".join(make_text(f"k{i}", i) for i in range(10))


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where no one listens, and no one else will for as long as this lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_an_address_where_nobody_listens_ends_in_2(nobody: str, alone: Workdir) -> None:
    """More likely misspelt than down: told in seconds, with what to look at, and nothing was sent."""
    alone.write("a.ndjson", RECORDS)
    variables = {"CDF_URL": nobody, "CDF_PROJECT": "p", "LOGIN_FLOW": "token", "CDF_TOKEN": "token"}
    began = time.monotonic()
    done = alone.run("load", "demo", "a.ndjson", "--json", **variables).exits(2)
    assert time.monotonic() - began < 30
    done.says(
        f"No connection to {nobody.removeprefix('http://')} comes about",
        "Check the address, the network, the VPN and the firewall",
        "next try in",
    )
    done.says_nothing_of("..")
    assert done.stdout == b""
    (listed,) = json.loads(alone.run("runs", "--json").exits(0).stdout)
    assert listed["ended"] is not None
    assert listed["reason"].startswith("No connection to 127.0.0.1")


@pytest.mark.parametrize("fault", [silence, cut], ids=["mute", "cutting"])
def test_a_service_that_is_not_itself_ends_in_5(fault, alone: Workdir) -> None:
    """From the first request on: after `--patience` the run stops, and rerunning goes on."""
    alone.write("a.ndjson", RECORDS)
    with service(lambda _: fault) as served:
        options = ("--timeout", "0.3", "--patience", "1s")
        done = alone.run("load", "demo", "a.ndjson", "--json", *options, **served.variables).exits(5)
    done.says("within --patience").says_nothing_of("..")
    assert done.report["outcome"] == "stopped"


@pytest.mark.parametrize("fault", [silence, cut], ids=["mute", "cutting"])
def test_a_service_that_recovers_gets_everything(fault, alone: Workdir) -> None:
    """Writes whose reply never comes are tried again until one is answered; each record is accepted once."""
    alone.write("a.ndjson", RECORDS)

    def answer(_):
        return fault if len(served.upserts) <= 2 else ACCEPTED

    with service(mutable_stream(answer)) as served:
        done = alone.run("load", "demo", "a.ndjson", "--json", "-v", "--timeout", "0.3", **served.variables)
    assert done.exits(0).counts == {"read": 10, "accepted": 10}
    assert done.report["requests"]["retried"] == 2
    done.says("Trying 10 records again")


def test_a_service_that_dies_in_the_middle_ends_in_5(alone: Workdir) -> None:
    """What was accepted before stays accepted, and the rest is unsent."""
    alone.write("a.ndjson", RECORDS)

    def answer(_):
        return cut if len(served.upserts) > 1 else ACCEPTED

    with service(mutable_stream(answer)) as served:
        options = ("--patience", "1s", "--batch-records", "5", "--concurrency", "1")
        done = alone.run("load", "demo", "a.ndjson", "--json", *options, **served.variables).exits(5)
    assert done.counts == {"read": 10, "accepted": 5, "unsent": 5}
