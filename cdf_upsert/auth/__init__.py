"""How a token is had and kept fresh, and how a person signs in and out.

The OAuth flows are authlib's, by its parts without I/O; the requests are httpx's. authlib's own client is not
used: it is built on another HTTP library where that is installed, as it is beside the official SDK.
"""

from cdf_upsert.auth.login import Desk, login
from cdf_upsert.auth.ports import Clock, Connections, Dice
from cdf_upsert.auth.sessions import Kept, SessionStore, Vault, system_vault
from cdf_upsert.auth.source import TokenSource, token_source

__all__ = [
    "Clock",
    "Connections",
    "Desk",
    "Dice",
    "Kept",
    "SessionStore",
    "TokenSource",
    "Vault",
    "login",
    "system_vault",
    "token_source",
]
