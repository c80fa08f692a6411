"""What a token says about itself. Nothing is verified here: that is the service's part, this one explains."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Claims(Struct, frozen=True):
    """The claims of a JSON Web Token that help to find out why it is refused; times in seconds since 1970."""

    issuer: str | None = None
    audience: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    expires: float | None = None
    not_before: float | None = None


def claims_of(token: str) -> Claims | None:
    """The claims of a token; None for one that is not a JSON Web Token, which nobody says it must be."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        content = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    scopes = content.get("scp", content.get("scope", content.get("roles")))
    return Claims(
        issuer=_text(content, "iss"),
        audience=_texts(content.get("aud")),
        scopes=_texts(scopes.split() if isinstance(scopes, str) else scopes),
        expires=_time(content, "exp"),
        not_before=_time(content, "nbf"),
    )


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(part for part in value if isinstance(part, str)) if isinstance(value, list) else ()


def _time(content: Mapping[str, Any], name: str) -> float | None:
    value = content.get(name)
    # A JSON number may be as large as its writer likes; no date is.
    ordinary = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11
    return float(value) if ordinary and value is not None else None
