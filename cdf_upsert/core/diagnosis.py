"""Why it does not work: each trouble on the way to the service as one sentence, with the mend.

`doctor`, `load` and `login` use the same words. What went wrong comes in as values; nothing is asked here.
"""

from datetime import UTC, datetime
from typing import Final, assert_never

from msgspec import Struct

from cdf_upsert.core.access import Target, cluster_of
from cdf_upsert.core.claims import Claims

SKEW_TOLERATED: Final = 300.0
"""Seconds by which clocks may differ: what identity providers commonly allow for."""

_QUOTED: Final = 300


class Explanation(Struct, frozen=True):
    """Why something does not work, and what helps: whole sentences."""

    cause: str
    mend: str

    def __str__(self) -> str:
        return f"{self.cause} {self.mend}"


class Unresolved(Struct, frozen=True):
    """No address is known for the host."""

    host: str
    reason: str


class Unreachable(Struct, frozen=True):
    """The host has an address, and no connection to it comes about, or it breaks; `host` may have a port."""

    host: str
    reason: str


class Untrusted(Struct, frozen=True):
    """The certificate that the host shows is not trusted."""

    host: str
    reason: str
    own_authorities: bool
    now: float


class NoTls(Struct, frozen=True):
    """The host and this program find no way to speak TLS."""

    host: str
    reason: str


class ProxyFailed(Struct, frozen=True):
    """The proxy does not let the connection through, or is not there."""

    proxy: str
    host: str
    reason: str


ConnectionTrouble = Unresolved | Unreachable | Untrusted | NoTls | ProxyFailed


def explain_connection(trouble: ConnectionTrouble) -> Explanation:
    """Why no connection comes about."""
    match trouble:
        case Unresolved(host, reason):
            return Explanation(
                f"The name {host} is not known to the network ({reason}).",
                "Check the cluster (CDF_CLUSTER, CDF_URL) or the provider's address, and the network or VPN.",
            )
        case Unreachable(host, reason):
            return Explanation(
                f"No connection to {host} comes about ({reason}).",
                "Check the address, the network, the VPN and the firewall; behind a proxy, set HTTPS_PROXY.",
            )
        case Untrusted(host, reason, own_authorities, now):
            return _untrusted(host, reason, now, own_authorities=own_authorities)
        case NoTls(host, reason):
            return Explanation(
                f"{host} and this program cannot agree on TLS ({reason}).",
                "Check that the address speaks https at that port, and whether it wants a client certificate "
                "(CDF_UPSERT_CLIENT_CERTIFICATE).",
            )
        case ProxyFailed(proxy, host, reason):
            if "407" in reason:
                mend = "Put the proxy's user name and password into HTTPS_PROXY, before its host and an @."
            else:
                mend = "Check HTTPS_PROXY, or name the host in NO_PROXY when it is reached without a proxy."
            return Explanation(f"The proxy {proxy} does not connect to {host} ({reason}).", mend)
        case _:
            assert_never(trouble)


def _untrusted(host: str, reason: str, now: float, *, own_authorities: bool) -> Explanation:
    cause = f"The certificate of {host} is not trusted ({reason})."
    if "expired" in reason or "not yet valid" in reason:
        return Explanation(
            cause, f"Check the clock of this machine, which says {moment(now)}, then the host."
        )
    if "match" in reason or "mismatch" in reason:
        return Explanation(cause, "Check the address: the certificate is for another name.")
    if own_authorities:
        return Explanation(
            cause, "Check that SSL_CERT_FILE or SSL_CERT_DIR holds the authority that signed it."
        )
    return Explanation(
        cause,
        "When your company inspects TLS, name the file with its certificate authority in SSL_CERT_FILE.",
    )


class Situation(Struct, frozen=True):
    """What is known when the service refuses.

    Attributes:
        target: The project, and where it is.
        now: This machine's time, in seconds since 1970.
        stream: The stream that was asked for, if one was.
        claims: What the refused token says about itself, when it says anything.
        skew: Seconds by which this machine's clock is behind the service's `Date` header; None: unknown.
    """

    target: Target
    now: float
    stream: str | None = None
    claims: Claims | None = None
    skew: float | None = None


