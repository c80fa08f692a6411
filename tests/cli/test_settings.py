"""Options from flags, from the environment and from .env; in this order the first one counts."""

from pathlib import Path

import pytest
import typer

from cdf_upsert.cli import app
from tests.cli.service import mutable_stream, service
from tests.records import make_text
from tests.workdir import Workdir

RECORDS = b"\n".join(make_text(f"k{i}", i) for i in range(12))


@pytest.mark.parametrize(
    ("dotenv", "environment", "flags", "largest"),
    [
        ("", {}, [], 12),
        ("CDF_UPSERT_BATCH_RECORDS=5\n", {}, [], 5),
        ("CDF_UPSERT_BATCH_RECORDS=5\n", {"CDF_UPSERT_BATCH_RECORDS": "4"}, [], 4),
        ("CDF_UPSERT_BATCH_RECORDS=5\n", {"CDF_UPSERT_BATCH_RECORDS": "4"}, ["--batch-records", "3"], 3),
    ],
    ids=["default", ".env", "environment", "flag"],
)
def test_a_flag_beats_the_environment_beats_dotenv(
    dotenv: str, environment: dict[str, str], flags: list[str], largest: int, alone: Workdir
) -> None:
    """An option counts from where it is nearest."""
    alone.write(".env", dotenv.encode())
    with service(mutable_stream()) as served:
        alone.run("load", "demo", *flags, stdin=RECORDS, **served.variables, **environment).exits(0)
        assert max(map(len, served.batches)) == largest


def test_a_flag_beats_a_variable_that_says_the_opposite(alone: Workdir) -> None:
    """`-v` is heard under CDF_UPSERT_QUIET; two variables, or two flags, contradict each other."""
    alone.write("a.ndjson", RECORDS)
    loud = alone.run("check", "a.ndjson", "-v", CDF_UPSERT_QUIET="1").exits(0)
    loud.says("Reading a.ndjson")
    assert alone.run("check", "a.ndjson", "-q", CDF_UPSERT_VERBOSE="1").exits(0).stderr == b""
    both = {"CDF_UPSERT_QUIET": "1", "CDF_UPSERT_VERBOSE": "1"}
    alone.run("check", "a.ndjson", **both).exits(2).says("contradict")


def test_every_option_can_be_a_variable(alone: Workdir) -> None:
    """A load that is told everything by variables does what they say."""
    alone.write("a.ndjson", b"[" + RECORDS.replace(b"\n", b",") + b",{},{}]")
    (alone.path / "out").mkdir()
    options = {
        "BATCH_BYTES": "1kB",
        "BATCH_RECORDS": "5",
        "CONCURRENCY": "1",
        "FAILED": "out/failed.ndjson",
        "FORMAT": "json",
        "FRESH": "1",
        "JSON": "1",
        "LINGER": "0",
        "LOG_FORMAT": "json",
        "MAX_DURATION": "1h",
        "MAX_FAILURES": "1",
        "MAX_RATE": "1000",
        "PATIENCE": "1m",
        "PROGRESS": "none",
        "REPORT": "out/report.json",
        "RUN_DIR": "run",
        "TIMEOUT": "9",
        "VERBOSE": "true",
    }
    variables = {f"CDF_UPSERT_{name}": value for name, value in options.items()}
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a.ndjson", **served.variables, **variables).exits(5)
        assert max(map(len, served.batches), default=0) <= 5
        assert max(map(len, served.bodies), default=0) <= 1000
    assert done.report == alone.json("out/report.json")
    assert done.report["inputs"][0]["format"] == "json"
    assert len(alone.lines("out/failed.ndjson")) == 2
    assert all(line.startswith(b"{") for line in done.stderr.splitlines())
    assert (alone.path / "run" / "journal.sqlite").exists()
    done.says(
        "(--fresh)" if "(--fresh)" in done.said else "new load", '"event":"input"', "--max-failures allows 1"
    )


@pytest.mark.parametrize(
    "name", ["PATIENCE", "BATCH_RECORDS", "MAX_FAILURES", "QUOTA", "FORMAT", "JSON", "CONCURRENCY"]
)
def test_a_variable_that_is_not_usable_is_named(name: str, alone: Workdir) -> None:
    """Not the option that was never given; from `.env`, too; and where the option is given it is the fault."""
    faulty = {f"CDF_UPSERT_{name}": "x"}
    alone.run("load", "demo", **faulty).exits(2).says(f"Invalid value for 'CDF_UPSERT_{name}': 'x'")
    if name == "PATIENCE":
        option = ("load", "demo", "--patience", "y")
        alone.run(*option, **faulty).exits(2).says("Invalid value for '--patience': 'y'")
        alone.write(".env", b"CDF_UPSERT_PATIENCE=x\n")
        alone.run("load", "demo").exits(2).says("Invalid value for 'CDF_UPSERT_PATIENCE': 'x'")


def test_each_option_of_a_load_has_its_variable() -> None:
    """`CDF_UPSERT_<OPTION>` for every one but those of the target, which have variables of their own."""
    load = typer.main.get_command(app).get_command(None, "load")
    of_the_target = {"project", "cluster", "base_url", "profile", "insecure_http", "help"}
    for option in load.params:
        if option.param_type_name == "option" and option.name not in of_the_target:
            flag = next(name for name in option.opts if name.startswith("--"))
            assert option.envvar == "CDF_UPSERT_" + flag.removeprefix("--").replace("-", "_").upper()


def test_the_target_may_stand_in_dotenv(alone: Workdir) -> None:
    """A `.env` of the working directory is enough, and a flag still beats it."""
    alone.write("a.ndjson", RECORDS)
    with service(mutable_stream()) as served:
        lines = [f"{name}={value}\n" for name, value in served.variables.items()]
        alone.write(".env", "".join(lines).encode())
        alone.run("load", "demo", "a.ndjson").exits(0)
        alone.run("load", "demo", "a.ndjson", "--project", "other").exits(0)
        projects = [asked.target.split("/")[4] for asked in served.upserts]
    assert projects == ["acme", "other"]


@pytest.mark.parametrize("content", [b"CDF_UPSERT_JSON=\xff\n", b"\0", b"just words\n"])
def test_a_dotenv_that_cannot_be_read_is_told(content: bytes, alone: Workdir) -> None:
    """A broken `.env` ends in a sentence that names it, or is no hindrance; never in a bug."""
    alone.write(".env", content)
    done = alone.run("check", "-", stdin=RECORDS)
    done.exits(done.status if done.status in (0, 2) else 2)
    assert done.status == 0 or ".env" in done.said, done


def test_a_directory_of_that_name_is_no_dotenv(alone: Workdir) -> None:
    """A folder named `.env`, as some make for their virtual environments, is left alone."""
    Path(alone.path, ".env").mkdir()
    alone.run("check", "-", stdin=RECORDS).exits(0)
