"""The OAuth2 provider: each way to sign in, and what it refuses; time and secrets are passed in."""

import base64
import hashlib
from itertools import count
from urllib.parse import parse_qs, urlsplit

import pytest

from cdf_upsert.sandbox.identity import READ, WRITE, Client, Identity, OAuthError, capabilities

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "http://localhost:5000/callback"


def provider() -> Identity:
    numbers = count()
    clients = (
        Client("job", "s3cret", READ | WRITE),
        Client("reader", "s3cret", READ),
        Client("app", None, READ | WRITE),
    )
    return Identity({one.client_id: one for one in clients}, lambda: f"secret-{next(numbers)}")


def error(call, *args, **kwargs) -> str:
    with pytest.raises(OAuthError) as caught:
        call(*args, **kwargs)
    assert caught.value.body()["error"] == caught.value.error
    return caught.value.error


def credentials(**changes) -> dict[str, str]:
    return {"grant_type": "client_credentials", "client_id": "job", "client_secret": "s3cret"} | changes


def query(**changes) -> dict[str, str]:
    asked = {"response_type": "code", "client_id": "app", "redirect_uri": REDIRECT, "state": "xyz"}
    return asked | {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} | changes


def test_client_credentials_give_a_token_for_its_time():
    """A token is valid until its time is over, and not a moment longer."""
    identity = provider()
    reply = identity.token(credentials(), None, 1000.0)
    assert (reply["token_type"], reply["expires_in"], "refresh_token" in reply) == ("Bearer", 3600, False)
    grant = identity.grant_of(reply["access_token"], 4599.9)
    assert grant is not None
    assert grant.access == READ | WRITE
    assert identity.grant_of(reply["access_token"], 4600.0) is None
    assert identity.grant_of("made up", 1000.0) is None


def test_client_credentials_may_come_in_the_header():
    """Basic authentication does as well as the form."""
    header = "Basic " + base64.b64encode(b"job:s3cret").decode()
    assert provider().token({"grant_type": "client_credentials"}, header, 0.0)["access_token"]
    wrong = "Basic " + base64.b64encode(b"job:other").decode()
    assert error(provider().token, {"grant_type": "client_credentials"}, wrong, 0.0) == "invalid_client"
    assert error(provider().token, {"grant_type": "client_credentials"}, "Basic ***", 0.0) == "invalid_client"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (credentials(client_secret="wrong"), "invalid_client"),
        (credentials(client_id="nobody"), "invalid_client"),
        (credentials(client_id="app", client_secret=""), "unauthorized_client"),
        (credentials(grant_type="password"), "unsupported_grant_type"),
        ({"client_id": "app"}, "invalid_request"),
        (credentials(grant_type="refresh_token", refresh_token="made up"), "invalid_grant"),
        (credentials(grant_type="authorization_code", code="made up"), "invalid_grant"),
        (credentials(grant_type=DEVICE, device_code="made up"), "invalid_grant"),
    ],
)
def test_what_is_wrong_is_refused(form, told):
    """Each fault has the error code of the standard."""
    assert error(provider().token, form, None, 0.0) == told


def test_a_scope_may_only_narrow_the_access():
    """`records.read` gives a token that cannot write; other scopes give what the client has."""
    identity = provider()

    def access(**changes):
        token = identity.token(credentials(**changes), None, 0.0)["access_token"]
        return identity.grant_of(token, 1.0).access

    assert access(scope="https://api.example/.default") == READ | WRITE
    assert access(scope="records.read") == READ
    assert access(client_id="reader", scope="anything") == READ


def test_a_person_signs_in_by_code():
    """The code is good once, for its client, its redirect and its verifier, and for ten minutes."""
    identity = provider()

    def code(now: float = 0.0) -> str:
        target = identity.answer(identity.ask(query()), "you", allowed=True, now=now)
        found = parse_qs(urlsplit(target).query)
        assert target.startswith(REDIRECT)
        assert found["state"] == ["xyz"]
        return found["code"][0]

    def form(**changes) -> dict[str, str]:
        asked = {"grant_type": "authorization_code", "client_id": "app", "redirect_uri": REDIRECT}
        return asked | {"code_verifier": VERIFIER, "code": code()} | changes

    good = form()
    reply = identity.token(good, None, 1.0)
    assert identity.grant_of(reply["access_token"], 2.0).subject == "you"
    assert error(identity.token, good, None, 2.0) == "invalid_grant"
    assert error(identity.token, form(code_verifier="other"), None, 1.0) == "invalid_grant"
    assert error(identity.token, form(redirect_uri="http://localhost/other"), None, 1.0) == "invalid_grant"
    assert error(identity.token, form(client_id="job", client_secret="s3cret"), None, 1.0) == "invalid_grant"
    assert error(identity.token, form(), None, 600.0) == "invalid_grant"


def test_a_person_may_say_no():
    """A refusal is sent to the application with the state, and no code."""
    identity = provider()
    target = identity.answer(identity.ask(query()), "you", allowed=False, now=0.0)
    assert parse_qs(urlsplit(target).query)["error"] == ["access_denied"]
    assert "code=" not in target


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"client_id": "nobody"}, "invalid_client"),
        ({"redirect_uri": "https://evil.example/"}, "invalid_request"),
        ({"redirect_uri": "http://evil.example/"}, "invalid_request"),
        ({"redirect_uri": "https://localhost:5000/callback"}, "invalid_request"),
        ({"client_id": "job", "code_challenge_method": "S512"}, "invalid_request"),
        ({"redirect_uri": "http://localhost.evil.example/"}, "invalid_request"),
        ({"redirect_uri": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
    ],
)
def test_an_authorization_request_is_checked_before_anything_is_shown(changes, told):
    """Unknown clients, redirects off this machine and weak proofs are refused."""
    assert error(provider().ask, query(**changes)) == told


