"""Why it does not work, in one sentence each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cdf_upsert.core.access import Target
from cdf_upsert.core.claims import Claims
from cdf_upsert.core.diagnosis import (
    NoTls,
    ProxyFailed,
    Situation,
    Unreachable,
    Unresolved,
    Untrusted,
    clock_trouble,
    explain_connection,
    explain_refusal,
)

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
EU = "https://eu-1.cognitedata.com"
HERE = Situation(Target(EU, "acme"), NOW, "flights", Claims(), 0.0)


def with_claims(skew: float = 0.0, **claims) -> Situation:
    return replace(HERE, claims=Claims(**claims), skew=skew)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (Unresolved("x.test", "no such name"), ["x.test is not known", "no such name", "CDF_CLUSTER"]),
        (Unreachable("x.test", "refused"), ["No connection to x.test", "refused", "HTTPS_PROXY"]),
        (Untrusted("x.test", "self-signed", False, NOW), ["not trusted", "self-signed", "SSL_CERT_FILE"]),
        (Untrusted("x.test", "self-signed", True, NOW), ["not trusted", "authority that signed it"]),
        (Untrusted("x.test", "certificate has expired", False, NOW), ["expired", "2027-01-15 08:00:00 UTC"]),
        (Untrusted("x.test", "not yet valid", False, NOW), ["not yet valid", "clock"]),
        (Untrusted("x.test", "Hostname mismatch", False, NOW), ["another name"]),
        (NoTls("x.test", "WRONG_VERSION_NUMBER"), ["cannot agree on TLS", "CDF_UPSERT_CLIENT_CERTIFICATE"]),
        (ProxyFailed("p:1", "x.test", "407 Auth"), ["The proxy p:1", "user name and password"]),
        (ProxyFailed("p:1", "x.test", "403 No"), ["The proxy p:1", "x.test", "NO_PROXY"]),
    ],
)
def test_a_connection_that_does_not_come_about(trouble, told):
    """The host, the reason in the system's words, and the variable to look at."""
    sentence = str(explain_connection(trouble))
    assert [part for part in told if part not in sentence] == []


@pytest.mark.parametrize(
    ("status", "message", "situation", "told"),
    [
        (401, "No", with_claims(expires=NOW - 7200), ["ended at 2027-01-15 06:00:00 UTC, 2 hours ago"]),
        (401, "No", with_claims(expires=NOW - 1), ["1 second ago", "renews itself"]),
        (401, "No", with_claims(3600, expires=NOW + 600), ["this machine missed", "1 hour behind"]),
        (401, "No", with_claims(-3600, expires=NOW + 600), ["refuses the token", "1 hour ahead of"]),
        (401, "No", with_claims(not_before=NOW + 3600), ["only good from 2027-01-15 09:00:00 UTC"]),
        (401, "No", with_claims(audience=("https://asia-1.cognitedata.com",)), ["is for https://asia-1", EU]),
        (
            401,
            "No",
            with_claims(audience=("https://graph.test",)),
            ["is for https://graph.test", "IDP_SCOPES"],
        ),
        (401, "No", with_claims(audience=("some-id",), issuer="https://idp"), ["of issuer https://idp"]),
        (401, "No", with_claims(audience=("https://[x",)), ["is for https://[x"]),
        (401, "No", with_claims(audience=(EU,)), ["refuses the token", '("No")', "IDP_TENANT_ID"]),
        (401, "No", replace(HERE, claims=None, skew=None), ["refuses the token", "project acme"]),
        (403, "No", HERE, ["no permission", "stream flights in project acme", "streamRecordsAcl:WRITE"]),
        (404, "No", HERE, ["no stream flights in project acme at eu-1.cognitedata.com", "doctor"]),
        (404, "No", replace(HERE, stream=None), ["answers 404"]),
        (422, "The stream is immutable.", HERE, ["flights is immutable", "BasicLiveData"]),
        (302, "", HERE, ["redirects elsewhere (302)", "CDF_URL"]),
        (200, "", HERE, ["answers 200", "portal"]),
        (418, "a\n b" + "x" * 400, HERE, ['("a bxx', '…")']),
    ],
)
def test_a_service_that_refuses(status, message, situation, told):
    """The cause that is nearest to what is known, and what helps."""
    why = explain_refusal(status, message, situation)
    assert [part for part in told if part not in str(why)] == []
    assert why.cause.endswith(".")
    assert why.mend.endswith(".")


@pytest.mark.parametrize(
    ("skew", "told"),
    [
        (0, None),
        (299, None),
        (-300, None),
        (301, "5 minutes behind"),
        (-86_400, "1 day ahead of"),
        (3600, "1 hour"),
    ],
)
def test_clocks_that_differ_by_more_than_is_tolerated(skew, told):
    """Providers allow for five minutes; more is told with its direction."""
    found = clock_trouble(skew)
    assert (found is None) == (told is None)
    assert told is None or told in str(found)


@given(
    st.integers(100, 599),
    st.text(),
    st.builds(
        Situation,
        st.just(HERE.target),
        st.floats(0, 4e9),
        st.none() | st.text(),
        st.none()
        | st.builds(
            Claims, st.none() | st.text(), st.tuples(st.text()), st.just(()), st.none() | st.floats(0, 1e11)
        ),
        st.none() | st.floats(-1e9, 1e9),
    ),
)
def test_everything_has_an_explanation(status, message, situation):
    """Whatever is known, there is a cause and a mend, on one line each."""
    why = explain_refusal(status, message, situation)
    assert why.cause
    assert why.mend
    assert "\n" not in why.mend
