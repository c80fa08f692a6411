"""What `doctor` finds, check by check: from what was seen to a mark, a sentence and a mend."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, assert_never

from msgspec import Struct

from cdf_upsert.core.access import ClientCredentials, GivenToken, Session, Settings
from cdf_upsert.core.claims import Claims
from cdf_upsert.core.diagnosis import (
    ConnectionTrouble,
    Explanation,
    NoTls,
    ProxyFailed,
    Situation,
    Unreachable,
    Unresolved,
    Untrusted,
    clock_trouble,
    explain_connection,
    explain_refusal,
    immutable,
    moment,
    wrong_audience,
)
from cdf_upsert.core.quota import TEMPLATES
from cdf_upsert.core.stream import StreamFacts

CONFIGURATION: Final = 2
REFUSED: Final = 4

ALMOST_FULL: Final = 0.9
"""The share of a stream's room from which it is worth a warning."""

_WRITE: Final = ("streamRecordsAcl", "WRITE")
_MODELS: Final = ("dataModelsAcl", "READ")
_READ: Final = ("streamRecordsAcl", "READ")


class Mark(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(Struct, frozen=True):
    """One check: whole sentences on what is so and what helps. `exit_code` counts when it failed."""

    name: str
    mark: Mark
    sentence: str
    mend: str = ""
    exit_code: int = 0


def _ok(name: str, sentence: str) -> Check:
    return Check(name, Mark.OK, sentence)


def _failed(name: str, why: Explanation, exit_code: int) -> Check:
    return Check(name, Mark.FAILED, why.cause, why.mend, exit_code)


def exit_code(checks: Sequence[Check]) -> int:
    """0, or the code of the first check that failed: what comes after it often fails because of it."""
    return next((check.exit_code for check in checks if check.mark is Mark.FAILED), 0)


def configuration(settings: Settings) -> Check:
    """Where the settings came from."""
    match settings.credentials:
        case GivenToken():
            way = "a given token"
        case ClientCredentials(client_id=client_id, token_url=token_url):
            way = f"client {client_id} at {token_url}"
        case Session(profile=profile):
            way = f"the session of profile {profile}"
        case _:
            assert_never(settings.credentials)
    places: dict[str, list[str]] = {}
    for found in settings.origins:
        places.setdefault(found.place, []).append(found.name)
    origins = "; ".join(f"from {place}: {', '.join(names)}" for place, names in places.items())
    target = settings.target
    said = f" ({origins})" if origins else ""
    return _ok("configuration", f"Project {target.project} at {target.base_url}, signing in by {way}{said}.")


def not_usable(error: str, *, configured: bool) -> list[Check]:
    """The faults of the settings, or of what was found on the way, such as a broken certificate file."""
    lines = [line.removeprefix("  - ") for line in error.splitlines()]
    faults = lines[1:] if len(lines) > 1 else lines
    name = "connection" if configured else "configuration"
    return [Check(name, Mark.FAILED, fault, exit_code=CONFIGURATION) for fault in faults]


class Connected(Struct, frozen=True):
    """A connection came about, and something answered.

    Attributes:
        address: The number of the host, or of the proxy.
        proxy: The proxy that was gone through, without its password.
        tls: The version of TLS; None over plain http.
        skew: Seconds by which this machine's clock is behind the answer's date; None when it has none.
    """

    host: str
    address: str | None
    proxy: str | None
    tls: str | None
    skew: float | None


def connection(seen: Connected | ConnectionTrouble) -> list[Check]:
    """The checks of the address, of TLS and of the clock, up to the one that fails."""
    match seen:
        case Connected():
            return _connected(seen)
        case Untrusted(host) | NoTls(host):
            return [
                _ok("address", f"{host} answers."),
                _failed("tls", explain_connection(seen), CONFIGURATION),
            ]
        case Unresolved() | Unreachable() | ProxyFailed():
            return [_failed("address", explain_connection(seen), CONFIGURATION)]
        case _:
            assert_never(seen)


def _connected(seen: Connected) -> list[Check]:
    if seen.proxy is not None:
        way = f" through the proxy {seen.proxy}"
    else:
        way = "" if seen.address is None else f" at {seen.address}"
    if seen.tls is None:
        tls = _ok("tls", "Not used: plain http.")
    else:
        tls = _ok("tls", f"{seen.tls}, and the certificate of {seen.host} is trusted.")
    off = None if seen.skew is None else clock_trouble(seen.skew)
    if seen.skew is None:
        clock = Check(
            "clock", Mark.WARNING, "The service does not tell its time, so the clock is not checked."
        )
    elif off is not None:
        clock = _failed("clock", off, CONFIGURATION)
    else:
        clock = _ok("clock", "This machine's clock and the service's agree.")
    return [_ok("address", f"{seen.host} answers{way}."), tls, clock]


def token_had(claims: Claims | None, situation: Situation) -> Check:
    """What a token says about itself."""
    if claims is None:
        return _ok("token", "The sign-in gives a token; it does not say what it is for, and need not.")
    service_now = situation.now + (situation.skew or 0.0)
    if claims.expires is not None and claims.expires <= service_now:
        return _failed("token", explain_refusal(401, "", situation), REFUSED)
    wrong = wrong_audience(claims, situation.target)
    if wrong is not None:
        return Check("token", Mark.WARNING, wrong.cause, wrong.mend)
    parts = [
        "" if claims.issuer is None else f"issued by {claims.issuer}",
        "" if not claims.audience else f"for {', '.join(claims.audience)}",
        "" if not claims.scopes else f"with the scopes {', '.join(claims.scopes)}",
        "" if claims.expires is None else f"good until {moment(claims.expires)}",
    ]
    said = ", ".join(part for part in parts if part)
    return _ok("token", f"The sign-in gives a token{f': {said}' if said else ''}.")


def token_missing(error: str, code: int) -> Check:
    """No token came about; `error` is the sentence of whoever refused."""
    return Check("token", Mark.FAILED, error, exit_code=REFUSED if code == REFUSED else CONFIGURATION)


class Inspected(Struct, frozen=True):
    """What the service tells about the token (`GET /api/v1/token/inspect`).

    Attributes:
        status: Of the reply; the rest is only known with 200.
        message: The service's words when it refuses.
        projects: The projects that the token is good for.
        capabilities: What it may do there, as the service lists it.
    """

    status: int
    message: str = ""
    projects: tuple[str, ...] = ()
    capabilities: tuple[Mapping[str, Any], ...] = ()


def inspected(status: int, content: Any, message: str) -> Inspected:
    """Reads the reply of the inspection with tolerance: what is not there is not known."""
    found = content if isinstance(content, dict) else {}
    projects = found.get("projects")
    capabilities = found.get("capabilities")
    return Inspected(
        status,
        message,
        tuple(
            project["projectUrlName"]
            for project in (projects if isinstance(projects, list) else ())
            if isinstance(project, dict) and isinstance(project.get("projectUrlName"), str)
        ),
        tuple(
            one for one in (capabilities if isinstance(capabilities, list) else ()) if isinstance(one, dict)
        ),
    )


def project(seen: Inspected, situation: Situation) -> Check:
    """Whether the token opens the project."""
    name = situation.target.project
    if seen.status == 200 and name in seen.projects:
        return _ok("project", f"Project {name} is open to this sign-in.")
    if seen.status == 200 and seen.projects:
        known = ", ".join(seen.projects)
        why = Explanation(
            f"This sign-in is good for {known}, and not for project {name}.",
            f"Check CDF_PROJECT{_did_you_mean(name, seen.projects)}; or ask an administrator of {name} for a group.",
        )
        return _failed("project", why, REFUSED)
    if seen.status == 200:
        why = Explanation(
            f"The service takes the token, and opens no project to it, {name} neither.",
            "Ask an administrator of the project for a group that your sign-in is a member of.",
        )
        return _failed("project", why, REFUSED)
    if seen.status in (403, 404):
        sentence = f"The service does not tell what the token may do ({seen.status})."
        return Check("project", Mark.WARNING, sentence, "The checks below tell whether it is enough.")
    return _failed("project", explain_refusal(seen.status, seen.message, situation), REFUSED)


def permission(seen: Inspected, name: str) -> Check | None:
    """Whether the token may write records in project `name`; None when nothing is known."""
    if seen.status != 200 or not seen.capabilities:
        return None
    spaces = _spaces(seen.capabilities, name, *_WRITE)
    missing = [
        f"{acl}:{action}"
        for acl, action in (_WRITE, _MODELS)
        if _spaces(seen.capabilities, name, acl, action) == frozenset()
    ]
    if missing:
        why = Explanation(
            f"This sign-in may not write records in project {name}: it lacks {' and '.join(missing)}.",
            f"Ask an administrator of {name} for a group with {' and '.join(missing)}.",
        )
        return _failed("permission", why, REFUSED)
    where = "" if spaces is None else f" in the spaces {', '.join(sorted(spaces))}, and in no other"
    if _spaces(seen.capabilities, name, *_READ) == frozenset():
        return Check(
            "permission",
            Mark.WARNING,
            f"Records may be written{where}, and not read.",
            "Ask for streamRecordsAcl:READ: without it unclear outcomes cannot be looked up, nor `verify` be used.",
        )
    return _ok("permission", f"Records may be written{where}.")


def _spaces(
    capabilities: Sequence[Mapping[str, Any]], name: str, acl: str, action: str
) -> frozenset[str] | None:
    """The spaces in which an action is allowed; None: in all of them."""
    spaces: set[str] = set()
    for capability in capabilities:
        allowed = capability.get(acl)
        if not isinstance(allowed, dict) or action not in _list(allowed.get("actions")):
            continue
        projects = capability.get("projectScope")
        if (
            isinstance(projects, dict)
            and "allProjects" not in projects
            and name not in _list(projects.get("projects"))
        ):
            continue
        match allowed.get("scope"):
            case {"spaceIdScope": {"spaceIds": list(ids)}}:
                spaces |= {space for space in ids if isinstance(space, str)}
            case _:
                return None
    return frozenset(spaces)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def stream(facts: StreamFacts) -> Check:
    """Whether the stream takes upserts."""
    template = f", created from {facts.template}" if facts.template else ""
    if not facts.mutable:
        return _failed("stream", immutable(facts.external_id), REFUSED)
    return _ok("stream", f"Stream {facts.external_id} is mutable{template}.")


def stream_refused(status: int, message: str, situation: Situation, known: Sequence[str]) -> Check:
    """Why the stream cannot be seen; `known` are the streams that can."""
    if status == 403:
        return Check(
            "stream",
            Mark.WARNING,
            "This sign-in may not look at streams, so neither the stream's kind nor its room is known.",
            "Ask for streamsAcl:READ; writing does not need it.",
        )
    why = explain_refusal(status, message, situation)
    if status == 404 and known:
        listed = ", ".join(sorted(known)[:20])
        near = _did_you_mean(situation.stream or "", known)
        why = Explanation(why.cause, f"Check the name{near}; there are {listed}.")
    return _failed("stream", why, REFUSED)


def streams(known: Sequence[StreamFacts]) -> Check:
    """The streams there are, when none was named."""
    if not known:
        return Check(
            "streams",
            Mark.WARNING,
            "There is no stream in this project.",
            "Create one from a mutable template, such as BasicLiveData.",
        )
    listed = ", ".join(
        f"{one.external_id} ({'mutable' if one.mutable else 'immutable'})" for one in known[:20]
    )
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return _ok("streams", f"Streams of this project: {listed}{more}.")


def room(facts: StreamFacts) -> Check:
    """How much room is left."""
    parts, worst = [], 0.0
    for limit, unit in ((facts.records, "records"), (facts.gigabytes, "GB")):
        if limit is not None and limit.consumed is not None and limit.provisioned > 0:
            parts.append(f"{_amount(limit.consumed, unit)} of {_amount(limit.provisioned, unit)} {unit}")
            worst = max(worst, limit.consumed / limit.provisioned)
    if not parts:
        return Check("room", Mark.WARNING, f"Stream {facts.external_id} does not tell how much room is left.")
    taken = f"{' and '.join(parts)} are taken"
    if worst >= 1:
        why = Explanation(
            f"Stream {facts.external_id} is full: {taken}.", "Delete records, or create a larger stream."
        )
        return _failed("room", why, REFUSED)
    if worst >= ALMOST_FULL:
        return Check(
            "room", Mark.WARNING, f"Stream {facts.external_id} is almost full: {taken}.", "Make room soon."
        )
    return _ok("room", f"There is room: {taken}.")


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "records" else f"{value:,.3f}".rstrip("0").rstrip(".")


def budgets(template: str) -> Check:
    """What the service takes at once and over time, as far as it is published."""
    quota = TEMPLATES.get(template)
    base = "30 requests a second and 15 at once for each sign-in"
    if quota is None or quota.updated is None:
        return _ok("budgets", f"{base}; the quota of template {template or 'unknown'} is not published.")
    assert quota.created is not None
    assert quota.nbytes is not None
    return _ok(
        "budgets",
        f"{base}; every {quota.window / 60:.0f} minutes {quota.created:,} new records, {quota.updated:,} updates "
        f"and {quota.nbytes / 1e6:,.0f} MB.",
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
