"""How the service is reached and how one signs in there: the values that the settings end in."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from cdf_upsert.core.redact import Secret

DOMAIN: Final = ".cognitedata.com"
"""Where the clusters of CDF are."""


def cluster_of(url: str) -> str | None:
    """The cluster that a URL of Cognite names, also through a private link; None for other hosts.

    `https://westeurope-1.cognitedata.com` and `https://acme.plink.westeurope-1.cognitedata.com` are both in
    westeurope-1.
    """
    host = urlsplit(url).hostname or ""
    return host.removesuffix(DOMAIN).rpartition(".")[2] if host.endswith(DOMAIN) else None


class Target(Struct, frozen=True):
    """The project that is loaded into, at `base_url` (scheme, host, perhaps a path, no slash at its end)."""

    base_url: str
    project: str

    @property
    def host(self) -> str:
        """The host of the base URL, as it is resolved."""
        return urlsplit(self.base_url).hostname or ""


class Provider(StrEnum):
    """The kinds of identity providers that CDF projects trust."""

    ENTRA_ID = "entra_id"
    AUTH0 = "auth0"
    CDF = "cdf"
    OPEN_INDUSTRIAL_DATA = "open_industrial_data"
    OTHER = "other"


class ClientAuth(StrEnum):
    """How a client shows its secret at the token endpoint: in the form, or in a Basic header."""

    POST = "post"
    BASIC = "basic"


class GivenToken(Struct, frozen=True):
    """A token that is had already; `again` looks once more where it came from, a file or a command.

    `again` may block, and raises `UsageError` when nothing usable is there.
    """

    token: Secret
    again: Callable[[], Secret] | None = None


class ClientCredentials(Struct, frozen=True):
    """A program that signs in with an id and a secret (RFC 6749, section 4.4)."""

    token_url: str
    client_id: str
    client_secret: Secret
    scopes: tuple[str, ...] = ()
    audience: str | None = None
    resource: str | None = None
    client_auth: ClientAuth = ClientAuth.POST


class Endpoints(Struct, frozen=True):
    """Where a person signs in; `device` is None where device codes are not known."""

    authorize: str
    token: str
    device: str | None = None


class Session(Struct, frozen=True):
    """A person that signs in with `login` and stays signed in.

    Attributes:
        profile: The name under which `login` keeps the session.
        provider: The endpoints, or the URL of the discovery document that names them.
        device: A device code rather than a browser on this machine.
        redirect_port: Where the browser is sent back to on loopback; another one is taken when it is in use.
        store: The directory of the kept sessions.
        remembered: What `login` keeps beside the tokens, so that later commands need no variables.
    """

    profile: str
    provider: Endpoints | str
    client_id: str
    store: Path
    scopes: tuple[str, ...] = ()
    audience: str | None = None
    device: bool = False
    redirect_port: int = 53000
    remembered: tuple[tuple[str, str], ...] = ()


Credentials = GivenToken | ClientCredentials | Session


class Proxy(Struct, frozen=True):
    """A proxy, and whom to be there; `url` carries neither user name nor password."""

    url: str
    username: str | None = None
    password: Secret | None = None


class Network(Struct, frozen=True):
    """How connections leave this machine.

    Attributes:
        https_proxy: The proxy for https addresses.
        http_proxy: The proxy for plain http.
        no_proxy: Hosts, domain suffixes, networks or `*` that are reached without a proxy.
        ca_file: Certificate authorities in PEM to trust instead of the system's.
        ca_directory: The same as a directory of OpenSSL hashes.
        client_certificate: A certificate in PEM to show to servers; its key is in `client_key` or in it.
    """

    https_proxy: Proxy | None = None
    http_proxy: Proxy | None = None
    no_proxy: tuple[str, ...] = ()
    ca_file: Path | None = None
    ca_directory: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    client_key_password: Secret | None = None
    insecure_http: bool = False


class Origin(Struct, frozen=True):
    """One setting in force: its key, its value (masked when secret), and the name and place it stands under."""

    key: str
    value: str
    name: str
    place: str


class Settings(Struct, frozen=True):
    """All that is configured about one target, validated."""

    target: Target
    credentials: Credentials
    network: Network
    profile: str = "default"
    cluster: str | None = None
    origins: tuple[Origin, ...] = ()

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret in the settings, for the filter at the sinks."""
        match self.credentials:
            case GivenToken(token=token):
                own: tuple[Secret | None, ...] = (token,)
            case ClientCredentials(client_secret=secret):
                own = (secret,)
            case Session():
                own = ()
        proxies = (self.network.https_proxy, self.network.http_proxy)
        passwords = tuple(proxy.password for proxy in proxies if proxy is not None)
        everything = (*own, *passwords, self.network.client_key_password)
        return tuple(secret for secret in everything if secret is not None)
