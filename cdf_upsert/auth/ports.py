"""What signing in needs of the world outside; handed in."""

from typing import TYPE_CHECKING, Protocol

from cdf_upsert.core.diagnosis import ConnectionTrouble

if TYPE_CHECKING:
    import httpx


class Clock(Protocol):
    """Time, and waiting for it."""

    def now(self) -> float:
        """Seconds since 1970: tokens live by the calendar, also while a laptop sleeps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Dice(Protocol):
    """Where chance comes from: `random.Random` has this shape."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between `a` and `b`."""
        ...


class Connections(Protocol):
    """Connections as the network's settings want them: `network.Connections`."""

    def client(self, url: str, *, timeout: float) -> "httpx.AsyncClient":
        """A client for this address, with at most `timeout` seconds for each step of a request."""
        ...

    def trouble(self, error: Exception, url: str) -> ConnectionTrouble:
        """What an error of that client means."""
        ...
