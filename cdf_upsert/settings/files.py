"""Secrets out of files and commands, and files that must be there."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from cdf_upsert.core.redact import Redactor, Secret
from cdf_upsert.errors import UsageError
from cdf_upsert.settings.lookup import Found, Lookup

COMMAND_SECONDS: Final = 60


def existing(look: Lookup, found: Found, directory: Path, *, folder: bool = False) -> Path | None:
    """The path that was found, or None after telling that nothing is there."""
    path = directory / Path(found.text).expanduser()
    if path.is_dir() if folder else path.is_file():
        return path
    kind = "directory" if folder else "file"
    look.faults.append(f"{found} names {path}, and there is no such {kind}: mend the path.")
    return None


def secret_reader(key: str, found: Found, directory: Path) -> Callable[[], Secret]:
    """Reads the secret that a value of `token-file`, `client-secret-file` or `secret-command` leads to.

    The reader raises `UsageError`, which names the setting, when nothing usable is there.
    """
    if key == "secret-command":
        return partial(_told, found, partial(_of_command, found.text, directory))
    return partial(_told, found, partial(_in_file, directory / Path(found.text).expanduser()))


def _told(found: Found, read: Callable[[], Secret]) -> Secret:
    try:
        return read()
    except UsageError as error:
        raise UsageError(f"{found}: {error}") from None


def _in_file(path: Path) -> Secret:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): mend the path or its permissions."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: put the secret alone into it.") from None
    if not text or not text.isprintable():
        wrong = "holds more than one line" if text else "is empty"
        raise UsageError(f"{path} {wrong}: put the secret alone into it.")
    return Secret(text)


def _of_command(line: str, directory: Path) -> Secret:
    """What the command prints; it is run without a shell and without input."""
    try:
        command = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the command cannot be split into words ({error}): close every quote.") from None
    import subprocess  # noqa: PLC0415  # Only who keeps secrets behind a command pays for this.

    program = command[0]
    try:
        done = subprocess.run(  # noqa: S603  # The user's own command, split into words, without a shell.
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except OSError as error:
        raise UsageError(
            f"the command {program} cannot be run ({error.strerror}): mend its name or path."
        ) from None
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"the command {program} gave no secret in {COMMAND_SECONDS} seconds: run it by hand to see why."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"the command {program} printed no text: it must print the secret alone.") from None
    text = done.stdout.strip()
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = Redactor([text]).clean(lines[-1].strip()) if lines else "nothing"
        raise UsageError(f"the command {program} ended with {done.returncode} and said: {said[:200]}")
    if not text or not text.isprintable():
        wrong = "more than one line" if text else "nothing"
        raise UsageError(f"the command {program} printed {wrong}: it must print the secret alone.")
    return Secret(text)
