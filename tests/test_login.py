"""People sign in: in a browser, with a code on another device, and out again."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from msgspec.structs import replace

from cdf_upsert.auth import SessionStore, login
from cdf_upsert.core.access import Endpoints, Network, Session
from cdf_upsert.core.granting import Granted
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import RefusedError, UsageError
from cdf_upsert.network import Connections
from cdf_upsert.sandbox.serve import Options, Running, running
from tests.signing import Desk, FakeClock, allow, answering, deny, person_of, source, works

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(Options()) as served:
        yield served


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(time.time())


def sign_in(
    session: Session, clock: FakeClock, desk: Desk, learnt: list[Secret] | None = None, **how
) -> Granted:
    async def run() -> Granted:
        try:
            return await login(
                session,
                SessionStore(session.store, None),
                connections=Connections(Network(), clock.now),
                clock=clock,
                desk=desk,
                learn=(learnt if learnt is not None else []).append,
                **how,
            )
        finally:
            await asyncio.gather(*desk.tasks, return_exceptions=True)

    return asyncio.run(run())


def test_a_person_signs_in_by_a_browser(sandbox, clock, tmp_path):
    """With PKCE and a loopback redirect; the address is shown too, for who has no browser here."""
    session = person_of(sandbox, tmp_path)
    desk, learnt = Desk(allow), []
    granted = sign_in(session, clock, desk, learnt)
    assert works(sandbox, granted.access.reveal())
    assert works(sandbox, asyncio.run(source(session, clock).token()))
    shown = urlsplit(desk.told[-1])
    query = {name: values[0] for name, values in parse_qs(shown.query).items()}
    assert query["code_challenge_method"] == "S256"
    assert query["redirect_uri"].startswith("http://localhost:")
    assert granted.access in learnt
    assert granted.refresh in learnt
    assert not any(secret.reveal() in line for secret in learnt for line in desk.told)
    page = desk.tasks[0].result()
    assert isinstance(page, httpx.Response)
    assert "Signed in" in page.text
    assert page.headers["referrer-policy"] == "no-referrer"


def test_entra_paths_are_used_without_a_discovery(sandbox, clock, tmp_path):
    """A provider whose endpoints the settings know is not asked for them."""
    root = f"{sandbox.address.base_url}/tenant/oauth2/v2.0"
    endpoints = Endpoints(f"{root}/authorize", f"{root}/token", f"{root}/devicecode")
    granted = sign_in(person_of(sandbox, tmp_path, provider=endpoints), clock, Desk(allow))
    assert works(sandbox, granted.access.reveal())


def test_a_person_who_says_no_is_told_so(sandbox, clock, tmp_path):
    """The provider's answer ends the sign-in at once, and nothing is kept."""
    with pytest.raises(RefusedError, match="access_denied"):
        sign_in(person_of(sandbox, tmp_path), clock, Desk(deny))
    assert list(tmp_path.glob("*.json")) == []


