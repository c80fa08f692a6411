"""The README and the changelog: what they name exists, and what they say of the program is so."""

import re
import shlex
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from cdf_upsert import errors
from cdf_upsert.cli import COMMANDS, app
from cdf_upsert.core.access import ClientCredentials, GivenToken
from cdf_upsert.core.events import Outcome
from cdf_upsert.core.quota import TEMPLATES
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.report import EXIT_CODES, exit_code
from cdf_upsert.settings import resolve
from cdf_upsert.settings.names import SETTINGS, VARIABLES
from cdf_upsert.settings.resolve import STATE_VARIABLE
from tests.readme import FAILED_LINE, INSTALLS, PROSE, README, SERVES, SIGNS_IN, TOP, blocks, table, ticked


def options_of(command: str) -> dict[str, str | None]:
    """The options of a command as its `--help` has them, each with its variable."""
    parameters = get_command(app).get_command(None, command).params  # type: ignore[attr-defined]  # a group
    return {name: one.envvar for one in parameters for name in one.opts if name.startswith("-")} | {
        "--help": None
    }


ALL_OPTIONS = {command: options_of(command) for command in COMMANDS}


def test_no_block_escapes() -> None:
    """Each fenced block is of a kind that a test here takes up."""
    marks = {"sh": {"", INSTALLS, SERVES, SIGNS_IN}, "json": {"", FAILED_LINE}}
    marks |= {language: {""} for language in ("yaml", "crontab", "dotenv", "toml", "python")}
    found = [one for language, known in marks.items() for one in blocks(language, *known)]
    assert 2 * len(found) == len(re.findall("^```", README, re.MULTILINE))


def test_what_the_readme_installs_exists() -> None:
    """Each target of make is in the Makefile, and each extra in the project's own description."""
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "".join(one.text for one in blocks("sh", INSTALLS))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert named == targets & {"demo", "check", "test", "bench", "soak"}
    assert {extra for found in re.findall(r"\[([a-z,]+)\]'", text) for extra in found.split(",")} <= set(
        extras
    )
    assert {line.split()[0] for line in text.splitlines()} <= {"make", "pipx", "pip"}


def test_every_command_is_described() -> None:
    """The table of commands has them all, each as its `--help` begins, and no other."""
    described = [shlex.split(usage) for row in table("command") for usage in ticked(row[0])]
    assert [words[1] for words in described] == list(COMMANDS)
    assert {words[0] for words in described} == {"cdf-upsert"}


def commands_with_options() -> Iterator[tuple[str, str]]:
    """Each option that the README gives to a command, with the command."""
    for line in README.splitlines():
        for command, rest in re.findall(r"cdf-upsert ([a-z]+)((?: [^|;&`#]*)?)", line):
            for option in re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", rest):
                yield command, option
    for command, option in re.findall(r"`([a-z]+) (--[a-z-]+)", PROSE):
        yield command, option


@pytest.mark.parametrize(("command", "option"), sorted(set(commands_with_options())))
def test_an_option_of_a_command_exists(command: str, option: str) -> None:
    """What the README gives to a command is among the command's options."""
    assert option in ALL_OPTIONS[command]


def test_every_option_that_is_named_exists() -> None:
    """An option that stands alone belongs to some command."""
    known = {option for options in ALL_OPTIONS.values() for option in options}
    named = {option for text in ticked(PROSE) if (option := text.split()[0]).startswith("--")}
    assert named
    assert named <= known


def test_every_option_of_load_is_a_variable() -> None:
    """`--max-duration` is `CDF_UPSERT_MAX_DURATION`, and so on for all, as the README says."""
    for option, variable in ALL_OPTIONS["load"].items():
        if option.startswith("--") and option != "--help":
            own = f"CDF_UPSERT_{option[2:].upper().replace('-', '_')}"
            setting = SETTINGS.get(option[2:])
            assert own in (variable, *(setting.own if setting else ())), option


def test_every_variable_that_is_named_is_read() -> None:
    """No variable stands in the README that the program does not know."""
    known = VARIABLES | {STATE_VARIABLE}
    known |= {name for options in ALL_OPTIONS.values() for name in options.values() if name is not None}
    named = set(re.findall(r"\b(?:CDF|IDP|COGNITE)_[A-Z_]*[A-Z]\b", README)) | {"LOGIN_FLOW", "PROVIDER"}
    assert named <= known


