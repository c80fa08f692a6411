"""The pages in a real browser: signing in, saying no, connecting a device, looking at the state."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.sandbox.api import Api
from tests.sandbox.browser import Page, browser, needs_browser
from tests.sandbox.builders import record

pytestmark = needs_browser

VERIFIER = "correct-horse-battery-staple-correct-horse-battery"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Iterator[Running]:
    script = tmp_path_factory.mktemp("faults") / "faults.toml"
    script.write_text('[[fault]]\nkind = "throttle"\nrequests = [2]\n')
    with running(Options(faults=script)) as found:
        yield found


class _Callback(BaseHTTPRequestHandler):
    """Where the browser is sent back to; remembers the queries."""

    queries: list[dict[str, list[str]]]

    def do_GET(self) -> None:
        self.queries.append(parse_qs(urlsplit(self.path).query))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<p>back at the application</p>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def callback() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """The address of an application's callback, and the queries that have come."""
    handler = type("Callback", (_Callback,), {"queries": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/callback", handler.queries
        server.shutdown()
        thread.join()


def ask(sandbox: Running, redirect: str, **more: str) -> str:
    query = {
        "response_type": "code",
        "client_id": "sandbox-app",
        "redirect_uri": redirect,
        "state": "a state & more",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return f"{sandbox.address.base_url}/oauth2/authorize?{urlencode(query | more)}"


def test_a_person_signs_in_by_a_click(page, sandbox, callback):
    """The page says who asks; Allow leads back with a code that gives a token which may write."""
    redirect, queries = callback
    page.open(ask(sandbox, redirect))
    assert "sandbox-app asks to use this sandbox as you@sandbox" in page.text()
    page.click("button[value=allow]")
    assert page.text() == "back at the application"
    found = queries[0]
    assert found["state"] == ["a state & more"]
    form = {"grant_type": "authorization_code", "client_id": "sandbox-app", "redirect_uri": redirect}
    form |= {"code": found["code"][0], "code_verifier": VERIFIER}
    reply = httpx.post(sandbox.address.token_url, data=form, trust_env=False).json()
    with Api(sandbox, reply["access_token"]) as api:
        assert api.get("/streams").status_code == 200
    assert reply["refresh_token"]


def test_a_person_says_no_by_a_click(page, sandbox, callback):
    """Deny leads back with the refusal and no code."""
    redirect, queries = callback
    page.open(ask(sandbox, redirect))
    page.click("button[value=deny]")
    assert queries[0]["error"] == ["access_denied"]
    assert "code" not in queries[0]


def test_who_is_signed_in_already_is_not_asked(page, sandbox, callback):
    """With `prompt=none` the browser goes straight back with a code."""
    redirect, queries = callback
    page.open(ask(sandbox, redirect, prompt="none"))
    assert page.text() == "back at the application"
    assert queries[0]["code"]


def test_a_malformed_request_is_shown_and_not_sent_on(page, sandbox):
    """A redirect off this machine is told on the page; what the request holds is shown as text."""
    page.open(ask(sandbox, "https://evil.example/<script>document.title='owned'</script>"))
    assert "redirect_uri must be" in page.text()
    page.open(
        f"{sandbox.address.base_url}/device?user_code=%22%3E%3Cscript%3Edocument.title%3D'owned'%3C/script%3E"
    )
    assert page.run("document.title") == "Connect a device to the sandbox"


def test_a_person_connects_a_device(page, sandbox):
    """Typing the code and Allow gives the waiting device its token; a wrong code is told."""
    url = f"{sandbox.address.base_url}/oauth2/device"
    started = httpx.post(url, data={"client_id": "sandbox-app"}, trust_env=False).json()
    page.open(started["verification_uri"])
    page.type("input", "WRONG")
    page.click("button[value=allow]")
    assert "no such code" in page.text()
    page.open(started["verification_uri"])
    page.type("input", started["user_code"].lower())
    page.click("button[value=allow]")
    assert "Your device is signed in." in page.text()
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "sandbox-app"}
    reply = httpx.post(
        sandbox.address.token_url, data=form | {"device_code": started["device_code"]}, trust_env=False
    )
    assert reply.json()["access_token"]


def test_the_front_page_shows_the_state(page, sandbox):
    """Streams with their counts, requests by status, faults, and the last requests."""
    with Api(sandbox) as api:
        assert [api.upsert(record("a"), stream_id="flights").status_code for _ in range(3)] == [202, 429, 202]
    page.open(sandbox.address.base_url)
    text = page.text()
    for word in (
        "flights",
        "BasicLiveData",
        "upsert",
        "429",
        "Faults on purpose",
        "throttle",
        "Last requests",
    ):
        assert word in text
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_front_page_of_an_empty_sandbox(page):
    """It says that there is nothing yet."""
    with running(Options()) as sandbox:
        page.open(sandbox.address.base_url)
        assert "There are no streams yet." in page.text()
        assert "There were no requests yet." in page.text()
