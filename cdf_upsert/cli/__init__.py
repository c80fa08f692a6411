"""The command line: flags -> options -> wiring -> exit code.

Each command has a file with its flags, which is all that `--help` needs, and imports what it runs when it runs.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cdf_upsert import __version__
from cdf_upsert.errors import LoaderError

COMMANDS = {
    "load": "load",
    "check": "check",
    "plan": "plan",
    "verify": "verify",
    "doctor": "doctor",
    "login": "login",
    "logout": "login",
    "runs": "runs",
    "sandbox": "sandbox",
}
"""The file of this folder that each command's flags are in; the function has the command's name."""


class _Commands(TyperGroup):
    """Imports a command when it is asked for: a fifth of a second for the others would be noticed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the parent's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  the parent's signature
        if cmd_name not in COMMANDS:
            return None
        function = getattr(import_module(f"{__name__}.{COMMANDS[cmd_name]}"), cmd_name)
        alone = _typer()
        alone.command(cmd_name)(function)
        return get_command(alone)


def _typer(cls: type[TyperGroup] | None = None) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        help="Load JSON and NDJSON records into a stream of Cognite Data Fusion.",
        no_args_is_help=cls is not None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = _typer(_Commands)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"cdf-upsert {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; ends the process with the exit code."""
    try:
        _read_dotenv()
        app()
    except LoaderError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  A bug; its traceback is for whoever mends it, not for the user.
        _fail(f"An unexpected error: {error!r}. This is a bug: please report it with {_kept(error)}.", 1)


def _kept(error: Exception) -> str:
    """The file that the traceback of a bug is put into, without secrets."""
    import tempfile  # noqa: PLC0415  only for a bug
    import traceback  # noqa: PLC0415

    from cdf_upsert.core.redact import Redactor  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", prefix="cdf-upsert-", suffix=".txt", delete=False) as file:
        file.write(Redactor().clean("".join(traceback.format_exception(error))))
    return file.name


def _fail(message: str, exit_code: int) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"cdf-upsert: {message}\n")
    raise SystemExit(exit_code)


def _read_dotenv() -> None:
    """Options of ours in `.env` count like those of the environment; the target's are read by the settings."""
    if not Path(".env").is_file():
        return
    from cdf_upsert.settings import environment_with_dotenv  # noqa: PLC0415  most directories have no such file

    for name, value in environment_with_dotenv(os.environ, Path.cwd()).items():
        if name.startswith("CDF_UPSERT_"):
            os.environ.setdefault(name, value)
