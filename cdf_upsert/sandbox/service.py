"""One sandbox at work: the world, its clock, its faults, its limits and its traffic, wired together."""

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from cdf_upsert.sandbox.clock import Clock
from cdf_upsert.sandbox.faults import Faults
from cdf_upsert.sandbox.flights import Flight, Flights
from cdf_upsert.sandbox.identity import READ, WRITE, Client, Grant, Identity, capabilities
from cdf_upsert.sandbox.limits import Budgets, Quotas
from cdf_upsert.sandbox.traffic import Traffic
from cdf_upsert.sandbox.world import Refusal, World

CLIENT_ID = "sandbox"
READER_ID = "sandbox-reader"
PUBLIC_ID = "sandbox-app"
SUBJECT = "you@sandbox"


def clients(secret: str) -> dict[str, Client]:
    """The applications: one that may do all, one that may only read, a public one for people."""
    return {
        client.client_id: client
        for client in (
            Client(CLIENT_ID, secret, READ | WRITE),
            Client(READER_ID, secret, READ),
            Client(PUBLIC_ID, None, READ | WRITE),
        )
    }


def new_secret() -> str:
    """A token, code or secret that nobody guesses."""
    return base64.urlsafe_b64encode(secrets.token_bytes(24)).decode().rstrip("=")


@dataclass(slots=True)
class Service:
    """Everything that a request may touch; all of it belongs to the server's thread."""

    project: str
    world: World
    clock: Clock
    identity: Identity
    faults: Faults
    traffic: Traffic
    budgets: Budgets | None = None
    quotas: Quotas | None = None
    seed: int = 0
    flights: Flights = field(default_factory=Flights)
    _number: int = 0

    def next_number(self) -> int:
        """The number of a request that has just arrived, from 1."""
        self._number += 1
        return self._number

    def request_id(self, number: int) -> str:
        """The id of a request: the same for the same number and seed."""
        return str(UUID(int=Random(f"{self.seed}.{number}").getrandbits(128), version=4))  # noqa: S311 - an id, no secret

    def grant(
        self, authorization: str | None, project: str | None, access: Iterable[str]
    ) -> tuple[str, Grant]:
        """The token and the grant of a request.

        Raises:
            Refusal: 401 without a valid token for the project, 403 without the access.
        """
        scheme, _, token = (authorization or "").partition(" ")
        grant = (
            self.identity.grant_of(token.strip(), self.clock.wall()) if scheme.lower() == "bearer" else None
        )
        if grant is None:
            raise Refusal(401, "Unauthorized: the token is missing, not valid or expired.")
        if project not in (None, self.project):
            raise Refusal(401, f"Unauthorized: the token is not valid for the project `{project}`.")
        lacking = [one for one in access if one not in grant.access]
        if lacking:
            raise Refusal(403, f"Forbidden: the token lacks {', '.join(lacking)}.")
        return token.strip(), grant

    def inspect(self, grant: Grant) -> dict[str, Any]:
        """What a token may do, as the token inspection says it."""
        return {
            "subject": grant.subject,
            "projects": [{"projectUrlName": self.project, "groups": [1]}],
            "capabilities": capabilities(grant.access, self.project),
        }

    def depart(self, flight: Flight) -> None:
        """A write is answered."""
        self.flights.depart(flight)
        self.traffic.highest_at_once = self.flights.highest
