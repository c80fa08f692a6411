"""Every form of input, through the whole command."""

import bz2
import gzip
import json
import lzma
import os
import sys
from collections.abc import Callable

import pytest

from cdf_upsert.sandbox.serve import Running
from tests.cli.service import mutable_stream, service
from tests.records import make_text
from tests.workdir import Workdir, until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXTS = [make_text(external_id, value) for value, external_id in enumerate("abc")]
STORED = {"a": 0, "b": 1, "c": 2}

FAILED_LINE = (
    b'{"error":{"class":"rejected","status":400,"message":"m","requestId":null,"attempts":1},'
    b'"source":{"path":"x","record":1,"line":1,"offset":0,"length":1},"record":%b}\n'
)

FORMS: dict[str, bytes] = {
    "ndjson": b"".join(text + b"\n" for text in TEXTS),
    "last line without its end": b"\n".join(TEXTS),
    "line ends of Windows": b"".join(text + b"\r\n" for text in TEXTS),
    "blank lines": b"\n\n" + b"\n \t\n\r\n".join(TEXTS) + b"\n\n",
    "byte order mark": b"\xef\xbb\xbf" + b"\n".join(TEXTS),
    "array": b"[" + b",\n".join(TEXTS) + b"]",
    "pretty array": json.dumps([json.loads(text) for text in TEXTS], indent=2).encode(),
    "object with items": b'{"items": [' + b",".join(TEXTS) + b"]}\n",
    "pretty values one after the other": b"\n".join(
        json.dumps(json.loads(text), indent=2).encode() for text in TEXTS
    ),
    "failed file": b"".join(FAILED_LINE % text for text in TEXTS),
}

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstandard": zstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "two gzip members": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
}


def stored(sandbox: Running, stream: str) -> dict[str, object]:
    """The value of each key."""
    return {
        external_id: properties["s", "c"]["value"]
        for (_, external_id), properties in sandbox.records(stream).items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str, shell: Workdir, sandbox: Running, stream: str) -> None:
    """A file is read by what it holds, whatever its name says."""
    shell.write("records.txt", FORMS[form])
    done = shell.run("load", stream, "records.txt", "--json").exits(0)
    assert done.counts == {"read": 3, "accepted": 3}
    assert stored(sandbox, stream) == STORED


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read_from_standard_input(
    compression: str, shell: Workdir, sandbox: Running, stream: str
) -> None:
    """What is piped in is unpacked by its first bytes, without a name to tell."""
    done = shell.run("load", stream, "--json", stdin=COMPRESSIONS[compression](FORMS["ndjson"])).exits(0)
    assert done.counts == {"read": 3, "accepted": 3}
    assert stored(sandbox, stream) == STORED


def test_inputs_of_all_kinds_are_read_in_their_order(shell: Workdir, sandbox: Running, stream: str) -> None:
    """Files, standard input, a pipe by its name and a compressed document follow each other; the last version wins."""
    shell.write("one.ndjson", make_text("a", 1) + b"\n" + make_text("b", 1))
    shell.write("two.json.gz", gzip.compress(b"[%b]" % make_text("a", 2)))
    shell.write("three", make_text("c", 3))
    shell.write("four", make_text("a", 4))
    done = shell.shell(
        f"cat three | cdf-upsert load {stream} one.ndjson two.json.gz - <(cat four) --json --batch-records 1"
    ).exits(0)
    assert [(one["path"], one["format"], one["records"]) for one in done.report["inputs"][:3]] == [
        ("one.ndjson", "ndjson", 2),
        ("two.json.gz", "json", 1),
        ("-", "ndjson", 1),
    ]
    assert done.report["inputs"][3]["path"].startswith("/dev/fd/")
    assert done.report["records"]["read"] == 5
    assert stored(sandbox, stream) == {"a": 4, "b": 1, "c": 3}


EXACT = (
    b'{ "space":"s" , "externalId":"\\u0061\\/", "sources":[{"properties":{"z":1e400,"a":12345678901234567890123,'
    b'"m":1.10,"n":-0,"text":"\xc3\xa9\\u00e9"},"source":{"externalId":"c","space":"s","type":"container"}}]}'
)


