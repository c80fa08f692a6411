"""Failures in groups: messages that differ only in names or numbers say the same."""

import re

from msgspec import Struct

from cdf_upsert.core.framing import Place
from cdf_upsert.core.record import Failed, FailureClass, Key

MOST_GROUPS = 1_000
"""So many different messages are kept; later ones are counted as others of their class and status."""
MOST_CHARACTERS = 500
"""So much of a message is kept."""
OTHERS = "other messages"

_TOKEN = r"[^\s\d'\"`,;()\[\]{}<>=]"  # noqa: S105  a piece of a pattern, no password
_VARIES = re.compile(
    r"""(?<!\w)'[^']*'(?!\w) | "[^"]*" | `[^`]*`"""
    rf"""| (?<!{_TOKEN})(?<!\d)(?!u?int(?:8|16|32|64)\b|float(?:32|64)\b){_TOKEN}*+\d(?:{_TOKEN}|,?\d)*""",
    re.VERBOSE,
)


def pattern_of(message: str, key: Key | None = None) -> str:
    """Return `message` with a mark in the place of each name and number.

    Names are what stands in quotes, the parts of the record's `key`, and words with a digit; the property
    types of the service (`int32`, `float64`) are neither.
    """
    for name in key or ():
        if len(name) > 2:
            message = message.replace(name, "''")
    return _VARIES.sub("#", message)


class FailureGroup(Struct):
    """Failures that say the same, and the first of them in input order.

    `message`, `place` and `key` are the first one's; `place` is None where no record stands for the group.
    """

    kind: FailureClass
    status: int | None
    message: str
    count: int
    ordinal: int
    place: Place | None
    key: Key | None


class FailureGroups:
    """Counts failures by class, status and message, in memory that does not grow with their number."""

    def __init__(self, most: int = MOST_GROUPS) -> None:
        self._most = most
        self._groups: dict[tuple[FailureClass, int | None, str], FailureGroup] = {}
        self._others: dict[tuple[FailureClass, int | None], FailureGroup] = {}

    def add(self, failed: Failed) -> None:
        """Count one failure."""
        failure = failed.failure
        message = failure.message[:MOST_CHARACTERS]
        pattern = (failure.kind, failure.status, pattern_of(message, failed.key))
        group = self._groups.get(pattern)
        if group is None and len(self._groups) >= self._most:
            group = self._other(failure.kind, failure.status)
        elif group is None:
            group = FailureGroup(
                failure.kind, failure.status, message, 0, failed.ordinal, failed.place, failed.key
            )
            self._groups[pattern] = group
        elif failed.ordinal < group.ordinal:
            group.message, group.ordinal = message, failed.ordinal
            group.place, group.key = failed.place, failed.key
        group.count += 1

    def most_common(self) -> list[FailureGroup]:
        """Return the groups: the largest first, those of one size in input order, the others last."""
        groups = sorted(self._groups.values(), key=lambda group: (-group.count, group.ordinal))
        return groups + sorted(self._others.values(), key=lambda group: -group.count)

    def _other(self, kind: FailureClass, status: int | None) -> FailureGroup:
        return self._others.setdefault((kind, status), FailureGroup(kind, status, OTHERS, 0, 0, None, None))
