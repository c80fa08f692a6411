"""The surface of the command line: what there is, what each command asks for, and how it presents itself."""

import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cdf_upsert import __version__
from cdf_upsert.cli import COMMANDS, app
from cdf_upsert.sandbox.world import World
from tests.records import make_text
from tests.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shell(tmp_path: Path) -> Workdir:
    return Workdir(tmp_path)


def test_the_version_is_told(shell: Workdir) -> None:
    """`--version` says name and version, on standard output."""
    done = shell.run("--version").exits(0)
    assert done.stdout == f"cdf-upsert {__version__}\n".encode()
    assert done.stderr == b""


def test_the_installed_command_is_this_one() -> None:
    """The console script leads to the function that `python -m cdf_upsert` runs."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"cdf-upsert": "cdf_upsert.__main__:main"}


def test_help_names_every_command(shell: Workdir) -> None:
    """`--help` has a line for each command, in the order in which they are met."""
    done = shell.run("--help").exits(0)
    named = re.findall(r"^  (\w+) {2,}\S", done.stdout.decode().partition("Commands:")[2], re.MULTILINE)
    assert named == list(COMMANDS)
    assert named == ["load", "check", "plan", "verify", "doctor", "login", "logout", "runs", "sandbox"]


@pytest.mark.parametrize(
    "command", ["load", "check", "plan", "verify", "doctor", "login", "logout", "runs", "sandbox"]
)
def test_each_command_has_help_that_fits_a_terminal(command: str, shell: Workdir) -> None:
    """`-h` shows how it is used as manuals do, explains every option in 80 columns, and touches nothing."""
    done = shell.run(command, "-h", COLUMNS="80").exits(0)
    text = done.stdout.decode()
    usage = text.splitlines()[0].partition(f" {command} ")[2]
    assert re.fullmatch(r"\[OPTIONS\]( STREAM| \[STREAM\])?( \[INPUT\]\.\.\.)?", usage)
    assert max(map(len, text.splitlines())) <= 80
    options = text.partition("Options:")[2]
    # An option's words begin beside it, or on the line below.
    bare = re.findall(r"^  (--?[\w-]+)[^\n]*(?:\n {30,}\S|  \S)?", options, re.MULTILINE)
    explained = re.findall(r"^  (--?[\w-]+)[^\n]*?(?:  \S|\n {20,}\S)", options, re.MULTILINE)
    assert bare == explained
    assert list(shell.path.iterdir()) == []


def test_without_a_command_help_is_shown(shell: Workdir) -> None:
    """Nothing to do is a fault of usage, and what could be done is listed."""
    shell.run().exits(2).says("Commands:", "load")


def test_check_tells_what_a_load_would_do(shell: Workdir) -> None:
    """`check` counts good and bad records, writes the bad ones where it is asked to, and keeps no journal."""
    shell.write("a.ndjson", b"\n".join([make_text("a"), b"{}", make_text("b")]))
    done = shell.run(
        "check", "a.ndjson", "--json", "--failed", "failed.ndjson", "--report", "report.json"
    ).exits(3)
    assert done.counts == {"read": 3, "failed": 1, "unsent": 2}
    assert shell.json("report.json") == done.report
    [failed] = shell.lines("failed.ndjson")
    assert (failed["source"]["line"], failed["record"]) == (2, {})
    done.says("2 good, 1 failed of 3 records", "Nothing was sent: the good ones would go in 1 request")
    assert sorted(path.name for path in shell.path.iterdir()) == ["a.ndjson", "failed.ndjson", "report.json"]

    shell.run("check", "a.ndjson", "--failed", "failed.ndjson").exits(2).says("failed.ndjson", "move it away")
    assert shell.lines("failed.ndjson") == [failed]


def test_the_embedded_sandbox_needs_nothing(shell: Workdir) -> None:
    """`load --sandbox` works in an empty directory, keeps what it loads, and `runs` knows of it."""
    shell.write("a.ndjson", make_text("a"))
    first = shell.run("load", "--sandbox", "demo", "a.ndjson", "--json").exits(0)
    assert first.counts == {"read": 1, "accepted": 1}
    shell.run("verify", "--sandbox", "demo", "a.ndjson").exits(0)
    [load] = json.loads(shell.run("runs", "--json").exits(0).stdout)
    assert (load["stream"], load["state"], load["accepted"]) == ("demo", "complete", 1)
    assert b"a.ndjson -> demo in the sandbox\n" in shell.run("runs").exits(0).stdout


def test_the_embedded_sandbox_serves_one_command_at_a_time(shell: Workdir) -> None:
    """While one holds its state another ends with 75, and may try later."""
    shell.write("a.ndjson", make_text("a"))
    with closing(World(shell.path / ".cdf-upsert" / "sandbox")):
        shell.run("load", "--sandbox", "demo", "a.ndjson").exits(75).says("Another sandbox holds")
    shell.run("load", "--sandbox", "demo", "a.ndjson").exits(0)


def parameters() -> Iterator[tuple[str, Any]]:
    for command in COMMANDS:
        for one in get_command(app).get_command(None, command).params:  # type: ignore[attr-defined]  # a group
            yield command, one


@pytest.mark.parametrize(
    ("command", "option"),
    [pytest.param(command, one, id=f"{command} {one.name}") for command, one in parameters()],
)
def test_help_tells_the_default_that_holds(command: str, option: Any) -> None:
    """What stands in brackets, read as if it had been given, is the default; an option that needs one tells it."""
    told = re.search(r"\[default: (.*)\]$", option.help)
    plain = told is not None and not told[1].startswith(("below", "memory"))
    default = option.default.value if isinstance(option.default, Enum) else option.default
    if plain and told is not None:
        given = option.type.convert(told[1], option, None)
        assert (given.value if isinstance(given, Enum) else given) == default, command
    else:
        assert default in (None, False) or option.required, command
