"""Exit codes, as scripts rely on them; those of signals are in test_signals.py."""

from collections.abc import Callable

import pytest

from tests.cli.service import READ, inspected, mutable_stream, refusal, service, stream_that
from tests.loopback import Answer, Asked
from tests.records import make_text
from tests.workdir import Workdir

GOOD = b"\n".join(make_text(f"k{i}", i) for i in range(10))
BROKEN = GOOD + b"\n{}\n{}\n{}\n"


FULL = {"limits": {"maxRecordsTotal": {"provisioned": 5_000_000, "consumed": 5_000_000}}}
EXPIRED = refusal(401, "token expired")
FORBIDDEN = refusal(403, "no access")
UNKNOWN = refusal(404, "no such stream")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (mutable_stream(stream=EXPIRED, inspect=EXPIRED), ["token expired"]),
        (mutable_stream(lambda _: EXPIRED, inspect=EXPIRED), ["token expired"]),
        (mutable_stream(lambda _: FORBIDDEN, inspect=inspected(*READ)), ["streamRecordsAcl:WRITE"]),
        (
            mutable_stream(lambda _: FORBIDDEN, stream=FORBIDDEN, inspect=inspected()),
            ["streamRecordsAcl:WRITE"],
        ),
        (mutable_stream(stream=UNKNOWN), ["There is no stream demo in project acme"]),
        (mutable_stream(stream=stream_that(type="Immutable")), ["demo", "immutable"]),
        (
            mutable_stream(stream=stream_that(settings=FULL)),
            ["demo is full", "5,000,000 of 5,000,000 records"],
        ),
    ],
    ids=["401 first", "401 later", "403 later", "403 for all", "404", "immutable", "full"],
)
def test_what_is_refused_for_all_ends_in_4(
    answers: Callable[[Asked], Answer], said: list[str], alone: Workdir
) -> None:
    """Credentials, permission or stream: one sentence says what to do, and no record is called failed."""
    with service(answers) as served:
        alone.write("a.ndjson", GOOD)
        done = alone.run("load", "demo", "a.ndjson", "--json", **served.variables).exits(4).says(*said)
    report = done.report
    assert (report["outcome"], report["exitCode"]) == ("refused", 4)
    assert report["records"]["read"] == report["records"]["unsent"]
    assert not list(alone.path.glob("**/failed.ndjson"))


def test_too_many_failures_end_in_5(alone: Workdir) -> None:
    """`--max-failures` stops the run in good order, and the same command goes on."""
    alone.write("a.ndjson", BROKEN)
    with service(mutable_stream()) as served:
        done = alone.run(
            "load", "demo", "a.ndjson", "--json", "--max-failures", "2", **served.variables
        ).exits(5)
        assert done.report["outcome"] == "stopped"
        done.says("--max-failures allows 2", "to go on, rerun the same command")
        # Three failures are exactly as many as are allowed now.
        again = alone.run(
            "load", "demo", "a.ndjson", "--json", "--max-failures", "3", **served.variables
        ).exits(3)
        records = again.report["records"]
        assert records["accepted"] + records["alreadyAccepted"] == 10
        assert records["failed"] == 3
        keys = [record["externalId"] for batch in served.batches for record in batch]
        assert len(keys) == len(set(keys)) == 10, "what was accepted is sent again"


def test_too_long_a_run_ends_in_5(alone: Workdir) -> None:
    """`--max-duration` stops the run in good order, whatever is still to be read."""
    with (
        service(mutable_stream()) as served,
        alone.start(
            "load", "demo", "--json", "--max-duration", "1s", "--linger", "0", **served.variables
        ) as load,
    ):
        load.feed(GOOD + b"\n")
        load.hears("1.0 s, as --max-duration asks")
        assert load.ends().exits(5).counts == {"read": 10, "accepted": 10}


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_says_later_for_too_long_ends_in_5(status: int, alone: Workdir) -> None:
    """`--patience` bounds the time without an accepted record; then everything is unsent, and nothing has failed."""
    alone.write("a.ndjson", GOOD)
    with service(mutable_stream(lambda _: refusal(status, "later"))) as served:
        done = alone.run("load", "demo", "a.ndjson", "--json", "--patience", "1s", **served.variables).exits(
            5
        )
    assert done.counts == {"read": 10, "unsent": 10}
    done.says("--patience sets how long to go on")


