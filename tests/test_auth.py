"""Tokens against the sandbox's identity provider, over real sockets: had, renewed, refused."""

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from cdf_upsert.auth import SessionStore, login
from cdf_upsert.auth.provider import Unheard
from cdf_upsert.auth.source import Renewing
from cdf_upsert.core.access import ClientAuth, ClientCredentials, GivenToken, Network
from cdf_upsert.core.diagnosis import Explanation
from cdf_upsert.core.granting import Answer, Granted
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import LoaderError, RefusedError, UnavailableError, UsageError
from cdf_upsert.network import Connections
from cdf_upsert.sandbox.serve import Options, Running, running
from tests.signing import (
    Desk,
    DictVault,
    FakeClock,
    allow,
    answering,
    client_of,
    person_of,
    source,
    token_requests,
    works,
)

HOUR = 3600


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with running(Options()) as sandbox:
        yield sandbox


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(time.time())


def failing(tmp_path: Path, script: str):
    path = tmp_path / "faults.toml"
    path.write_text(script)
    return running(Options(faults=path))


@pytest.mark.parametrize("how", list(ClientAuth))
def test_client_credentials_give_a_token_that_the_service_takes(shared, clock, how):
    """By a form and by a Basic header, with scopes, audience and resource beside."""
    credentials = client_of(shared, client_auth=how, scopes=("a", "b"), audience="x", resource="y")
    learnt: list[Secret] = []
    token = asyncio.run(source(credentials, clock, learn=learnt.append).token())
    assert works(shared, token)
    assert Secret(token) in learnt


def test_id_and_secret_are_encoded_for_a_basic_header(clock):
    """As RFC 6749 wants it (section 2.3.1): a colon or a letter beyond Latin-1 breaks nothing."""
    heard: list[bytes] = []

    async def load() -> None:
        async with answering(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\n{}", heard) as url:
            credentials = ClientCredentials(url, "me:too", Secret("s€cret %+"), client_auth=ClientAuth.BASIC)
            with pytest.raises(RefusedError):
                await source(credentials, clock).token()

    asyncio.run(load())
    (line,) = (line for line in heard[0].split(b"\r\n") if line.lower().startswith(b"authorization:"))
    assert base64.b64decode(line.split()[-1]) == b"me%3Atoo:s%E2%82%ACcret+%25%2B"


def test_a_token_is_kept_until_shortly_before_its_end(shared, clock):
    """It is asked for once in its hour, and again in its last minute, when the old one still works."""

    async def load() -> None:
        tokens = source(client_of(shared), clock)
        before = token_requests(shared)
        first = await tokens.token()
        clock.time += HOUR - 65
        assert await tokens.token() == first
        assert token_requests(shared) == before + 1
        clock.time += 10
        second = await tokens.token()
        assert second != first
        assert token_requests(shared) == before + 2
        assert works(shared, first)

    asyncio.run(load())


@pytest.mark.parametrize("ask", ["first", "expired", "refused"])
def test_eight_who_ask_at_once_get_one_token_by_one_request(shared, clock, ask):
    """At the start, at the end of a token, and when the service refuses it for all requests under way."""

    async def load() -> None:
        tokens = source(client_of(shared), clock)
        old = None if ask == "first" else await tokens.token()
        before = token_requests(shared)
        match ask:
            case "first":
                got = await asyncio.gather(*(tokens.token() for _ in range(8)))
            case "expired":
                clock.time += HOUR
                got = await asyncio.gather(*(tokens.token() for _ in range(8)))
            case _:
                shared.ask(lambda service: service.identity.end(str(old)))
                got = await asyncio.gather(*(tokens.renewed(str(old)) for _ in range(8)))
        assert len(set(got)) == 1
        assert old not in got
        assert token_requests(shared) == before + 1
        # A straggler whose request went out with the old token gets the new one without asking.
        assert old is None or await tokens.renewed(old) == got[0]
        assert token_requests(shared) == before + 1

    asyncio.run(load())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"client_secret": Secret("wr0ng-wr0ng")},
            ["invalid_client", "client secret is wrong", "IDP_CLIENT_SECRET"],
        ),
        ({"client_id": "nobody"}, ["invalid_client", "client_id is not known", "IDP_CLIENT_ID"]),
        ({"client_id": "sandbox-app"}, ["unauthorized_client", "LOGIN_FLOW"]),
    ],
)
def test_a_refusal_is_told_in_the_providers_words(shared, clock, changes, told):
    """The loader ends with exit code 4; the secret is not in the words, and nobody asks a second time."""

    async def load() -> str:
        tokens = source(client_of(shared, **changes), clock)
        before = token_requests(shared)
        errors = await asyncio.gather(*(tokens.token() for _ in range(8)), return_exceptions=True)
        assert {type(error) for error in errors} == {RefusedError}
        assert token_requests(shared) == before + 1
        return str(errors[0])

    sentence = asyncio.run(load())
    assert [part for part in told if part not in sentence] == []
    assert "wr0ng" not in sentence
    assert clock.slept == []


