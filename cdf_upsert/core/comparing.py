"""What is stored against what was sent, value by value as the service stores them."""

from collections.abc import Sequence
from dataclasses import dataclass


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