def test_a_second_run_of_the_same_load_ends_in_75(alone: Workdir) -> None:
    """While one run is under way another one of the same load leaves at once, names it, and sends nothing."""
    alone.write("a.ndjson", GOOD)
    with (
        service(mutable_stream()) as served,
        alone.start("load", "demo", "a.ndjson", "-", "--run-dir", "run", **served.variables) as first,
    ):
        first.hears("new load")
        second = alone.run("load", "demo", "a.ndjson", "-", "--run-dir", "run", **served.variables).exits(75)
        second.says(f"process {first.process.pid}", "wait for it to end")
        assert first.ends().exits(0)
        alone.run("load", "demo", "a.ndjson", "-", "--run-dir", "run", **served.variables).exits(0)


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ([], {}, ["CDF_PROJECT is missing", "CDF_CLUSTER (or CDF_URL)", "IDP_CLIENT_ID", "--sandbox"]),
        (["--project", "p"], {"CDF_URL": "http://127.0.0.1:9"}, ["IDP_CLIENT_ID", "IDP_CLIENT_SECRET"]),
        (
            [],
            {"CDF_URL": "http://example.com", "CDF_PROJECT": "p", "LOGIN_FLOW": "token", "CDF_TOKEN": "t"},
            ["CDF_URL", "https"],
        ),
    ],
    ids=["nothing", "no credentials", "plain http"],
)
def test_a_configuration_that_is_not_usable_ends_in_2(
    arguments: list[str], variables: dict[str, str], said: list[str], alone: Workdir
) -> None:
    """All that is missing is named at once, and the sandbox as a way to try; no file is left behind."""
    alone.write("a.ndjson", GOOD)
    alone.run("load", "demo", "a.ndjson", *arguments, **variables).exits(2).says(*said)
    assert [path.name for path in alone.path.iterdir()] == ["a.ndjson"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load"], "STREAM"),
        (["loda"], "loda"),
        (["load", "demo", "--nonsense"], "--nonsense"),
        (["load", "demo", "--batch-records", "0"], "--batch-records"),
        (["load", "demo", "--batch-records", "1001"], "--batch-records"),
        (["load", "demo", "--batch-bytes", "10000001"], "10 MB"),
        (["load", "demo", "--batch-bytes", "999"], "1 kB"),
        (["load", "demo", "--concurrency", "many"], "auto"),
        (["load", "demo", "--concurrency", "0"], "'0' is neither auto nor a number from 1 to 100"),
        (["check", "a.ndjson", ".", "b.ndjson"], "a.ndjson does not exist: check the path. . is a directory"),
        (["check", "a.ndjson", ".", "b.ndjson"], "b.ndjson does not exist"),
        (["load", "demo", "--linger", "nan"], "--linger"),
        (["load", "demo", "--timeout", "0"], "--timeout"),
        (["load", "demo", "--timeout", "inf"], "--timeout"),
        (["load", "demo", "--max-rate", "-1"], "--max-rate"),
        (["load", "demo", "--patience", "soon"], "30m"),
        (["load", "demo", "--max-failures", "few"], "--max-failures"),
        (["load", "demo", "--batch-records", "x"], "'x' is not a whole number from 1 to 1,000."),
        (["load", "demo", "--quota", "x"], "Invalid value for '--quota': 'x' is not a quota"),
        (
            ["verify", "demo", "--sample", "0"],
            "Invalid value for '--sample': '0' is neither a number of keys",
        ),
        (["load", "demo", "-q", "-v"], "contradict"),
        (
            ["load", "demo", "--sandbox", "--profile", "test", "--project", "p"],
            "--project, --profile contradict each other",
        ),
        (["load", "Demo", "x"], "'Demo' cannot be the id of a stream"),
        (["load", "demo", "-", "-"], "only once"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_line_that_is_not_usable_ends_in_2(arguments: list[str], said: str, alone: Workdir) -> None:
    """The fault is named, and nothing on standard output looks like a result."""
    done = alone.run(*arguments).exits(2).says(said)
    assert done.stdout == b""


def test_a_directory_that_is_gone_ends_in_2(alone: Workdir) -> None:
    """A sentence, and no bug, where somebody has removed the directory in which the shell still stands."""
    alone.write("a.ndjson", GOOD)
    target = {
        "CDF_URL": "http://127.0.0.1:9",
        "CDF_PROJECT": "p",
        "LOGIN_FLOW": "token",
        "CDF_TOKEN": "token",
    }
    done = alone.shell(
        "mkdir gone; cd gone; rmdir ../gone; cdf-upsert load demo ${OLDPWD}/a.ndjson", **target
    )
    done.exits(2).says("The working directory does not exist any more")
