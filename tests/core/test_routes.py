"""Which way connections go."""

import pytest

from cdf_upsert.core.access import Network, Proxy
from cdf_upsert.core.routes import proxy_for

HTTPS, HTTP = Proxy("http://secure.test:1"), Proxy("http://plain.test:2")


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("https://a.test", (), HTTPS),
        ("http://a.test", (), HTTP),
        ("http://127.0.0.1:8080", (), None),
        ("https://localhost", (), None),
        ("https://[::1]:8", (), None),
        ("https://a.test", ("*",), None),
        ("https://a.test", ("a.test",), None),
        ("https://a.test", ("A.TEST",), None),
        ("https://b.a.test", ("a.test",), None),
        ("https://b.a.test", (".a.test",), None),
        ("https://b.a.test", ("*.a.test",), None),
        ("https://ba.test", ("a.test",), HTTPS),
        ("https://a.test.evil", ("a.test",), HTTPS),
        ("https://a.test:8", ("a.test:8",), None),
        ("https://a.test", ("a.test:443",), None),
        ("https://a.test", ("a.test:8",), HTTPS),
        ("https://10.1.2.3", ("10.0.0.0/8",), None),
        ("https://11.1.2.3", ("10.0.0.0/8",), HTTPS),
        ("https://10.1.2.3", ("10.1.2.3",), None),
        ("https://[fd00::1]", ("fd00::/8",), None),
        ("https://a.test", ("", ".", "10.0.0.0/8", "x:y"), HTTPS),
    ],
)
def test_a_proxy_is_used_unless_the_host_is_named(url, no_proxy, proxy):
    """Names with all below them, ports, networks and `*` are reached without a proxy; so is this machine."""
    assert proxy_for(Network(https_proxy=HTTPS, http_proxy=HTTP, no_proxy=no_proxy), url) == proxy


def test_without_a_proxy_there_is_none():
    """Nothing configured, nothing used."""
    assert proxy_for(Network(), "https://a.test") is None
