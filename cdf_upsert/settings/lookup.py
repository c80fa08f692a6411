"""Where a value comes from: layers of settings, one above the other."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct

from cdf_upsert.core.access import Origin
from cdf_upsert.core.redact import MASK
from cdf_upsert.settings.names import SETTINGS, Setting

Choice = TypeVar("Choice", bound=StrEnum)

COMMAND_LINE: Final = "the command line"

_QUOTES: Final = ("'", '"')


class Found(Struct, frozen=True):
    """A value and its origin: `name` in the place `origin`, which is layer `rank` (0 beats all others)."""

    text: str
    name: str
    origin: str
    rank: int

    def __str__(self) -> str:
        return self.name if self.origin == COMMAND_LINE else f"{self.name} ({self.origin})"


class Layer(Struct, frozen=True):
    """Values of one place; `by_key` says whether they go by the setting's key or by its variables."""

    origin: str
    values: Mapping[str, str | None]
    by_key: bool = False
    prefix: str = ""


class Lookup:
    """Finds values through the layers, notes which were used, and gathers the faults."""

    def __init__(self, layers: Sequence[Layer], faults: list[str]) -> None:
        self._layers = layers
        self.faults = faults
        self._used: dict[str, Found] = {}

    def find(self, key: str) -> Found | None:
        """The value of the highest layer that has one; an empty one counts as none."""
        setting = SETTINGS[key]
        for rank, layer in enumerate(self._layers):
            found = self._in_layer(setting, layer, rank)
            if found is not None:
                self._check(setting, found)
                if key not in self._used:
                    self._used[key] = found
                return found
        return None

    def text(self, key: str) -> str | None:
        """The value alone."""
        found = self.find(key)
        return None if found is None else found.text

    def choice(self, key: str, choices: type[Choice]) -> Choice | None:
        """One of a closed set; capitals and hyphens are forgiven."""
        found = self.find(key)
        if found is None:
            return None
        try:
            return choices(found.text.lower().replace("-", "_"))
        except ValueError:
            self.faults.append(f"{found} is '{found.text}': use one of {', '.join(choices)}.")
            return None

    def origins(self) -> tuple[Origin, ...]:
        """What was used, secrets masked, for `doctor`."""
        return tuple(
            Origin(key, MASK if SETTINGS[key].secret else found.text, found.name, found.origin)
            for key, found in self._used.items()
        )

    def _in_layer(self, setting: Setting, layer: Layer, rank: int) -> Found | None:
        if layer.by_key:
            text = (layer.values.get(setting.key) or "").strip()
            return Found(text, layer.prefix + setting.key, layer.origin, rank) if text else None
        for name in setting.own:
            if text := (layer.values.get(name) or "").strip():
                return Found(text, name, layer.origin, rank)
        family = [
            Found(text, name, layer.origin, rank)
            for name in setting.families
            if (text := (layer.values.get(name) or "").strip())
        ]
        if len({found.text for found in family}) > 1:
            names = " and ".join(found.name for found in family)
            self._fault_once(f"{names} ({layer.origin}) differ, and mean the same: unset one of them.")
        return family[0] if family else None

    def _check(self, setting: Setting, found: Found) -> None:
        text = found.text
        if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
            self._fault_once(
                f"{found} has quotes around its value: take them away (docker run --env-file keeps them)."
            )
        elif text.startswith("<") and text.endswith(">"):
            shown = MASK if setting.secret else text
            self._fault_once(f"{found} still holds the placeholder {shown}: put the real value there.")
        elif not text.isprintable():
            self._fault_once(f"{found} contains a line break or a control character: write it anew.")

    def _fault_once(self, sentence: str) -> None:
        if sentence not in self.faults:
            self.faults.append(sentence)
