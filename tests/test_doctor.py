"""Broken configurations, each of which `doctor` names in one sentence; against the sandbox, over real sockets."""

import asyncio
import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest

from cdf_upsert.core import checkup
from cdf_upsert.core.checkup import Check, Mark
from cdf_upsert.doctor import Doctor, failure, report
from cdf_upsert.errors import LoaderError, UsageError
from cdf_upsert.network import Connections
from cdf_upsert.sandbox.serve import Options, Running, running
from cdf_upsert.settings import resolve
from tests.authorities import Authority, proxying, serving_tls
from tests.signing import FakeClock, answering, source

STREAMS = {"flights": "BasicLiveData", "archive": "ImmutableTestStream"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(Options(strict=True)) as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        for name, template in STREAMS.items():
            item = {"externalId": name, "settings": {"template": {"name": template}}}
            url = f"{served.address.base_url}/api/v1/projects/sandbox/streams"
            assert httpx.post(url, json={"items": [item]}, headers=headers).status_code == 201
        yield served


async def examined(
    environment: dict[str, str], directory: Path, clock: FakeClock, stream: str | None = None
) -> list[Check]:
    """All checks for these variables, as the command makes them."""
    checks: list[Check] = []
    try:
        settings = resolve({}, {"CDF_UPSERT_STATE_DIR": str(directory), **environment}, directory)
        tokens = source(settings.credentials, clock, patience=0, network=settings.network)
        connections = Connections(settings.network, clock.now)
        checks.extend(
            [check async for check in Doctor(settings, tokens, connections, clock, stream).examine()]
        )
    except UsageError as error:
        checks += checkup.not_usable(str(error), configured=bool(checks))
    return checks


def diagnosed(
    environment: dict[str, str], directory: Path, stream: str | None = "flights", ahead: float = 0.0
) -> list[Check]:
    return asyncio.run(examined(environment, directory, FakeClock(time.time() + ahead), stream))


def jwt(**claims: object) -> str:
    content = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{content}.c2ln"


def token_only(environment: dict[str, str], token: str) -> dict[str, str]:
    return {name: environment[name] for name in ("CDF_URL", "CDF_PROJECT")} | {"CDF_TOKEN": token}


def test_all_is_well(sandbox, tmp_path):
    """Every check has its mark, and the exit code is 0."""
    checks = diagnosed(sandbox.address.environment(), tmp_path)
    names = [
        "configuration",
        "address",
        "tls",
        "clock",
        "token",
        "project",
        "permission",
        "stream",
        "room",
        "budgets",
    ]
    assert [(check.name, check.mark) for check in checks] == [(name, Mark.OK) for name in names]
    assert checkup.exit_code(checks) == 0
    assert failure(checks) is None
    assert report(checks)["exitCode"] == 0
    shown = json.dumps(report(checks))
    assert sandbox.address.client_secret not in shown


def test_without_a_stream_those_that_there_are_are_listed(sandbox, tmp_path):
    """Whoever does not know the name yet finds it here."""
    last = diagnosed(sandbox.address.environment(), tmp_path, None)[-1]
    assert "archive (immutable)" in last.sentence
    assert "flights (mutable)" in last.sentence


Break = Callable[[dict[str, str], Path], dict[str, str]]

BROKEN: dict[str, tuple[Break, str, int, list[str]]] = {
    "nothing at all": (lambda _e, _d: {}, "configuration", 2, ["Nothing is configured", "--sandbox"]),
    "no secret": (
        lambda e, _d: e | {"IDP_CLIENT_SECRET": ""}, "configuration", 2, ["IDP_CLIENT_SECRET", "is missing"],
    ),
    "no client id": (lambda e, _d: e | {"IDP_CLIENT_ID": ""}, "configuration", 2, ["IDP_CLIENT_ID is missing"]),
    "no project": (lambda e, _d: e | {"CDF_PROJECT": ""}, "configuration", 2, ["CDF_PROJECT is missing"]),
    "no address": (lambda e, _d: e | {"CDF_URL": ""}, "configuration", 2, ["CDF_CLUSTER and CDF_URL are missing"]),
    "token and secret": (
        lambda e, _d: e | {"CDF_TOKEN": "t", "LOGIN_FLOW": ""}, "configuration", 2, ["are both set"],
    ),
    "unknown provider": (lambda e, _d: e | {"PROVIDER": "aws"}, "configuration", 2, ["PROVIDER", "'aws'"]),
    "placeholder": (
        lambda e, _d: e | {"CDF_PROJECT": "<project>"}, "configuration", 2, ["placeholder <project>"],
    ),
    "plain http": (lambda e, _d: e | {"CDF_URL": "http://x.test"}, "configuration", 2, ["plain http"]),
    "no secret file": (
        lambda e, _d: e | {"IDP_CLIENT_SECRET": "", "IDP_CLIENT_SECRET_FILE": "none"},
        "configuration", 2, ["IDP_CLIENT_SECRET_FILE", "cannot be read"],
    ),
    "failing secret command": (
        lambda e, _d: e | {"IDP_CLIENT_SECRET": "", "CDF_UPSERT_SECRET_COMMAND": f"{sys.executable} -c 1/0"},
        "configuration", 2, ["CDF_UPSERT_SECRET_COMMAND", "division by zero"],
    ),
    "no authorities": (
        lambda e, _d: e | {"SSL_CERT_FILE": "none.pem"}, "configuration", 2, ["SSL_CERT_FILE", "no such file"],
    ),
    "not signed in": (
        lambda e, _d: e | {"LOGIN_FLOW": "interactive", "IDP_DISCOVERY_URL": e["CDF_URL"], "IDP_TOKEN_URL": ""},
        "configuration", 2, ["Nobody is signed in", "cdf-upsert login"],
    ),
    "wrong secret": (
        lambda e, _d: e | {"IDP_CLIENT_SECRET": "wr0ng-wr0ng"}, "token", 4, ["invalid_client", "IDP_CLIENT_SECRET"],
    ),
    "unknown client": (lambda e, _d: e | {"IDP_CLIENT_ID": "me"}, "token", 4, ["invalid_client", "IDP_CLIENT_ID"]),
    "wrong token address": (
        lambda e, _d: e | {"IDP_TOKEN_URL": e["CDF_URL"] + "/nowhere"}, "token", 4, ["answers 404", "IDP_TOKEN_URL"],
    ),
    "wrong tenant": (
        lambda e, _d: e | {"IDP_TOKEN_URL": "{refusal:invalid_request:AADSTS90002: Tenant 'x' not found.}"},
        "token", 4, ["AADSTS90002", "IDP_TENANT_ID"],
    ),
    "wrong scope": (
        lambda e, _d: e | {"IDP_TOKEN_URL": "{refusal:invalid_scope:AADSTS70011: The scope is not valid.}"},
        "token", 4, ["AADSTS70011", "IDP_SCOPES"],
    ),
    "expired secret": (
        lambda e, _d: e | {"IDP_TOKEN_URL": "{refusal:invalid_client:AADSTS7000222: The secret is expired.}"},
        "token", 4, ["AADSTS7000222", "in force"],
    ),
    "provider not there": (
        lambda e, _d: e | {"IDP_TOKEN_URL": "http://127.0.0.1:{free}/t"}, "token", 2, ["No connection to 127.0.0.1"],
    ),
    "unknown provider's name": (
        lambda e, _d: e | {"IDP_TOKEN_URL": "https://idp.invalid/t"}, "token", 2, ["idp.invalid is not known"],
    ),
    "wrong cluster": (
        lambda e, _d: e | {"CDF_URL": "https://cluster.invalid"}, "address", 2, ["cluster.invalid is not known"],
    ),
    "nobody listens": (
        lambda e, _d: e | {"CDF_URL": "http://127.0.0.1:{free}"}, "address", 2, ["No connection to 127.0.0.1"],
    ),
    "https to a port of http": (
        lambda e, _d: e | {"CDF_URL": e["CDF_URL"].replace("http:", "https:")}, "tls", 2, ["cannot agree on TLS"],
    ),
    "unknown authority": (lambda e, _d: e | {"CDF_URL": "{tls}"}, "tls", 2, ["not trusted", "SSL_CERT_FILE"]),
    "certificate of another host": (
        lambda e, _d: e | {"CDF_URL": "{tls:elsewhere.test:1}", "SSL_CERT_FILE": "ca.pem"}, "tls", 2, ["another name"],
    ),
    "expired certificate": (
        lambda e, _d: e | {"CDF_URL": "{tls:127.0.0.1:-1}", "SSL_CERT_FILE": "ca.pem"}, "tls", 2, ["expired", "clock"],
    ),
    "proxy wants a password": (
        lambda e, _d: e | {"CDF_URL": "https://x.test", "HTTPS_PROXY": "{proxy:me:right}"},
        "address", 2, ["The proxy 127.0.0.1", "407", "user name and password"],
    ),
    "proxy not there": (
        lambda e, _d: e | {"CDF_URL": "https://x.test", "HTTPS_PROXY": "127.0.0.1:{free}"},
        "address", 2, ["The proxy 127.0.0.1", "HTTPS_PROXY"],
    ),
    "expired token": (
        lambda e, _d: token_only(e, jwt(exp=1_700_000_000)), "token", 4, ["The token ended at 2023-11-14"],
    ),
    "no token at all": (lambda e, _d: token_only(e, "g4rbage"), "project", 4, ["refuses the token"]),
    "token of another issuer": (
        lambda e, _d: token_only(e, jwt(iss="https://idp.test/other")), "project", 4, ["issuer https://idp.test/other"],
    ),
    "other project": (
        lambda e, _d: e | {"CDF_PROJECT": "sandbux"}, "project", 4, ["not for project sandbux", "did you mean sandbox?"],
    ),
    "no write permission": (
        lambda e, _d: e | {"IDP_CLIENT_ID": "sandbox-reader"}, "permission", 4, ["lacks streamRecordsAcl:WRITE"],
    ),
    "something else answers": (
        lambda e, _d: token_only(e, "t0ken") | {"CDF_URL": "{portal}"}, "project", 4, ["opens no project"],
    ),
    "a redirect answers": (
        lambda e, _d: token_only(e, "t0ken") | {"CDF_URL": "{redirect}"}, "project", 4, ["redirects elsewhere"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_configuration_is_named_in_one_sentence(sandbox, tmp_path, name):
    """The first check that fails names the cause and the mend, and shows no secret."""
    change, check_name, code, told = BROKEN[name]
    environment = change(sandbox.address.environment(), tmp_path)

    async def trial() -> list[Check]:
        async with Stage(tmp_path) as stage:
            filled = {key: await stage.fill(text) for key, text in environment.items()}
            return await examined(filled, tmp_path, FakeClock(time.time()), "flights")

    checks = asyncio.run(trial())
    failed = failure(checks)
    assert failed is not None, checks
    said = f"{failed.sentence} {failed.mend}"
    assert failed.name == check_name, said
    assert [part for part in told if part not in said] == []
    assert checkup.exit_code(checks) == code
    assert not any(
        secret in repr(checks) for secret in ("wr0ng", "g4rbage", "t0ken", sandbox.address.client_secret)
    )


class Stage:
    """Servers for a trial; `fill` puts their addresses where a text asks for them in braces."""

    def __init__(self, directory: Path) -> None:
        self._stack = AsyncExitStack()
        self._authority = Authority(directory)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def fill(self, text: str) -> str:
        before, opened, rest = text.partition("{")
        if not opened:
            return text
        asked, _, after = rest.rpartition("}")
        kind, *words = asked.split(":")
        return before + await self._open(kind, words) + after

    async def _open(self, kind: str, words: list[str]) -> str:
        enter = self._stack.enter_async_context
        match kind:
            case "free":
                with socket.create_server(("127.0.0.1", 0)) as one:
                    return str(one.getsockname()[1])
            case "tls":
                host, days = words or ("127.0.0.1", "1")
                port = await enter(serving_tls(self._authority.issue("server", host, days=float(days))))
                return f"https://127.0.0.1:{port}"
            case "proxy":
                proxy = await enter(proxying(None, user=":".join(words)))
                return f"http://me:wr0ng@127.0.0.1:{proxy.port}"
            case "refusal":
                body = json.dumps({"error": words[0], "error_description": ":".join(words[1:])}).encode()
                return await enter(answering(_reply("400 Bad Request", body)))
            case "portal":
                return (
                    await enter(answering(_reply("200 OK", b"<html>Please sign in</html>")))
                ).removesuffix("/token")
            case _:
                reply = b"HTTP/1.1 302 Found\r\nLocation: https://portal.test\r\nContent-Length: 0\r\n\r\n"
                return (await enter(answering(reply))).removesuffix("/token")


def _reply(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("hours", "told"), [(1, "1 hour ahead of"), (-25, "25 hours behind")])
def test_a_clock_that_is_off_is_named(sandbox, tmp_path, hours, told):
    """By the date of the service's own answer; what comes after it is looked at all the same."""
    checks = diagnosed(sandbox.address.environment(), tmp_path, ahead=hours * 3600)
    failed = failure(checks)
    assert failed is not None
    assert failed.name == "clock"
    assert told in failed.sentence
    assert checkup.exit_code(checks) == 2
    assert checks[-1].name == "budgets"


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ("flight", ["no stream flight", "did you mean flights?", "archive"]),
        ("archive", ["archive is immutable", "BasicLiveData"]),
    ],
)
def test_a_stream_that_takes_no_records_is_named(sandbox, tmp_path, stream, told):
    """A name that is nearly right, and a stream of the wrong kind."""
    checks = diagnosed(sandbox.address.environment(), tmp_path, stream)
    failed = failure(checks)
    assert failed is not None
    assert failed.name == "stream"
    assert [part for part in told if part not in f"{failed.sentence} {failed.mend}"] == []
    assert checkup.exit_code(checks) == 4


def test_a_load_that_was_refused_learns_the_cause_in_the_same_words(sandbox, tmp_path):
    """The first failure with its mend; nothing when all is well."""

    async def cause(environment: dict[str, str]) -> str | None:
        settings = resolve({}, environment, tmp_path)
        clock = FakeClock(time.time())
        connections = Connections(settings.network, clock.now)
        return await Doctor(
            settings, source(settings.credentials, clock), connections, clock, "flights"
        ).cause()

    environment = sandbox.address.environment()
    assert asyncio.run(cause(environment)) is None
    told = asyncio.run(cause(environment | {"IDP_CLIENT_ID": "sandbox-reader"}))
    assert told is not None
    assert told.startswith("This sign-in may not write records in project sandbox")
    assert told.endswith("streamRecordsAcl:WRITE.")


def test_a_service_that_repeats_the_token_gives_it_to_nobody(tmp_path):
    """The cause is told without it, also to whoever writes it down."""
    body = json.dumps({"error": {"message": "You sent t0ken-t0ken."}}).encode()

    async def trial() -> str:
        async with answering(_reply("401 Unauthorized", body)) as url:
            environment = token_only(
                {"CDF_URL": url.removesuffix("/token"), "CDF_PROJECT": "p"}, "t0ken-t0ken"
            )
            return repr(await examined(environment, tmp_path, FakeClock(time.time())))

    said = asyncio.run(trial())
    assert "You sent ***." in said
    assert "t0ken-t0ken" not in said


def test_a_session_that_the_provider_has_ended_is_named(sandbox, tmp_path):
    """The sentence names the command that mends it."""
    person = {
        "CDF_URL": sandbox.address.base_url,
        "CDF_PROJECT": "sandbox",
        "LOGIN_FLOW": "interactive",
        "PROVIDER": "other",
        "IDP_DISCOVERY_URL": sandbox.address.base_url,
        "IDP_CLIENT_ID": "sandbox-app",
    }
    kept = {
        "clientId": "sandbox-app",
        "tokenUrl": sandbox.address.token_url,
        "settings": {},
        "tokens": {"access": "0ld-token", "expires": 1.0, "refresh": "0ld-refresh"},
    }
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "default.json").write_text(json.dumps(kept))
    failed = failure(diagnosed(person, tmp_path))
    assert failed is not None
    assert failed.name == "token"
    assert "cdf-upsert login" in failed.sentence
    assert "0ld" not in repr(failed)


def test_a_connection_that_breaks_in_the_middle_is_told(sandbox, tmp_path):
    """What was seen before stays, and the rest is not guessed."""
    environment = sandbox.address.environment()

    class Breaking:
        """A source of tokens at whose first use the service goes away."""

        async def token(self) -> str:
            connections.url = "http://127.0.0.1:1"
            return "t0ken"

    class Diverted(Connections):
        url: str | None = None

        def client(self, url: str, *, timeout: float) -> httpx.AsyncClient:
            client = super().client(url, timeout=timeout)
            if self.url is not None:
                to = self.url
                client.event_hooks = {"request": [lambda request: _divert(request, to)]}
            return client

    async def _divert(request: httpx.Request, to: str) -> None:
        request.url = request.url.copy_with(port=httpx.URL(to).port)

    settings = resolve({}, environment, tmp_path)
    clock = FakeClock(time.time())
    connections = Diverted(settings.network, clock.now)

    async def trial() -> list[Check]:
        return [check async for check in Doctor(settings, Breaking(), connections, clock).examine()]

    checks = asyncio.run(trial())
    assert [check.name for check in checks] == [
        "configuration",
        "address",
        "tls",
        "clock",
        "token",
        "address",
    ]
    assert checks[-1].mark is Mark.FAILED


def command(
    arguments: list[str], environment: dict[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from cdf_upsert.cli import main; main()", *arguments],
        cwd=directory,
        env={"CDF_UPSERT_STATE_DIR": str(directory / "state"), "PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_tells_people_and_programs(sandbox, tmp_path):
    """Lines for people, one JSON object for programs, the exit code for both; standard error stays empty."""
    environment = sandbox.address.environment()
    done = command(["doctor", "flights"], environment, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 10
    done = command(["doctor", "archive", "--json"], environment, tmp_path)
    assert (done.returncode, done.stderr) == (4, "")
    content = json.loads(done.stdout)
    assert content["schema"] == "cdf-upsert/doctor/1"
    assert content["checks"][-1]["mark"] == "ok"
    assert [check["name"] for check in content["checks"] if check["mark"] == "failed"] == ["stream"]
    done = command(["doctor", "--sandbox"], {}, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = command(["doctor"], {"CDF_PROJECT": "a b"}, tmp_path)
    assert done.returncode == 2
    assert "FAILED   configuration  CDF_PROJECT" in done.stdout
    assert json.loads(command(["doctor", "--json"], {}, tmp_path).stdout)["exitCode"] == 2
    assert UsageError.exit_code == 2
    assert LoaderError.exit_code == 1


def test_logout_forgets(tmp_path):
    """Also twice, and for a profile by name."""
    store = tmp_path / "state" / "sessions"
    store.mkdir(parents=True)
    (store / "test.json").write_text("{}")
    done = command(["logout", "--profile", "test"], {}, tmp_path)
    assert (done.returncode, done.stderr) == (0, "Signed out of profile test.\n")
    assert not (store / "test.json").exists()
    done = command(["logout", "--profile", "test"], {}, tmp_path)
    assert done.stderr == "Nobody is signed in for profile test.\n"
