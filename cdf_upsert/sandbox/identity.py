"""Sign-in: an OAuth2 provider with client credentials, authorization code (PKCE), device code and refresh.

Decisions only: `now` (seconds) and the source of secrets are passed in. Tokens are opaque and live in memory.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote_plus, urlencode, urlsplit

READ: Final = frozenset(
    {"streamsAcl:READ", "streamRecordsAcl:READ", "dataModelsAcl:READ", "projectsAcl:LIST"}
)
WRITE: Final = frozenset(
    {"streamsAcl:CREATE", "streamsAcl:DELETE", "streamRecordsAcl:WRITE", "dataModelsAcl:WRITE"}
)
READ_SCOPE: Final = "records.read"

_CODE_SECONDS = 600
_DEVICE_SECONDS = 900
_POLL_SECONDS = 5
_REFRESH_SECONDS = 86_400 * 30
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass(frozen=True, slots=True)
class Client:
    """An application that may sign in; a public one has no secret and must use PKCE."""

    client_id: str
    secret: str | None
    access: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token stands for; `expires` in seconds since 1970."""

    subject: str
    client_id: str
    access: frozenset[str]
    scope: str
    expires: float


@dataclass(frozen=True, slots=True)
class _Code:
    grant: Grant
    redirect_uri: str
    challenge: str | None
    method: str


@dataclass(slots=True)
class _Device:
    grant: Grant
    user_code: str
    expires: float
    polled: float = float("-inf")
    interval: float = _POLL_SECONDS
    answer: bool | None = None


