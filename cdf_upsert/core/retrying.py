"""When records are tried again, how batches are taken apart, and when to give up.

How often records are tried again depends on the reason, and on whether the service is alive, that is, whether it
has accepted any record since the try before:

    reason          tries at most      counts
    throttled       no end             never: the run's patience decides
    unreachable     no end             never: nothing was sent; the run's patience decides
    unavailable     8                  when a reply named the record, or the service is alive
    internal error  3                  always
    conflict        4                  always; then the service is asked what is stored
    unclear         4                  always, but a gateway's answer only while the service is alive;
                                       then the service is asked what is stored

Whatever the last try ended in, be it a refusal: records that some try may have stored are not called failed before
the service was asked, or an older version, which would then have its turn, could land over them.
Nor do several fail together by replies that named none of them: one may have spoilt it for all, so those that are
not stored are taken apart, and tried anew.
"""

from typing import Protocol, assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from cdf_upsert.core.interpret import Reason
from cdf_upsert.core.record import FailureClass

BASE_SECONDS = 0.5
LONGEST_SECONDS = 30.0


class Dice(Protocol):
    """Where chance comes from: `random.Random` has this shape."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between `a` and `b`."""
        ...


class Tries(Struct, frozen=True):
    """What a batch has behind it: all its tries, those that count by reason, and those in a row that wait longer.

    `unclear`: after some try nobody said whether the records are stored.
    """

    all: int = 0
    counted: dict[Reason, int] = field(default_factory=dict)
    in_row: int = 0
    unclear: bool = False

    def started(self) -> "Tries":
        """One more try has begun."""
        return replace(self, all=self.all + 1)

    def again(self, reason: Reason, *, counts: bool, unclear: bool) -> "Tries":
        """One more try has ended in `reason`."""
        counted = self.counted
        if counts:
            counted = {**counted, reason: counted.get(reason, 0) + 1}
        return replace(self, counted=counted, in_row=self.in_row + 1, unclear=self.unclear or unclear)

    def afresh(self) -> "Tries":
        """The same records in other company: their tries are counted anew, but what is unclear stays so."""
        return Tries(unclear=self.unclear)


class TryAgain(Struct, frozen=True):
    """Send once more after `seconds`."""

    seconds: float
    tries: Tries


class AskStored(Struct, frozen=True):
    """Read back what is stored; `otherwise` is what the records have failed as when it is not ours."""

    otherwise: FailureClass


class FailAs(Struct, frozen=True):
    """The records have failed."""

    kind: FailureClass


Next = TryAgain | AskStored | FailAs


def after(
    reason: Reason,
    tries: Tries,
    *,
    named: bool,
    answered: bool,
    alive: bool,
    retry_after: float | None,
    dice: Dice,
) -> Next:
    """What comes after a try that ended in `reason`.

    Args:
        reason: why the records are not settled.
        tries: what they had behind them before this try ended.
        named: a reply named each of the records.
        answered: some reply came, be it a gateway's.
        alive: the service has accepted some record since the try before.
        retry_after: how many seconds the service asked to wait.
        dice: for full jitter.
    """
    match reason:
        case Reason.THROTTLED | Reason.UNREACHABLE:
            now = tries.again(reason, counts=False, unclear=False)
            return TryAgain(backoff(now.in_row, retry_after, dice), now)
        case Reason.UNAVAILABLE:
            most, counts, kind = 8, named or alive, FailureClass.UNAVAILABLE
        case Reason.BROKEN:
            most, counts, kind = 3, True, FailureClass.UNAVAILABLE
        case Reason.CONFLICT:
            most, counts, kind = 4, True, FailureClass.CONFLICT
        case Reason.UNKNOWN:
            most, counts, kind = 4, named or alive or not answered, FailureClass.UNKNOWN
        case _:
            assert_never(reason)
    now = tries.again(reason, counts=counts, unclear=reason is Reason.UNKNOWN or not named)
    if now.counted.get(reason, 0) < most:
        return TryAgain(backoff(now.in_row, retry_after, dice), now)
    if now.unclear or kind is FailureClass.CONFLICT:
        return AskStored(kind)
    return FailAs(kind)


def backoff(in_row: int, retry_after: float | None, dice: Dice) -> float:
    """Seconds to wait before the next try: exponential with full jitter, but not less than was asked for."""
    longest = min(LONGEST_SECONDS, BASE_SECONDS * 2.0 ** min(in_row - 1, 16))
    return max(dice.uniform(0.0, longest), retry_after or 0.0)
