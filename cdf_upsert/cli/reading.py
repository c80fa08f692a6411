"""What the command line names: a stream and inputs."""

import re
import sys
from collections.abc import Sequence

from cdf_upsert.errors import UsageError


def check_stream(stream: str) -> None:
    """See that a stream can have this id.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(r"[a-z]([a-z0-9_-]{0,98}[a-z0-9])?", stream):
        raise UsageError(
            f"{stream!r} cannot be the id of a stream: it has 1 to 100 lower-case letters, digits, _ or -, begins "
            "with a letter and ends with a letter or digit."
        )


def input_names(given: Sequence[str]) -> tuple[str, ...]:
    """The inputs that the command line names; standard input when it names none.

    Raises:
        UsageError: none is named and standard input is a terminal, or it is named twice.
    """
    if given.count("-") > 1:
        raise UsageError("Standard input (-) is named more than once: it can be read only once.")
    if given:
        return tuple(given)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("There is nothing to read: name a file, or pipe records into standard input.")
    return ("-",)
