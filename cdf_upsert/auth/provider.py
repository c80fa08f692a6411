"""Requests to an identity provider: one form out, one answer back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote_plus

from msgspec import Struct

from cdf_upsert.auth.ports import Clock, Connections
from cdf_upsert.core.access import ClientAuth, ClientCredentials, Endpoints, Session
from cdf_upsert.core.diagnosis import (
    Explanation,
    NoTls,
    ProxyFailed,
    Unreachable,
    Unresolved,
    Untrusted,
    explain_connection,
)
from cdf_upsert.core.granting import Answer, Later, Pending, Refused, answer_of, explain_provider
from cdf_upsert.core.redact import Redactor, Secret
from cdf_upsert.errors import LoaderError, RefusedError, UsageError

TIMEOUT_SECONDS: Final = 30.0
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_DISCOVERY: Final = "/.well-known/openid-configuration"
_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}


class Unheard(Struct, frozen=True):
    """No answer came. `hopeless` tells whether waiting could help as far as one can know."""

    explanation: Explanation
    hopeless: bool


class DeviceCode(Struct, frozen=True):
    """What a person is shown, and what is asked with until that person has answered; times in seconds."""

    code: Secret
    user_code: str
    address: str
    interval: float
    lifetime: float


class Provider:
    """An identity provider, seen from one client."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def by_secret(self, credentials: ClientCredentials) -> Answer | Unheard:
        """A token for a program (RFC 6749, section 4.4)."""
        return await self._token(
            credentials.token_url,
            "client_credentials",
            credentials.client_id,
            credentials.client_secret,
            credentials.client_auth,
            scope=credentials.scopes,
            audience=credentials.audience,
            resource=credentials.resource,
        )

    async def by_refresh(self, session: Session, token_url: str, refresh: Secret) -> Answer | Unheard:
        """A newer token for a person who is signed in (RFC 6749, section 6)."""
        return await self._token(
            token_url, "refresh_token", session.client_id, refresh_token=refresh, scope=session.scopes
        )

    async def by_code(
        self, session: Session, token_url: str, code: Secret, verifier: Secret, redirect_uri: str
    ) -> Answer | Unheard:
        """The token of a person who has just come back from the browser (RFC 7636, section 4.5)."""
        return await self._token(
            token_url,
            "authorization_code",
            session.client_id,
            code=code,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
        )

    async def by_device(self, session: Session, token_url: str, device: DeviceCode) -> Answer | Unheard:
        """The token of a person who was shown a code, or word that the code is not entered yet (RFC 8628)."""
        return await self._token(token_url, DEVICE_GRANT, session.client_id, device_code=device.code)

    async def device_code(self, session: Session, url: str) -> DeviceCode:
        """A code to show (RFC 8628, section 3.1).

        Raises:
            LoaderError: As for `refusal`.
        """
        form = {"client_id": session.client_id, "scope": " ".join(session.scopes)}
        if session.audience is not None:
            form["audience"] = session.audience
        from authlib.common.urls import url_encode  # noqa: PLC0415  # Only who signs in pays for authlib.

        answer = await self._exchange(url, url_encode(form.items()), _HEADERS)
        if isinstance(answer, Unheard):
            raise refusal(answer, url, ())
        status, body, retry_after = answer
        content = _object(body)
        texts = [content.get(name) for name in ("device_code", "user_code", "verification_uri")]
        match texts:
            case [str(code), str(user_code), str(address)] if status == 200:
                return DeviceCode(
                    Secret(code),
                    user_code,
                    address,
                    _number(content.get("interval"), 5.0),
                    _number(content.get("expires_in"), 900.0),
                )
            case _:
                meaning = answer_of(status, body, retry_after, self._clock.now())
                raise refusal(meaning if isinstance(meaning, Refused) else Refused(status), url, ())

    async def endpoints(self, session: Session) -> Endpoints:
        """Where the session's person signs in, asked of the discovery document when the settings do not say.

        Raises:
            LoaderError: As for `refusal`.
        """
        if isinstance(session.provider, Endpoints):
            return session.provider
        url = session.provider.removesuffix(_DISCOVERY) + _DISCOVERY
        answer = await self._exchange(url, None, {"Accept": "application/json"})
        if isinstance(answer, Unheard):
            raise refusal(answer, url, ())
        content = _object(answer[1])
        names = ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint")
        match [content.get(name) for name in names]:
            case [str(authorize), str(token), device] if answer[0] == 200:
                return Endpoints(authorize, token, device if isinstance(device, str) else None)
            case _:
                raise UsageError(
                    f"What is at {url} answers {answer[0]} and is no identity provider's discovery document. "
                    "Check IDP_DISCOVERY_URL (or IDP_AUTHORITY_URL)."
                )

    async def _token(
        self,
        url: str,
        grant_type: str,
        client_id: str,
        client_secret: Secret | None = None,
        client_auth: ClientAuth = ClientAuth.POST,
        **parameters: str | Secret | Sequence[str] | None,
    ) -> Answer | Unheard:
        from authlib.oauth2.auth import ClientAuth as Signer  # noqa: PLC0415  # See above.
        from authlib.oauth2.rfc6749.parameters import prepare_token_request  # noqa: PLC0415  # See above.

        plain = {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in parameters.items()
        }
        if client_secret is None:
            signer = Signer(client_id, None, "none")
        elif client_auth is ClientAuth.BASIC:
            # Section 2.3.1 has both encoded before they are joined by a colon.
            signer = Signer(quote_plus(client_id), quote_plus(client_secret.reveal()), "client_secret_basic")
        else:
            signer = Signer(client_id, client_secret.reveal(), "client_secret_post")
        request = prepare_token_request(grant_type, **plain)
        _, headers, body = signer.prepare("POST", url, dict(_HEADERS), request)
        asked = self._clock.now()
        answer = await self._exchange(url, body, headers)
        return answer if isinstance(answer, Unheard) else answer_of(*answer, asked)

    async def _exchange(
        self, url: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str | None] | Unheard:
        """Status, body and Retry-After of one request; a GET when there is no body to send."""
        import httpx  # noqa: PLC0415  # A given token needs none of it.

        try:
            async with self._connections.client(url, timeout=TIMEOUT_SECONDS) as client:
                method = "GET" if body is None else "POST"
                reply = await client.request(method, url, content=body, headers=dict(headers))
        except httpx.HTTPError as error:
            trouble = self._connections.trouble(error, url)
            match trouble:
                case Unresolved() | Untrusted() | NoTls():
                    hopeless = True
                case ProxyFailed(reason=reason):
                    hopeless = "407" in reason
                case Unreachable():
                    hopeless = False
            return Unheard(explain_connection(trouble), hopeless)
        return reply.status_code, reply.content, reply.headers.get("Retry-After")


def refusal(answer: Refused | Later | Pending | Unheard, url: str, secrets: Sequence[Secret]) -> LoaderError:
    """The error that ends a sign-in, in the provider's own words without the secrets.

    `RefusedError` when the provider refuses, `UsageError` when it is not reached or does not serve.
    """
    match answer:
        case Refused():
            return RefusedError(Redactor(secrets).clean(str(explain_provider(answer, url))))
        case Unheard(explanation):
            return UsageError(str(explanation))
        case Later(reason):
            return UsageError(f"The identity provider at {url} does not serve: {reason}. Try again later.")
        case Pending():
            return RefusedError("Nobody entered the code in time. Run `cdf-upsert login` again.")


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _number(value: object, default: float) -> float:
    ordinary = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return float(value) if ordinary and isinstance(value, int | float) else default