def test_a_secret_that_the_provider_repeats_is_masked(clock):
    """Whatever the provider writes into its refusal, the secret is not told on."""
    words = "AADSTS7000215: bad s3cret-s3cret\\r\\nTrace ID: 1"
    body = f'{{"error": "invalid_client", "error_description": "{words}"}}'.encode()

    async def load() -> str:
        async with answering(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as url:
            with pytest.raises(RefusedError) as caught:
                await source(_secret_client(url), clock).token()
            return str(caught.value)

    sentence = asyncio.run(load())
    assert "AADSTS7000215: bad ***" in sentence
    assert "Trace ID" not in sentence


def test_no_redirect_of_the_provider_is_followed(clock):
    """The secret goes to the address that was configured and nowhere else."""
    reached: list[bytes] = []

    async def load() -> str:
        async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", reached) as other:
            head = f"HTTP/1.1 307 Go\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n"
            async with answering(head.encode()) as url:
                with pytest.raises(RefusedError) as caught:
                    await source(_secret_client(url), clock).token()
                return str(caught.value)

    assert "redirects elsewhere (307)" in asyncio.run(load())
    assert reached == []


def test_a_provider_that_is_down_is_tried_again_within_the_patience(tmp_path, clock):
    """Three errors cost waiting, longer each time, and no token is lost by them."""
    script = '[[fault]]\nkind = "answer"\nstatus = 503\non = ["token"]\nlast = 3\n'
    with failing(tmp_path, script) as sandbox:
        assert works(sandbox, asyncio.run(source(client_of(sandbox), clock).token()))
        assert token_requests(sandbox) == 4
    assert len(clock.slept) == 3
    assert clock.slept == sorted(clock.slept)


def test_patience_with_the_provider_ends(tmp_path, clock):
    """After the patience the run stops with exit code 5, and those who waited behind do not wait again."""
    with failing(tmp_path, '[[fault]]\nkind = "answer"\nstatus = 503\non = ["token"]\n') as sandbox:

        async def load() -> list[object]:
            tokens = source(client_of(sandbox), clock, patience=60)
            return await asyncio.gather(*(tokens.token() for _ in range(8)), return_exceptions=True)

        errors = asyncio.run(load())
    assert {type(error) for error in errors} == {UnavailableError}
    assert "answers 503" in str(errors[0])
    assert UnavailableError.exit_code == 5
    assert sum(clock.slept) <= 60
    assert len(clock.slept) > 3


def test_a_provider_that_is_down_costs_no_time_while_the_token_lives(tmp_path, clock):
    """In the token's last minute the provider is asked now and then, and the old token goes on serving."""
    script = '[[fault]]\nkind = "answer"\nstatus = 503\non = ["token"]\nfirst = 2\nlast = 3\n'
    with failing(tmp_path, script) as sandbox:

        async def load() -> None:
            tokens = source(client_of(sandbox), clock)
            first = await tokens.token()
            clock.time += HOUR - 30
            for _ in range(100):
                assert await tokens.token() == first
            assert token_requests(sandbox) == 2
            clock.time += 5
            assert await tokens.token() == first
            clock.time += 5
            assert await tokens.token() != first
            assert clock.slept == []

        asyncio.run(load())


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://name.invalid/token", "name.invalid is not known"),
        ("https://127.0.0.1:{port}/t", "cannot agree on TLS"),
    ],
)
def test_what_no_waiting_mends_is_told_at_once(shared, clock, url, told):
    """A name that nobody knows and a port that speaks no TLS end the run before anything is sent."""
    port = shared.address.base_url.rpartition(":")[2]
    credentials = client_of(shared, token_url=url.replace("{port}", port))
    with pytest.raises(UsageError, match=told):
        asyncio.run(source(credentials, clock).token())
    assert clock.slept == []