def explain_refusal(status: int, message: str, situation: Situation) -> Explanation:
    """Why the service refuses every request, by the status of a reply and the message in it."""
    said = _said(message)
    match status:
        case 401:
            return _explain_401(said, situation)
        case 403:
            return Explanation(
                f"The sign-in works, but has no permission to write records {_where(situation)}{said}.",
                "Ask an administrator of the project for a group with streamRecordsAcl:WRITE and "
                "dataModelsAcl:READ for your spaces, and that your sign-in is a member of it.",
            )
        case 404 if situation.stream is not None:
            return Explanation(
                f"There is no stream {situation.stream} in project {situation.target.project} at "
                f"{situation.target.host}{said}.",
                "Check the stream's name, the project and the cluster; `cdf-upsert doctor` lists them.",
            )
        case 422 if situation.stream is not None and "immutable" in message.lower():
            return immutable(situation.stream)
        case _ if 300 <= status < 400:
            return Explanation(
                f"{situation.target.host} redirects elsewhere ({status}), where the token must not go.",
                "Write the final address into CDF_URL: redirects are not followed.",
            )
        case _:
            return Explanation(
                f"{situation.target.host} answers {status}, which the records API of CDF does not{said}.",
                "Check that CDF_URL is the address of CDF, and that no proxy or portal answers in its place.",
            )


def immutable(stream: str) -> Explanation:
    """Why an immutable stream takes no upserts."""
    return Explanation(
        f"Stream {stream} is immutable, and records are only upserted into mutable streams.",
        "Name a stream that was created from a mutable template, such as BasicLiveData.",
    )


def _explain_401(said: str, situation: Situation) -> Explanation:
    host, claims, skew = situation.target.host, situation.claims, situation.skew or 0.0
    service_now = situation.now + skew
    if claims is not None and claims.expires is not None and claims.expires <= service_now:
        ended = f"The token ended at {moment(claims.expires)}"
        if abs(skew) > SKEW_TOLERATED and claims.expires > situation.now:
            return Explanation(f"{ended}, which this machine missed: {_clock(skew)}.", "Set the clock right.")
        ago = _duration(service_now - claims.expires)
        return Explanation(f"{ended}, {ago} ago.", "Get a new one, or sign in in a way that renews itself.")
    begins = None if claims is None else claims.not_before
    if begins is not None and begins > service_now + SKEW_TOLERATED:
        return Explanation(
            f"The token is only good from {moment(begins)}.",
            "Check the clock of who issued it, or wait until then.",
        )
    wrong = None if claims is None else wrong_audience(claims, situation.target)
    if wrong is not None:
        return wrong
    if abs(skew) > SKEW_TOLERATED:
        return Explanation(
            f"The service refuses the token, and {_clock(skew)}{said}.", "Set the clock right."
        )
    issuer = "" if claims is None or claims.issuer is None else f" of issuer {claims.issuer}"
    return Explanation(
        f"{host} refuses the token{issuer} for project {situation.target.project}{said}.",
        "Check that the tenant (IDP_TENANT_ID), the scopes (IDP_SCOPES), the project and the cluster belong "
        "together; `cdf-upsert doctor` shows what the token says.",
    )


def wrong_audience(claims: Claims, target: Target) -> Explanation | None:
    """Says that a token is for another cluster or another service; None when nothing speaks for that."""
    expected = cluster_of(target.base_url)
    if expected is None or not claims.audience:
        return None
    clusters = {_cluster(audience) for audience in claims.audience}
    if expected in clusters or not any(map(_is_address, claims.audience)):
        return None
    return Explanation(
        f"The token is for {', '.join(claims.audience)}, not for https://{expected}.cognitedata.com.",
        f"Check IDP_SCOPES (for Entra ID https://{expected}.cognitedata.com/.default), IDP_AUDIENCE and the "
        "cluster.",
    )


def _cluster(audience: str) -> str | None:
    try:
        return cluster_of(audience)
    except ValueError:
        return None


def _is_address(audience: str) -> bool:
    """Whether this is an address: an id may well be how a provider names CDF."""
    return audience.startswith(("https://", "http://"))


def clock_trouble(skew: float) -> Explanation | None:
    """Says that this machine's clock is off; None while it is near enough."""
    if abs(skew) <= SKEW_TOLERATED:
        return None
    sentence = _clock(skew)
    return Explanation(f"{sentence[0].upper()}{sentence[1:]}.", "Set the clock right: tokens live by it.")


def _clock(skew: float) -> str:
    return (
        f"this machine's clock is {_duration(abs(skew))} {'behind' if skew > 0 else 'ahead of'} the service's"
    )


def _where(situation: Situation) -> str:
    stream = "" if situation.stream is None else f"into stream {situation.stream} "
    return f"{stream}in project {situation.target.project}"


def _said(message: str) -> str:
    """The service's own words, in quotes and on one line."""
    words = " ".join(message.split())
    short = words if len(words) <= _QUOTED else f"{words[:_QUOTED]}…"
    return f' ("{short}")' if short else ""


def moment(seconds: float) -> str:
    """A time in seconds since 1970 as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    """A length of time in the largest unit that says it well: 90 minutes rather than 2 hours."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if abs(seconds - size) < size / 50:
            return f"1 {unit}"
        if seconds >= 1.98 * size:
            return f"{round(seconds / size)} {unit}s"
    return f"{seconds:.1f} seconds"
