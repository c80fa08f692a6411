"""What every command that talks to a service needs: a target, a way to connect, tokens, and no secret shown."""

import asyncio
import io
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from msgspec import Struct

from cdf_upsert import __version__
from cdf_upsert.cli.options import TargetFlags
from cdf_upsert.core.access import GivenToken, Network, Settings, Target
from cdf_upsert.core.redact import Redactor, Secret
from cdf_upsert.errors import BusyError, UsageError

if TYPE_CHECKING:
    from cdf_upsert.client import Client, TokenSource

REDACTOR = Redactor()
"""Knows every secret that this process has; whatever is said goes through it."""

SANDBOX_DIRECTORY = Path(".cdf-upsert", "sandbox")
"""Where the embedded sandbox keeps its state, so that a rerun finds what an earlier run has loaded."""

SANDBOX_NAME = "sandbox"
"""Stands for the embedded sandbox, which has another address each time."""

SANDBOX_TOKEN_SECONDS = 10 * 365 * 86400.0


class WallClock:
    """The time of day, for what lives by it."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Access(Struct, frozen=True):
    """The way to one project. `name` stands for the target where a load is told from another."""

    target: Target
    name: str
    settings: Settings
    redactor: Redactor

    @property
    def is_local(self) -> bool:
        """Whether the service is on this machine: a stand-in for CDF, whose budgets nobody has published."""
        return (
            self.target.host == "localhost"
            or self.target.host.startswith("127.")
            or self.target.host == "::1"
        )

    def client(self, stream: str, *, timeout: float, connections: int, patience: float) -> "Client":
        """A client for one stream."""
        from cdf_upsert.client import Client  # noqa: PLC0415  httpx is slow to import

        return Client(
            base_url=self.target.base_url,
            project=self.target.project,
            stream=stream,
            tokens=self.tokens(patience),
            transport=self._transport(),
            explain=self._explain_connection,
            timeout=timeout,
            connections=connections,
            version=__version__,
        )

    def tokens(self, patience: float) -> "TokenSource":
        """Where tokens come from; a provider that is down is asked again for `patience` seconds."""
        from cdf_upsert.auth import token_source  # noqa: PLC0415  not for who sends nothing
        from cdf_upsert.network import Connections  # noqa: PLC0415

        return token_source(
            self.settings.credentials,
            connections=Connections(self.settings.network, time.time),
            clock=WallClock(),
            dice=random.SystemRandom(),
            patience=patience,
            learn=self.redactor.learn,
        )

    def explain(self, stream: str) -> Callable[[int, str], str]:
        """Puts a status that refuses everything into sentences."""
        from cdf_upsert.core import diagnosis  # noqa: PLC0415  rarely needed

        def explained(status: int, message: str) -> str:
            if status == 422:
                return str(diagnosis.immutable(stream))
            situation = diagnosis.Situation(self.target, time.time(), stream)
            return str(diagnosis.explain_refusal(status, message, situation))

        return explained

    async def cause(self, stream: str) -> str | None:
        """Why the service refuses, as `doctor` finds out by asking more; None when it finds nothing wrong."""
        from cdf_upsert.doctor import Doctor  # noqa: PLC0415  only when something is wrong
        from cdf_upsert.network import Connections  # noqa: PLC0415

        connections = Connections(self.settings.network, time.time)
        return await Doctor(self.settings, self.tokens(0.0), connections, WallClock(), stream).cause()

    def _transport(self) -> Mapping[str, Any]:
        from cdf_upsert.network import transport_options  # noqa: PLC0415  not for who sends nothing

        return transport_options(self.settings.network, self.target.base_url)

    def _explain_connection(self, error: Exception) -> str:
        from cdf_upsert.core.diagnosis import explain_connection  # noqa: PLC0415  rarely needed
        from cdf_upsert.network import trouble  # noqa: PLC0415

        what = trouble(error, self.target.base_url, self.settings.network, time.time())
        return str(explain_connection(what)).removesuffix(".")


@contextmanager
def access(flags: TargetFlags, *, sandbox: bool) -> Iterator[Access]:
    """The way to the project that flags and environment name, or into the embedded sandbox.

    Raises:
        UsageError: the configuration is not usable, with all its faults.
        BusyError: another command holds the embedded sandbox.
    """
    if not sandbox:
        from cdf_upsert.settings import resolve  # noqa: PLC0415  not for the sandbox

        settings = resolve(flags.given(), os.environ, Path.cwd())
        REDACTOR.learn(*settings.secrets())
        yield Access(settings.target, settings.target.base_url, settings, REDACTOR)
        return
    given = [f"--{name.replace('_', '-')}" for name, value in flags.given().items() if value is not None]
    if given:
        raise UsageError(
            f"--sandbox (or CDF_UPSERT_SANDBOX) and {', '.join(given)} contradict each other: the embedded sandbox "
            "is a project of its own. Leave out one or the other."
        )
    from cdf_upsert.sandbox.problem import SandboxBusyError, SandboxError  # noqa: PLC0415  only for the sandbox
    from cdf_upsert.sandbox.serve import Options, running  # noqa: PLC0415

    options = Options(data=SANDBOX_DIRECTORY, token_seconds=SANDBOX_TOKEN_SECONDS)
    try:
        with running(options) as served:
            target = Target(served.address.base_url, served.address.project)
            token = Secret(served.token)
            settings = Settings(target, GivenToken(token), Network())
            REDACTOR.learn(token)
            yield Access(target, SANDBOX_NAME, settings, REDACTOR)
    except SandboxBusyError as error:
        raise BusyError(str(error)) from error
    except SandboxError as error:
        raise UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError(
            f"The sandbox needs {error.name}, which is not installed: pip install 'cdf-upsert[sandbox]'."
        ) from error


class Redacted(io.TextIOBase):
    """Writes to `stream`, and never a secret: the filter at the sink."""

    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        self._stream = stream
        self._redactor = redactor

    @property
    def encoding(self) -> str:  # type: ignore[override]  # The parent has a plain attribute.
        """The encoding of the stream."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write `text`, cleaned."""
        self._stream.write(self._redactor.clean(text))
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()


def redacted(stream: TextIO | None, redactor: Redactor) -> TextIO | None:
    """The stream behind a filter; None stays None."""
    return None if stream is None else Redacted(stream, redactor)  # type: ignore[return-value]  # as far as it is used