def test_a_name_that_was_known_before_is_waited_for(clock):
    """When the network goes away in the middle of a load, the load waits until it is back."""
    gone = Unheard(Explanation("The name is not known.", "Wait."), hopeless=True)
    answers = iter([_granted("one", clock), gone, gone, _granted("two", clock)])

    async def fetch(_refused: str | None) -> Answer | Unheard:
        return next(answers)

    async def load() -> None:
        tokens = Renewing(
            fetch,
            "https://x.test",
            clock=clock,
            dice=Random(7),
            patience=60,
            secrets=(),
            learn=lambda _: None,
        )
        assert await tokens.token() == "one"
        clock.time += HOUR
        assert await tokens.token() == "two"

    asyncio.run(load())
    assert len(clock.slept) == 2


def test_a_token_without_a_known_end_is_used_until_it_is_refused(clock):
    """Providers need not say how long a token lives; and one that ends on arrival is used for a moment."""
    answers = iter([Granted(Secret("one")), Granted(Secret("two"), clock.time, 0.0)])

    async def fetch(_refused: str | None) -> Answer | Unheard:
        return next(answers)

    async def load() -> None:
        tokens = Renewing(
            fetch,
            "https://x.test",
            clock=clock,
            dice=Random(7),
            patience=60,
            secrets=(),
            learn=lambda _: None,
        )
        assert await tokens.token() == "one"
        clock.time += 1000 * HOUR
        assert await tokens.token() == "one"
        assert await tokens.renewed("one") == "two"
        assert await tokens.token() == "two"

    asyncio.run(load())


def test_a_given_token_is_not_renewed_unless_its_place_has_a_newer_one(clock, tmp_path):
    """A file that somebody else keeps fresh is read again after a refusal; a fixed token is what it is."""
    place = tmp_path / "token"
    place.write_text("second")

    async def load() -> None:
        fixed = source(GivenToken(Secret("first")), clock)
        assert await fixed.token() == "first"
        assert await fixed.renewed("first") is None
        learnt: list[Secret] = []
        kept = source(
            GivenToken(Secret("first"), lambda: Secret(place.read_text())), clock, learn=learnt.append
        )
        assert await asyncio.gather(*(kept.renewed("first") for _ in range(8))) == ["second"] * 8
        assert await kept.token() == "second"
        assert learnt == [Secret("second")]
        assert await kept.renewed("second") is None

    asyncio.run(load())


def test_a_session_is_refreshed_and_kept_for_the_next_command(shared, clock, tmp_path):
    """Refresh tokens of the sandbox are good for one use: each process finds what the other has left."""

    async def load() -> None:
        session = await _signed_in(shared, clock, tmp_path)
        before = token_requests(shared)
        one, other = source(session, clock), source(session, clock)
        first = await one.token()
        assert await other.token() == first
        assert token_requests(shared) == before
        clock.time += HOUR
        got = await asyncio.gather(one.token(), other.token(), one.token(), other.token())
        assert set(got) != {first}
        assert len(set(got)) == 1
        assert token_requests(shared) == before + 1
        shared.ask(lambda service: service.identity.end(got[0]))
        assert await one.renewed(got[0]) == await other.renewed(got[0])
        assert token_requests(shared) == before + 2
        assert works(shared, await source(session, clock).token())

    asyncio.run(load())


def test_a_revoked_session_asks_for_login(shared, clock, tmp_path):
    """When the provider ends the session, the run ends with exit code 4 and says what to do."""

    async def load() -> str:
        session = await _signed_in(shared, clock, tmp_path)
        shared.ask(lambda service: service.identity._refresh.clear())
        clock.time += HOUR
        with pytest.raises(RefusedError) as caught:
            await source(session, clock).token()
        return str(caught.value)

    sentence = asyncio.run(load())
    assert "invalid_grant" in sentence
    assert "cdf-upsert login" in sentence


def test_without_a_session_a_person_is_asked_to_sign_in(shared, clock, tmp_path):
    """Nothing prompts in the middle of a load: the sentence names the command."""
    with pytest.raises(UsageError, match=r"Nobody is signed in for profile test.*login --profile test"):
        source(person_of(shared, tmp_path, profile="test"), clock)


def test_a_session_of_another_client_is_not_used(shared, clock, tmp_path):
    """Tokens go only where their settings say."""
    session = asyncio.run(_signed_in(shared, clock, tmp_path))
    assert session.client_id == "sandbox-app"
    with pytest.raises(UsageError, match="is of client sandbox-app"):
        source(person_of(shared, tmp_path, client_id="other"), clock)


