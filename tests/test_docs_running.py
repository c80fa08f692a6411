"""What the README shows, run: every block, with the sandbox in the place of the service."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cdf_upsert.sandbox.serve import Options, Running, running
from cdf_upsert.settings.resolve import STATE_VARIABLE
from tests.readme import FAILED_LINE, SERVES, SIGNS_IN, TOP, Block, blocks

SAMPLES = TOP / "samples"
BIN = Path(sys.executable).parent


@dataclass
class Place:
    """A working directory with the README's files in it, and an environment of its own."""

    home: Path
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, shell: Sequence[str], text: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*shell, text],
            cwd=self.directory,
            env=self.environment,
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
    # The first block goes there from the top of the repository.
    (directory / "samples").mkdir()
    for name in ("weather.ndjson", "flights.json", "broken.ndjson"):
        shutil.copy(SAMPLES / name, directory)
        shutil.copy(SAMPLES / name, directory / "samples")
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
