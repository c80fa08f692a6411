"""What has been asked and answered: one entry per request, counts of all, and a log of writes for tests."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered request, `at` seconds since 1970; status 0 is a connection cut or a client gone."""

    number: int
    at: float
    operation: str
    method: str
    path: str
    status: int
    seconds: float
    records: int = 0
    wire_bytes: int = 0
    bytes: int = 0
    fault: str = ""
    client: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """One record that was written: its key `space.externalId`, the request's number, a digest of its body."""

    key: str
    request: int
    digest: str


@dataclass(slots=True)
class Traffic:
    """The last requests, counts of all by operation and status, the highest number of writes at once."""

    keep_writes: bool = False
    requests: deque[Entry] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    records: int = 0
    highest_at_once: int = 0
    writes: list[Write] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """A request has been answered."""
        self.requests.append(entry)
        self.counts[entry.operation, entry.status] += 1
        self.records += entry.records
        if entry.fault:
            self.faults[entry.fault] += 1

    def count(self, operation: str, status: int | None = None) -> int:
        """How many requests of an operation were answered, with one status or with any."""
        if status is not None:
            return self.counts[operation, status]
        return sum(number for (name, _), number in self.counts.items() if name == operation)
