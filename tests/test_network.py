"""Connections in the networks of real companies, over real sockets: authorities, certificates, proxies."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from cdf_upsert.core.access import Network, Proxy
from cdf_upsert.core.diagnosis import (
    ConnectionTrouble,
    NoTls,
    ProxyFailed,
    Unreachable,
    Unresolved,
    Untrusted,
)
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import UsageError
from cdf_upsert.network import Connections, transport_options
from tests.authorities import Authority, proxying, serving_tls
from tests.signing import answering

NOW = 1_800_000_000.0
HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def get(network: Network, url: str) -> int | ConnectionTrouble:
    connections = Connections(network, lambda: NOW)
    try:
        async with connections.client(url, timeout=10) as client:
            return (await client.get(url)).status_code
    except httpx.HTTPError as error:
        return connections.trouble(error, url)


def run(trial: Callable[[], Awaitable[int | ConnectionTrouble]]) -> int | ConnectionTrouble:
    async def wrapped() -> int | ConnectionTrouble:
        return await trial()

    return asyncio.run(wrapped())


def test_an_own_authority_is_trusted_and_others_are_not(authority, tmp_path):
    """SSL_CERT_FILE takes the place of the system's authorities."""

    async def trial(network: Network) -> int | ConnectionTrouble:
        async with serving_tls(authority.issue("server")) as port:
            return await get(network, f"https://127.0.0.1:{port}")

    assert asyncio.run(trial(Network(ca_file=authority.file))) == 200
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    found = asyncio.run(trial(Network(ca_file=other.file)))
    assert isinstance(found, Untrusted)
    assert found.own_authorities
    found = asyncio.run(trial(Network()))
    assert isinstance(found, Untrusted)
    assert not found.own_authorities


def test_a_directory_of_authorities_is_read(authority, tmp_path):
    """SSL_CERT_DIR holds files under their OpenSSL hashes."""
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(authority.file)]
    try:
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    (hashed / f"{name}.0").write_bytes(authority.file.read_bytes())

    async def trial() -> int | ConnectionTrouble:
        async with serving_tls(authority.issue("server")) as port:
            return await get(Network(ca_directory=hashed), f"https://127.0.0.1:{port}")

    assert run(trial) == 200


@pytest.mark.parametrize(
    ("host", "days", "told"),
    [("127.0.0.1", -1, "expired"), ("127.0.0.1", 3, "not yet valid"), ("elsewhere.test", 1, "mismatch")],
)
def test_a_certificate_that_does_not_fit_is_told(authority, host, days, told):
    """Whether it is its time or its name comes from the certificate's own check."""

    async def trial() -> int | ConnectionTrouble:
        async with serving_tls(authority.issue("server", host, days=days)) as port:
            return await get(Network(ca_file=authority.file), f"https://127.0.0.1:{port}")

    found = run(trial)
    assert isinstance(found, Untrusted)
    assert told in found.reason
    assert found.now == NOW


@pytest.mark.parametrize("password", [None, b"p4ssword"])
def test_a_client_certificate_is_shown(authority, password):
    """Also with an encrypted key; without the certificate the server lets nobody in."""
    certificate, key = authority.issue("client", password=password)
    secret = None if password is None else Secret(password.decode())

    async def trial(network: Network) -> int | ConnectionTrouble:
        async with serving_tls(authority.issue("server"), authority.file) as port:
            return await get(network, f"https://127.0.0.1:{port}")

    shown = Network(
        ca_file=authority.file, client_certificate=certificate, client_key=key, client_key_password=secret
    )
    assert asyncio.run(trial(shown)) == 200
    found = asyncio.run(trial(Network(ca_file=authority.file)))
    assert isinstance(found, NoTls | Unreachable)  # The connection may end before the reason for it arrives.


def test_certificate_files_that_cannot_be_used_are_told(authority, tmp_path):
    """The sentence names the variable; an encrypted key without its password asks nobody on the terminal."""
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    certificate, key = authority.issue("client", password=b"p4ssword")
    other, _ = authority.issue("other")
    for network, told in (
        (Network(ca_file=junk), "SSL_CERT_FILE"),
        (Network(client_certificate=junk), "CDF_UPSERT_CLIENT_CERTIFICATE"),
        (Network(client_certificate=other, client_key=key), "belong together"),
        (Network(client_certificate=certificate, client_key=key), "CDF_UPSERT_CLIENT_KEY_PASSWORD"),
        (
            Network(client_certificate=certificate, client_key=key, client_key_password=Secret("wr0ng")),
            "CDF_UPSERT_CLIENT_KEY_PASSWORD",
        ),
    ):
        with pytest.raises(UsageError, match=told):
            transport_options(network, "https://x.test")


