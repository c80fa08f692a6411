"""One run of `login` or `logout`."""

import asyncio
import os
import sys
import threading
import time
import webbrowser
from contextlib import suppress
from pathlib import Path

from cdf_upsert.auth import SessionStore, login, system_vault
from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.cli.wiring import WallClock
from cdf_upsert.core.access import Session
from cdf_upsert.core.diagnosis import moment
from cdf_upsert.core.redact import Redactor
from cdf_upsert.network import Connections
from cdf_upsert.settings import profile_of, resolve, state_directory


class Terminal:
    """The person at this terminal."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def tell(self, text: str) -> None:
        """Show a line."""
        sys.stderr.write(self._redactor.clean(text) + "\n")
        sys.stderr.flush()

    def browse(self, url: str) -> bool:
        """Open the person's browser, and do not wait for it; some only return when they are closed.

        Without a screen Python would start a browser in this terminal, which no provider's page works in.
        """
        has_screen = sys.platform in ("win32", "darwin") or any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
        )
        if has_screen:
            threading.Thread(target=_open, args=(url,), daemon=True).start()
        return has_screen


def _open(url: str) -> None:
    with suppress(webbrowser.Error, OSError):  # The address is shown as well.
        webbrowser.open(url)


def run_login(flags: TargetFlags, *, device: bool) -> int:
    """Let a person sign in; returns the exit code."""
    settings = resolve(flags.given(), os.environ, Path.cwd(), person=True, device=device)
    session = settings.credentials
    assert isinstance(session, Session)
    redactor = Redactor(settings.secrets())
    desk = Terminal(redactor)
    granted = asyncio.run(
        login(
            session,
            SessionStore(session.store, system_vault()),
            connections=Connections(settings.network, time.time),
            clock=WallClock(),
            desk=desk,
            learn=redactor.learn,
        )
    )
    if granted.refresh is not None:
        ends = "until the provider ends the session or `cdf-upsert logout`"
    else:
        ends = "for now" if granted.expires is None else f"until {moment(granted.expires)}"
    target = settings.target
    desk.tell(
        f"Signed in to project {target.project} at {target.base_url}, profile {session.profile}, {ends}."
    )
    return 0


def run_logout(profile: str | None) -> int:
    """Forget a session; returns the exit code."""
    name = profile_of({"profile": profile}, os.environ, Path.cwd())
    store = SessionStore(state_directory(os.environ) / "sessions", system_vault())
    forgotten = store.forget(name)
    said = f"Signed out of profile {name}." if forgotten else f"Nobody is signed in for profile {name}."
    sys.stderr.write(said + "\n")
    return 0
