"""Variables from the `.env` file of a directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cdf_upsert.errors import UsageError
from cdf_upsert.settings.names import VARIABLES

FILE: Final = ".env"


def environment_with_dotenv(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The environment, filled up with the variables of `directory/.env` that it does not have.

    Raises:
        UsageError: The file cannot be read, or a line that is meant for this program is broken.
    """
    return {**read_dotenv(environment, directory), **environment}


def read_dotenv(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The variables of `directory/.env`; `${NAME}` in a value stands for the environment's or an earlier one.

    Raises:
        UsageError: As for `environment_with_dotenv`.
    """
    path = directory / FILE
    if not path.is_file():
        return {}
    # Here, as most directories have no such file and start-up time is watched.
    from dotenv.parser import parse_stream  # noqa: PLC0415
    from dotenv.variables import parse_variables  # noqa: PLC0415

    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for binding in parse_stream(stream):
                if binding.error:
                    _complain_if_ours(path, binding.original.line, binding.original.string)
                elif binding.key is not None and binding.value is not None:
                    known = {**found, **environment}
                    atoms = parse_variables(binding.value)
                    found[binding.key] = "".join(atom.resolve(known) for atom in atoms)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): mend its permissions.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    return found


def _complain_if_ours(path: Path, line: int, text: str) -> None:
    """Other programs may write lines of their own kind; a broken one of ours must not go unseen."""
    for name in sorted(VARIABLES):
        if name in text or "CDF_UPSERT_" in text:
            raise UsageError(
                f"Line {line} of {path} cannot be read: write NAME=value, and close every quote."
            ) from None
