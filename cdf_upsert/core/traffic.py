"""What goes between the engine and its pacing: what happened to a request, and whether another may go.

Times are seconds of one monotonic clock; sizes are records and bytes before compression.
"""

from enum import Enum

from msgspec import Struct


class Signal(Enum):
    """What a reply says about the load of the service."""

    CALM = "calm"
    """Nothing of overload: 2xx, and what is wrong with the request itself (400, 409, 413, 422, 500)."""
    THROTTLED = "throttled"
    """429."""
    UNAVAILABLE = "unavailable"
    """408, 502, 503, 504, a connection that failed, a time-out."""


class Observation(Struct, frozen=True):
    """One request that has ended."""

    started: float
    ended: float
    signal: Signal
    retry_after: float | None
    """Seconds that the reply asks to wait, counted from its end."""
    records: int
    """Records that the reply accepted."""
    nbytes: int
    """Bytes of the request, before compression."""
    under_way: int
    """Requests under way when this one was started, itself included."""

    @property
    def latency(self) -> float:
        """Seconds from the first byte sent to the end of the reply."""
        return self.ended - self.started


class Go(Struct, frozen=True):
    """A request may be sent now."""

    records_at_most: int | None = None
    """None: of any size. A number: a probe, which is to carry no more records than this."""


class WaitReason(Enum):
    """Why no request may be sent."""

    LIMIT = "limit"
    PACE = "pace"
    RETRY_AFTER = "retry_after"
    QUOTA = "quota"
    MAX_RATE = "max_rate"
    BREAKER = "breaker"
    RETRY_BUDGET = "retry_budget"


class Wait(Struct, frozen=True):
    """No request may be sent before `until`; infinity: ask again after a reply."""

    until: float
    reason: WaitReason
