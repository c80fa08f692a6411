"""One request on its way through the sandbox: what it brought, and what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cdf_upsert.sandbox.faults import Plan
from cdf_upsert.sandbox.flights import Flight
from cdf_upsert.sandbox.identity import Grant
from cdf_upsert.sandbox.limits import Kind
from cdf_upsert.sandbox.service import Service
from cdf_upsert.sandbox.wire import Reply
from cdf_upsert.sandbox.world import Refusal


@dataclass(slots=True)
class Call:
    """One request on its way; filled in as it goes."""

    service: Service
    path: str
    params: Mapping[str, str]
    query: list[tuple[str, str]]
    body: bytes = b""
    authorization: str = ""
    token: str = ""
    grant: Grant | None = None
    plan: Plan = field(default_factory=Plan)
    latency: float = 0.0
    flight: Flight | None = None
    number: int = 0
    records: int = 0
    wire_bytes: int = 0
    entered: bool = False

    @property
    def stream(self) -> str:
        """The stream in the path."""
        return self.params["stream_id"]

    @property
    def now(self) -> int:
        """The sandbox's time in milliseconds."""
        return self.service.clock.milliseconds()

    async def dwell(self) -> None:
        """Let the latency pass that is still to come."""
        seconds, self.latency = self.latency, 0.0
        if seconds:
            await asyncio.sleep(seconds)

    def one(self, name: str) -> str | None:
        """A query parameter, the last one where it stands twice."""
        return next((value for key, value in reversed(self.query) if key == name), None)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false."""
        value = self.one(name)
        if value not in (None, "true", "false"):
            raise Refusal(400, f"{name}: expected true or false, got `{value[:60]}`")
        return value == "true"

    def limit(self) -> int:
        """The `limit` of a list: 10 by default, never more than 1000."""
        value = self.one("limit")
        if value is None:
            return 10
        if not value.isascii() or not value.isdigit() or int(value[:9]) < 1:
            raise Refusal(400, f"limit: expected a number from 1 to 1000, got `{value[:60]}`")
        return min(int(value[:9]), 1000)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path; where `access` is None, it needs no token."""

    operation: str
    access: tuple[str, ...] | None
    answer: Callable[[Call], Awaitable[Reply]]
    kind: Kind | None = None
    body: Literal["json", "form", "none"] = "json"
    writes: bool = False
