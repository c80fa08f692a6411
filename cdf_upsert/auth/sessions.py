"""The sessions of people who have signed in: one file per profile, for its owner alone.

    {"schema": "cdf-upsert/session/1", "clientId", "tokenUrl", "settings": {…},
     "tokens": {"access", "expires", "refresh"}}

Where a keyring is installed and works, the tokens are kept there and are missing in the file.
"""

import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import Struct

from cdf_upsert.core.redact import Secret
from cdf_upsert.errors import LoaderError

SCHEMA: Final = "cdf-upsert/session/1"
_SERVICE: Final = "cdf-upsert"


class Vault(Protocol):
    """A keyring; each method may raise whatever its backend does."""

    def get_password(self, service_name: str, username: str) -> str | None:
        """What is kept under the name, or None."""
        ...

    def set_password(self, service_name: str, username: str, password: str) -> None:
        """Keep it under the name."""
        ...

    def delete_password(self, service_name: str, username: str) -> None:
        """Forget what is kept under the name."""
        ...


def system_vault() -> Vault | None:
    """The user's keyring, when the library for it is installed."""
    import importlib  # noqa: PLC0415  # For `login` and its sessions alone.

    try:
        vault: Any = importlib.import_module("keyring")
    except ImportError:
        return None
    return vault  # type: ignore[no-any-return]  # An optional library is not there to be typed.


class Kept(Struct, frozen=True):
    """A session as it is kept; `expires` in seconds since 1970, None when the provider did not say."""

    client_id: str
    token_url: str
    access: Secret
    expires: float | None
    refresh: Secret | None
    settings: tuple[tuple[str, str], ...] = ()


class SessionStore:
    """The kept sessions of one directory."""

    def __init__(self, directory: Path, vault: Vault | None) -> None:
        self._directory = directory
        self._vault = vault

    def load(self, profile: str) -> Kept | None:
        """The session of a profile, or None when nobody is signed in, or its file is not whole."""
        try:
            content = json.loads(self._path(profile).read_bytes())
            tokens = content["tokens"] if "tokens" in content else json.loads(self._in_vault(profile))
            refresh = tokens["refresh"]
            return Kept(
                client_id=str(content["clientId"]),
                token_url=str(content["tokenUrl"]),
                access=Secret(str(tokens["access"])),
                expires=None if tokens["expires"] is None else float(tokens["expires"]),
                refresh=None if refresh is None else Secret(str(refresh)),
                settings=tuple((str(name), str(value)) for name, value in content["settings"].items()),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, profile: str, kept: Kept) -> None:
        """Keep a session.

        Raises:
            LoaderError: The directory cannot be written.
        """
        tokens = {
            "access": kept.access.reveal(),
            "expires": kept.expires,
            "refresh": None if kept.refresh is None else kept.refresh.reveal(),
        }
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "clientId": kept.client_id,
            "tokenUrl": kept.token_url,
            "settings": dict(kept.settings),
        }
        if not self._to_vault(profile, json.dumps(tokens)):
            content["tokens"] = tokens
        try:
            self._write(self._path(profile), json.dumps(content))
        except OSError as error:
            raise LoaderError(
                f"The session cannot be kept in {self._directory} ({error.strerror})."
            ) from None

    def forget(self, profile: str) -> bool:
        """Forget a session; False when there was none."""
        if self._vault is not None:
            with suppress(Exception):  # A keyring raises what it likes where it holds nothing.
                self._vault.delete_password(_SERVICE, profile)
        try:
            self._path(profile).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LoaderError(f"{self._path(profile)} cannot be removed ({error.strerror}).") from None
        return True

    @asynccontextmanager
    async def alone(self, profile: str) -> AsyncIterator[None]:
        """Holds the session against other processes: a provider may take a refresh token only once.

        Raises:
            LoaderError: The directory cannot be written.
        """
        from filelock import AsyncFileLock  # noqa: PLC0415  # Only a session's renewal needs it.

        lock = AsyncFileLock(self._path(profile).with_suffix(".lock"), mode=0o600, run_in_executor=False)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            await lock.acquire()
        except OSError as error:
            raise LoaderError(
                f"The session cannot be kept in {self._directory} ({error.strerror})."
            ) from None
        try:
            yield
        finally:
            await lock.release()

    def _path(self, profile: str) -> Path:
        return self._directory / f"{profile}.json"

    def _in_vault(self, profile: str) -> str:
        if self._vault is None:
            raise KeyError(profile)
        try:
            text = self._vault.get_password(_SERVICE, profile)
        except Exception:  # noqa: BLE001  # A locked or broken keyring is as good as none.
            text = None
        if text is None:
            raise KeyError(profile)
        return text

    def _to_vault(self, profile: str, text: str) -> bool:
        """Whether the keyring has taken it: some are not running, and some take short secrets alone."""
        if self._vault is None:
            return False
        try:
            self._vault.set_password(_SERVICE, profile, text)
            return self._vault.get_password(_SERVICE, profile) == text
        except Exception:  # noqa: BLE001  # See above: the file is the other place.
            return False

    def _write(self, path: Path, text: str) -> None:
        """Whole or not at all, and never readable for others, not for a moment."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._directory, prefix=f".{path.stem}-")  # Made with mode 0600.
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
