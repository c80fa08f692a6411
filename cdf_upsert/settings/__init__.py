"""Flags, environment, `.env`, a TOML file and a kept sign-in become one frozen, validated `Settings`.

A flag beats the environment, the environment beats `.env`, `.env` beats the TOML file, and what `login` has
kept is the last resort. All faults are told at once, each with the variable, where its value came from, and
the mend.
"""

from cdf_upsert.core.access import (
    ClientAuth,
    ClientCredentials,
    Credentials,
    Endpoints,
    GivenToken,
    Network,
    Origin,
    Provider,
    Proxy,
    Session,
    Settings,
    Target,
)
from cdf_upsert.core.redact import Secret
from cdf_upsert.settings.dotenv import environment_with_dotenv
from cdf_upsert.settings.resolve import profile_of, resolve, state_directory

__all__ = [
    "ClientAuth",
    "ClientCredentials",
    "Credentials",
    "Endpoints",
    "GivenToken",
    "Network",
    "Origin",
    "Provider",
    "Proxy",
    "Secret",
    "Session",
    "Settings",
    "Target",
    "environment_with_dotenv",
    "profile_of",
    "resolve",
    "state_directory",
]
