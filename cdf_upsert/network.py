"""What httpx needs in the networks of real companies, and what goes wrong there, in our words.

One place decides about proxies, certificate authorities, client certificates and redirects, for the service
and for the identity provider alike.
"""

import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

from cdf_upsert.core.access import Network, Proxy
from cdf_upsert.core.diagnosis import (
    ConnectionTrouble,
    NoTls,
    ProxyFailed,
    Unreachable,
    Unresolved,
    Untrusted,
)
from cdf_upsert.core.routes import proxy_for
from cdf_upsert.errors import UsageError

if TYPE_CHECKING:
    import httpx

# httpx brings its own command line along when rich is installed: a third of its import, and never used here.
# None is how Python is told that a module cannot be imported; httpx then goes without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # The typeshed does not know of None.


class TransportOptions(TypedDict):
    """Keyword arguments of `httpx.AsyncClient` for one address."""

    verify: ssl.SSLContext
    proxy: "httpx.Proxy | None"
    trust_env: bool
    follow_redirects: bool


def transport_options(network: Network, url: str) -> TransportOptions:
    """How httpx is to connect to `url`, and to nothing else: the proxy is chosen for this address.

    No environment is read here or by httpx: the settings have done that. A redirect is never followed, as it
    would carry the token to another host.

    Raises:
        UsageError: A certificate file cannot be used.
    """
    proxy = proxy_for(network, url)
    tls = _tls(network) if urlsplit(url).scheme == "https" else _no_tls()
    return TransportOptions(
        verify=tls,
        proxy=None if proxy is None else _httpx_proxy(proxy, network),
        trust_env=False,
        follow_redirects=False,
    )


class Connections:
    """Makes clients for one network, and says what their errors mean; `now` gives seconds since 1970."""

    def __init__(self, network: Network, now: Callable[[], float]) -> None:
        self._network = network
        self._now = now

    def client(self, url: str, *, timeout: float) -> "httpx.AsyncClient":
        """A client for this address; `timeout` in seconds, for each step of a request.

        Raises:
            UsageError: A certificate file cannot be used.
        """
        import httpx  # noqa: PLC0415  # Not for who only makes the options.

        return httpx.AsyncClient(**transport_options(self._network, url), timeout=timeout)

    def trouble(self, error: Exception, url: str) -> ConnectionTrouble:
        """What an error of that client means."""
        return trouble(error, url, self._network, self._now())


def _no_tls() -> ssl.SSLContext:
    """For plain http: a context that costs nothing, as it knows no authority, and so trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _tls(network: Network) -> ssl.SSLContext:
    if network.ca_file is not None or network.ca_directory is not None:
        context = _own_authorities(network)
    else:
        import truststore  # noqa: PLC0415  # Plain http needs none of it.

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if network.client_certificate is not None:
        _show_certificate(context, network)
    return context


def _own_authorities(network: Network) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=None if network.ca_file is None else str(network.ca_file),
            capath=None if network.ca_directory is None else str(network.ca_directory),
        )
    except (OSError, ValueError):  # An `ssl.SSLError` is an OSError.
        raise UsageError(
            f"SSL_CERT_FILE names {network.ca_file}, which holds no certificates in PEM: mend the file."
        ) from None
    return context


def _show_certificate(context: ssl.SSLContext, network: Network) -> None:
    certificate, key, password = network.client_certificate, network.client_key, network.client_key_password
    assert certificate is not None
    try:
        # Without a password an encrypted key would make OpenSSL ask on the terminal; an empty one is refused.
        context.load_cert_chain(certificate, key, lambda: "" if password is None else password.reveal())
    except (OSError, ValueError):
        names = str(certificate) if key is None else f"{certificate} with the key {key}"
        raise UsageError(
            f"CDF_UPSERT_CLIENT_CERTIFICATE names {names}, which cannot be used: both must be PEM and belong "
            "together, and an encrypted key needs CDF_UPSERT_CLIENT_KEY_PASSWORD."
        ) from None


def _httpx_proxy(proxy: Proxy, network: Network) -> "httpx.Proxy":
    import httpx  # noqa: PLC0415  # Only behind a proxy.

    password = "" if proxy.password is None else proxy.password.reveal()
    return httpx.Proxy(
        proxy.url,
        auth=None if proxy.username is None else (proxy.username, password),
        ssl_context=_tls(network) if proxy.url.startswith("https:") else None,
    )


def trouble(error: Exception, url: str, network: Network, now: float) -> ConnectionTrouble:
    """What an error of httpx means for the connection to `url`; `now` in seconds since 1970.

    Behind a proxy a name that is not known, and a connection that is refused, are the proxy's: this program
    connects to nobody else.
    """
    import httpx  # noqa: PLC0415  # Whoever has such an error has imported it.

    parts = urlsplit(url)
    host = parts.hostname or url
    proxy = proxy_for(network, url)
    root = next(
        (cause for cause in _causes(error) if isinstance(cause, ssl.SSLError | socket.gaierror)), None
    )
    match root:
        case ssl.SSLCertVerificationError():
            own = network.ca_file is not None or network.ca_directory is not None
            return Untrusted(host, root.verify_message or _words(root), own, now)
        case ssl.SSLError():
            return NoTls(host, root.reason or _words(root))
        case _ if proxy is not None and isinstance(
            error, httpx.ProxyError | httpx.ConnectError | httpx.ConnectTimeout
        ):
            return ProxyFailed(urlsplit(proxy.url).netloc, host, _words(root or error))
        case socket.gaierror():
            return Unresolved(host, _words(root))
        case _:
            return Unreachable(parts.netloc.rpartition("@")[2] or url, _words(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """What the error says in its deepest place, as httpx wraps the system's words in its own."""
    for cause in reversed(list(_causes(error))):
        words = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        if words:
            return words
    name = type(error).__name__
    return {"ConnectTimeout": "no answer in time", "ReadTimeout": "no answer in time"}.get(name, name)
