"""Which writes overlap: of two requests that write one key at the same moment, the later one loses.

A request is under way from its first byte to its reply. Time is counted in steps, one for each arrival and
departure, so that what happens does not depend on a clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Flight:
    """One write under way; its keys belong to one stream."""

    arrived: int
    stream: str = ""
    keys: frozenset[str] = frozenset()
    departed: int | None = None


@dataclass(slots=True)
class Flights:
    """All writes that are under way, and those that a write under way overlapped with."""

    _step: int = 0
    _flights: list[Flight] = field(default_factory=list)
    _open: int = 0
    highest: int = 0

    def arrive(self) -> Flight:
        """A write's first byte is here."""
        self._step += 1
        self._open += 1
        self.highest = max(self.highest, self._open)
        flight = Flight(self._step)
        self._flights.append(flight)
        return flight

    def claim(self, flight: Flight, stream: str, keys: Iterable[str]) -> frozenset[str]:
        """Name the keys that a write will change; returns those that an overlapping one has claimed."""
        wanted = frozenset(keys)
        taken: set[str] = set()
        for other in self._flights:
            overlaps = other.departed is None or other.departed > flight.arrived
            if (
                overlaps
                and other is not flight
                and other.stream == stream
                and not wanted.isdisjoint(other.keys)
            ):
                taken |= wanted & other.keys
        flight.stream, flight.keys = stream, wanted - taken
        return frozenset(taken)

    def depart(self, flight: Flight) -> None:
        """A write is answered. It is remembered as long as one that it overlapped with is under way."""
        self._step += 1
        self._open -= 1
        flight.departed = self._step
        earliest = min((one.arrived for one in self._flights if one.departed is None), default=self._step)
        self._flights = [one for one in self._flights if one.departed is None or one.departed > earliest]