def test_the_token_of_a_session_goes_to_no_other_address(shared, clock, tmp_path):
    """A CDF_URL that somebody else has put into a directory's .env does not get it."""
    asyncio.run(_signed_in(shared, clock, tmp_path, remembered=(("base-url", "https://a.test"),)))
    here = person_of(shared, tmp_path, remembered=(("base-url", "https://a.test"), ("project", "other")))
    assert works(shared, asyncio.run(source(here, clock).token()))
    with pytest.raises(UsageError, match=r"is for https://a.test.*must not go to https://b.test"):
        source(person_of(shared, tmp_path, remembered=(("base-url", "https://b.test"),)), clock)


def test_tokens_go_into_the_keyring_where_there_is_one(shared, clock, tmp_path):
    """The file then holds none; a keyring that is locked or takes nothing is as good as none."""
    vault = DictVault()
    session = asyncio.run(_signed_in(shared, clock, tmp_path, vault))
    text = (tmp_path / "default.json").read_text()
    token = asyncio.run(source(session, clock, vault=vault).token())
    assert token not in text
    assert token in "".join(vault.kept.values())
    assert SessionStore(tmp_path, vault).forget("default")
    assert vault.kept == {}
    asyncio.run(_signed_in(shared, clock, tmp_path, DictVault(locked=True)))
    assert works(shared, asyncio.run(source(session, clock, vault=DictVault(locked=True)).token()))


def test_the_installed_keyring_is_found(tmp_path):
    """Without the library there is none; with it, it is the library itself."""
    code = "from cdf_upsert.auth import system_vault; print(system_vault())"
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (tmp_path / "keyring.py").write_text("def get_password(service_name, username): return None\n")
    assert "keyring.py" in run(env={"PYTHONPATH": str(tmp_path)}).stdout
    (tmp_path / "keyring.py").write_text("raise ImportError\n")
    assert run(env={"PYTHONPATH": str(tmp_path)}).stdout == "None\n"


def test_session_files_are_for_their_owner_alone(shared, clock, tmp_path):
    """The file and its directory can be read by nobody else, and a broken file is no session."""
    store = tmp_path / "state" / "sessions"
    asyncio.run(_signed_in(shared, clock, store))
    assert (store / "default.json").stat().st_mode & 0o777 == 0o600
    assert store.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in store.iterdir() if path.suffix != ".lock") == ["default.json"]
    for text in ("", "[]", "{}", '{"clientId": 1, "tokenUrl": 2, "settings": {}, "tokens": []}'):
        (store / "default.json").write_text(text)
        assert SessionStore(store, None).load("default") is None


def test_a_place_that_cannot_be_written_is_told(tmp_path, shared, clock):
    """A sign-in that cannot be kept says where it failed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LoaderError, match="cannot be kept in"):
        asyncio.run(_signed_in(shared, clock, tmp_path / "file" / "sessions"))


@pytest.mark.parametrize("installed", [True, False])
def test_one_http_stack_is_enough(shared, installed):
    """With and without the other HTTP library, which authlib prefers, only httpx is used, without warnings."""
    hide = "" if installed else "sys.modules['httpx2'] = None; "
    code = (
        f"import sys; {hide}"
        "import asyncio; from tests.signing import FakeClock, source;"
        "from cdf_upsert.core.access import ClientCredentials; from cdf_upsert.core.redact import Secret;"
        f"client = ClientCredentials({shared.address.token_url!r}, {shared.address.client_id!r},"
        f" Secret({shared.address.client_secret!r}));"
        "print(asyncio.run(source(client, FakeClock(1e9)).token()));"
        "print(sys.modules.get('httpx2'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    token, other = done.stdout.split()
    assert works(shared, token)
    assert other == "None"


def _granted(text: str, clock: FakeClock) -> Granted:
    return Granted(Secret(text), clock.time + HOUR, HOUR)


def _secret_client(url: str):
    return ClientCredentials(url, "me", Secret("s3cret-s3cret"))


async def _signed_in(
    sandbox: Running, clock: FakeClock, store: Path, vault: DictVault | None = None, **changes
):
    session = person_of(sandbox, store, **changes)
    desk = Desk(allow)
    await login(
        session,
        SessionStore(store, vault),
        connections=Connections(Network(), clock.now),
        clock=clock,
        desk=desk,
        learn=lambda _: None,
    )
    await asyncio.gather(*desk.tasks)
    return session
