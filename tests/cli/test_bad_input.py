"""Bad input: a sentence with the place and the mend, never a traceback, and the rest goes on."""

import gzip
import os
import shlex

import pytest

from tests.cli.service import mutable_stream, service
from tests.records import make_text
from tests.workdir import COMMAND, Workdir

GOOD = make_text("good")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.ndjson", "missing.ndjson does not exist: check the path."),
        ("folder", "folder is a directory: name the files in it, for example folder/*."),
        ("good.ndjson/x", "good.ndjson/x cannot be read (Not a directory)"),
        ("loop", "loop cannot be read (Too many levels of symbolic links)"),
        ("x" * 300, "cannot be read (File name too long)"),
    ],
    ids=["missing", "directory", "below a file", "loop", "too long"],
)
def test_an_input_that_cannot_be_read_is_found_out_first(name: str, said: str, alone: Workdir) -> None:
    """Before anything is sent, also when other inputs are good: exit code 2, the name and the mend."""
    alone.write("good.ndjson", GOOD)
    (alone.path / "folder").mkdir()
    (alone.path / "loop").symlink_to("loop")
    variables = {
        "CDF_URL": "http://127.0.0.1:9",
        "CDF_PROJECT": "p",
        "LOGIN_FLOW": "token",
        "CDF_TOKEN": "token",
    }
    done = alone.run("load", "demo", "good.ndjson", name, **variables).exits(2).says(said)
    assert done.stdout == b""
    assert not (alone.path / ".cdf-upsert").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_found_out_first(alone: Workdir) -> None:
    """It says how to give the permission."""
    alone.write("secret.ndjson", GOOD).chmod(0)
    alone.run("check", "secret.ndjson").exits(2).says("secret.ndjson may not be read", "chmod u+r")


@pytest.mark.parametrize(
    "content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0), b"[]", b'{"items":[]}']
)
def test_nothing_to_load_is_no_fault(content: bytes, shell: Workdir, stream: str) -> None:
    """An empty input ends in 0, and says that there was nothing."""
    shell.write("empty", content)
    done = shell.run("load", stream, "empty", "--json").exits(0)
    done.says("0 accepted of 0 records", "There was nothing to load.")
    assert done.counts == {}
    assert [(one["path"], one["records"]) for one in done.report["inputs"]] == [("empty", 0)]
    checked = shell.run("check", "empty", "--json").exits(0).says("There was nothing to check.")
    assert checked.report["inputs"] == done.report["inputs"]


LINES: dict[str, tuple[bytes, str, str]] = {
    "brackets": (b"[" * 100_000, "unreadable", "nested too deeply"),
    "braces": (b'{"a":' * 100_000, "unreadable", "nested too deeply"),
    "not UTF-8": (GOOD.replace(b"good", b"caf\xe9"), "unreadable", "UTF-8"),
    "NaN": (GOOD.replace(b":0}", b":NaN}"), "unreadable", "not JSON"),
    "NUL in a key": (GOOD.replace(b"good", b"a\\u0000b"), "invalid", "externalId"),
    "raw NUL in a key": (GOOD.replace(b"good", b"a\0b"), "unreadable", "not JSON"),
    "no object": (b"[1]", "invalid", "expected object"),
    "two values": (GOOD + GOOD, "unreadable", "not JSON"),
    "half a line": (GOOD[:40], "unreadable", "not JSON"),
    "no key": (GOOD.replace(b'"externalId":"good",', b""), "invalid", "externalId"),
    "another member": (b'{"x":1,' + GOOD[1:], "invalid", "x"),
    "properties": (GOOD.replace(b'{"value":0}', b"7"), "invalid", "sources[0].properties"),
    "long key": (GOOD.replace(b"good", b"k" * 257), "invalid", "externalId"),
    "bad space": (GOOD.replace(b'"space":"s","e', b'"space":"1 2","e', 1), "invalid", "space"),
}


def test_a_broken_line_costs_one_record(alone: Workdir) -> None:
    """Each way of being broken is one failure with its line, its offset and why, and the good lines between are sent."""
    lines = []
    for number, (line, _, _) in enumerate(LINES.values()):
        lines += [line, make_text(f"k{number}")]
    alone.write("a.ndjson", b"\n".join([make_text("first"), *lines]))
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a.ndjson", "--json", "--run-dir", "run", **served.variables).exits(
            3
        )
        sent = [record["externalId"] for batch in served.batches for record in batch]
    assert sent == ["first", *(f"k{number}" for number in range(len(LINES)))]
    assert done.counts == {"read": 2 * len(LINES) + 1, "accepted": len(LINES) + 1, "failed": len(LINES)}
    content = alone.read("a.ndjson")
    failed = alone.lines("run/failed.ndjson")
    for number, (one, (name, (line, kind, said))) in enumerate(zip(failed, LINES.items(), strict=True)):
        error, source = one["error"], one["source"]
        assert (error["class"], source["line"], source["record"]) == (kind, 2 * number + 2, 2 * number + 2), (
            name
        )
        assert said in error["message"], name
        assert content[source["offset"] :][: source["length"]] == line, name
    done.says("for example a.ndjson, line 2")


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (lambda packed: packed[: len(packed) // 2], "the gzip stream ends too early, at compressed byte"),
        (lambda packed: packed + b"junk", "has something else behind its end"),
        (lambda packed: packed[:-8] + b"\0" * 8, "the gzip stream is broken"),
    ],
    ids=["cut short", "junk behind", "damaged"],
)
def test_of_a_broken_archive_the_rest_is_loaded(cut, said: str, alone: Workdir) -> None:
    """What came before is loaded, and one failure tells the byte."""
    alone.write("a.ndjson.gz", cut(gzip.compress(b"\n".join(make_text(f"k{i * i}", i) for i in range(3000)))))
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a.ndjson.gz", "--json", **served.variables).exits(3)
        done.says(said, "Next: a.ndjson.gz is broken: get it whole, and load it again.")
        sent = [record["externalId"] for batch in served.batches for record in batch]
    assert len(sent) == done.counts["accepted"] > 100
    assert sorted(sent) == sorted(f"k{i * i}" for i in range(len(sent)))
    assert done.counts["failed"] == 1


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"[" + GOOD + b"," + GOOD.replace(b"good", b"other") + b", oops]", 1 + 2 * len(GOOD) + 1 + 1 + 2),
        (b"[" + GOOD + b"," + GOOD.replace(b"good", b"other"), 2 * len(GOOD) + 2 + 1),
        (b"[" * 100_000, 100_000),
    ],
    ids=["broken", "cut short", "brackets"],
)
def test_of_a_broken_document_the_rest_is_loaded(content: bytes, byte: int, alone: Workdir) -> None:
    """What came before the break is loaded, and one failure tells the byte."""
    alone.write("a.json", content)
    with service(mutable_stream()) as served:
        done = alone.run("load", "demo", "a.json", "--json", "--format", "json", **served.variables).exits(3)
    accepted = content.count(b'"externalId":"good"') + content.count(b'"externalId":"other"')
    assert done.counts == {"read": accepted + 1, "failed": 1} | ({"accepted": accepted} if accepted else {})
    done.says(f"byte {byte:,}")