def test_a_record_is_sent_as_the_bytes_that_were_read(alone: Workdir) -> None:
    """Numbers of any size, escapes, spaces and the order of members arrive as they were written."""
    other = EXACT.replace(b"u0061", b"u0062")
    with service(mutable_stream()) as served:
        alone.run("load", "demo", stdin=EXACT + b"\r\n" + other, **served.variables).exits(0)
        assert served.bodies == [b'{"items":[' + EXACT + b"," + other + b"]}"]


@pytest.mark.parametrize(
    ("form", "chosen", "settled"),
    [
        ("ndjson", "ndjson", "accepted"),
        ("array", "json", "accepted"),
        ("ndjson", "json", "accepted"),
        ("array", "ndjson", "failed"),
    ],
)
def test_a_format_that_is_named_is_the_one_that_is_read(
    form: str, chosen: str, settled: str, shell: Workdir, stream: str
) -> None:
    """`--format` is obeyed, also where looking would have told otherwise."""
    done = shell.run("load", stream, "--format", chosen, "--json", stdin=FORMS[form])
    assert done.exits(0 if settled == "accepted" else 3).counts == {"read": 3, settled: 3}


def test_a_slow_pipe_is_not_waited_for(alone: Workdir) -> None:
    """A part-filled batch goes out when it has lingered, while the pipe stays open and more comes later."""
    with (
        service(mutable_stream()) as served,
        alone.start("load", "demo", "--linger", "0.2", "--json", **served.variables) as load,
    ):
        load.feed(make_text("a") + b"\n" + make_text("b") + b"\n" + make_text("c")[:20])
        until(lambda: len(served.upserts) == 1)
        load.feed(make_text("c")[20:] + b"\n")
        until(lambda: len(served.upserts) == 2)
        assert load.ends().exits(0).counts == {"read": 3, "accepted": 3}
        assert [[record["externalId"] for record in batch] for batch in served.batches] == [["a", "b"], ["c"]]


def test_a_record_lingers_for_others_to_come(alone: Workdir) -> None:
    """A batch that is not full waits for as long as `--linger` says, and ends with the input at the latest."""
    with (
        service(mutable_stream()) as served,
        alone.start("load", "demo", "--linger", "1000", **served.variables) as load,
    ):
        load.feed(make_text("a") + b"\n")
        until(lambda: len(served.heard.asked) == 1)
        load.feed(make_text("b") + b"\n")
        load.ends().exits(0)
        assert [len(batch) for batch in served.batches] == [2]


def test_how_to_go_on_is_told_for_every_input_that_is_read_once(alone: Workdir) -> None:
    """What comes from a pipe, by whatever name, goes on only with the run directory named: that is said."""
    with service(mutable_stream()) as served:
        script = "mkfifo pipe; cdf-upsert load demo pipe --max-duration 500ms"
        alone.shell(script, **served.variables).exits(5).says(
            "on the same bytes with --run-dir .cdf-upsert/demo-"
        )


def test_a_name_with_control_characters_does_not_reach_the_terminal(alone: Workdir) -> None:
    """Neither in what a load says nor in the list of loads."""
    alone.write("a\x1b[2J\n.ndjson", b"{}")
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a\x1b[2J\n.ndjson", **served.variables).exits(3)
    listed = alone.run("runs").exits(0)
    assert b"a\\x1b[2J\\n.ndjson" in listed.stdout
    assert b"\x1b" not in done.stderr + listed.stdout


def test_a_name_that_is_not_utf8_is_told_in_one_way(alone: Workdir) -> None:
    r"""As `\xff` to people, in the report and in the failed file, whether the file is there or not."""
    name = os.fsdecode(b"\xff.ndjson")
    alone.run("check", name).exits(2).says(r"cdf-upsert: \xff.ndjson does not exist")
    alone.write(name, b'{"x":1}\n')
    done = alone.run("check", name, "--json", "-v", "--failed", "failed.ndjson").exits(3)
    done.says(r"Reading \xff.ndjson (ndjson", r"for example \xff.ndjson, line 1")
    assert done.report["inputs"][0]["path"] == r"\xff.ndjson"
    assert alone.lines("failed.ndjson")[0]["source"]["path"] == r"\xff.ndjson"
