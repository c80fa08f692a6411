"""Addresses: what a URL of a service or a provider may look like, and the target that they name."""

import re
from typing import Final
from urllib.parse import urlsplit

from cdf_upsert.core.access import DOMAIN, Provider, Target, cluster_of
from cdf_upsert.core.routes import is_loopback
from cdf_upsert.settings.lookup import Found, Lookup

_CLUSTER: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PROJECT: Final = re.compile(r"[A-Za-z0-9._-]+")


def address(look: Lookup, found: Found, *, insecure_http: bool) -> str | None:
    """The found URL without a slash at its end, or None after telling the fault."""
    text = found.text
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        look.faults.append(f"{found} is no address: write https://HOST.")
        return None
    if parts.username is not None or parts.password is not None:
        look.faults.append(f"{found} carries a user name or password: take it out of the address.")
    elif parts.scheme not in ("http", "https") or not host:
        look.faults.append(f"{found} is '{text}', which is no address: write https://HOST.")
    elif parts.query or parts.fragment:
        look.faults.append(f"{found} carries a query: write the address without what follows its '?' or '#'.")
    elif parts.scheme == "http" and not is_loopback(host) and not insecure_http:
        look.faults.append(
            f"{found} is '{text}', and plain http would show every token to the network: "
            "write https, or allow it with --insecure-http."
        )
    else:
        return text.rstrip("/")
    return None


def target(
    look: Lookup, provider: Provider | None, *, insecure_http: bool
) -> tuple[Target | None, str | None]:
    """The target and the cluster that its tokens are for; None where a fault was told.

    The cluster is None when the base URL is of another domain and no cluster is named: scopes then go by the
    base URL.
    """
    open_data = provider is Provider.OPEN_INDUSTRIAL_DATA
    project = look.find("project")
    if project is None and not open_data:
        look.faults.append("CDF_PROJECT is missing: set it, or give --project.")
    elif project is not None and not _PROJECT.fullmatch(project.text):
        look.faults.append(
            f"{project} is '{project.text}', which is no project name: take it as the CDF URL has it."
        )
    name = project.text if project is not None else "publicdata"

    cluster, url = look.find("cluster"), look.find("base-url")
    if cluster is not None and not _CLUSTER.fullmatch(cluster.text):
        look.faults.append(
            f"{cluster} is '{cluster.text}', which is no cluster name: "
            f"write one like westeurope-1, or set CDF_URL to an address."
        )
        return None, None
    if url is not None and (cluster is None or url.rank <= cluster.rank):
        base = _base_url(look, url, insecure_http=insecure_http)
        if base is None:
            return None, None
        named = cluster_of(base)
        same_place = cluster is not None and cluster.rank == url.rank
        if cluster is not None and same_place and named not in (None, cluster.text):
            look.faults.append(
                f"{url} is in cluster {named}, {cluster} says {cluster.text}: unset one of them."
            )
        return Target(base, name), cluster.text if cluster is not None and same_place else named
    if cluster is None and not open_data:
        look.faults.append("CDF_CLUSTER and CDF_URL are missing: set one, or give --cluster or --base-url.")
        return None, None
    text = cluster.text if cluster is not None else "api"
    return Target(f"https://{text}{DOMAIN}", name), text


def _base_url(look: Lookup, url: Found, *, insecure_http: bool) -> str | None:
    base = address(look, url, insecure_http=insecure_http)
    if base is not None and "/api/" in f"{urlsplit(base).path}/":
        look.faults.append(
            f"{url} is '{url.text}': write it only up to the host, without /api and what follows."
        )
        return None
    return base
