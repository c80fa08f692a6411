"""Which way of signing in is configured, and all that it needs."""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never
from urllib.parse import urlsplit

from cdf_upsert.core.access import (
    DOMAIN,
    ClientAuth,
    ClientCredentials,
    Credentials,
    Endpoints,
    GivenToken,
    Provider,
    Session,
)
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import UsageError
from cdf_upsert.settings.addresses import address
from cdf_upsert.settings.files import secret_reader
from cdf_upsert.settings.lookup import Found, Lookup

OPEN_TENANT: Final = "48d5043c-cf70-4c49-881c-c638f5796997"
ENTRA: Final = "https://login.microsoftonline.com/"
REDIRECT_PORT: Final = 53000
"""What the official SDK registers; applications that people have already allow it."""

_ENTRA_PATH: Final = "/oauth2/v2.0"
_HOSTS: Final = {
    "login.microsoftonline.com": Provider.ENTRA_ID,
    "auth.cognite.com": Provider.CDF,
    ".auth0.com": Provider.AUTH0,
}


class Flow(StrEnum):
    """The ways to sign in, as the `cdf` toolkit names them."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN = "token"  # noqa: S105  # The name of a flow.
    INTERACTIVE = "interactive"
    DEVICE_CODE = "device_code"


PERSONAL: Final = (Flow.INTERACTIVE, Flow.DEVICE_CODE)


def flow_of(look: Lookup, provider: Provider | None) -> Flow | None:
    """The way to sign in: what `LOGIN_FLOW` says, else what the values that are there can only mean."""
    said = look.find("login-flow")
    if said is not None:
        flow = look.choice("login-flow", Flow)
        if provider is Provider.OPEN_INDUSTRIAL_DATA and flow not in (None, Flow.CLIENT_CREDENTIALS):
            look.faults.append(
                f"{said} is '{said.text}', and open industrial data only knows client_credentials."
            )
        return flow
    token = look.find("token") or look.find("token-file")
    secret = look.find("client-secret") or look.find("client-secret-file") or look.find("secret-command")
    if token is not None and secret is not None:
        look.faults.append(
            f"{token} and {secret} are both set: unset one of them, or say which counts with "
            "LOGIN_FLOW=token or LOGIN_FLOW=client_credentials."
        )
        return None
    return Flow.TOKEN if token is not None else Flow.CLIENT_CREDENTIALS


def personal_flow(look: Lookup, *, device: bool) -> Flow:
    """The flow of `login`: a device code when that is asked for here or by `LOGIN_FLOW`, else a browser."""
    if look.find("login-flow") is None:
        return Flow.DEVICE_CODE if device else Flow.INTERACTIVE
    said = look.choice("login-flow", Flow)
    return Flow.DEVICE_CODE if device or said is Flow.DEVICE_CODE else Flow.INTERACTIVE


def provider_of(look: Lookup) -> Provider | None:
    """What `PROVIDER` says, else what the host of the token URL can only mean, else None (Entra ID)."""
    if look.find("provider") is not None:
        return look.choice("provider", Provider)
    try:
        host = urlsplit(look.text("token-url") or "").hostname or ""
    except ValueError:
        return None  # Whoever needs the address says what is wrong with it.
    return next((provider for end, provider in _HOSTS.items() if host == end or host.endswith(end)), None)


class SignIn:
    """Builds the credentials out of what is found; every fault goes to the lookup's list."""

    def __init__(
        self,
        look: Lookup,
        provider: Provider,
        resource: str,
        directory: Path,
        *,
        insecure_http: bool,
    ) -> None:
        self._look = look
        self._provider = provider
        self._resource = resource
        self._directory = directory
        self._insecure_http = insecure_http

    def credentials(self, flow: Flow, profile: str, store: Path | None) -> Credentials | None:
        """The credentials for this flow, or None after telling the faults; a session has a store."""
        match flow:
            case Flow.TOKEN:
                return self._given_token()
            case Flow.CLIENT_CREDENTIALS:
                return self._client_credentials()
            case Flow.INTERACTIVE | Flow.DEVICE_CODE:
                assert store is not None
                return self._session(profile, store, device=flow is Flow.DEVICE_CODE)
            case _:
                assert_never(flow)

    def _given_token(self) -> GivenToken | None:
        found = self._one_of(("token", "token-file", "secret-command"))
        if found is None:
            self._missing("CDF_TOKEN (or CDF_TOKEN_FILE, or CDF_UPSERT_SECRET_COMMAND)", "LOGIN_FLOW=token")
            return None
        key, value = found
        if key == "token":
            token = _bare(Secret(value.text))
            if not _fits_a_header(token):
                self._look.faults.append(f"{value} has white space or special characters in it: set it anew.")
            return GivenToken(token)
        read = secret_reader(key, value, self._directory)

        def again() -> Secret:
            token = _bare(read())
            if not _fits_a_header(token):
                raise UsageError(f"{value} leads to a token with white space or special characters in it.")
            return token

        held = self._read(again)
        return None if held is None else GivenToken(held, again)

    def _client_credentials(self) -> ClientCredentials | None:
        client_id = self._look.find("client-id")
        found = self._one_of(("client-secret", "client-secret-file", "secret-command"))
        if client_id is None:
            self._missing("IDP_CLIENT_ID", str(found[1]) if found else "client credentials")
        if found is None:
            self._missing(
                "IDP_CLIENT_SECRET (or IDP_CLIENT_SECRET_FILE, or CDF_UPSERT_SECRET_COMMAND)",
                str(client_id) if client_id else "client credentials",
                "; people sign in with `cdf-upsert login`",
            )
        token_url = self._token_url()
        client_auth = self._look.choice("client-auth", ClientAuth) or ClientAuth.POST
        scopes, audience = self._scopes(), self._audience()
        if client_id is None or found is None or token_url is None or self._look.faults:
            return None
        key, value = found
        secret = (
            Secret(value.text)
            if key == "client-secret"
            else self._read(secret_reader(key, value, self._directory))
        )
        if secret is None:
            return None
        resource = self._look.text("resource")
        return ClientCredentials(token_url, client_id.text, secret, scopes, audience, resource, client_auth)

    def _session(self, profile: str, store: Path, *, device: bool) -> Session | None:
        client_id = self._look.find("client-id")
        if client_id is None:
            self._missing("IDP_CLIENT_ID", "signing in as a person")
        provider = self._endpoints()
        port = self._port()
        scopes, audience = self._scopes(), self._audience()
        if client_id is None or provider is None:
            return None
        # A session is renewed with a refresh token, and providers give one only to who asks for it.
        return Session(
            profile=profile,
            provider=provider,
            client_id=client_id.text,
            store=store,
            scopes=tuple(dict.fromkeys((*scopes, "openid", "offline_access"))),
            audience=audience,
            device=device,
            redirect_port=port,
        )

    def _token_url(self) -> str | None:
        found, tenant = self._look.find("token-url"), self._look.find("tenant-id")
        if self._provider is Provider.OPEN_INDUSTRIAL_DATA and found is None:
            return f"{ENTRA}{OPEN_TENANT}{_ENTRA_PATH}/token"
        if found is not None and (tenant is None or found.rank <= tenant.rank):
            self._same_tenant(found, tenant)
            return address(self._look, found, insecure_http=self._insecure_http)
        match self._provider:
            case Provider.CDF:
                return "https://auth.cognite.com/oauth2/token"
            case Provider.ENTRA_ID | Provider.OPEN_INDUSTRIAL_DATA:
                authority = self._entra_authority(tenant, "IDP_TENANT_ID (or IDP_TOKEN_URL)")
                return None if authority is None else f"{authority}{_ENTRA_PATH}/token"
            case Provider.AUTH0 | Provider.OTHER:
                self._missing("IDP_TOKEN_URL", f"PROVIDER={self._provider}")
                return None
            case _:
                assert_never(self._provider)

    def _endpoints(self) -> Endpoints | str | None:
        authority, discovery = self._look.find("authority-url"), self._look.find("discovery-url")
        if authority is not None and discovery is not None and authority.rank == discovery.rank:
            self._look.faults.append(f"{authority} and {discovery} are both set: unset one of them.")
            return None
        if discovery is not None and (authority is None or discovery.rank < authority.rank):
            return address(self._look, discovery, insecure_http=self._insecure_http)
        if authority is not None:
            base = address(self._look, authority, insecure_http=self._insecure_http)
        elif self._provider is Provider.ENTRA_ID:
            base = self._entra_authority(self._look.find("tenant-id"), "IDP_TENANT_ID (or IDP_AUTHORITY_URL)")
        else:
            self._missing("IDP_DISCOVERY_URL (or IDP_AUTHORITY_URL)", f"PROVIDER={self._provider}")
            return None
        if base is None or self._provider is not Provider.ENTRA_ID:
            return base
        root = base + _ENTRA_PATH
        return Endpoints(f"{root}/authorize", f"{root}/token", f"{root}/devicecode")

    def _entra_authority(self, tenant: Found | None, missing: str) -> str | None:
        if tenant is None:
            self._missing(missing, "Microsoft Entra ID (PROVIDER=entra_id, the default)")
            return None
        if not all(letter.isalnum() or letter in ".-" for letter in tenant.text):
            self._look.faults.append(
                f"{tenant} is '{tenant.text}': write the tenant's id or its domain alone."
            )
            return None
        return ENTRA + tenant.text

    def _same_tenant(self, url: Found, tenant: Found | None) -> None:
        if tenant is None or tenant.rank != url.rank or not url.text.startswith(ENTRA):
            return
        named = url.text.removeprefix(ENTRA).partition("/")[0]
        if named.lower() != tenant.text.lower():
            self._look.faults.append(
                f"{url} is of tenant {named}, {tenant} says {tenant.text}: unset one of them."
            )

    def _scopes(self) -> tuple[str, ...]:
        text = self._look.text("scopes")
        if text is not None:
            return tuple(text.replace(",", " ").split())
        match self._provider:
            case Provider.CDF | Provider.AUTH0:
                # Auth0 grants what the audience allows, and refuses a scope that it does not know.
                return ()
            case Provider.OPEN_INDUSTRIAL_DATA:
                return (f"https://api{DOMAIN}/.default",)
            case Provider.ENTRA_ID | Provider.OTHER:
                return (f"{self._resource}/.default",)
            case _:
                assert_never(self._provider)

    def _audience(self) -> str | None:
        default = self._resource if self._provider in (Provider.AUTH0, Provider.OTHER) else None
        return self._look.text("audience") or default

    def _port(self) -> int:
        found = self._look.find("redirect-port")
        if found is None:
            return REDIRECT_PORT
        if not re.fullmatch("[0-9]{1,5}", found.text) or not 0 < int(found.text) < 65_536:
            self._look.faults.append(f"{found} is '{found.text}': write a port from 1 to 65535.")
            return REDIRECT_PORT
        return int(found.text)

    def _one_of(self, keys: Sequence[str]) -> tuple[str, Found] | None:
        """The one of these that is set; two contradict each other."""
        found = [(key, value) for key in keys if (value := self._look.find(key)) is not None]
        if len(found) > 1:
            names = " and ".join(str(value) for _, value in found)
            self._look.faults.append(f"{names} are all ways to one secret: unset all but one.")
        return found[0] if found else None

    def _read(self, read: Callable[[], Secret]) -> Secret | None:
        """Runs a command or opens a file only when nothing else is wrong: a vault may ask its owner."""
        if self._look.faults:
            return None
        try:
            return read()
        except UsageError as error:
            self._look.faults.append(str(error))
            return None

    def _missing(self, what: str, why: str, otherwise: str = "") -> None:
        self._look.faults.append(f"{what} is missing, and {why} needs it: set it{otherwise}.")


def _bare(token: Secret) -> Secret:
    """The token without the word Bearer, which is often copied along with it."""
    text = token.reveal()
    return Secret(text[7:].strip()) if text[:7].lower() == "bearer " else token


def _fits_a_header(token: Secret) -> bool:
    return all("!" <= letter <= "~" for letter in token.reveal())
