"""What goes wrong, on purpose: scripted in TOML, or seeded chaos. Decisions only; the server acts on them.

A script is a list of faults; each says which requests it meets and what happens to them:

    latency = { median = 0.05, p99 = 0.8 }    # or { fixed = 0.1 }; seconds

    [[fault]]
    kind = "throttle"          # throttle, answer, partial, lost, cut, trickle, expire, delay
    on = ["upsert"]            # upsert, ingest, delete, filter, ..., token; without it all writes
    requests = [2, 5]          # the second and the fifth of them; or first, last, every; or share = 0.1
    retry_after = 1.5

The first fault that meets a request is the one that happens. Chaos derives its dice from the seed, the
request's content and how often that content was seen, so the same requests meet the same faults, in whatever
order they come.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp, log
from pathlib import Path
from random import Random
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from cdf_upsert.sandbox.problem import SandboxError

WRITES: Final = ("upsert", "ingest", "delete")
OPERATIONS: Final = (*WRITES, "filter", "sync", "aggregate", "streams", "models", "token", "inspect")

_Share = Annotated[float, Meta(ge=0, le=1)]
_Seconds = Annotated[float, Meta(ge=0)]
_Ordinal = Annotated[int, Meta(ge=1)]


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Which requests a fault meets; ordinals count the requests of the operations in `on`, from 1."""

    on: tuple[str, ...] = WRITES
    requests: tuple[_Ordinal, ...] | None = None
    first: _Ordinal = 1
    last: _Ordinal | None = None
    every: _Ordinal = 1
    share: _Share = 1.0
    times: _Ordinal | None = None

    def meets(self, ordinal: int) -> bool:
        """Whether the fault is meant for this request, dice and `times` apart."""
        if self.requests is not None:
            return ordinal in self.requests
        within = self.first <= ordinal and (self.last is None or ordinal <= self.last)
        return within and (ordinal - self.first) % self.every == 0


class Throttle(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="throttle"):
    """429, with `Retry-After` in seconds or as a date, or without."""

    retry_after: _Seconds | None = None
    as_date: bool = False


class Answer(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="answer"):
    """A reply of the gateway's, and nothing is written. `html` gives it a body that is no JSON."""

    status: Annotated[int, Meta(ge=400, le=599)] = 502
    html: bool = False
    message: str = "The sandbox was told to answer so."
    retry_after: _Seconds | None = None
    auto_retryable: bool = False


class Partial(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="partial"):
    """Some records fail with a code and the others are written.

    Which: `keys` (`space.externalId`), or a share `of` the request's records, at least one. `written` writes
    the failed ones all the same; `left_out` leaves that share of all records out of the list; `shape` spoils
    the body.
    """

    code: Literal[409, 500, 503] = 503
    of: _Share = 0.1
    keys: frozenset[str] | None = None
    written: bool = False
    left_out: _Share = 0.0
    shape: Literal["partial", "no list", "text", "empty"] = "partial"
    message: str = "The sandbox was told to fail this record."


