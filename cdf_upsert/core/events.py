"""What happens in a run, as frozen facts. Emitted once; screen, log, tally and tests listen.

Events carry batches, never single good records. Times are seconds of the clock that the engine was given.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from cdf_upsert.core.quota import Quota
from cdf_upsert.core.record import Failed


class Outcome(StrEnum):
    """How a run ended; the words of the report."""

    COMPLETE = "complete"
    FAILURES = "failures"
    STOPPED = "stopped"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class InputOpened(Struct, frozen=True):
    """An input is being read. `total_bytes` is what there is to read, None when nobody knows."""

    path: str
    format: str
    total_bytes: int | None


class BlockRead(Struct, frozen=True):
    """Records of one input were read; `position` is how many bytes of `total_bytes` are behind the reader."""

    path: str
    records: int
    nbytes: int
    position: int


class BatchSent(Struct, frozen=True):
    """A try began. `under_way` counts it."""

    at: float
    records: int
    nbytes: int
    retry: bool
    under_way: int


class BatchReplied(Struct, frozen=True):
    """A try ended; `status` is None when no reply came."""

    at: float
    status: int | None
    seconds: float
    wire_bytes: int
    under_way: int
    request_id: str | None = None


class Settled(Struct, frozen=True):
    """Records have their final outcome in this run, and the journal knows it."""

    at: float
    accepted: int = 0
    superseded: int = 0
    already_accepted: int = 0
    failed: Sequence[Failed] = ()


class Waiting(Struct, frozen=True):
    """Nothing can be sent until `until` (None: until a reply comes); `reason` is part of a sentence."""

    at: float
    reason: str
    until: float | None


class Paced(Struct, frozen=True):
    """From now on so many requests may be under way, and so many be sent a second (None: not bounded).

    `quota` is what a window is believed to take, `quota_left` the share of the present one that is left.
    """

    at: float
    limit: int
    pace: float | None
    quota: Quota | None = None
    quota_left: float = 1.0


class Retrying(Struct, frozen=True):
    """Records are to be tried again after `seconds`, because of `reason`."""

    at: float
    records: int
    reason: str
    message: str
    seconds: float


class Notice(Struct, frozen=True):
    """Something that a reader of the log wants to know; a whole sentence."""

    at: float
    message: str


class Ended(Struct, frozen=True):
    """The run is over. `unsent` were read and have no outcome; `reason` is a whole sentence, or empty."""

    at: float
    outcome: Outcome
    reason: str
    unsent: int


Event = (
    InputOpened | BlockRead | BatchSent | BatchReplied | Settled | Waiting | Paced | Retrying | Notice | Ended
)
