"""The README and the changelog: what they show runs, and what they name exists."""

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command

from cdf_upsert import errors
from cdf_upsert.cli import COMMANDS, app
from cdf_upsert.core.access import ClientCredentials, GivenToken
from cdf_upsert.core.events import Outcome
from cdf_upsert.core.quota import TEMPLATES
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.report import EXIT_CODES, exit_code
from cdf_upsert.sandbox.serve import Options, Running, running
from cdf_upsert.settings import resolve
from cdf_upsert.settings.names import SETTINGS, VARIABLES
from cdf_upsert.settings.resolve import STATE_VARIABLE

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text()
SAMPLES = TOP / "samples"
BIN = Path(sys.executable).parent

PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)

INSTALLS, SERVES, SIGNS_IN, FAILED_LINE = "installs", "serves", "a person signs in", "a failed line"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the comment above it, and the number of its first line."""

    language: str
    mark: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}"


def blocks(language: str, *marks: str) -> list[Block]:
    """The blocks of one language that bear one of the marks; without marks, those that bear none."""
    fence = re.compile(r"(?:^<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [
        Block(one[2], one[1] or "", README[: one.start(3)].count("\n") + 1, one[3])
        for one in fence.finditer(README)
    ]
    return [one for one in found if one.language == language and one.mark in (marks or ("",))]


def table(header: str) -> list[list[str]]:
    """The cells of the table whose first header is this."""
    found = re.search(rf"^\| {re.escape(header)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found is not None, header
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def ticked(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def options_of(command: str) -> dict[str, str | None]:
    """The options of a command as its `--help` has them, each with its variable."""
    parameters = get_command(app).get_command(None, command).params  # type: ignore[attr-defined]  # a group
    return {name: one.envvar for one in parameters for name in one.opts if name.startswith("-")} | {
        "--help": None
    }


ALL_OPTIONS = {command: options_of(command) for command in COMMANDS}


# ------------------------------------------------------------------ what the README shows, run


@dataclass
class Place:
    """A working directory with the README's files in it, and an environment of its own."""

    home: Path
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, shell: Sequence[str], text: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*shell, text],
            cwd=self.directory,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str, shell: Sequence[str] = ("sh", "-ec")) -> tuple[str, str]:
        """Run shell text, which must end with 0; what it wrote to standard output and standard error."""
        process = self.start(shell, text)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, f"{text}\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def report(self, run_dir: str) -> dict[str, Any]:
        return json.loads((self.directory / run_dir / "report.json").read_text())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(Options()) as served:
        yield served


@pytest.fixture
def place(tmp_path: Path, sandbox: Running) -> Place:
    """Where the README's commands are run: with its files, and with the sandbox for the service."""
    directory = tmp_path / "weather"
    (directory / "loaded").mkdir(parents=True)
    for name in ("weather.ndjson", "flights.json", "broken.ndjson"):
        shutil.copy(SAMPLES / name, directory)
    (directory / "weather.ndjson.gz").write_bytes(gzip.compress((SAMPLES / "weather.ndjson").read_bytes()))
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "bin").symlink_to(BIN)
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    return Place(tmp_path, directory, environment | sandbox.address.environment())


def need_programs(text: str) -> None:
    """Skip on a machine that lacks what a block uses beside our command."""
    for program in ("jq", "zcat"):
        if re.search(rf"\b{program}\b", text) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


ONE_LINERS = next(one for one in blocks("sh") if "zcat" in one.text)


@pytest.mark.parametrize("block", [one for one in blocks("sh") if one != ONE_LINERS], ids=str)
def test_a_shell_block_runs(block: Block, place: Place) -> None:
    """Each block of shell does what it says from the first line to the last."""
    need_programs(block.text)
    place.run(block.text)


def test_what_is_loaded_is_what_the_one_liners_read(place: Place, sandbox: Running) -> None:
    """After the one-liners all records of the samples are stored, and the last line counts them."""
    need_programs(ONE_LINERS.text)
    out, _ = place.run(ONE_LINERS.text.replace("load weather", "load one-liners"))
    stored = sandbox.records("one-liners")
    assert out == "1008\n"
    assert len(stored) == len((SAMPLES / "weather.ndjson").read_bytes().splitlines()) + len(
        json.loads((SAMPLES / "flights.json").read_bytes())
    )


