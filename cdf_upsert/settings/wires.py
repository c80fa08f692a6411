"""Proxies, certificate authorities and client certificates out of the usual variables."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from cdf_upsert.core.access import Network, Proxy
from cdf_upsert.core.redact import Secret
from cdf_upsert.settings.files import existing
from cdf_upsert.settings.lookup import Lookup

_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")


def insecure_http(look: Lookup) -> bool:
    """Whether plain http to other machines is allowed."""
    found = look.find("insecure-http")
    if found is None or found.text.lower() in _NO:
        return False
    if found.text.lower() not in _YES:
        look.faults.append(f"{found} is '{found.text}': write true or false.")
    return True


def network(look: Lookup, directory: Path) -> Network:
    """How connections leave this machine; faults go to the lookup's list."""

    def path(key: str, *, folder: bool = False) -> Path | None:
        found = look.find(key)
        return None if found is None else existing(look, found, directory, folder=folder)

    password = look.find("client-key-password")
    certificate, key = look.find("client-certificate"), look.find("client-key")
    if key is not None and certificate is None:
        look.faults.append(f"CDF_UPSERT_CLIENT_CERTIFICATE is missing, and {key} needs it: set it.")
    return Network(
        https_proxy=_proxy(look, "https-proxy"),
        http_proxy=_proxy(look, "http-proxy"),
        no_proxy=tuple((look.text("no-proxy") or "").replace(",", " ").split()),
        ca_file=path("ca-file"),
        ca_directory=path("ca-directory", folder=True),
        client_certificate=path("client-certificate"),
        client_key=path("client-key"),
        client_key_password=None if password is None else Secret(password.text),
        insecure_http=insecure_http(look),
    )


def _proxy(look: Lookup, key: str) -> Proxy | None:
    found = look.find(key)
    if found is None:
        return None
    # Variables often hold HOST:PORT alone, and curl takes that too.
    text = found.text if "://" in found.text else f"http://{found.text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        look.faults.append(f"{found} is no address of a proxy: write http://HOST:PORT.")
        return None
    shown = f"[{host}]" if ":" in host else host
    return Proxy(
        url=urlunsplit((parts.scheme, shown if port is None else f"{shown}:{port}", "", "", "")),
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else Secret(unquote(parts.password)),
    )
