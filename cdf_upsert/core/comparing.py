"""What is stored against what was sent, value by value as the service stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Same:
    """The stored record has exactly the state that was sent."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing is stored under the key."""


@dataclass(frozen=True, slots=True)
class Different:
    """Another state is stored; `properties` are the names that differ, as `container.property`."""

    properties: Sequence[str]


Comparison = Same | Missing | Different


def compare(record_text: bytes, stored: Mapping[str, Any]) -> Comparison:
    """Compare a record's text with the stored record of the same key."""
    raise NotImplementedError
