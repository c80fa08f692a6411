"""A real pseudo-terminal for tests: what a command writes to it, and what a person then sees."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence

import pyte


def run_in_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    rows: int = 24,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
) -> tuple[int, bytes]:
    """Run `command` with its standard streams on a new terminal; its exit code, and all that it wrote."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=directory,
        env={**base, "TERM": "xterm-256color", "PYTHONUTF8": "1", **(environment or {})},
    )
    os.close(theirs)
    written = b""
    try:
        while piece := _read(ours):
            written += piece
    finally:
        os.close(ours)
    return process.wait(), written


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says EIO when the last process has let go of the terminal.
        return b""


def seen(written: bytes, *, columns: int = 80, rows: int = 24) -> pyte.Screen:
    """Return the terminal as it stands after `written`."""
    screen = pyte.Screen(columns, rows)
    pyte.ByteStream(screen).feed(written)
    return screen


def lines_of(screen: pyte.Screen) -> list[str]:
    """Return what stands on the lines that are not blank."""
    return [line.rstrip() for line in screen.display if line.strip()]


def run_module(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this repository."""
    return [sys.executable, "-m", module, *arguments]
