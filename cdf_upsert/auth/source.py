"""Where the loader has its token from: one that is given, or one that is renewed before it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, assert_never

from msgspec import Struct

from cdf_upsert.auth.ports import Clock, Connections, Dice
from cdf_upsert.auth.provider import Provider, Unheard, refusal
from cdf_upsert.auth.sessions import Kept, SessionStore, Vault, system_vault
from cdf_upsert.core.access import ClientCredentials, Credentials, Endpoints, GivenToken, Session
from cdf_upsert.core.granting import Answer, Granted, Later, Pending, Refused
from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import LoaderError, UnavailableError, UsageError

AHEAD_SECONDS: Final = 60.0
"""A token is renewed this long before it ends, or a tenth of its lifetime before when that is less."""

_LONGEST_WAIT: Final = 30.0


class TokenSource(Protocol):
    """What the loader asks for a token, before each try."""

    async def token(self) -> str:
        """A token that is good by all that is known.

        Raises:
            RefusedError: The provider refuses.
            UnavailableError: It did not answer within the patience.
            UsageError: It cannot be reached, nobody is signed in, or a file or command gives no token.
        """
        ...

    async def renewed(self, refused: str) -> str | None:
        """After the service refused a token: another one, the same for all who ask; None when there is none.

        Raises:
            LoaderError: As for `token`.
        """
        ...


class _Held(Struct, frozen=True):
    text: str
    fresh_until: float
    expires: float


Fetch = Callable[[str | None], Awaitable[Answer | Unheard]]
"""One request for a token that is not the given one."""


class Given:
    """A token that somebody else had; where it came from may hold a newer one later."""

    def __init__(self, credentials: GivenToken, learn: Callable[[Secret], None]) -> None:
        self._text = credentials.token.reveal()
        self._again = credentials.again
        self._learn = learn
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """The token that is given now."""
        return self._text

    async def renewed(self, refused: str) -> str | None:
        """What its file or command gives now, if that is another one."""
        async with self._lock:
            if self._text == refused and self._again is not None:
                secret = await asyncio.to_thread(self._again)
                self._learn(secret)
                self._text = secret.reveal()
            return self._text if self._text != refused else None


class Renewing:
    """A token that is fetched when it is wanted, by one request at a time for all who wait for it.

    While the token at hand lives on, a provider that is down costs nobody any time: it is asked again later.
    """

    def __init__(
        self,
        fetch: Fetch,
        url: str,
        *,
        clock: Clock,
        dice: Dice,
        patience: float,
        secrets: tuple[Secret, ...],
        learn: Callable[[Secret], None],
    ) -> None:
        self._fetch = fetch
        self._url = url
        self._clock = clock
        self._dice = dice
        self._patience = patience
        self._secrets = secrets
        self._learn = learn
        self._lock = asyncio.Lock()
        self._held: _Held | None = None
        self._had_one = False
        self._ask_again_at = 0.0
        self._ended: LoaderError | None = None

    async def token(self) -> str:
        """The token at hand while it is fresh, else a new one."""
        held, now = self._held, self._clock.now()
        if held is not None and now < held.fresh_until:
            return held.text
        if held is not None and now < held.expires and (self._lock.locked() or now < self._ask_again_at):
            return held.text
        async with self._lock:
            held = self._held
            if held is not None and self._clock.now() < held.fresh_until:
                return held.text
            return await self._obtain(None)

    async def renewed(self, refused: str) -> str | None:
        """The token that has taken the place of the refused one."""
        async with self._lock:
            held = self._held
            if held is not None and held.text != refused:
                return held.text
            self._held = None
            text = await self._obtain(refused)
            return text if text != refused else None

    async def _obtain(self, refused: str | None) -> str:
        """Asks until there is a token, patience ends, or there is no hope. Only under the lock."""
        if self._ended is not None:
            # Whoever waited behind the one who learnt it must not wait as long again.
            raise type(self._ended)(str(self._ended))
        began, tries = self._clock.now(), 0
        while True:
            answer = await self._fetch(refused)
            now = self._clock.now()
            if isinstance(answer, Granted):
                return self._hold(answer, now)
            wait = self._wait(answer, tries)
            held = self._held
            if wait is not None and held is not None and now < held.expires:
                self._ask_again_at = now + wait
                return held.text
            if wait is None or now + wait - began > self._patience:
                self._ended = self._end(answer, hopeless=wait is None)
                raise self._ended
            tries += 1
            await self._clock.sleep(wait)

    def _hold(self, granted: Granted, now: float) -> str:
        text = granted.access.reveal()
        self._learn(granted.access)
        if granted.refresh is not None:
            self._learn(granted.refresh)
        expires = float("inf") if granted.expires is None else granted.expires
        ahead = AHEAD_SECONDS if granted.lifetime is None else min(AHEAD_SECONDS, granted.lifetime / 10)
        # A lifetime that is over on arrival is no reason to ask for every single request.
        self._held = _Held(text, max(expires - ahead, now + 1.0), expires)
        self._had_one = True
        return text

    def _wait(self, answer: Answer | Unheard, tries: int) -> float | None:
        """Seconds until the provider is asked again; None when there is no hope that it will answer."""
        backoff = min(_LONGEST_WAIT, 2.0**tries) * self._dice.uniform(0.5, 1.0)
        match answer:
            case Later(seconds=seconds):
                return backoff if seconds is None else max(seconds, backoff)
            case Unheard(hopeless=hopeless):
                # A name that was known before is known again when the network is back.
                return None if hopeless and not self._had_one else backoff
            case Refused() | Pending() | Granted():
                return None
            case _:
                assert_never(answer)

    def _end(self, answer: Answer | Unheard, *, hopeless: bool) -> LoaderError:
        assert not isinstance(answer, Granted)
        error = refusal(answer, self._url, self._secrets)
        if hopeless:
            return error
        return UnavailableError(f"No token was had within the patience. {error}")


class SessionTokens:
    """The tokens of a kept session, refreshed by one process at a time and kept for the others."""

    def __init__(self, session: Session, store: SessionStore, provider: Provider, clock: Clock) -> None:
        self._session = session
        self._store = store
        self._provider = provider
        self._clock = clock

    def kept(self) -> Kept:
        """The session as `login` or another process has left it.

        Raises:
            UsageError: Nobody is signed in, or for another client, provider or address than is configured.
        """
        session = self._session
        kept = self._store.load(session.profile)
        again = "cdf-upsert login" + ("" if session.profile == "default" else f" --profile {session.profile}")
        if kept is None:
            raise UsageError(
                f"Nobody is signed in for profile {session.profile}, and LOGIN_FLOW asks for a person. "
                f"Run `{again}`."
            )
        elsewhere = isinstance(session.provider, Endpoints) and session.provider.token != kept.token_url
        if kept.client_id != session.client_id or elsewhere:
            raise UsageError(
                f"The session of profile {session.profile} is of client {kept.client_id} at {kept.token_url}"
                f", and the settings name another. Run `{again}`."
            )
        signed, wanted = dict(kept.settings).get("base-url"), dict(session.remembered).get("base-url")
        if None not in (signed, wanted) and signed != wanted:
            raise UsageError(
                f"The session of profile {session.profile} is for {signed}, and its token must not go to {wanted}. "
                f"Run `{again}`, or take another --profile for that address."
            )
        return kept

    async def fetch(self, refused: str | None) -> Answer | Unheard:
        """The kept token while it is fresh and not the refused one, else a refreshed one, which is kept."""
        async with self._store.alone(self._session.profile):
            kept, now = self.kept(), self._clock.now()
            text = kept.access.reveal()
            expires = float("inf") if kept.expires is None else kept.expires
            if text != refused and now < expires - AHEAD_SECONDS:
                return Granted(kept.access, kept.expires, expires - now, kept.refresh)
            if kept.refresh is None:
                return Refused(400, "invalid_grant", "the session has ended, and nothing renews it")
            answer = await self._provider.by_refresh(self._session, kept.token_url, kept.refresh)
            if isinstance(answer, Granted):
                refresh = answer.refresh or kept.refresh
                newer = Kept(
                    kept.client_id, kept.token_url, answer.access, answer.expires, refresh, kept.settings
                )
                self._store.save(self._session.profile, newer)
            return answer


def token_source(
    credentials: Credentials,
    *,
    connections: Connections,
    clock: Clock,
    dice: Dice,
    patience: float,
    learn: Callable[[Secret], None],
    vault: Callable[[], Vault | None] = system_vault,
) -> TokenSource:
    """The source of tokens for these credentials.

    Args:
        credentials: The way of signing in, from the settings.
        connections: How connections leave this machine.
        clock: Calendar time.
        dice: Spreads the tries at a provider that is down.
        patience: Seconds for which a provider that is down is tried again.
        learn: Told every token as it is had, so that none is ever shown.
        vault: The keyring for sessions.

    Raises:
        UsageError: The credentials are a session, and nobody is signed in.
    """
    provider = Provider(connections, clock)
    renewing = partial(Renewing, clock=clock, dice=dice, patience=patience, learn=learn)
    match credentials:
        case GivenToken():
            return Given(credentials, learn)
        case ClientCredentials():

            async def by_secret(_refused: str | None) -> Answer | Unheard:
                return await provider.by_secret(credentials)

            return renewing(by_secret, credentials.token_url, secrets=(credentials.client_secret,))
        case Session():
            tokens = SessionTokens(credentials, SessionStore(credentials.store, vault()), provider, clock)
            kept = tokens.kept()
            secrets = (kept.access,) if kept.refresh is None else (kept.access, kept.refresh)
            for secret in secrets:
                learn(secret)
            return renewing(tokens.fetch, kept.token_url, secrets=secrets)
        case _:
            assert_never(credentials)
