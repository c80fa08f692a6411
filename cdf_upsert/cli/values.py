"""How values are written on the command line: sizes, durations, bounds."""

import re

import typer

_SIZES = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "kib": 2**10, "mib": 2**20}
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str | int) -> int:
    """A number of bytes: `500kB`, `10MB`, `1MiB`, `4096`.

    Raises:
        typer.BadParameter: it is not one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    if found is None or found[2].lower() not in _SIZES:
        raise typer.BadParameter(f"{text!r} is not a size: write one such as 500kB, 10MB or 4096.")
    return round(float(found[1]) * _SIZES[found[2].lower()])


def duration(text: str | float) -> float:
    """A number of seconds: `90`, `90s`, `30m`, `1h30m`.

    Raises:
        typer.BadParameter: it is not one.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    known = parts and all(unit.lower() in _DURATIONS for _, unit in parts)
    if not known or not re.fullmatch(r"\s*(?:\d+(?:\.\d+)?\s*[a-zA-Z]*\s*)+", str(text)):
        raise typer.BadParameter(f"{text!r} is not a duration: write one such as 90s, 30m or 1h30m.")
    return float(sum(float(number) * _DURATIONS[unit.lower()] for number, unit in parts))


def concurrency(text: str | int) -> int:
    """How many requests at once: a number from 1 to 100, or 0 for `auto`.

    Raises:
        typer.BadParameter: it is neither.
    """
    if str(text).strip().lower() in ("auto", "0"):
        return 0
    if re.fullmatch(r"\s*\d{1,3}\s*", str(text)) and 1 <= int(text) <= 100:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to 100.")
