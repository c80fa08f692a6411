"""Serving: how it starts, what it says, how it stops, and what it keeps."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cdf_upsert.sandbox.problem import SandboxError
from cdf_upsert.sandbox.serve import Address, Options, _listen, greet, is_loopback, line, running
from cdf_upsert.sandbox.traffic import Entry
from tests.sandbox.api import Api
from tests.sandbox.builders import container, encode, record, stream

pytest_plugins = ["cdf_upsert.sandbox.testing"]

COMMAND = "import sys; from cdf_upsert.cli import main; sys.exit(main())"


@contextmanager
def command(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`cdf-upsert sandbox` in a process of its own, and the address that it says first."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "sandbox", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("listening on "), process.stderr.read() if process.stderr else ""
        yield process, first.removeprefix("listening on ").strip()
    finally:
        process.kill()
        process.communicate()


def pasted(process: subprocess.Popen[str]) -> dict[str, str]:
    """The variables that the command says are to be pasted."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    while "Ctrl+C stops" not in (text := process.stdout.readline()):
        if match := re.fullmatch(r"export (\w+)=(\S+)\n", text):
            found[match[1]] = match[2]
    return found


def sign_in(variables: dict[str, str]) -> dict[str, str]:
    """The header that the pasted variables lead to."""
    form = {"grant_type": "client_credentials", "client_id": variables["IDP_CLIENT_ID"]}
    form["client_secret"] = variables["IDP_CLIENT_SECRET"]
    token = httpx.post(variables["IDP_TOKEN_URL"], data=form, trust_env=False).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path, number):
    """It says where it is and what to paste, logs each request in a line, ends with 0, and finds its state again."""
    seeds = tmp_path / "seeds.json"
    seeds.write_bytes(
        encode({"spaces": [{"space": "plant"}], "containers": [container()], "streams": [stream("events")]})
    )
    flags = ("--port", "0", "--data", str(tmp_path / "state"), "--strict", "--seed-file", str(seeds))
    for already in (0, 1):
        with command(*flags) as (process, address):
            variables = pasted(process)
            assert variables["CDF_URL"] == address
            url = f"{address}/api/v1/projects/{variables['CDF_PROJECT']}/streams/events"
            headers = sign_in(variables)
            found = httpx.get(f"{url}?includeStatistics=true", headers=headers, trust_env=False).json()
            assert found["settings"]["limits"]["maxRecordsTotal"]["consumed"] == already
            reply = httpx.post(
                f"{url}/records/upsert", json={"items": [record("a")]}, headers=headers, trust_env=False
            )
            assert reply.status_code == 202
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
            assert process.returncode == 0
            assert err == ""
            assert re.search(
                r" upsert POST \S+/streams/events/records/upsert 202 1 records \d+ bytes .* ms\n", out
            )


