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
    """What a batch has behind it: all its tries, those that count by reason, and those in a row that wait longer."""

    all: int = 0
    counted: dict[Reason, int] = field(default_factory=dict)
    in_row: int = 0

    def started(self) -> "Tries":
        """One more try has begun."""
        return replace(self, all=self.all + 1)

    def again(self, reason: Reason, *, counts: bool) -> "Tries":
        """One more try has ended in `reason`."""
        counted = self.counted
        if counts:
            counted = {**counted, reason: counted.get(reason, 0) + 1}
        return replace(self, counted=counted, in_row=self.in_row + 1)


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
    end: AskStored | FailAs
    match reason:
        case Reason.THROTTLED | Reason.UNREACHABLE:
            now = tries.again(reason, counts=False)
            return TryAgain(backoff(now.in_row, retry_after, dice), now)
        case Reason.UNAVAILABLE:
            most, counts, end = 8, named or alive, FailAs(FailureClass.UNAVAILABLE)
        case Reason.BROKEN:
            most, counts = 3, True
            end = FailAs(FailureClass.UNAVAILABLE) if named else AskStored(FailureClass.UNAVAILABLE)
        case Reason.CONFLICT:
            most, counts, end = 4, True, AskStored(FailureClass.CONFLICT)
        case Reason.UNKNOWN:
            most, counts, end = 4, named or alive or not answered, AskStored(FailureClass.UNKNOWN)
        case _:
            assert_never(reason)
    now = tries.again(reason, counts=counts)
    if now.counted.get(reason, 0) >= most:
        return end
    return TryAgain(backoff(now.in_row, retry_after, dice), now)


def backoff(in_row: int, retry_after: float | None, dice: Dice) -> float:
    """Seconds to wait before the next try: exponential with full jitter, but not less than was asked for."""
    longest = min(LONGEST_SECONDS, BASE_SECONDS * 2.0 ** min(in_row - 1, 16))
    return max(dice.uniform(0.0, longest), retry_after or 0.0)