class Lost(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lost"):
    """The records are written, and the connection is cut instead of a reply."""


class Cut(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cut"):
    """The connection is cut before anything is written."""


class Trickle(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trickle"):
    """The reply comes byte by byte, over so many seconds."""

    seconds: _Seconds = 2.0


class Expire(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="expire"):
    """The token ends early: 401 to this request and to all later ones that bring the same token."""


class Delay(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="delay"):
    """The reply comes so many seconds later."""

    seconds: _Seconds = 1.0


Fault = Throttle | Answer | Partial | Lost | Cut | Trickle | Expire | Delay


class Latency(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds that every request takes at least: fixed, or log-normal by median and 99th percentile."""

    fixed: _Seconds = 0.0
    median: _Seconds | None = None
    p99: _Seconds | None = None

    def draw(self, dice: Random) -> float:
        """One latency."""
        if self.median is None or self.median == 0:
            return self.fixed
        sigma = log(max(self.p99 or self.median, self.median) / self.median) / _Z99
        return self.fixed + self.median * exp(sigma * dice.gauss(0, 1))


_Z99: Final = 2.3263478740408408


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of faults."""

    fault: tuple[Fault, ...] = ()
    latency: Latency = Latency()


_NO_SCRIPT: Final = Script()


def read_script(path: Path) -> Script:
    """A script from a TOML file.

    Raises:
        SandboxError: the file cannot be read or is not a script; names the place.
    """
    try:
        script = msgspec.toml.decode(path.read_bytes(), type=Script)
    except OSError as error:
        raise SandboxError(f"The faults in {path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise SandboxError(f"The faults in {path} are not usable: {error}.") from error
    for index, fault in enumerate(script.fault):
        where = f"The faults in {path} are not usable: fault[{index}].on"
        unknown = [word for word in fault.on if word not in OPERATIONS]
        if unknown:
            raise SandboxError(f"{where} names `{unknown[0]}`, which is none of {', '.join(OPERATIONS)}.")
        if isinstance(fault, Partial) and not set(fault.on) <= set(WRITES):
            raise SandboxError(f"{where} names more than {', '.join(WRITES)}: only they answer in part.")
        if isinstance(fault, Expire) and "token" in fault.on:
            raise SandboxError(f"{where} names `token`, whose requests bring no token that could end.")
    return script


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request: seconds of latency, at most one fault, the dice for what it hits."""

    latency: float = 0.0
    fault: Fault | None = None
    dice: Random | None = None


@dataclass(slots=True)
class Faults:
    """Scripted and seeded faults of one server; counts what it has seen, and asks no clock."""

    script: Script = _NO_SCRIPT
    chaos: float = 0.0
    seed: int = 0
    _ordinals: Counter[int] = field(default_factory=Counter)
    _uses: Counter[int] = field(default_factory=Counter)
    _seen: Counter[bytes] = field(default_factory=Counter)

    def plan(self, operation: str, path: str, body: bytes) -> Plan:
        """What happens to a request, given what it asks for."""
        if not self.script.fault and not self.chaos and self.script.latency == Latency():
            return _NOTHING
        content = blake2b(f"{self.seed} {path} ".encode() + body, digest_size=16).digest()
        self._seen[content] += 1
        dice = Random(content + self._seen[content].to_bytes(4, "big"))  # noqa: S311 - chance on purpose, repeatable
        latency = self.script.latency.draw(dice)
        fault = self._scripted(operation, dice)
        if fault is None and self.chaos and dice.random() < self.chaos and operation in _CHAOS_MEETS:
            fault = _chaos(operation, dice)
        return Plan(latency, fault, dice)

    def _scripted(self, operation: str, dice: Random) -> Fault | None:
        chosen: Fault | None = None
        for number, fault in enumerate(self.script.fault):
            if operation not in fault.on:
                continue
            self._ordinals[number] += 1
            if chosen is not None or not fault.meets(self._ordinals[number]):
                continue
            if fault.times is not None and self._uses[number] >= fault.times:
                continue
            if fault.share < 1 and dice.random() >= fault.share:
                continue
            self._uses[number] += 1
            chosen = fault
        return chosen


_NOTHING: Final = Plan()
_CHAOS_MEETS: Final = frozenset(OPERATIONS) - {"token"}


def _chaos(operation: str, dice: Random) -> Fault:
    """One fault of any kind that can happen to the operation."""
    anywhere: Sequence[Fault] = (
        Throttle(retry_after=1.0),
        Throttle(),
        Answer(status=500),
        Answer(status=502, html=True),
        Answer(status=503),
        Cut(),
        Lost(),
        Trickle(seconds=0.5),
        Expire(),
        Delay(seconds=0.5),
    )
    writes: Sequence[Fault] = (
        Partial(code=503, of=0.3),
        Partial(code=500, of=0.05),
        Partial(code=409, of=0.1),
        Partial(code=503, of=0.1, left_out=0.2),
        Partial(code=503, of=0.2, written=True),
        Partial(code=503, of=0.5, shape="no list"),
    )
    return dice.choice([*anywhere, *writes] if operation in WRITES else list(anywhere))


def failing(fault: Partial, keys: Sequence[str], dice: Random) -> tuple[frozenset[str], frozenset[str]]:
    """Of a request's keys, those that fail and those that are left out of the list."""
    if fault.keys is not None:
        failed = frozenset(keys) & fault.keys
    else:
        failed = frozenset(dice.sample(keys, max(1, round(fault.of * len(keys)))) if fault.of else ())
    left_out = frozenset(dice.sample(keys, round(fault.left_out * len(keys))))
    return failed, left_out