def test_the_table_of_settings_is_that_of_the_program() -> None:
    """Each setting is there with all its variables, in the order in which they count."""
    said: dict[str, list[str]] = {}
    for keys, variables, _ in table("setting in TOML"):
        expected = [name for key in ticked(keys) for name in (*SETTINGS[key].own, *SETTINGS[key].families)]
        assert sorted(set(expected)) == sorted(ticked(variables)), keys
        assert [name for name in ticked(variables) if name in expected] == ticked(variables)
        said |= {key: ticked(variables) for key in ticked(keys)}
    assert set(said) == set(SETTINGS)
    secret = {key for key, setting in SETTINGS.items() if setting.secret and not key.endswith("-proxy")}
    not_in_toml = {
        key for row in table("setting in TOML") if "not in TOML" in row[2] for key in ticked(row[0])
    }
    assert not_in_toml == secret | {"profile"}


def test_the_ways_to_sign_in_are_complete(tmp_path: Path) -> None:
    """Each `.env` that the README shows is enough, and without its last line something is missing."""
    (block,) = blocks("dotenv")
    kinds = []
    for text in block.text.strip().split("\n\n"):
        tmp_path.joinpath(".env").write_text(text + "\n")
        kinds.append(type(resolve({}, {}, tmp_path).credentials))
        tmp_path.joinpath(".env").write_text(text.rpartition("\n")[0] + "\n")
        with pytest.raises(errors.UsageError, match="is missing"):
            resolve({}, {}, tmp_path)
    assert kinds == [ClientCredentials, ClientCredentials, GivenToken, ClientCredentials]


def test_a_person_needs_no_secret(tmp_path: Path) -> None:
    """What an application at Entra ID needs is enough for `login` without the secret."""
    text = blocks("dotenv")[0].text.split("\n\n")[0]
    tmp_path.joinpath(".env").write_text(re.sub("^IDP_CLIENT_SECRET.*$", "", text, flags=re.MULTILINE))
    assert resolve({}, {STATE_VARIABLE: str(tmp_path)}, tmp_path, person=True).target.project == "acme"


def test_the_profiles_work(tmp_path: Path) -> None:
    """The TOML that the README shows is taken, and its profile chooses the project that it says."""
    (block,) = blocks("toml")
    tmp_path.joinpath("cdf-upsert.toml").write_text(block.text.replace("pass show cdf", "echo secret"))
    target = resolve({"profile": "test"}, {}, tmp_path).target
    assert (target.project, target.base_url) == ("acme-test", "https://westeurope-1.cognitedata.com")
    assert "--profile test` then loads into the project `acme-test`" in README


def test_the_exit_codes_are_those_of_the_code() -> None:
    """The table has each code that a run can end in, once, and no other."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {*EXIT_CODES.values(), *(kind.exit_code for kind in kinds)}
    codes |= {exit_code(Outcome.INTERRUPTED, one) for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    said = [int(code) for row in table("exit code") for code in row[0].split(", ")]
    assert said == sorted(codes)


def test_the_classes_of_failures_are_those_of_the_code() -> None:
    """The table has each class of the failed file, in its order."""
    assert [row[0].strip("`") for row in table("class")] == list(FailureClass)


def test_numbers_that_the_readme_repeats_are_those_of_the_code() -> None:
    """Quotas and ceilings are said as the program has them."""
    quota = TEMPLATES["BasicLiveData"]
    assert quota.nbytes is not None
    sentence = f"{quota.created:,} new records, {quota.updated:,} updated ones, {quota.nbytes // 10**6} MB"
    assert f"(BasicLiveData: {sentence})" in README
    defaults = {one.name: one.default for one in get_command(app).get_command(None, "load").params}  # type: ignore[attr-defined]  # a group
    records, nbytes = defaults["batch_records"], defaults["batch_bytes"]
    assert f"hold up to {records:,} records and {nbytes // 10**6} MB" in README
    assert defaults["patience"] == 30 * 60
    assert "put it off for 30 minutes" in README


def anchors() -> set[str]:
    """The fragments that the headings of the README can be reached by."""
    return {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)]+)\)", README))
def test_a_link_leads_somewhere(link: str) -> None:
    """What the README points to is in the repository, or a heading of its own."""
    path, _, fragment = link.partition("#")
    assert (TOP / path).exists() if path else fragment in anchors()


def test_the_changelog_is_kept() -> None:
    """It begins with what is not released, and has the kinds of changes of Keep a Changelog, none of them empty."""
    text = (TOP / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version), version
    sections = re.findall(r"^### (.+)\n\n(.)", text, re.MULTILINE)
    assert len(sections) == text.count("\n### ")
    assert {name for name, _ in sections} <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
    assert {first for _, first in sections} == {"-"}


def test_the_changelog_names_what_exists() -> None:
    """Each command and option that the changelog names is one of the program."""
    text = (TOP / "CHANGELOG.md").read_text()
    assert set(re.findall(r"`cdf-upsert (\w+)", text)) <= set(COMMANDS)
    for command, option in re.findall(r"`(\w+) (--[a-z-]+)`", text):
        assert option in ALL_OPTIONS[command]
