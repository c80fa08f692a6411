"""What a user wants to see of a run, and in which form it can be shown.

The command line asks here before it does anything: this imports nothing that takes time.
"""

from enum import Enum, StrEnum
from typing import assert_never

from msgspec import Struct


class Progress(StrEnum):
    """How progress is shown; the words of `--progress`."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"


class LogFormat(StrEnum):
    """How diagnostics are written; the words of `--log-format`."""

    TEXT = "text"
    JSON = "json"


class Verbosity(Enum):
    """How much is said: `-q`, nothing, `-v`."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


class Showing(Struct, frozen=True):
    """What the user wants to see."""

    progress: Progress = Progress.AUTO
    log_format: LogFormat = LogFormat.TEXT
    verbosity: Verbosity = Verbosity.NORMAL


def form_of(showing: Showing, *, is_terminal: bool, term: str) -> Progress:
    """Return the form of progress, never `auto`; `term` is the terminal's kind, as `TERM` tells it.

    A bar needs a terminal that can move its cursor, and a standard error that no JSON is written to; without
    them there are plain lines.
    """
    if showing.verbosity is Verbosity.QUIET:
        return Progress.NONE
    match showing.progress:
        case Progress.AUTO | Progress.BAR:
            can_draw = is_terminal and term not in ("", "dumb", "unknown")
            return Progress.BAR if can_draw and showing.log_format is LogFormat.TEXT else Progress.PLAIN
        case Progress.PLAIN | Progress.NONE:
            return showing.progress
        case _:
            assert_never(showing.progress)


def next_line_at(now: float, started: float) -> float:
    """Return when the next plain line is due: after 10 s at first, then ever more seldom, up to a minute."""
    return now + min(60.0, max(10.0, (now - started) / 3))