def test_no_block_escapes() -> None:
    """Each fenced block is of a kind that a test here takes up."""
    marks = {"sh": {"", INSTALLS, SERVES, SIGNS_IN}, "json": {"", FAILED_LINE}}
    marks |= {language: {""} for language in ("yaml", "crontab", "dotenv", "toml", "python")}
    found = [one for language, known in marks.items() for one in blocks(language, *known)]
    assert 2 * len(found) == len(re.findall("^```", README, re.MULTILINE))


def steps_of(workflow: Mapping[Any, Any]) -> list[str]:
    """The commands of a GitHub workflow, or of a GitLab pipeline, that load something."""
    tasks = workflow.get("jobs", workflow).values()
    steps = [line for one in tasks for line in one.get("script", [])]
    steps += [step["run"] for one in tasks for step in one.get("steps", []) if "run" in step]
    return [step for step in steps if not step.startswith("pip install")]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_the_commands_of_a_pipeline_run(block: Block, place: Place) -> None:
    """A pipeline is YAML, and its commands load the file and leave what the pipeline keeps where it says."""
    workflow = yaml.safe_load(block.text)
    steps = steps_of(workflow)
    assert len(steps) == 1
    place.run(steps[0])
    assert place.report("run")["records"]["accepted"] == 1008
    assert {"journal.sqlite", "report.json"} <= {path.name for path in (place.directory / "run").iterdir()}


def test_a_pipeline_keeps_what_its_command_writes() -> None:
    """What goes into the cache is the run directory, by the content of the file that is loaded."""
    github, gitlab = (yaml.safe_load(block.text) for block in blocks("yaml"))
    for workflow in (github, gitlab):
        assert "--run-dir run " in steps_of(workflow)[0]
    cached = [step["with"] for step in github["jobs"]["load"]["steps"] if "cache" in step.get("uses", "")]
    restored, saved = cached
    assert restored["path"] == saved["path"] == "run"
    assert saved["key"].startswith(restored["restore-keys"])
    assert "hashFiles('weather.ndjson.gz')" in restored["restore-keys"]
    assert gitlab["load"]["cache"] == {
        "key": {"files": ["weather.ndjson.gz"]},
        "paths": ["run"],
        "when": "always",
    }


def test_a_pipeline_goes_on_in_a_fresh_checkout(place: Place) -> None:
    """With the run directory out of the cache, the pipeline's command goes on although the file is new."""
    (step,) = steps_of(yaml.safe_load(blocks("yaml")[0].text))
    stopped = step.replace("50m", "1s").replace(
        "load weather", "load weather --max-rate 100 --batch-records 50"
    )
    place.run(stopped)
    assert place.report("run")["outcome"] == "stopped"
    os.utime(place.directory / "weather.ndjson.gz", (0, 0))
    place.run(step)
    records = place.report("run")["records"]
    assert records["alreadyAccepted"] > 0
    assert records["accepted"] + records["alreadyAccepted"] == 1008


def test_the_line_for_cron_runs_hour_by_hour(place: Place) -> None:
    """The first hour it loads the file and moves it away; the next hour it finds nothing to do."""
    (block,) = blocks("crontab")
    *times, command = block.text.split(maxsplit=5)
    assert times == ["5", "*", "*", "*", "*"]
    assert "%" not in command, "cron would make a new line of it"
    place.directory.joinpath(".env").write_text(
        "".join(
            f"{name}={value}\n" for name, value in place.environment.items() if name not in ("PATH", "HOME")
        )
    )
    place.environment = {"PATH": "/usr/bin:/bin", "HOME": str(place.home)}
    place.run(command, ("sh", "-c"))
    assert (place.directory / "loaded" / "weather.ndjson.gz").exists()
    assert place.run(command, ("sh", "-c")) == ("", "")