class OAuthError(Exception):
    """A refused OAuth2 request, in the words of RFC 6749 and RFC 8628."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status

    def body(self) -> dict[str, str]:
        """The error body."""
        return {"error": self.error, "error_description": self.description}


@dataclass(frozen=True, slots=True)
class Ask:
    """A well-formed authorization request, as it is shown to the person."""

    client: Client
    redirect_uri: str
    state: str
    scope: str
    challenge: str | None
    method: str


@dataclass(slots=True)
class Identity:
    """All clients, tokens and codes of one sandbox."""

    clients: Mapping[str, Client]
    secret: Callable[[], str]
    token_seconds: float = 3600
    _tokens: dict[str, Grant] = field(default_factory=dict)
    _refresh: dict[str, Grant] = field(default_factory=dict)
    _codes: dict[str, _Code] = field(default_factory=dict)
    _devices: dict[str, _Device] = field(default_factory=dict)

    def grant_of(self, token: str, now: float) -> Grant | None:
        """What a bearer token stands for, while it is valid."""
        grant = self._tokens.get(token)
        return grant if grant is not None and now < grant.expires else None

    def end(self, token: str) -> None:
        """A token ends early."""
        self._tokens.pop(token, None)

    def issue(self, client_id: str, subject: str, scope: str, now: float) -> str:
        """An access token of a client, made without asking."""
        grant = self._grant(self.clients[client_id], subject, scope, now)
        return self._access_token(grant, now)

    def token(self, form: Mapping[str, str], authorization: str | None, now: float) -> dict[str, Any]:
        """The token endpoint.

        Raises:
            OAuthError: with the status of the reply.
        """
        self._forget(now)
        client = self._client(form, authorization)
        match form.get("grant_type"):
            case "client_credentials":
                if client.secret is None:
                    raise OAuthError("unauthorized_client", "A public client has no client credentials.")
                scope = form.get("scope", "")
                return self._reply(self._grant(client, client.client_id, scope, now), now, refresh=False)
            case "authorization_code":
                return self._by_code(form, client, now)
            case "refresh_token":
                grant = self._refresh.pop(form.get("refresh_token", ""), None)
                if grant is None or grant.client_id != client.client_id or now >= grant.expires:
                    raise OAuthError("invalid_grant", "The refresh token is not valid.")
                return self._reply(grant, now, refresh=True)
            case str(kind) if kind == _DEVICE_GRANT:
                return self._by_device(form, client, now)
            case None:
                raise OAuthError("invalid_request", "grant_type is missing.")
            case _:
                raise OAuthError("unsupported_grant_type", "The grant type is not supported.")

    def ask(self, query: Mapping[str, str]) -> Ask:
        """Check an authorization request before anything is shown or sent anywhere.

        Raises:
            OAuthError: the request names no client of ours, or a redirect that is not on this machine.
        """
        client = self.clients.get(query.get("client_id", ""))
        if client is None:
            raise OAuthError("invalid_client", "The client_id is not known.", 400)
        redirect_uri = query.get("redirect_uri", "")
        parts = urlsplit(redirect_uri)
        if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise OAuthError("invalid_request", "The redirect_uri must be an http address of this machine.")
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "Only response_type=code is supported.")
        challenge = query.get("code_challenge")
        method = query.get("code_challenge_method", "plain")
        if method not in ("S256", "plain"):
            raise OAuthError("invalid_request", "The code_challenge_method must be S256.")
        if client.secret is None and (challenge is None or method != "S256"):
            raise OAuthError("invalid_request", "A public client must send a code_challenge by S256.")
        return Ask(client, redirect_uri, query.get("state", ""), query.get("scope", ""), challenge, method)

    def answer(self, ask: Ask, subject: str, *, allowed: bool, now: float) -> str:
        """The address to send the browser to, after the person has answered."""
        if allowed:
            code = self.secret()
            grant = self._grant(ask.client, subject, ask.scope, now, seconds=_CODE_SECONDS)
            self._codes[code] = _Code(grant, ask.redirect_uri, ask.challenge, ask.method)
            found = {"code": code}
        else:
            found = {"error": "access_denied", "error_description": "The person said no."}
        if ask.state:
            found["state"] = ask.state
        return f"{ask.redirect_uri}{'&' if urlsplit(ask.redirect_uri).query else '?'}{urlencode(found)}"

    def start_device(self, form: Mapping[str, str], address: str, subject: str, now: float) -> dict[str, Any]:
        """The device authorization endpoint (RFC 8628); at `address` a person types the code."""
        self._forget(now)
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            raise OAuthError("invalid_client", "The client_id is not known.", 401)
        device_code, noise = self.secret(), hashlib.sha256(self.secret().encode()).digest()
        letters = "".join(_USER_CODE_LETTERS[byte % len(_USER_CODE_LETTERS)] for byte in noise[:8])
        user_code = f"{letters[:4]}-{letters[4:]}"
        grant = self._grant(client, subject, form.get("scope", ""), now)
        self._devices[device_code] = _Device(grant, user_code, now + _DEVICE_SECONDS)
        return {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": address,
            "verification_uri_complete": f"{address}?{urlencode({'user_code': user_code})}",
            "expires_in": _DEVICE_SECONDS,
            "interval": _POLL_SECONDS,
            "message": f"Open {address} and enter the code {user_code}.",
        }

    def answer_device(self, user_code: str, *, allowed: bool, now: float) -> bool:
        """A person has answered for the device that shows this code; False when there is none."""
        wanted = user_code.strip().upper()
        for device in self._devices.values():
            if device.user_code == wanted and now < device.expires:
                device.answer = allowed
                return True
        return False

    def revoke(self, form: Mapping[str, str]) -> None:
        """The revocation endpoint (RFC 7009): unknown tokens are no error."""
        token = form.get("token", "")
        self._tokens.pop(token, None)
        self._refresh.pop(token, None)

    def _client(self, form: Mapping[str, str], authorization: str | None) -> Client:
        client_id, secret = form.get("client_id", ""), form.get("client_secret")
        if authorization is not None and authorization.lower().startswith("basic "):
            try:
                text = base64.b64decode(authorization[6:], validate=True).decode()
            except (binascii.Error, ValueError):
                raise OAuthError("invalid_client", "The Authorization header is not readable.", 401) from None
            client_id, _, secret = (unquote_plus(part) for part in text.partition(":"))
        client = self.clients.get(client_id)
        if client is None:
            raise OAuthError("invalid_client", "The client_id is not known.", 401)
        if client.secret is not None and not hmac.compare_digest(
            client.secret.encode(), (secret or "").encode()
        ):
            raise OAuthError("invalid_client", "The client secret is wrong.", 401)
        return client

    def _by_code(self, form: Mapping[str, str], client: Client, now: float) -> dict[str, Any]:
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.grant.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The code is not valid.")
        if form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("invalid_grant", "The redirect_uri is not the one that was asked with.")
        if code.challenge is not None and not _proves(
            form.get("code_verifier", ""), code.challenge, code.method
        ):
            raise OAuthError("invalid_grant", "The code_verifier does not fit the code_challenge.")
        return self._reply(code.grant, now, refresh=True)

    def _by_device(self, form: Mapping[str, str], client: Client, now: float) -> dict[str, Any]:
        device = self._devices.get(form.get("device_code", ""))
        if device is None or device.grant.client_id != client.client_id:
            raise OAuthError("invalid_grant", "The device code is not valid.")
        if now >= device.expires:
            raise OAuthError("expired_token", "The device code has expired.")
        early = now < device.polled + device.interval
        device.polled = now
        if device.answer is None and early:
            device.interval += _POLL_SECONDS
            raise OAuthError("slow_down", "The device polls too fast.")
        if device.answer is None:
            raise OAuthError("authorization_pending", "The person has not answered yet.")
        del self._devices[form["device_code"]]
        if not device.answer:
            raise OAuthError("access_denied", "The person said no.")
        return self._reply(device.grant, now, refresh=True)

    def _grant(
        self, client: Client, subject: str, scope: str, now: float, *, seconds: float | None = None
    ) -> Grant:
        asked = set(scope.split())
        narrow = (READ | WRITE) & asked | (READ if READ_SCOPE in asked else frozenset())
        access = client.access & narrow if narrow else client.access
        return Grant(subject, client.client_id, access, scope, now + (seconds or self.token_seconds))

    def _access_token(self, grant: Grant, now: float) -> str:
        token = self.secret()
        self._tokens[token] = replace(grant, expires=now + self.token_seconds)
        return token

    def _reply(self, grant: Grant, now: float, *, refresh: bool) -> dict[str, Any]:
        out = {
            "access_token": self._access_token(grant, now),
            "token_type": "Bearer",
            "expires_in": int(self.token_seconds),
        }
        if grant.scope:
            out["scope"] = grant.scope
        if refresh:
            out["refresh_token"] = self.secret()
            self._refresh[str(out["refresh_token"])] = replace(grant, expires=now + _REFRESH_SECONDS)
        return out

    def _forget(self, now: float) -> None:
        self._tokens = {token: grant for token, grant in self._tokens.items() if now < grant.expires}
        self._codes = {code: kept for code, kept in self._codes.items() if now < kept.grant.expires}
        self._devices = {
            code: kept for code, kept in self._devices.items() if now < kept.expires + _DEVICE_SECONDS
        }


def _proves(verifier: str, challenge: str, method: str) -> bool:
    if method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return _same(verifier, challenge)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def capabilities(access: Iterable[str], project: str) -> list[dict[str, Any]]:
    """Access as the token inspection lists it: one entry per access control list."""
    actions: dict[str, list[str]] = {}
    for one in sorted(access):
        acl, _, action = one.partition(":")
        actions.setdefault(acl, []).append(action)
    return [
        {acl: {"actions": found, "scope": {"all": {}}, "version": 1}, "projectScope": {"projects": [project]}}
        for acl, found in actions.items()
    ]
