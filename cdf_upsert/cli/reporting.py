"""Where a report goes: into a file that was asked for, and to standard output."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cdf_upsert.errors import UsageError
from cdf_upsert.screen import Output


def see_usable(path: Path | None, inputs: Sequence[str], ours: Sequence[Path]) -> None:
    """See, before anything is sent, that a report can be put where it is asked for; `ours` are other files of the run.

    Raises:
        UsageError: it cannot.
    """
    if path is None:
        return
    if str(path) == "-":
        raise UsageError("--report names a file: the report comes to standard output with --json.")
    if os.path.realpath(path) in {os.path.realpath(one) for one in inputs if one != "-"}:
        raise UsageError(f"{path} is an input, and the report would overwrite it: name another --report.")
    if os.path.realpath(path) in map(os.path.realpath, ours):
        raise UsageError(f"{path} is another file of this run: name another --report.")
    if path.is_dir():
        raise UsageError(f"{path} is a directory: name a file in it with --report.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}, the directory of the report, does not exist: make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} may not be written: name another --report.")


def put(text: str, path: Path) -> str | None:
    """Put a report into a file; why that cannot be done, as a sentence. A part of one is not left behind."""
    begun = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        begun = True
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        if begun and path.is_file():
            with suppress(OSError):
                path.unlink()
        return f"The report cannot be written to {path} ({error.strerror}): name another place with --report."
    return None


def print_line(text: str) -> str | None:
    """Write one line to standard output; why that cannot be done, as a sentence.

    That nobody reads it any more is nobody's fault, and not said.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    except OSError as error:
        Output(sys.stdout).flush()  # Fails again, and lets go of what is in the buffer.
        if error.errno != errno.EPIPE:
            return f"The report cannot be written to standard output ({error.strerror})."
    return None
