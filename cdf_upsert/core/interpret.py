"""What a reply means for each record of a batch.

    reply                                  record is …
    202, an object without `error`         accepted
    any status, `partial` names it         by its own code: 202 accepted, 409 in conflict, 429 and 503 unavailable,
                                           500 broken, other 4xx refused, anything else unknown
    any status, `partial` omits it         unknown
    400                                    suspect: alone it is refused, among others the batch is split
    413                                    too large: alone it is oversize, among others the batch is split
    422 with `duplicated`                  suspect, the named ones first, one after the other
    422 without                            the run stops: the stream is not mutable
    401 403 404 and other 3xx, 4xx         the run stops
    409 without `partial`                  in conflict
    408 502 504 and other 5xx, 2xx         unknown
    429                                    throttled
    500 without `partial`                  broken, and unknown
    503 without `partial`                  unavailable
    none: not connected                    unreachable: nothing was sent
    none: time-out, connection lost        unknown: it may have been stored

Statuses and bodies: the published reference of the records API (20230101), read with tolerance: an outcome that
is not said is unknown, never accepted.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from cdf_upsert.core.record import Failure, FailureClass, Key, Record, keys_of, picked


class Reply(Struct, frozen=True):
    """What came back for one try. `retry_after` in seconds; `seconds` from sending to the end of the reply."""

    status: int
    body: bytes = b""
    request_id: str | None = None
    retry_after: float | None = None
    auto_retryable: bool = False
    seconds: float = 0.0
    wire_bytes: int = 0


class NoReply(Struct, frozen=True):
    """No reply came. `sent` tells whether the service may have received the request."""

    message: str
    sent: bool
    seconds: float = 0.0
    wire_bytes: int = 0


class Reason(Enum):
    """Why records are tried again; each has its own patience in `core.retrying`."""

    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    BROKEN = "internal error"
    CONFLICT = "conflict"
    UNKNOWN = "unclear outcome"


class Stop(Struct, frozen=True):
    """The service refuses what every request needs: the run ends. `message` is the service's own."""

    status: int
    message: str


class Said(Struct, frozen=True):
    """What was said of records that are not accepted: for their failure, should they fail in the end."""

    message: str
    status: int | None = None
    request_id: str | None = None


class Verdict(Struct):
    """What happens to each record of a batch; every record is in exactly one place.

    `again` are to be tried again, by reason; `suspects` are to be taken apart, the `named` among them first, and
    one after the other when the service holds them for the same (`in_turn`); `refused` have failed for good.
    """

    accepted: Sequence[Record] = ()
    again: dict[Reason, Sequence[Record]] = field(default_factory=dict)
    suspects: Sequence[Record] = ()
    named: Sequence[Record] = ()
    refused: list[tuple[Record, Failure]] = field(default_factory=list)
    stop: Stop | None = None
    said: Mapping[Reason | None, Said] = field(default_factory=dict)
    too_large: bool = False
    whole: bool = True
    in_turn: bool = False


def interpret(records: Sequence[Record], reply: Reply | NoReply, attempts: int) -> Verdict:
    """What `reply` to the try number `attempts` means for `records`, no two of which have the same key."""
    if isinstance(reply, NoReply):
        reason = Reason.UNKNOWN if reply.sent else Reason.UNREACHABLE
        return _again(records, reason, Said(reply.message))
    body = _Body.read(reply)
    said = Said(body.message, reply.status, reply.request_id)
    if body.partial is not None:
        return _by_record(records, body.partial, said, attempts)
    match reply.status:
        case 202 if body.plain:
            return Verdict(accepted=records)
        case 400:
            return _suspect(records, _named(records, body), said, attempts)
        case 413:
            return _too_large(records, said, attempts)
        case 422 if body.duplicated is not None:
            named = picked(records, [at for at, key in enumerate(keys_of(records)) if key in body.duplicated])
            return replace(_suspect(records, named, said, attempts), in_turn=bool(named))
        case 409:
            return _again(records, Reason.CONFLICT, said)
        case 429:
            return _again(records, Reason.THROTTLED, said)
        case 500:
            return _again(records, Reason.BROKEN, said)
        case 503:
            return _again(records, Reason.UNAVAILABLE, said)
        case 408:
            return _again(records, Reason.UNKNOWN, said)
        case status if 300 <= status < 500:
            if reply.auto_retryable:
                return _again(records, Reason.UNAVAILABLE, said)
            return Verdict(stop=Stop(status, body.message), again={Reason.UNKNOWN: records})
        case _:
            return _again(records, Reason.UNKNOWN, said)


def _again(records: Sequence[Record], reason: Reason, said: Said) -> Verdict:
    return Verdict(again={reason: records}, said={reason: said})


def _suspect(records: Sequence[Record], named: Sequence[Record], said: Said, attempts: int) -> Verdict:
    if len(records) == 1:
        failure = Failure(FailureClass.REJECTED, said.message, said.status, said.request_id, attempts)
        return Verdict(refused=[(records[0], failure)])
    return Verdict(suspects=records, named=named, said={None: said})