def test_a_redirect_with_another_state_changes_nothing(sandbox, clock, tmp_path):
    """Whoever guesses the port can neither end the sign-in nor slip in a code; nor can a broken request."""
    replies: list[int] = []

    def meddle(url: str) -> httpx.Response:
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0].replace("localhost", "127.0.0.1")
        port = urlsplit(redirect).port
        queries = ("code=evil&state=guess", "error=evil", "code=evil", "state=")
        replies.extend(httpx.get(f"{redirect}/?{query}").status_code for query in queries)
        replies.append(httpx.post(f"{redirect}/?code=evil").status_code)
        for junk in (b"", b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET " + b"a" * 70_000):
            with socket.create_connection(("127.0.0.1", port or 0)) as connection:
                connection.sendall(junk)
        return allow(url)

    assert works(sandbox, sign_in(person_of(sandbox, tmp_path), clock, Desk(meddle)).access.reveal())
    assert replies == [404] * 5


def test_a_port_that_is_in_use_is_no_obstacle(sandbox, clock, tmp_path):
    """Another port is taken, which providers must allow for loopback (RFC 8252, section 7.3)."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        desk = Desk(allow)
        sign_in(person_of(sandbox, tmp_path, redirect_port=port), clock, desk)
    assert f"localhost%3A{port}" not in desk.told[-1]


def test_nobody_comes_back_from_the_browser(sandbox, clock, tmp_path):
    """After the patience the sentence names the other way; without a browser the address is shown."""
    desk = Desk(None, browser=False)
    with pytest.raises(RefusedError, match="login --device"):
        sign_in(person_of(sandbox, tmp_path), clock, desk, patience=0.05)
    assert desk.told[0].endswith(". Go to:")
    assert desk.told[1].startswith(sandbox.address.base_url)


class DeviceDesk(Desk):
    """A person who types the code that is shown after some while."""

    def __init__(self, base_url: str, clock: FakeClock, answer: str, after: float) -> None:
        super().__init__()
        self._base_url, self._clock, self._answer, self._after = base_url, clock, answer, after

    def tell(self, text: str) -> None:
        super().tell(text)
        form = {"user_code": text.rpartition(" ")[2], "answer": self._answer}
        self._clock.after(self._after, lambda: httpx.post(f"{self._base_url}/device", data=form))


def test_a_person_signs_in_by_a_code_on_another_device(sandbox, clock, tmp_path):
    """The page and the code are shown; asking goes on, and slower when the provider says so."""
    desk = DeviceDesk(sandbox.address.base_url, clock, "allow", 12)
    session = person_of(sandbox, tmp_path, device=True)
    granted = sign_in(session, clock, desk)
    assert works(sandbox, granted.access.reveal())
    assert works(sandbox, asyncio.run(source(session, clock).token()))
    assert f"{sandbox.address.base_url}/device" in desk.told[0]
    # The sandbox's own clock stands still meanwhile, so it finds every try but the first too early.
    assert clock.slept[:3] == [5, 5, 10]


def test_a_code_that_is_denied_ends_the_sign_in(sandbox, clock, tmp_path):
    """Saying no on the other device is told here."""
    desk = DeviceDesk(sandbox.address.base_url, clock, "deny", 0)
    with pytest.raises(RefusedError, match="access_denied"):
        sign_in(person_of(sandbox, tmp_path, device=True), clock, desk)


def test_a_code_that_nobody_enters_ends_with_its_lifetime(sandbox, clock, tmp_path):
    """Asking ends when the code does."""
    began = clock.time
    with pytest.raises(RefusedError, match="Nobody entered the code in time"):
        sign_in(person_of(sandbox, tmp_path, device=True), clock, Desk())
    assert 900 <= clock.time - began < 1200


def test_a_provider_without_device_codes_is_told(sandbox, clock, tmp_path):
    """The sentence names the other way."""
    endpoints = Endpoints("http://127.0.0.1:1/a", "http://127.0.0.1:1/t", None)
    with pytest.raises(UsageError, match="knows no device codes"):
        sign_in(person_of(sandbox, tmp_path, device=True, provider=endpoints), clock, Desk())


@pytest.mark.parametrize("device", [True, False])
def test_an_unknown_client_is_told(sandbox, clock, tmp_path, device):
    """By device the provider refuses; in a browser it shows its own page, and nobody comes back."""
    session = person_of(sandbox, tmp_path, client_id="nobody", device=device)
    with pytest.raises(RefusedError, match="invalid_client" if device else "Nobody signed in"):
        sign_in(session, clock, Desk(), patience=0.05)


def test_an_address_without_a_discovery_document_is_told(clock, tmp_path, sandbox):
    """The sentence names the variable that holds the address."""

    async def run() -> str:
        async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>") as url:
            session = replace(person_of(sandbox, tmp_path), provider=url)
            with pytest.raises(UsageError) as caught:
                await login(
                    session,
                    SessionStore(tmp_path, None),
                    connections=Connections(Network(), clock.now),
                    clock=clock,
                    desk=Desk(),
                    learn=lambda _: None,
                )
            return str(caught.value)

    assert "IDP_DISCOVERY_URL" in asyncio.run(run())


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_signs_in_in_a_real_browser(sandbox, clock, tmp_path):
    """Chromium follows the redirect back to this machine and shows the last page."""
    assert CHROMIUM is not None
    session = person_of(sandbox, tmp_path / "sessions")

    def browse(url: str) -> str:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--user-data-dir={tmp_path / 'browser'}",
                "--virtual-time-budget=3000",
                "--dump-dom",
                f"{url}&prompt=none",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    desk = Desk(browse)
    granted = sign_in(session, clock, desk, patience=60)
    assert works(sandbox, granted.access.reveal())
    page = desk.tasks[0].result()
    assert isinstance(page, str)
    assert "Signed in" in page
