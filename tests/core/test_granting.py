"""What a token endpoint's answers mean, and what is said about its refusals."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.claims import Claims, claims_of
from cdf_upsert.core.granting import Granted, Later, Pending, Refused, answer_of, explain_provider
from cdf_upsert.core.redact import Secret

NOW = 1_700_000_000.0


def jwt(**claims: object) -> str:
    content = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{content}.sig"


@pytest.mark.parametrize(
    ("status", "body", "retry_after", "answer"),
    [
        (200, {"access_token": "t", "expires_in": 60}, None, Granted(Secret("t"), NOW + 60, 60.0)),
        (200, {"access_token": "t", "expires_in": "60"}, None, Granted(Secret("t"), NOW + 60, 60.0)),
        (200, {"access_token": "t", "token_type": "bearer"}, None, Granted(Secret("t"))),
        (200, {"access_token": "t", "expires_in": -1}, None, Granted(Secret("t"))),
        (200, {"access_token": "t", "expires_in": True}, None, Granted(Secret("t"))),
        (
            200,
            {"access_token": jwt(exp=NOW + 5)},
            None,
            Granted(Secret(jwt(exp=NOW + 5)), NOW + 5, 5.0),
        ),
        (
            200,
            {"access_token": "t", "refresh_token": "r", "expires_in": 1},
            None,
            Granted(Secret("t"), NOW + 1, 1.0, Secret("r")),
        ),
        (200, {"access_token": "t", "token_type": "mac"}, None, Refused(200)),
        (200, {"access_token": "a b"}, None, Refused(200)),
        (200, {"access_token": ""}, None, Refused(200)),
        (200, {"access_token": 5}, None, Refused(200)),
        (200, [], None, Refused(200)),
        (200, b"<html>", None, Refused(200)),
        (200, b"\xff", None, Refused(200)),
        (302, b"", None, Refused(302)),
        (404, b"<html>", None, Refused(404)),
        (400, {"error": "authorization_pending"}, None, Pending(slower=False)),
        (400, {"error": "slow_down"}, None, Pending(slower=True)),
        (429, b"", "7", Later("it answers 429", 7.0)),
        (429, b"", "Wed, 21 Oct 2015 07:28:00 GMT", Later("it answers 429")),
        (503, {"error": "x"}, "٣", Later("it answers 503 (x)")),
        (400, {"error": "temporarily_unavailable"}, None, Later("it answers 400 (temporarily_unavailable)")),
        (
            401,
            {"error": "invalid_client", "error_description": "AADSTS7: No.\r\nTrace ID: 1\r\nTimestamp: 2"},
            None,
            Refused(401, "invalid_client", "AADSTS7: No."),
        ),
        (400, {"error": "x", "error_description": 5}, None, Refused(400, "x")),
        (200, {"error": "x"}, None, Refused(200, "x")),
    ],
)
def test_answers_by_the_table(status, body, retry_after, answer):
    """Every kind of answer means one thing, also a strange one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert answer_of(status, content, retry_after, NOW) == answer


@given(
    st.integers(100, 599), st.binary() | st.from_type(dict).map(repr).map(str.encode), st.none() | st.text()
)
def test_no_answer_breaks_anything(status, body, retry_after):
    """Whatever comes, it has a meaning; and no token is seen where none is."""
    assert not isinstance(answer_of(status, body, retry_after, NOW), Granted)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (Refused(401, "invalid_client", "AADSTS7000215: Invalid secret."), ["AADSTS7000215", "not its id"]),
        (Refused(401, "invalid_client", "AADSTS7000222: Expired."), ["in force"]),
        (Refused(400, "invalid_request", "AADSTS90002: No tenant."), ["IDP_TENANT_ID"]),
        (Refused(400, "unauthorized_client", "AADSTS700016: No app."), ["IDP_CLIENT_ID", "tenant"]),
        (Refused(400, "invalid_resource", "AADSTS500011: No."), ["IDP_SCOPES", "cluster"]),
        (Refused(401, "invalid_client"), ["(invalid_client)", "IDP_CLIENT_SECRET"]),
        (Refused(403, "access_denied", "No."), ["IDP_AUDIENCE"]),
        (Refused(400, "invalid_scope", "No."), ["IDP_SCOPES"]),
        (Refused(400, "invalid_grant", "No."), ["cdf-upsert login"]),
        (Refused(400, "strange"), ["(strange)", "IDP_ variables"]),
        (Refused(307), ["redirects elsewhere (307)", "IDP_TOKEN_URL"]),
        (Refused(404), ["answers 404", "gives no token", "IDP_TOKEN_URL"]),
    ],
)
def test_a_refusal_names_its_mend(refused, told):
    """The provider's own words, and the variable to look at."""
    sentence = str(explain_provider(refused, "https://idp.test/t"))
    assert [part for part in [*told, "https://idp.test/t"] if part not in sentence] == []


@pytest.mark.parametrize(
    ("token", "claims"),
    [
        ("opaque", None),
        ("a.b.c", None),
        ("a.W10.c", None),
        (jwt(), Claims()),
        (jwt(aud="x", scp="a b", exp=5, nbf=4.5), Claims(None, ("x",), ("a", "b"), 5.0, 4.5)),
        (jwt(aud=["x", 1], scope=["a"], iss="i"), Claims("i", ("x",), ("a",))),
        (jwt(roles=["r"], exp="5", nbf=True, iss=5, aud=5), Claims(None, (), ("r",))),
        (jwt(exp=10**400), Claims()),
    ],
)
def test_the_claims_of_a_token(token, claims):
    """What can be read is read; anything else is nothing."""
    assert claims_of(token) == claims


@given(st.text())
def test_no_token_breaks_the_claims(text):
    """Tokens are somebody else's text."""
    claims_of(text)
    claims_of(f"a.{text}.c")
    claims_of(f"a.{base64.urlsafe_b64encode(text.encode()).decode()}.c")