def test_a_signal_right_after_the_first_line_is_heeded():
    """Who reads the address may stop the command at once, and it still ends with 0."""
    with command("--port", "0") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def test_a_second_signal_leaves_at_once():
    """With a request that hangs, the first signal waits a moment and the second does not."""
    with command("--port", "0") as (process, address):
        variables = pasted(process)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            assert sign_in(variables)
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.05)  # two signals at once would be one
            assert process.wait(timeout=5) == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--faults", "nothing.toml"), "cannot be read"),
        (("--seed-file", "nothing.json"), "cannot be read"),
        (("--host", "203.0.113.1", "--port", "0"), "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said(flags, told):
    """A whole sentence instead of a server."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "sandbox", *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said():
    """The sentence names the port and the mend."""
    with running(Options()) as sandbox:
        port = int(sandbox.address.base_url.rsplit(":", 1)[1])
        with (
            pytest.raises(SandboxError, match=rf"127.0.0.1:{port}: .* --port 0"),
            running(Options(port=port)),
        ):
            pass


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        encode({"nope": []}),
        encode({"spaces": [{"space": "cdf"}]}),
        encode({"streams": [stream("events", "NoTemplate")]}),
    ],
)
def test_a_seed_file_that_is_not_usable_is_said(tmp_path, content):
    """The sentence names the file; the state can be opened again afterwards."""
    path = tmp_path / "seeds.json"
    path.write_bytes(content)
    options = Options(seeds=(path,), data=tmp_path / "state")
    for _ in range(2):
        with pytest.raises(SandboxError, match=r"seeds\.json"), running(options):
            pass


def test_importing_the_module_is_cheap():
    """Neither the server nor the world is loaded before something is served."""
    code = "import sys, cdf_upsert.sandbox.serve; print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["uvicorn", "starlette", "sqlite3", "msgspec", "cdf_upsert.sandbox.world"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_sentence_says_what_to_install():
    """Where starlette is missing, the command names the extra."""
    code = f"import sys; sys.modules['starlette'] = None\n{COMMAND}"
    done = subprocess.run(
        [sys.executable, "-c", code, "sandbox", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "pip install 'cdf-upsert[sandbox]'" in done.stderr


def test_the_greeting_is_loud_off_the_machine():
    """Any address but loopback is warned of; loopback is not."""
    address = Address("http://x:1", "p", "c", "s", "http://x:1/oauth2/token")
    for host, loud in (
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("example", True),
    ):
        assert is_loopback(host) != loud
        out = io.StringIO()
        greet(address, Options(host=host), out)
        assert ("WARNING" in out.getvalue()) == loud
        assert out.getvalue().startswith("listening on http://x:1\n")


def test_off_the_machine_the_secret_is_a_fresh_one():
    """The well-known secret opens a sandbox on loopback only."""
    with running(Options()) as near, running(Options(host="0.0.0.0")) as far:
        assert near.address.client_secret == "sandbox-secret"
        assert far.address.client_secret != "sandbox-secret"
        url = far.address.token_url.replace("0.0.0.0", "127.0.0.1")
        form = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}
        assert httpx.post(url, data=form, trust_env=False).status_code == 401


def test_a_line_tells_a_request():
    """Time, operation, path, status or no reply, records, bytes, duration and fault, in one line."""
    entry = Entry(1, 0.0, "upsert", "POST", "/x", 202, 0.0123, 5, 10, 100)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d upsert POST /x 202 5 records 100 bytes \(10 on the wire\) 12.3 ms", line(entry)
    )
    cut = Entry(1, 0.0, "filter", "POST", "/x", 0, 0.0, fault="cut")
    assert line(cut).endswith("filter POST /x no reply 0.0 ms [cut]")


def test_a_log_that_nobody_reads_ends_no_request():
    """When the reader of the lines has gone, as after `| head -1`, requests are answered as before, silently."""
    with command("--port", "0") as (process, address):
        pasted(process)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        for _ in range(3):
            assert httpx.get(f"{address}/api/v1/nothing", trust_env=False).status_code == 404
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()


def test_small_replies_are_not_held_back():
    """Nagle's algorithm is off, which asyncio does only for sockets that name their protocol."""
    with _listen(Options()) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_the_fixture_gives_a_running_sandbox(cdf_sandbox):
    """`cdf_sandbox` is empty at first and takes records without any declaration."""
    with Api(cdf_sandbox) as api:
        assert api.get("/streams").json() == {"items": []}
        assert api.upsert(record("a")).status_code == 202
    assert list(cdf_sandbox.records("events")) == [("plant", "a")]
    assert cdf_sandbox.address.environment()["CDF_PROJECT"] == "sandbox"


class TestWithOptions:
    """A test module or class may set its own options."""

    @pytest.fixture
    def cdf_sandbox_options(self) -> Options:
        return Options(strict=True, project="mine")

    def test_the_fixture_heeds_them(self, cdf_sandbox):
        """Strict, and another project."""
        with Api(cdf_sandbox) as api:
            assert api.upsert(record("a")).status_code == 404
        assert cdf_sandbox.address.project == "mine"


def test_stopping_leaves_no_thread_and_no_port():
    """After the context the thread is gone and the port is free."""
    before = threading.active_count()
    with running(Options()) as sandbox:
        port = int(sandbox.address.base_url.rsplit(":", 1)[1])
    assert threading.active_count() == before
    with running(Options(port=port)):
        pass


def test_a_killed_sandbox_keeps_what_it_accepted(tmp_path):
    """After kill -9 every record of an accepted request is there."""
    state = tmp_path / "state"
    with command("--port", "0", "--data", str(state)) as (process, address):
        headers = sign_in(pasted(process))
        url = f"{address}/api/v1/projects/sandbox/streams/events/records/upsert"
        for number in range(5):
            content = {"items": [record(f"{number}.{n}") for n in range(100)]}
            assert httpx.post(url, json=content, headers=headers, trust_env=False).status_code == 202
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(Options(data=Path(state))) as sandbox:
        assert len(sandbox.records("events")) == 500
