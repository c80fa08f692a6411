"""Secrets do not show themselves, and what is said is cleaned of them."""

import base64
import copy
import json
import pickle
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cdf_upsert.core.redact import MASK, Redactor, Secret

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def test_a_secret_shows_itself_nowhere():
    """Neither text, nor repr, nor formatting, nor a copy that could be shown."""
    secret = Secret("s3cret")
    assert f"{secret} {secret!r} {[secret]}" == f"{MASK} {MASK} [{MASK}]"
    assert secret == Secret("s3cret")
    assert len({secret, Secret("s3cret"), Secret("other")}) == 2
    assert secret != "s3cret"
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(secret)


@given(st.text().map(lambda text: f"secret-{text}-{text}"), st.text(), st.text())
def test_a_known_secret_is_replaced_in_every_way_of_writing_it(secret, before, after):
    """Plain, quoted for a URL, escaped for JSON, in a repr, in Base64."""
    redactor = Redactor([secret])
    for form in (
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    ):
        assume(form not in f"{before}{MASK}{after}")
        assert form not in redactor.clean(f"{before}{form}{after}")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: ***"),
        ("{'authorization': 'Bearer abcdef123'}", "{'authorization': '***'}"),
        ("b'Authorization', b'Basic bWU6c2VjcmV0'", "b'Authorization', b'***'"),
        ("Proxy-Authorization: Basic bWU6c2VjcmV0", "Proxy-Authorization: ***"),
        ("sent bearer abcdefgh01234567 to it", "sent bearer *** to it"),
        (f"token {JWT} refused", "token *** refused"),
        ("Set-Cookie: session=abc; HttpOnly", "Set-Cookie: ***"),
        (
            '{"access_token": "abc", "token_type": "Bearer"}',
            '{"access_token": "***", "token_type": "Bearer"}',
        ),
        ("grant_type=refresh_token&refresh_token=a.b&x=1", "grant_type=refresh_token&refresh_token=***&x=1"),
        ("client_id=me&client_secret=a%2Bb", "client_id=me&client_secret=***"),
        ("GET /?code=0.AX&state=1 HTTP/1.1", "GET /?code=***&state=1 HTTP/1.1"),
        ("http://user:pass@proxy:80/x", "http://***@proxy:80/x"),
        (
            "The bearer of this letter, basic authentication",
            "The bearer of this letter, basic authentication",
        ),
        ("code=5 and status code: 401", "code=5 and status code: 401"),
        (
            "https://login.test/authorize?state=a&code_challenge=b",
            "https://login.test/authorize?state=a&code_challenge=b",
        ),
        ("a@b.test wrote to https://x.test/a", "a@b.test wrote to https://x.test/a"),
    ],
)
def test_what_is_always_secret_is_replaced_unasked(text, cleaned):
    """Shapes of secrets that nobody has told of go too; what people must read stays."""
    assert Redactor().clean(text) == cleaned


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(
        ["Bearer 0123456789abcdef", 'Cookie: a"b', "\\", "http://u:p@h", "Authorization: Basic x", JWT]
    ),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["cookie", "password", "authorization"]), inner)
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from([None, 2]))
def test_json_stays_json(value, indent):
    """A report that is cleaned can still be read by programs, also when it quotes JSON itself."""
    cleaned = json.loads(Redactor().clean(json.dumps(value, indent=indent)))
    assert isinstance(cleaned, type(value)) or isinstance(value, int | bool | None)
    json.loads(Redactor().clean(json.dumps(json.dumps(value))))


def test_a_short_secret_goes_where_it_stands_alone():
    """A password of one letter must not take that letter out of every word."""
    assert Redactor([Secret("a")]).clean("a cat, a=a") == "*** cat, ***=***"


def test_a_secret_that_begins_another_leaves_no_tail():
    """The longest goes first."""
    assert Redactor(["s3cret", "s3cret-and-more"]).clean("s3cret-and-more") == MASK


def test_secrets_can_be_learnt_later_and_empty_ones_are_none():
    """Tokens are had while the program runs; nothing is not a secret."""
    redactor = Redactor([""])
    assert redactor.clean("some-token") == "some-token"
    redactor.learn(Secret("some-token"), "")
    assert redactor.clean("some-token") == MASK


def test_a_secret_of_broken_text_breaks_nothing():
    """A variable may hold bytes that are no UTF-8; Python hands them on as lone surrogates."""
    assert Redactor(["abcdef\udc80"]).clean("x abcdef\udc80 x") == f"x {MASK} x"
