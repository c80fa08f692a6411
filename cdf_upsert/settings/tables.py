"""Settings from `cdf-upsert.toml`, or from `[tool.cdf-upsert]` in `pyproject.toml`, with named profiles.

Keys at the top hold for every profile; a profile's own keys beat them:

    cluster = "westeurope-1"
    [profiles.test]
    project = "acme-test"
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from cdf_upsert.settings.names import SETTINGS

FILE: Final = "cdf-upsert.toml"
PROJECT_FILE: Final = "pyproject.toml"


class Tables(Struct, frozen=True):
    """What the TOML file says: `file` is its name, `common` and `profiles` map keys to values as text."""

    file: str = FILE
    common: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_tables(directory: Path, faults: list[str]) -> Tables:
    """The tables of the TOML file in the directory; what is wrong with it is added to the faults."""
    own = _load(directory / FILE, faults)
    project = _load(directory / PROJECT_FILE, faults, needle=b"cdf-upsert")
    section = project.get("tool", {}).get("cdf-upsert") if isinstance(project.get("tool"), dict) else None
    if own and section:
        faults.append(
            f"Settings stand both in {FILE} and under [tool.cdf-upsert] in {PROJECT_FILE}: keep one of them."
        )
    if own or not isinstance(section, dict):
        return _tables(FILE, own, faults)
    return _tables(PROJECT_FILE, section, faults)


def _load(path: Path, faults: list[str], needle: bytes = b"") -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except OSError as error:
        faults.append(f"{path} cannot be read ({error.strerror}): mend its permissions.")
        return {}
    if needle not in raw:
        return {}
    import tomllib  # noqa: PLC0415  # Most directories have no such file and start-up time is watched.

    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        faults.append(f"{path} is not UTF-8 text: save it as UTF-8.")
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{path} is not TOML ({str(error).rstrip('.')}): mend it there.")
    return {}


def _tables(file: str, content: Mapping[str, Any], faults: list[str]) -> Tables:
    profiles = content.get("profiles", {})
    common = {key: value for key, value in content.items() if key != "profiles"}
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        faults.append(f"profiles in {file} is not a table of tables: write [profiles.NAME] above its keys.")
        profiles = {}
    return Tables(
        file,
        _texts(file, "", common, faults),
        {name: _texts(file, f"profiles.{name}.", table, faults) for name, table in profiles.items()},
    )


def _texts(file: str, prefix: str, table: Mapping[str, Any], faults: list[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in table.items():
        place = f"{prefix}{key} in {file}"
        setting = SETTINGS.get(key)
        if setting is None or key == "profile":
            near = get_close_matches(key, set(SETTINGS) - {"profile"}, n=1)
            mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(SETTINGS))}."
            faults.append(f"{place} is not a setting: {mend}")
        elif key in ("token", "client-secret", "client-key-password"):
            faults.append(
                f"{place} is a secret, and such files are shared: take it away from there and use "
                f"{setting.variable} in the environment or in .env, a file, or a command."
            )
        else:
            match value:
                case bool():
                    texts[key] = "true" if value else "false"
                case str() | int():
                    texts[key] = str(value)
                case list() if all(isinstance(part, str) for part in value):
                    texts[key] = ",".join(value)
                case _:
                    faults.append(f"{place} is neither text nor a list of texts: write it in quotes.")
    return texts
