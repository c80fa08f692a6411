"""What a load takes: the arithmetic of `plan`, and of the time that is left while a load runs.

A load is bounded by what a window takes, in records and in bytes, and by how fast requests go: so many per
second, so many at once, so many records per second. The kind of window is not published, so that a time is a
range: from a bucket, which refills while it is used, to windows, each of which has to end before the
next one opens. What is expected is the windows, used as fast as requests may go:

    low         quick sending, and a bucket      ▁▁▁▁▂▂▂▂▂▂
    expected    quick sending, and windows       ▁▁________▁▁________▁
    high        slow sending, and windows        ▁▁▁▁______▁▁▁▁______▁▁
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from math import ceil

from msgspec import Struct, field
from msgspec.structs import replace

from cdf_upsert.core.distinct import DistinctKeys
from cdf_upsert.core.packing import Packed, Packer
from cdf_upsert.core.quota import Quota
from cdf_upsert.core.record import Record, keys_of
from cdf_upsert.core.stream import StreamFacts

SLOW_REQUEST = 1.0
"""Seconds that a request is taken to last at most: an assumption, said wherever it is used."""
LATE = 0.01
"""The part of a window after which it is seen at the latest that the next one is open."""
COMPRESSED_FIRST, COMPRESSED_EACH = 16, 8
"""The requests that are compressed to learn how well that goes: the first ones, then one in so many."""
GIGABYTE = 10**9


class Work(Struct, frozen=True):
    """What is to be sent."""

    records: int
    nbytes: int
    """Of the requests' bodies, before compression."""
    requests: int


class Survey(Struct, frozen=True):
    """What the inputs hold."""

    work: Work
    compressed_bytes: int
    distinct_keys: int
    keys_are_exact: bool


class Surveyor:
    """Packs records as a load does, and counts."""

    def __init__(self, packer: Packer, compress: Callable[[bytes], bytes]) -> None:
        self._packer = packer
        self._compress = compress
        self._keys = DistinctKeys()
        self._work = Work(0, 0, 0)
        self._sampled = 0
        self._sampled_compressed = 0

    def add(self, records: Sequence[Record]) -> None:
        """Count records that would be sent."""
        self._keys.add(keys_of(records))
        for packed in self._packer.add(records):
            self._count(packed)

    def survey(self) -> Survey:
        """Return what was counted; nothing can be added after that."""
        if self._packer.waiting:
            self._count(self._packer.flush())
        ratio = self._sampled_compressed / self._sampled if self._sampled else 1.0
        return Survey(self._work, round(self._work.nbytes * ratio), self._keys.count(), self._keys.is_exact)

    def _count(self, packed: Packed) -> None:
        nbytes, work = packed.nbytes, self._work
        if work.requests < COMPRESSED_FIRST or work.requests % COMPRESSED_EACH == 0:
            self._sampled += nbytes
            self._sampled_compressed += len(self._compress(b",".join(packed.records.texts)))
        self._work = Work(work.records + len(packed.records), work.nbytes + nbytes, work.requests + 1)


class Bottleneck(StrEnum):
    """What a load waits for most."""

    RECORDS = "records per window"
    BYTES = "bytes per window"
    REQUESTS = "requests per second"
    AT_ONCE = "requests at once"
    MAX_RATE = "records per second"
    SPEED = "the speed so far"


class Bounds(Struct, frozen=True):
    """What a load may use; None: not bounded, or not known."""

    quota: Quota | None = None
    requests_per_second: float | None = None
    at_once: int | None = None
    max_rate: float | None = None
    """Records per second at most, as the user set it."""
    speed: float | None = None
    """Records per second, as they were lately accepted outside of waits."""
    left: float = 1.0
    """The share of the present window that is not spent."""
    opens_in: float | None = None
    """Seconds until the next window; None: a whole window from now."""


class Forecast(Struct, frozen=True):
    """How long that takes, in seconds, and why."""

    low: float
    expected: float
    """The best single estimate, between the two others."""
    high: float
    windows: int | None
    """Windows that it takes, the present one included; None: no quota is known."""
    bottleneck: Bottleneck | None


