"""The sandbox's own README: its examples are taken, and what it lists is all there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

import cdf_upsert.sandbox
from cdf_upsert.cli import app
from cdf_upsert.sandbox.faults import OPERATIONS, Rule, read_script
from cdf_upsert.sandbox.seeds import sow
from cdf_upsert.sandbox.service import clients
from cdf_upsert.sandbox.world import World
from cdf_upsert.sandbox.world.catalogue import SYSTEMS, UNITS
from cdf_upsert.sandbox.world.templates import TEMPLATES
from tests.sandbox.builders import NOW

README = Path(cdf_upsert.sandbox.__file__).with_name("README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return found


def test_the_seed_file_is_taken(tmp_path):
    """The example makes its space, its container and its stream."""
    path = tmp_path / "seeds.json"
    path.write_text(block("json"))
    world = World()
    sow([path], world, NOW)
    assert [one.external_id for one in world.streams.all()] == ["pumps"]
    assert list(world.models.containers) == [("plant", "Pump")]
    for name in TEMPLATES:
        assert f"`{name}`" in README


def test_the_faults_are_all_there_are(tmp_path):
    """The example is a script, with every kind of fault and every field that one may have."""
    path = tmp_path / "faults.toml"
    path.write_text(block("toml"))
    script = read_script(path)
    kinds = {one.__struct_config__.tag: one for one in Rule.__subclasses__()}
    assert {type(one) for one in script.fault} == set(kinds.values())
    for kind, told in re.findall(r'kind = "(\w+)"(.*?)(?=\[\[|\Z)', block("toml"), re.DOTALL):
        own = set(kinds[kind].__struct_fields__) - set(Rule.__struct_fields__) - {"message"}
        missing = {field for field in own if not re.search(rf"\b{field} =", told)}
        assert missing <= {"auto_retryable", "retry_after"}, kind
    rules = {field for field in Rule.__struct_fields__ if not re.search(rf"\b{field} =", block("toml"))}
    assert rules == set()
    for operation in OPERATIONS:
        assert f"`{operation}`" in README


def test_what_is_named_exists():
    """Options, clients and unit systems are those of the program."""
    options = {name for one in get_command(app).get_command(None, "sandbox").params for name in one.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", README)) <= options
    assert shlex.split(block("sh"))[:2] == ["cdf-upsert", "sandbox"]
    assert set(re.findall(r"^\| `([\w-]+)`", README, re.MULTILINE)) == set(clients("x"))
    assert all(f"`{system}`" in README for system in SYSTEMS)
    assert 90 < sum(map(len, UNITS.values())) < 110


def test_the_fixture_works_in_a_project_of_its_own(tmp_path):
    """The example passes in a directory that knows nothing of this repository, with warnings as errors."""
    for part in re.split(r"(?=^# \w+\.py$)", block("python"), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        tmp_path.joinpath(name.removeprefix("# ")).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize("language", ["json", "toml", "python", "sh"])
def test_no_example_is_left_untested(language):
    """There is one block of each kind, and no other."""
    assert block(language)
    assert len(re.findall(r"^```\w+", README, re.MULTILINE)) == 4


def test_the_examples_are_whole_values():
    """The seed file is JSON as the API has it."""
    assert set(msgspec.json.decode(block("json"))) == {"spaces", "containers", "streams"}