def test_https_goes_through_the_proxy_and_loopback_does_not(authority):
    """The proxy sees the name alone, never the request; what NO_PROXY names is not sent there."""
    user = "me:p4ss word"

    async def trial() -> list[str]:
        async with (
            serving_tls(authority.issue("server", "records.test")) as port,
            proxying(port, user=user) as proxy,
        ):
            way = Proxy(f"http://127.0.0.1:{proxy.port}", "me", Secret("p4ss word"))
            network = Network(https_proxy=way, http_proxy=way, ca_file=authority.file)
            assert await get(network, "https://records.test/secret") == 200
            assert await get(network, f"https://127.0.0.1:{port}") != 200
            return proxy.lines

    assert asyncio.run(trial()) == ["CONNECT records.test:443 HTTP/1.1"]


def test_plain_http_goes_through_its_proxy():
    """As far as it is allowed at all."""

    async def trial() -> None:
        async with answering(HI) as url, proxying(int(url.rpartition(":")[2].partition("/")[0])) as proxy:
            network = Network(http_proxy=Proxy(f"http://127.0.0.1:{proxy.port}"))
            assert await get(network, "http://records.test/x") == 200
            assert proxy.lines == ["GET http://records.test/x HTTP/1.1"]

    asyncio.run(trial())


def test_an_https_proxy_is_trusted_by_the_same_authorities(authority):
    """A proxy that speaks TLS itself is spoken to by TLS, with TLS for the service inside."""

    async def trial() -> int | ConnectionTrouble:
        async with (
            serving_tls(authority.issue("server", "records.test")) as port,
            proxying(port, certificate=authority.issue("proxy")) as proxy,
        ):
            way = Proxy(f"https://127.0.0.1:{proxy.port}")
            return await get(Network(https_proxy=way, ca_file=authority.file), "https://records.test")

    assert run(trial) == 200


@pytest.mark.parametrize(
    ("user", "refuse", "told"),
    [
        ("me:right", None, "407"),
        (None, b"HTTP/1.1 403 Blocked by policy\r\nContent-Length: 0\r\n\r\n", "403 Blocked by policy"),
    ],
)
def test_a_proxy_that_refuses_is_told(user, refuse, told):
    """With its own words, and without the password."""

    async def trial() -> int | ConnectionTrouble:
        async with proxying(None, user=user, refuse=refuse) as proxy:
            way = Proxy(f"http://127.0.0.1:{proxy.port}", "me", Secret("wr0ng"))
            return await get(Network(https_proxy=way), "https://records.test")

    found = run(trial)
    assert isinstance(found, ProxyFailed)
    assert told in found.reason
    assert found.host == "records.test"
    assert "wr0ng" not in repr(found)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "http://proxy.invalid:1"])
def test_a_proxy_that_is_not_there_is_told(proxy):
    """The proxy is to blame, not the service behind it."""
    found = asyncio.run(get(Network(https_proxy=Proxy(proxy)), "https://records.test"))
    assert isinstance(found, ProxyFailed)
    assert found.proxy == proxy.removeprefix("http://")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://name.invalid", Unresolved),
        ("http://127.0.0.1:1", Unreachable),
        ("https://127.0.0.1:1", Unreachable),
    ],
)
def test_hosts_that_are_not_there_are_told(url, kind):
    """A name that nobody knows is another trouble than a port where nobody listens."""
    assert isinstance(asyncio.run(get(Network(), url)), kind)


def test_tls_at_a_port_that_speaks_none_is_told():
    """Writing https for an address that speaks http is a common slip."""

    async def trial() -> int | ConnectionTrouble:
        async with answering(HI) as url:
            return await get(Network(), url.replace("http:", "https:"))

    assert isinstance(run(trial), NoTls)


def test_redirects_are_not_followed():
    """The answer is the redirect itself."""
    reached: list[bytes] = []

    async def trial() -> int | ConnectionTrouble:
        async with answering(HI, reached) as other:
            head = f"HTTP/1.1 302 Go\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n"
            async with answering(head.encode()) as url:
                return await get(Network(), url)

    assert run(trial) == 302
    assert reached == []


def test_the_environment_is_not_read_again(tmp_path):
    """What the settings decided holds: httpx looks for no proxy and no authority of its own."""
    code = (
        "from cdf_upsert.core.access import Network; from cdf_upsert.network import Connections; import asyncio\n"
        "client = Connections(Network(), lambda: 0.0).client('http://127.0.0.1:1', timeout=1)\n"
        "print(client._mounts, client.trust_env)"
    )
    environment = {"HTTP_PROXY": "http://proxy.invalid:1", "SSL_CERT_FILE": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "{} False"


def test_plain_http_costs_no_certificates():
    """For loopback no authority is loaded and truststore is not imported: both take longer than a request."""
    code = (
        "import sys; from cdf_upsert.core.access import Network; from cdf_upsert.network import transport_options\n"
        "options = transport_options(Network(), 'http://127.0.0.1:1')\n"
        "print(options['verify'].cert_store_stats()['x509'], 'truststore' in sys.modules, 'httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 False False"
    assert transport_options(Network(), "http://127.0.0.1:1")["verify"].verify_mode is ssl.CERT_REQUIRED
