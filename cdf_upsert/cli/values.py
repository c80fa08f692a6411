"""How values are written on the command line: sizes, durations, bounds."""

import re
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

import typer

SMALLEST, LARGEST = 1000, 10_000_000
"""Bytes of a request: a useful least, and the most that the service takes (published limit)."""

_SIZES = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "kib": 2**10, "mib": 2**20}
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str | int) -> int:
    """A number of bytes that a request may have: `500kB`, `10MB`, `1MiB`, `4096`.

    Raises:
        typer.BadParameter: it is not one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    if found is None or found[2].lower() not in _SIZES:
        raise typer.BadParameter(f"{text!r} is not a size: write one such as 500kB, 10MB or 4096.")
    nbytes = round(float(found[1]) * _SIZES[found[2].lower()])
    if not SMALLEST <= nbytes <= LARGEST:
        raise typer.BadParameter(
            f"{text!r} is not from {SMALLEST // 10**3} kB to {LARGEST // 10**6} MB, the most that the service takes."
        )
    return nbytes


def number(least: float, most: float = inf) -> Callable[[str | float], float]:
    """Make a parser for finite numbers within bounds, which raises `typer.BadParameter`."""
    bounds = f"from {least:g} on" if most == inf else f"from {least:g} to {most:g}"

    def parse(text: str | float) -> float:
        with suppress(ValueError):
            if least <= float(text) <= most and float(text) < inf:
                return float(text)
        raise typer.BadParameter(f"{str(text)!r} is not a number {bounds}.")

    return parse


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


def whole(least: int, most: int) -> Callable[[str | int], int]:
    """Make a parser for whole numbers within bounds, which raises `typer.BadParameter`."""

    def parse(text: str | int) -> int:
        if re.fullmatch(r"\s*\d{1,9}\s*", str(text)) and least <= int(text) <= most:
            return int(text)
        raise typer.BadParameter(f"{str(text)!r} is not a whole number from {least:,} to {most:,}.")

    return parse


def _parsed(text: Any, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def quota(text: Any) -> Any:
    """What a stream takes: `170000/10m`, as a `core.quota.Quota`.

    Raises:
        typer.BadParameter: it is not one.
    """
    from cdf_upsert.core.quota import parse_quota  # noqa: PLC0415  not for --help

    return _parsed(text, parse_quota)


def max_failures(text: Any) -> Any:
    """How many records may fail: `100` or `2%`, as a `core.stopping.MaxFailures`.

    Raises:
        typer.BadParameter: it is not that.
    """
    from cdf_upsert.core.stopping import parse_max_failures  # noqa: PLC0415  not for --help

    return _parsed(text, parse_max_failures)


def sample(text: Any) -> Any:
    """How many keys are looked at: `500` or `5%`, as a `core.verifying.Sample`.

    Raises:
        typer.BadParameter: it is not that.
    """
    from cdf_upsert.core.verifying import parse_sample  # noqa: PLC0415  not for --help

    return _parsed(text, parse_sample)


def concurrency(text: str | int) -> int:
    """How many requests at once: a number from 1 to 100, or 0 for `auto`, which is the default.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text == 0 or str(text).strip().lower() == "auto":
        return 0
    if re.fullmatch(r"\s*\d{1,3}\s*", str(text)) and 1 <= int(text) <= 100:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to 100.")
