"""Sign-in over HTTP: where the endpoints are found, and that each answers there."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.sandbox.api import Api

REDIRECT = "http://127.0.0.1:5000/callback"
DISCOVERIES = (
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/oauth2/.well-known/openid-configuration",
    "/a-tenant/v2.0/.well-known/openid-configuration",
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(Options()) as found:
        yield found


@pytest.fixture(scope="module")
def http(sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.address.base_url, trust_env=False) as found:
        yield found


@pytest.mark.parametrize("path", DISCOVERIES)
def test_the_endpoints_of_a_discovery_document_answer(sandbox, http, path):
    """Each document, also that of a tenant, leads through every endpoint to tokens that work, and to their end."""
    found = http.get(path).json()
    secret = sandbox.address.client_secret
    client = {"client_id": "sandbox", "client_secret": secret}
    job = http.post(found["token_endpoint"], data=client | {"grant_type": "client_credentials"}).json()
    query = {"response_type": "code", "client_id": "sandbox", "redirect_uri": REDIRECT, "prompt": "none"}
    back = http.get(found["authorization_endpoint"], params=query)
    assert back.status_code == 302
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    person = http.post(found["token_endpoint"], data=client | form).json()
    form = {"grant_type": "refresh_token", "refresh_token": person["refresh_token"]}
    fresh = http.post(found["token_endpoint"], data=client | form).json()
    device = http.post(found["device_authorization_endpoint"], data={"client_id": "sandbox-app"}).json()
    assert http.get(device["verification_uri_complete"]).status_code == 200
    for one in (job, person, fresh):
        with Api(sandbox, one["access_token"]) as api:
            assert api.get("/streams").status_code == 200
            assert (
                http.post(found["revocation_endpoint"], data={"token": one["access_token"]}).status_code
                == 200
            )
            assert api.get("/streams").status_code == 401


def test_a_refused_sign_in_has_the_shape_of_the_standard(http):
    """The error and its description, not to be cached, with the status of the fault."""
    reply = http.post("/oauth2/token", data={"grant_type": "client_credentials", "client_id": "nobody"})
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_client")
    assert reply.json()["error_description"]
    assert reply.headers["cache-control"] == "no-store"
    for path in ("/oauth2/token", "/oauth2/device", "/oauth2/revoke", "/device"):
        assert http.post(path, data={"x": "y" * 70_000}).status_code == 413
    assert http.post("/oauth2/token", content=b"\xff\xfe%zz").status_code == 401


def test_a_page_is_no_place_for_scripts(http):
    """What comes in a query is shown as text."""
    page = http.get("/device", params={"user_code": '"><script>alert(1)</script>'}).text
    assert "<script>" not in page


def test_the_clock_may_run_faster_than_the_wall():
    """Record times and quotas follow the sandbox's clock; a token lives by the wall's."""
    with running(Options(clock_speed=100_000)) as sandbox, Api(sandbox) as api:
        first = sandbox.ask(lambda service: service.clock.now())
        while sandbox.ask(lambda service: service.clock.now()) < first + 7200:
            pass
        assert api.get("/streams").status_code == 200
        assert sandbox.ask(lambda service: service.clock.now() - service.clock.wall()) > 3600


def test_every_reply_has_a_request_id(http):
    """Pages, documents, tokens and refusals too, each its own."""
    replies = [
        http.get("/"),
        http.get("/device"),
        http.get(DISCOVERIES[0]),
        http.post("/oauth2/token"),
        http.post("/oauth2/device", data={"client_id": "sandbox-app"}),
        http.post("/oauth2/device"),
        http.post("/oauth2/revoke", data={"token": "x"}),
        http.get("/oauth2/authorize"),
        http.post("/"),
        http.get("/nowhere"),
    ]
    assert [one.status_code for one in replies] == [200, 200, 200, 401, 200, 401, 200, 400, 405, 404]
    assert len({one.headers["x-request-id"] for one in replies}) == len(replies)
