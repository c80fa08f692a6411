"""The command line: flags -> options -> wiring -> exit code.

Each command has a file with its flags, which is all that `--help` needs, and imports what it runs when it runs.
"""

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cdf_upsert import __version__
from cdf_upsert.core.wording import shown
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


_NOT_TAKEN = {errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF}
"""What a stream that cannot be written says."""


class _Command(TyperCommand):
    """Says where a value comes from that is not usable, a flag or a variable, and lets `-v` beat CDF_UPSERT_QUIET."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            option: Any = error.param
            source = None if option is None else ctx.get_parameter_source(option.name)
            # By name: Typer brings a click of its own along, or takes the one that is installed.
            if source is not None and source.name == "ENVIRONMENT":
                error.param_hint = f"'{option.envvar}'"
            raise
        _let_flag_win(ctx, "quiet", "verbose")
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments as manuals write them; Typer puts those that are needed into braces."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


def _let_flag_win(ctx: Any, *names: str) -> None:
    """Of options that exclude each other, a flag beats a variable."""
    given = {name: ctx.get_parameter_source(name).name for name in names if ctx.params.get(name)}
    if "COMMANDLINE" in given.values():
        ctx.params.update({name: False for name, source in given.items() if source == "ENVIRONMENT"})


class _Commands(TyperGroup):
    """Imports a command when it is asked for: a fifth of a second for the others would be noticed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the parent's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  the parent's signature
        if cmd_name not in COMMANDS:
            return None
        function = getattr(import_module(f"{__name__}.{COMMANDS[cmd_name]}"), cmd_name)
        alone = _typer()
        alone.command(cmd_name, cls=_Command)(function)
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
    _open_closed_streams()
    lost: OSError | None = None
    try:
        code = _run()
    except OSError as error:
        code, lost = 1, error
    lost = _let_go(sys.stdout) or lost
    if lost is not None and lost.errno != errno.EPIPE:
        _say(f"Standard output cannot be written ({lost.strerror}).")
        code = code or 1
    _let_go(sys.stderr)
    raise SystemExit(code)


def _run() -> str | int | None:
    """Run the command; the exit code.

    Raises:
        OSError: what is to be said cannot be written.
    """
    try:
        _read_dotenv()
        app()
    except SystemExit as ending:
        return ending.code
    except KeyboardInterrupt:
        return 130
    except LoaderError as error:
        _say(str(error))
        return error.exit_code
    except Exception as error:  # A bug; its traceback is for whoever mends it, not for the user.
        if isinstance(error, OSError) and error.filename is None and error.errno in _NOT_TAKEN:
            raise
        if isinstance(error, FileNotFoundError) and not _has_directory():
            _say("The working directory does not exist any more: change to another one.")
            return 2
        _say(f"An unexpected error: {error!r}. This is a bug: please report it with {_kept(error)}.")
        return 1
    return 0


def _has_directory() -> bool:
    try:
        return Path.cwd().is_dir()
    except FileNotFoundError:
        return False


def _open_closed_streams() -> None:
    """Lead what is said into a closed stream nowhere, or the next file that is opened would be written into."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _let_go(stream: TextIO) -> OSError | None:
    """Pass on what was written; why that cannot be done.

    Nothing is left for the interpreter to fail over at its end, which would change the exit code.
    """
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


def _kept(error: Exception) -> str:
    """The file that the traceback of a bug is put into, without secrets."""
    import tempfile  # noqa: PLC0415  only for a bug
    import traceback  # noqa: PLC0415

    from cdf_upsert.cli.wiring import REDACTOR  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", prefix="cdf-upsert-", suffix=".txt", delete=False) as file:
        file.write(REDACTOR.clean("".join(traceback.format_exception(error))))
    return file.name


def _say(message: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"cdf-upsert: {shown(message)}\n")


def _read_dotenv() -> None:
    """Options of ours in `.env` count like those of the environment; the target's are read by the settings."""
    if not Path(".env").is_file():
        return
    from cdf_upsert.settings import environment_with_dotenv  # noqa: PLC0415  most directories have no such file

    for name, value in environment_with_dotenv(os.environ, Path.cwd()).items():
        if name.startswith("CDF_UPSERT_"):
            os.environ.setdefault(name, value)
