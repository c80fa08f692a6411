"""A large file is read by a process of its own, which says the same and never outlives the loader."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.errors import LoaderError
from cdf_upsert.sources.reading import APART_FROM, Input, open_input
from tests.records import make_text
from tests.workdir import Workdir

linux = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="looks for processes as Linux has them"
)


def large(path: Path, body_bytes: int = 10_000_000) -> Input:
    """The input, as if it were a large one."""
    return replace(open_input(str(path), body_bytes=body_bytes), apart_from=0)


def pieces_of(given: Input) -> list[Frames | Unframed]:
    async def run():
        reader = given.open(Position())
        found = []
        while (some := await reader.read()) is not None:
            found += some
        await reader.close()
        return found

    return asyncio.run(asyncio.wait_for(run(), 30))


def children() -> set[int]:
    """The processes that this one has started and not yet buried."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize("spaces", [["s"], ["s", "other"]])
def test_fit_records_come_with_their_keys(tmp_path, spaces):
    """What is checked where it is read need not be checked again: the keys stand beside the texts."""
    path = tmp_path / "a"
    keys = [(spaces[i % len(spaces)], f"k{i}é") for i in range(3000)]
    path.write_bytes(b"\n".join(make_text(key, space=space) for space, key in keys))
    pieces = pieces_of(large(path))
    assert [key for piece in pieces for key in piece.keys] == keys


def test_a_block_with_an_unfit_record_comes_without_keys(tmp_path):
    """One record that needs a closer look gets it where faults are told; the same for one over the ceiling."""
    path = tmp_path / "a"
    path.write_bytes(make_text("a") + b'\n{"space":"s"}\n')
    assert [piece.keys for piece in pieces_of(large(path))] == [None]
    path.write_bytes(make_text("a"))
    assert [piece.keys for piece in pieces_of(large(path, body_bytes=100))] == [None]
    assert [piece.keys for piece in pieces_of(large(path))] == [[("s", "a")]]


def test_only_large_files_that_are_checked_are_read_apart(tmp_path):
    """A small file is read sooner than a process starts; bytes that somebody listens to are read here."""
    path = tmp_path / "a"
    path.write_bytes(b"{}")
    assert not open_input(str(path), body_bytes=1000).is_read_apart
    os.truncate(path, APART_FROM)
    assert open_input(str(path), body_bytes=1000).is_read_apart
    assert not open_input(str(path)).is_read_apart
    assert not open_input(str(path), body_bytes=1000, on_bytes=print).is_read_apart
    assert not open_input("-", body_bytes=1000).is_read_apart


def test_without_a_second_process_the_first_one_reads(tmp_path, monkeypatch):
    """Where no interpreter can be started, nothing is lost but time."""
    path = tmp_path / "a"
    path.write_bytes(b"{}\n[]\n")
    for nothing in "", str(tmp_path / "missing"), "/bin/false":
        monkeypatch.setattr(sys, "executable", nothing)
        (frames,) = pieces_of(large(path))
        assert frames.texts == [b"{}", b"[]"]


@linux
def test_a_process_that_is_killed_ends_the_run(tmp_path):
    """A reader that ends before its input is not taken for the end of the input."""
    path = tmp_path / "a"
    path.write_bytes((make_text("b", pad=1000) + b"\n") * 20_000)

    async def run():
        before = children()
        reader = large(path).open(Position())
        assert await reader.read()
        (pid,) = children() - before
        os.kill(pid, signal.SIGKILL)
        while await reader.read() is not None:
            pass

    with pytest.raises(LoaderError, match=r"has ended before its time: rerun to go on\.$"):
        asyncio.run(asyncio.wait_for(run(), 30))


@linux
def test_who_stops_reading_ends_the_process(tmp_path):
    """A reader that is closed leaves no process behind."""
    path = tmp_path / "a"
    path.write_bytes((make_text("b", pad=1000) + b"\n") * 20_000)

    async def run():
        before = children()
        reader = large(path).open(Position())
        assert await reader.read()
        assert children() > before
        await reader.close()
        while children() != before:  # noqa: ASYNC110  Nobody tells when a process has ended.
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 30))


LOADER = """
import asyncio, sys
from msgspec.structs import replace
from cdf_upsert.core.framing import Position
from cdf_upsert.sources.reading import open_input

async def run():
    reader = replace(open_input(sys.argv[1], body_bytes=10_000_000), apart_from=0).open(Position())
    await reader.read()
    print("reading", flush=True)
    await asyncio.Event().wait()

asyncio.run(run())
"""


@linux
def test_a_loader_that_is_killed_leaves_no_process_behind(tmp_path):
    """After kill -9 of the loader the process that reads for it ends by itself."""
    path = tmp_path / "a"
    path.write_bytes((make_text("b", pad=1000) + b"\n") * 20_000)
    with subprocess.Popen([sys.executable, "-c", LOADER, str(path)], stdout=subprocess.PIPE) as loader:
        assert loader.stdout is not None
        assert loader.stdout.readline() == b"reading\n"
        tasks = Path(f"/proc/{loader.pid}/task").iterdir()
        (reader,) = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        loader.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{reader}").exists() and "Z" not in state_of(reader):
        assert time.monotonic() < until, "the process goes on without its loader"
        time.sleep(0.01)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_large_file_is_loaded_like_a_small_one(tmp_path):
    """Bad lines, older versions and good records of a file that is read apart settle as they should, in place."""
    shell = Workdir(tmp_path)
    lines = [make_text(f"k{i % 10_000}", i, pad=1000) for i in range(10_500)]
    lines[3_000] = b"{broken"
    lines[6_345] = b'{"space":"s","externalId":"x"}'
    shell.write("large.ndjson", b"\n".join(lines))
    assert (tmp_path / "large.ndjson").stat().st_size > APART_FROM
    done = shell.run(
        "load", "demo", "large.ndjson", "--sandbox", "--json", "--failed", "failed.ndjson"
    ).exits(3)
    assert done.report["records"]["read"] == 10_500
    assert done.report["records"]["failed"] == 2
    assert done.report["records"]["accepted"] + done.report["records"]["superseded"] == 10_498
    places = [one["source"] for one in shell.lines("failed.ndjson")]
    assert [(one["line"], one["record"]) for one in places] == [(3_001, 3_001), (6_346, 6_346)]
    for place, bad in zip(places, (lines[3_000], lines[6_345]), strict=True):
        data = (tmp_path / "large.ndjson").read_bytes()
        assert data[place["offset"] :][: place["length"]] == bad