def _too_large(records: Sequence[Record], said: Said, attempts: int) -> Verdict:
    if len(records) == 1:
        failure = Failure(FailureClass.OVERSIZE, said.message, said.status, said.request_id, attempts)
        return Verdict(refused=[(records[0], failure)])
    return Verdict(suspects=records, said={None: said}, too_large=True)


def _by_record(
    records: Sequence[Record], partial: Mapping[Key, tuple[int, str]], said: Said, attempts: int
) -> Verdict:
    refused: list[tuple[Record, Failure]] = []
    accepted: list[int] = []
    again: dict[Reason, list[int]] = {}
    told: dict[Reason | None, Said] = {}
    for at, key in enumerate(keys_of(records)):
        code, message = partial.get(key, (0, "the reply does not name this record"))
        here = Said(message or said.message, code or said.status, said.request_id)
        match code:
            case 202:
                accepted.append(at)
                continue
            case 409:
                reason = Reason.CONFLICT
            case 429 | 503:
                reason = Reason.UNAVAILABLE
            case 500:
                reason = Reason.BROKEN
            case _ if 400 <= code < 500 and code != 408:
                failure = Failure(FailureClass.REJECTED, here.message, code, said.request_id, attempts)
                refused.append((records[at], failure))
                continue
            case _:
                reason = Reason.UNKNOWN
        again.setdefault(reason, []).append(at)
        told.setdefault(reason, here)
    return Verdict(
        accepted=picked(records, accepted),
        again={reason: picked(records, places) for reason, places in again.items()},
        refused=refused,
        said=told,
        whole=False,
    )


class _Body(Struct, frozen=True):
    """A reply's body, read with tolerance. `plain`: an object, or nothing, that speaks of no error."""

    message: str
    plain: bool = False
    partial: Mapping[Key, tuple[int, str]] | None = None
    duplicated: frozenset[Key] | None = None

    @classmethod
    def read(cls, reply: Reply) -> "_Body":
        try:
            content = msgspec.json.decode(reply.body) if reply.body.strip() else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return cls(_excerpt(reply.body.decode("utf-8", "replace")))
        if not isinstance(content, dict):
            return cls(_excerpt(str(content)))
        error = content.get("error")
        if error is None:
            return cls("", plain="partial" not in content)
        if not isinstance(error, dict):
            return cls(_excerpt(str(error)))
        partial = error.get("partial")
        return cls(
            _excerpt(str(error.get("message") or "")),
            partial=_codes(partial) if isinstance(partial, list) else None,
            # In whatever shape it comes, it does not say that the stream is not mutable.
            duplicated=_duplicated(given) if (given := error.get("duplicated")) else None,
        )


def _codes(partial: list[Any]) -> dict[Key, tuple[int, str]]:
    """Code and message per key. Where entries of one key disagree, the worse one counts."""
    codes: dict[Key, tuple[int, str]] = {}
    for entry in partial:
        match entry:
            case {"space": str(space), "externalId": str(external_id), "code": int(code)}:
                message = entry.get("message")
                key = (space, external_id)
                if key not in codes or code != 202:
                    codes[key] = (code, _excerpt(message) if isinstance(message, str) else "")
            case _:
                continue
    return codes


def _duplicated(entries: Any) -> frozenset[Key]:
    """The keys that a 422 names, each joined by a dot; a space cannot hold one, so the first dot is the joint."""
    keys: set[Key] = set()
    for entry in entries if isinstance(entries, list) else ():
        match entry:
            case {"space": str(space), "externalId": str(external_id)}:
                keys.add((space, external_id))
            case {"externalId": str(joined)} if "." in joined:
                space, _, external_id = joined.partition(".")
                keys.add((space, external_id))
            case _:
                continue
    return frozenset(keys)


_INDEX = re.compile(
    r"\b(?:items?|records?|index)\b\W{0,3}(?:(?:index|number|no\.?|at)\W{0,3})?(\d{1,4})\b", re.IGNORECASE
)
_QUOTED = re.compile(r"""(["'`])(.{1,600}?)\1""")


def _named(records: Sequence[Record], body: _Body) -> Sequence[Record]:
    """The records that a message points at, by index or by externalId: only a guess at who goes first."""
    named = {int(index) for index in _INDEX.findall(body.message) if int(index) < len(records)}
    words = {quoted for _, quoted in _QUOTED.findall(body.message)} | set(body.message.split())
    for at, (space, external_id) in enumerate(keys_of(records)):
        if external_id in words or f"{space}.{external_id}" in words:
            named.add(at)
    return picked(records, sorted(named))


def _excerpt(text: str) -> str:
    """A message on one line, not longer than a screen or two."""
    line = " ".join(text.split())
    return line if len(line) <= 1000 else line[:999] + "…"