def peak_memory(shell: Workdir, script: str, status: int, **variables: str) -> int:
    """Bytes that a load took at most."""
    measured = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open('peak', 'w')); sys.exit(code)"
    )
    command = shlex.join([COMMAND[0], "-c", measured, *COMMAND])
    shell.shell(script.replace("MEASURED", command), **variables).exits(status)
    return int(shell.read("peak")) * 1024


@pytest.mark.parametrize("form", ["line", "document"])
def test_a_record_that_is_too_long_is_not_held(form: str, alone: Workdir) -> None:
    """It fails as oversize with its offset and length, the rest goes on, and four times the length takes no more memory."""
    before, after = (b"[", b",") if form == "document" else (b"", b"\n")
    alone.write("before", before + GOOD + after + b'{"space":"')
    alone.write("after", b'"}' + after + make_text("last") + (b"]" if form == "document" else b""))
    peaks = []
    for length in (15_000_000, 60_000_000):
        script = f"(cat before; head -c {length} /dev/zero | tr '\\0' x; cat after) | MEASURED load demo --run-dir {length}"
        with service(mutable_stream()) as served:
            peaks.append(peak_memory(alone, script, 3, **served.variables))
            assert [record["externalId"] for batch in served.batches for record in batch] == ["good", "last"]
        [failed] = alone.lines(f"{length}/failed.ndjson")
        assert failed["error"]["class"] == "oversize"
        assert failed["source"]["length"] == length + 12
        assert failed["source"]["offset"] == len(before + GOOD + after)
    assert peaks[1] < peaks[0] * 1.15, peaks


@pytest.mark.parametrize(
    ("run_dir", "said"),
    [
        ("/proc/run", "The run directory /proc/run is not usable"),
        ("good.ndjson", "good.ndjson is not usable (File exists): mend it, or choose another --run-dir."),
        ("good.ndjson/run", "good.ndjson/run is not usable"),
    ],
)
def test_a_run_directory_that_cannot_be_used_is_found_out_first(
    run_dir: str, said: str, alone: Workdir
) -> None:
    """Before anything is sent: exit code 2."""
    alone.write("good.ndjson", GOOD)
    with service(mutable_stream()) as served:
        alone.run("load", "demo", "good.ndjson", "--run-dir", run_dir, **served.variables).exits(2).says(said)
        assert served.bodies == []


def test_a_full_disk_is_told_by_the_place_that_is_full(alone: Workdir) -> None:
    """A check whose failed file cannot be written says so, and not that the records were fine."""
    alone.write("a.ndjson", GOOD + b"\n{}")
    done = alone.run("check", "a.ndjson", "--failed", "/dev/full").exits(1)
    done.says("/dev/full cannot be written (No space left on device)").says_nothing_of("1 good")


def test_a_full_disk_stops_the_run_in_good_order(alone: Workdir) -> None:
    """While failed records are written down: the ledger balances, the sentence names the place, and a rerun goes on."""
    alone.write("a.ndjson", b"\n".join([*(make_text(f"k{i}") for i in range(100)), *[b'{"no":1}'] * 20_000]))
    with service(mutable_stream()) as served:
        # Files of more than 300 blocks cannot be written: to the program that is a disk without room.
        script = "ulimit -f 300; cdf-upsert load demo a.ndjson --json --run-dir run"
        done = alone.shell(script, **served.variables).exits(1)
        records = done.report["records"]
        done.says("cannot be written", "then give the same command again to go on")
        assert done.report["outcome"] == "error"
        assert records["read"] == sum(records.values()) - records["read"]
        again = alone.run("load", "demo", "a.ndjson", "--json", "--run-dir", "run", **served.variables).exits(
            3
        )
        sent = [record["externalId"] for batch in served.batches for record in batch]
    assert again.report["records"]["failed"] == 20_000
    assert again.report["records"]["accepted"] + again.report["records"]["alreadyAccepted"] == 100
    assert len(alone.lines("run/failed.ndjson")) == 20_000
    assert set(sent) == {f"k{i}" for i in range(100)}