def forecast(work: Work, bounds: Bounds) -> Forecast:
    """Return how long the work takes within these bounds."""
    moving = _moving(work, bounds)
    quick = max((seconds for _, seconds, _ in moving), default=0.0)
    slow = max((seconds for _, _, seconds in moving), default=0.0)
    slowest = max(moving, key=lambda entry: entry[1], default=None)
    bottleneck = slowest[0] if slowest is not None and work.requests else None
    quota = bounds.quota
    shares = _shares(work, quota)
    if quota is None or not shares:
        return Forecast(quick, quick, slow, None, bottleneck)
    share, by = max(shares)
    ahead = max(0, ceil(share - bounds.left - 1e-9))
    opens_in = quota.window if bounds.opens_in is None else bounds.opens_in
    if not ahead:
        return Forecast(quick, quick, slow, 1 if work.records else 0, bottleneck)
    last = share - bounds.left - (ahead - 1)
    waits = opens_in + (ahead - 1) * quota.window
    refilled = (share - bounds.left) * quota.window
    return Forecast(
        max(quick, min(refilled, waits)),
        max(quick, waits + quick * last / share),
        max(slow, waits * (1 + LATE) + slow * last / share),
        ahead + 1,
        by if waits > quick else bottleneck,
    )


def remaining(work: Work, bounds: Bounds) -> float:
    """Return the seconds that are left as one number, for a screen: what a plan expects."""
    return forecast(work, bounds).expected


def _moving(work: Work, bounds: Bounds) -> list[tuple[Bottleneck, float, float]]:
    """Return what bounds the speed, and the seconds that it makes the work take at least and at most."""
    found: list[tuple[Bottleneck, float, float]] = []
    if bounds.speed:
        found.append((Bottleneck.SPEED, work.records / bounds.speed, work.records / bounds.speed))
    if bounds.requests_per_second:
        seconds = work.requests / bounds.requests_per_second
        found.append((Bottleneck.REQUESTS, seconds, seconds))
    if bounds.at_once and not bounds.speed:
        found.append(
            (Bottleneck.AT_ONCE, 0.0, work.requests * SLOW_REQUEST / min(bounds.at_once, work.requests or 1))
        )
    if bounds.max_rate:
        seconds = work.records / bounds.max_rate
        found.append((Bottleneck.MAX_RATE, seconds, seconds))
    return found


def _shares(work: Work, quota: Quota | None) -> list[tuple[float, Bottleneck]]:
    """Return how many windows the work fills, by what is counted."""
    found = []
    if quota is not None and quota.created:
        found.append((work.records / quota.created, Bottleneck.RECORDS))
    if quota is not None and quota.nbytes:
        found.append((work.nbytes / quota.nbytes, Bottleneck.BYTES))
    return found


class Room(Struct, frozen=True):
    """Whether the records fit into the stream; None: not told."""

    free_records: int | None
    free_bytes: int | None
    fits: bool | None
    """By the count of keys. Records that are stored already take no new room: False may be too strict."""


def room(facts: StreamFacts, survey: Survey) -> Room:
    """Return what is free, against what the inputs hold."""
    records = facts.records
    free_records = None
    if records is not None and records.consumed is not None:
        free_records = max(0, int(records.provisioned - records.consumed))
    gigabytes = facts.gigabytes
    free_bytes = None
    if gigabytes is not None and gigabytes.consumed is not None:
        free_bytes = max(0, int((gigabytes.provisioned - gigabytes.consumed) * GIGABYTE))
    verdicts = []
    if free_records is not None:
        verdicts.append(survey.distinct_keys <= free_records)
    if free_bytes is not None:
        verdicts.append(survey.work.nbytes <= free_bytes)
    return Room(free_records, free_bytes, all(verdicts) if verdicts else None)


class Plan(Struct, frozen=True):
    """What a load would take."""

    stream: str
    template: str
    read: int
    failed: int
    survey: Survey
    room: Room
    new: Forecast
    """When no record is stored yet."""
    stored: Forecast | None
    """When all are stored already, where that is slower; None: no difference is known."""
    quota: Quota | None = field(default=None)


def make_plan(
    stream: str, facts: StreamFacts, survey: Survey, bounds: Bounds, *, read: int, failed: int
) -> Plan:
    """Put together what a load would take."""
    quota = bounds.quota
    stored = None
    if quota is not None and quota.updated is not None and quota.updated != quota.created:
        stored = forecast(survey.work, replace(bounds, quota=replace(quota, created=quota.updated)))
    return Plan(
        stream,
        facts.template,
        read,
        failed,
        survey,
        room(facts, survey),
        forecast(survey.work, bounds),
        stored,
        quota,
    )