def test_a_public_client_must_prove_itself():
    """Without a challenge a public client is refused; a client with a secret may do without."""
    bare = {name: value for name, value in query().items() if not name.startswith("code_challenge")}
    assert error(provider().ask, bare) == "invalid_request"
    assert provider().ask(bare | {"client_id": "job"}).challenge is None


def test_a_client_with_a_secret_may_sign_in_without_a_challenge():
    """Its code needs no verifier, and one that comes all the same is not looked at."""
    identity = provider()
    bare = {name: value for name, value in query(client_id="job").items() if not name.startswith("code_")}
    form = {
        "grant_type": "authorization_code",
        "client_id": "job",
        "client_secret": "s3cret",
        "redirect_uri": REDIRECT,
    }
    for more in ({}, {"code_verifier": "any"}):
        target = identity.answer(identity.ask(bare), "you", allowed=True, now=0.0)
        code = parse_qs(urlsplit(target).query)["code"][0]
        assert identity.token(form | more | {"code": code}, None, 1.0)["access_token"]


def test_a_grant_is_for_its_client():
    """A refresh token or a device code of one client is worth nothing to another."""
    identity = provider()
    other = {"client_id": "job", "client_secret": "s3cret"}
    started = identity.start_device({"client_id": "app"}, "http://x/device", "you", 0.0)
    identity.answer_device(started["user_code"], allowed=True, now=1.0)
    device = {"grant_type": DEVICE, "device_code": started["device_code"]}
    assert error(identity.token, device | other, None, 2.0) == "invalid_grant"
    refresh = identity.token(device | {"client_id": "app"}, None, 3.0)["refresh_token"]
    assert (
        error(identity.token, {"grant_type": "refresh_token", "refresh_token": refresh} | other, None, 4.0)
        == "invalid_grant"
    )


def test_a_refresh_token_is_good_once():
    """A refresh gives a new pair; the old refresh token is worthless then."""
    identity = provider()
    target = identity.answer(identity.ask(query()), "you", allowed=True, now=0.0)
    code = parse_qs(urlsplit(target).query)["code"][0]
    form = {"client_id": "app", "redirect_uri": REDIRECT, "code_verifier": VERIFIER, "code": code}
    first = identity.token(form | {"grant_type": "authorization_code"}, None, 0.0)
    refresh = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": first["refresh_token"]}
    second = identity.token(refresh, None, 4000.0)
    assert identity.grant_of(second["access_token"], 7000.0) is not None
    assert error(identity.token, refresh, None, 4001.0) == "invalid_grant"
    again = refresh | {"refresh_token": second["refresh_token"]}
    assert error(identity.token, again, None, 4000.0 + 86_400 * 31) == "invalid_grant"


def test_a_device_waits_for_its_person():
    """Pending, then a token after the person's yes, exactly once; the code is taken however it is typed."""
    identity = provider()
    started = identity.start_device({"client_id": "app"}, "http://x/device", "you", 0.0)
    assert started["verification_uri_complete"].endswith(started["user_code"])
    form = {"grant_type": DEVICE, "client_id": "app", "device_code": started["device_code"]}
    assert error(identity.token, form, None, 1.0) == "authorization_pending"
    assert error(identity.token, form, None, 2.0) == "slow_down"
    assert error(identity.token, form, None, 8.0) == "slow_down"
    assert error(identity.token, form, None, 30.0) == "authorization_pending"
    assert not identity.answer_device("AAAA-AAAA", allowed=True, now=31.0)
    assert identity.answer_device(f" {started['user_code'].lower()} ", allowed=True, now=31.0)
    assert "refresh_token" in identity.token(form, None, 31.0)
    assert error(identity.token, form, None, 60.0) == "invalid_grant"


def test_a_device_may_be_refused_or_come_too_late():
    """A no is told as access_denied, and after a quarter of an hour the code has expired."""
    identity = provider()
    for allowed, when, told in ((False, 10.0, "access_denied"), (None, 901.0, "expired_token")):
        started = identity.start_device({"client_id": "app"}, "http://x/device", "you", 0.0)
        form = {"grant_type": DEVICE, "client_id": "app", "device_code": started["device_code"]}
        if allowed is not None:
            assert identity.answer_device(started["user_code"], allowed=allowed, now=5.0)
        assert error(identity.token, form, None, when) == told
    assert not identity.answer_device(started["user_code"], allowed=True, now=901.0)
    assert error(identity.start_device, {"client_id": "nobody"}, "http://x", "you", 0.0) == "invalid_client"


def test_a_token_can_be_ended_and_revoked():
    """An ended token is not valid any more; revoking what is unknown is no error."""
    identity = provider()
    for end in (identity.end, lambda token: identity.revoke({"token": token})):
        token = identity.issue("job", "job", "", 0.0)
        assert identity.grant_of(token, 1.0) is not None
        end(token)
        assert identity.grant_of(token, 1.0) is None
        end(token)


def test_capabilities_are_listed_by_access_list():
    """The inspection groups actions by their list and names the project."""
    found = capabilities({"streamsAcl:READ", "streamsAcl:CREATE"}, "p")
    assert found == [
        {
            "streamsAcl": {"actions": ["CREATE", "READ"], "scope": {"all": {}}, "version": 1},
            "projectScope": {"projects": ["p"]},
        }
    ]