@pytest.mark.parametrize("block", blocks("sh", SERVES), ids=str)
def test_a_block_that_serves_does(block: Block, place: Place, tmp_path: Path) -> None:
    """The sandbox begins as the README says, another program can use what it prints, and a signal ends it."""
    process = place.start(("sh", "-ec"), f"exec {block.text.strip()} --port 0")
    try:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(10)]
        assert printed[0].startswith("listening on http://127.0.0.1:")
        exported = dict(line[7:].strip().split("=", 1) for line in printed if line.startswith("export "))
        place.environment |= exported
        place.run("cdf-upsert load weather weather.ndjson")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_person_signs_in_loads_and_signs_out(place: Place, sandbox: Running, tmp_path: Path) -> None:
    """Both ways of `login` work as they are written, a load then needs no variables, and `logout` ends that."""
    (block,) = blocks("sh", SIGNS_IN)
    login, device, *rest = block.text.splitlines()
    person = tmp_path / "person.py"
    person.write_text("import sys\nfrom tests.signing import allow\nallow(sys.argv[1])\n")
    quiet = {name: place.environment[name] for name in ("PATH", "HOME")} | {
        STATE_VARIABLE: str(tmp_path / "state"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "PYTHONPATH": str(TOP),
        "BROWSER": f"{sys.executable} {person} %s",
    }
    url = sandbox.address.base_url
    variables = {"CDF_URL": url, "CDF_PROJECT": sandbox.address.project, "IDP_CLIENT_ID": "sandbox-app"}
    at_provider = {"PROVIDER": "other", "IDP_DISCOVERY_URL": url}
    place.environment = quiet | variables | at_provider
    place.run(login)
    process = place.start(("sh", "-ec"), device)
    try:
        assert process.stderr is not None
        code = re.search(r"enter the code (\S+)", process.stderr.readline())
        assert code is not None
        httpx.post(f"{url}/device", data={"user_code": code[1], "answer": "allow"}).raise_for_status()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    place.environment = quiet
    _, err = place.run("\n".join(rest))
    assert err.endswith("Signed out of profile default.\n")


def test_the_fixture_for_pytest_works(place: Place) -> None:
    """The test that the README shows passes as it stands, and fails when the load did."""
    (block,) = blocks("python")
    for text in re.split(r"^(?=# \w+\.py$)", block.text, flags=re.MULTILINE)[1:]:
        (place.directory / text.splitlines()[0].removeprefix("# ")).write_text(text)
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider --rootdir ."
    place.environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # Others' plugins take seconds to import.
    out, _ = place.run(command)
    assert "1 passed" in out
    (place.directory / "weather.ndjson").write_text("")
    process = place.start(("sh", "-ec"), command)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, "1 failed" in out) == (1, True)


# ------------------------------------------------------------------ what the README names


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


def test_a_failed_line_is_as_the_readme_shows_it(place: Place) -> None:
    """A real line of the failed file has the members that the README shows, and the same place."""
    (block,) = blocks("json", FAILED_LINE)
    shown = json.loads(block.text)
    place.run("cdf-upsert load weather broken.ndjson --run-dir broken || test $? -eq 3")
    lines = map(json.loads, (place.directory / "broken" / "failed.ndjson").read_text().splitlines())
    line = next(one for one in lines if one["source"]["line"] == shown["source"]["line"])
    assert (line["source"], line["error"]["class"]) == (shown["source"], shown["error"]["class"])
    assert (line["error"]["status"], line["error"]["attempts"]) == (400, shown["error"]["attempts"])
    for part in (None, "error", "record"):
        ours, theirs = (shown, line) if part is None else (shown[part], line[part])
        assert list(ours) == list(theirs)


def test_the_record_that_is_shown_is_one(place: Place) -> None:
    """The example of a record passes `check`."""
    (block,) = blocks("json")
    (place.directory / "one.ndjson").write_text(block.text)
    place.run("cdf-upsert check one.ndjson")


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


# ------------------------------------------------------------------ the changelog


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
