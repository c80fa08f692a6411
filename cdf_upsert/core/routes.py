"""Which way a connection goes: straight, or through a proxy."""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from cdf_upsert.core.access import Network, Proxy

_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name or number alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(network: Network, url: str) -> Proxy | None:
    """The proxy for a URL; None for what `NO_PROXY` names, and for this machine, which no proxy can reach."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = network.https_proxy if parts.scheme == "https" else network.http_proxy
    if proxy is None or is_loopback(host):
        return None
    port = parts.port or _PORTS.get(parts.scheme)
    return None if any(_covers(entry, host, port) for entry in network.no_proxy) else proxy


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of `NO_PROXY` is about the host: `*`, a name and all below it, a number, a network."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal():
        if int(number) != port:
            return False
        entry = name
    entry = entry.lower().removeprefix("*").strip("[]").removeprefix(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
