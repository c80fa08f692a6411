"""What an identity provider's answer means, and what to say when it refuses.

answer of a token endpoint                                meaning
200, an object with access_token of type bearer           granted
an object with error authorization_pending, slow_down     pending (device code, RFC 8628)
408, 425, 429, 5xx; temporarily_unavailable, server_error later
3xx                                                       refused: redirects are not followed
an object with any other error                            refused, in the provider's words
anything else                                             refused: this is no token endpoint
"""

import json
import re
from typing import Any, Final

from msgspec import Struct

from cdf_upsert.core.claims import claims_of
from cdf_upsert.core.diagnosis import Explanation
from cdf_upsert.core.redact import Secret

_LATER_STATUSES: Final = (408, 425, 429)
_LATER_ERRORS: Final = ("temporarily_unavailable", "server_error")
_TRAILER: Final = re.compile(r"\s*(?:Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)
_LONGEST: Final = 400
_FORCE_MEND: Final = "Put a secret that is in force into IDP_CLIENT_SECRET: the secret's value, not its id."
_TENANT_MEND: Final = "Check IDP_TENANT_ID (or IDP_TOKEN_URL)."
_CLIENT_MEND: Final = "Check IDP_CLIENT_ID, and that the application is in this tenant (IDP_TENANT_ID)."
_SCOPE_MEND: Final = "Check IDP_SCOPES and IDP_AUDIENCE, and the cluster that they are made of."

_MENDS: Final = (
    # Entra ID says what is wrong by a number, others by the error code of RFC 6749 alone.
    ("AADSTS7000215", _FORCE_MEND),
    ("AADSTS7000222", _FORCE_MEND),
    ("AADSTS90002", _TENANT_MEND),
    ("AADSTS900023", _TENANT_MEND),
    ("AADSTS700016", _CLIENT_MEND),
    ("AADSTS500011", _SCOPE_MEND),
    ("AADSTS70011", _SCOPE_MEND),
    ("invalid_client", "Check IDP_CLIENT_ID and IDP_CLIENT_SECRET."),
    ("unauthorized_client", "Ask who registered the client to allow it this way of signing in (LOGIN_FLOW)."),
    ("invalid_scope", _SCOPE_MEND),
    ("invalid_target", _SCOPE_MEND),
    ("access_denied", "Ask who registered the client to grant it access to CDF, and check IDP_AUDIENCE."),
    ("expired_token", "Run `cdf-upsert login` again, and enter the code sooner."),
    ("invalid_grant", "Run `cdf-upsert login` again."),
)


class Granted(Struct, frozen=True):
    """A token. `expires` in seconds since 1970 and `lifetime` in seconds; None when nobody says."""

    access: Secret
    expires: float | None = None
    lifetime: float | None = None
    refresh: Secret | None = None


class Pending(Struct, frozen=True):
    """The person has not answered yet; ask again, and less often when `slower`."""

    slower: bool


class Later(Struct, frozen=True):
    """The provider is down or busy; `seconds` is how long it asks to wait."""

    reason: str
    seconds: float | None = None


class Refused(Struct, frozen=True):
    """The provider says no: `error` is its code for that, `words` are its own; `status` the HTTP status."""

    status: int
    error: str = ""
    words: str = ""


Answer = Granted | Pending | Later | Refused


def answer_of(status: int, body: bytes, retry_after: str | None, now: float) -> Answer:
    """What the answer of a token endpoint means; `now`, in seconds since 1970, is when it was asked."""
    content = _object(body)
    error = _text(content, "error")
    wait = (retry_after or "").strip()
    seconds = float(wait) if wait.isascii() and wait.isdecimal() else None
    if error in ("authorization_pending", "slow_down"):
        return Pending(slower=error == "slow_down")
    if status >= 500 or status in _LATER_STATUSES or error in _LATER_ERRORS:
        return Later(f"it answers {status}{f' ({error})' if error else ''}", seconds)
    if status == 200 and not error:
        return _granted(content, now)
    words = _TRAILER.sub("", _text(content, "error_description"))
    return Refused(status, error[:_LONGEST], " ".join(words.split())[:_LONGEST])


def explain_provider(refused: Refused, url: str) -> Explanation:
    """Why the identity provider at `url` gives no token."""
    if refused.error:
        said = f'{refused.error}: "{refused.words}"' if refused.words else refused.error
        mend = next((mend for sign, mend in _MENDS if sign in said), "Check the IDP_ variables.")
        return Explanation(f"The identity provider at {url} refuses the sign-in ({said}).", mend)
    if 300 <= refused.status < 400:
        return Explanation(
            f"The provider at {url} redirects elsewhere ({refused.status}), where no secret may go.",
            "Write the final address into IDP_TOKEN_URL: redirects are not followed.",
        )
    return Explanation(
        f"What is at {url} answers {refused.status} and gives no token.",
        "Check IDP_TOKEN_URL (or IDP_TENANT_ID): it must be the token endpoint of the provider.",
    )


def _granted(content: dict[str, Any], now: float) -> Granted | Refused:
    access, kind = _text(content, "access_token"), _text(content, "token_type") or "bearer"
    if not access or not all("!" <= letter <= "~" for letter in access) or kind.lower() != "bearer":
        return Refused(200)
    lifetime = _seconds(content.get("expires_in"))
    claims = claims_of(access) if lifetime is None else None
    if claims is not None and claims.expires is not None:
        lifetime = max(0.0, claims.expires - now)
    refresh = _text(content, "refresh_token")
    return Granted(
        access=Secret(access),
        expires=None if lifetime is None else now + lifetime,
        lifetime=lifetime,
        refresh=Secret(refresh) if refresh else None,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    """Providers write the lifetime as a number, and some as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        return None
    return float(value)
