"""Files, pipes and standard input are read without blocking, to the end or to where they break."""

import asyncio
import bz2
import contextlib
import gzip
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdf_upsert.core.framing import Format, Frames, Position
from cdf_upsert.errors import UsageError
from cdf_upsert.sources.blocks import BLOCK
from cdf_upsert.sources.reading import Input, open_input
from tests.sources.feeding import Framed

RECORDS = [b'{"n":%d,"text":"%s"}' % (number, b"x" * (number % 400)) for number in range(2000)]
NDJSON = b"\n".join(RECORDS) + b"\n"
ARRAY = b"[" + b",\n".join(RECORDS) + b"]"


def read_here(path, start=Position(), **options):  # noqa: B008  A position is frozen.
    """All that comes out of an input, and its reader."""
    return read_all(open_input(str(path), **options), start)


def read_apart(path, start=Position(), **options):  # noqa: B008  A position is frozen.
    """The same, by a process of its own."""
    given = replace(open_input(str(path), body_bytes=10_000_000, **options), apart_from=0)
    assert given.is_read_apart
    return read_all(given, start)


def read_all(given, start):
    async def run():
        framed = Framed()
        reader = given.open(start)
        while (pieces := await reader.read()) is not None:
            assert pieces
            framed.take(pieces)
        await reader.close()
        return framed, reader

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.fixture(params=[read_here, read_apart], ids=["here", "apart"])
def read(request):
    """Both ways to read give the same."""
    return request.param


@pytest.mark.parametrize("data", [NDJSON, ARRAY], ids=["ndjson", "json"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_file_of_any_kind_is_read_to_its_end(read, tmp_path, data, compress):
    """Whatever its name, a file gives its records, and at the end all of it is read."""
    path = tmp_path / "records.txt"
    path.write_bytes(compress(data))
    framed, reader = read(path)
    framed.assert_lies_in(data)
    assert framed.bare == RECORDS
    assert reader.format == (Format.NDJSON if data is NDJSON else Format.JSON)
    assert reader.position == reader.total_bytes == path.stat().st_size


@pytest.mark.parametrize("data", [b"", b"\n \n", gzip.compress(b"", mtime=0), b"[]"])
def test_an_input_with_nothing_in_it(read, tmp_path, data):
    """An empty input, or one of blanks, gives nothing and no fault."""
    path = tmp_path / "empty"
    path.write_bytes(data)
    framed, _ = read(path)
    assert (framed.texts, framed.faults) == ([], [])


def test_a_truncated_gzip_gives_what_came_before(read, tmp_path):
    """The records before the break are there; one fault tells the byte in both counts."""
    path = tmp_path / "a.ndjson.gz"
    stored = gzip.compress(NDJSON)
    path.write_bytes(stored[: len(stored) // 2])
    framed, _ = read(path)
    assert framed.bare == RECORDS[: len(framed.bare)]
    assert len(framed.bare) > 400
    (fault,) = framed.faults
    framed.assert_lies_in(NDJSON)
    end = fault.place.offset + fault.place.length
    assert fault.reason == (
        f"the gzip stream ends too early, at compressed byte {len(stored) // 2:,}, which is byte {end:,} of what it holds"
        "; nothing behind it is read"
    )


def test_a_broken_document_is_not_read_on(read, tmp_path):
    """Behind a break nothing is read: the rest of the file is left alone."""
    path = tmp_path / "a.json"
    path.write_bytes(b"[{}}" + b" " * (20 * BLOCK))
    framed, reader = read(path)
    assert framed.bare == [b"{}"]
    assert len(framed.faults) == 1
    assert reader.position < 10 * BLOCK


@pytest.mark.parametrize("data", [NDJSON, ARRAY], ids=["ndjson", "json"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("count", [1, 700, 1999, 2000])
def test_reading_goes_on_where_an_earlier_run_stood(read, tmp_path, data, compress, count):
    """From any position on the same records come out with the same numbers and places."""
    path = tmp_path / "a"
    path.write_bytes(compress(data))
    whole, _ = read(path)
    record, line, offset, text = whole.texts[count - 1]
    start = Position(offset + len(text) + 1, line, record)
    framed, _ = read(path, start)
    assert framed.texts == whole.texts[count:]


def test_a_plain_file_of_ndjson_is_read_from_the_position_on(tmp_path):
    """What an earlier run consumed of such a file is not read again."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(NDJSON)
    seen = []
    start = Position(len(NDJSON) - len(RECORDS[-1]) - 1, 1999, 1999)
    framed, reader = read_here(path, start, on_bytes=seen.append)
    assert framed.bare == RECORDS[-1:]
    assert b"".join(seen) == RECORDS[-1] + b"\n"
    assert reader.position == len(NDJSON)


@pytest.mark.parametrize("data", [NDJSON, ARRAY], ids=["ndjson", "json"])
def test_a_file_that_became_shorter_is_refused(read, tmp_path, data):
    """A file that ends before the position to start from is told to be another one."""
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="--fresh"):
        read(path, Position(len(data) + 10, 9000, 9000))


def test_the_bytes_are_told_as_they_pass(tmp_path):
    """All uncompressed bytes are told, in order."""
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(NDJSON))
    seen = []
    read_here(path, on_bytes=seen.append)
    assert b"".join(seen) == NDJSON


def test_the_bytes_behind_a_broken_place_are_told(tmp_path):
    """How many bytes are told does not depend on where the reading was cut into pieces: all of them are."""
    path = tmp_path / "a"
    path.write_bytes(ARRAY[:-1] + b",] " + bytes(1_000_000))
    seen = []
    framed, _ = read_here(path, on_bytes=seen.append)
    assert len(framed.bare) == len(RECORDS)
    assert len(framed.faults) == 1
    assert b"".join(seen) == path.read_bytes()


def test_a_format_that_is_given_is_kept(read, tmp_path):
    """The format that the user names goes before what the content looks like."""
    path = tmp_path / "a"
    path.write_bytes(b"[1,\n2]")
    assert read(path, fmt=Format.NDJSON)[0].bare == [b"[1,", b"2]"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, r"^.*/a does not exist: check the path\.$"),
        (Path.mkdir, r"^.*/a is a directory: name the files in it, for example .*/a/\*\.$"),
        (lambda path: path.symlink_to(path), r"^.*/a cannot be read \(.*\): check the path"),
    ],
)
def test_an_input_that_cannot_be_read_is_told_before_anything_else(tmp_path, make, sentence):
    """A missing file, a directory and a link in a circle are told in a sentence with the path and the mend."""
    path = tmp_path / "a"
    make(path)
    with pytest.raises(UsageError, match=sentence):
        open_input(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    """A file without the permission to read it is told with the mend."""
    path = tmp_path / "a"
    path.touch(mode=0o000)
    with pytest.raises(UsageError, match="may not be read: give yourself permission"):
        open_input(str(path))


def test_a_path_that_is_none():
    """A path that no file can have is a sentence, too."""
    with pytest.raises(UsageError, match="cannot be read"):
        open_input("a\0b")


@contextlib.contextmanager
def fifo(path):
    """A named pipe: how to write to it, and how to close it."""
    os.mkfifo(path)
    # Opened for both, so that opening waits for nobody.
    with os.fdopen(os.open(path, os.O_RDWR), "wb", buffering=0) as pipe:
        yield pipe.write, pipe.close


@pytest.mark.parametrize("compress", [False, True])
def test_a_slow_pipe_delivers_each_line_as_it_comes(read, tmp_path, compress):
    """A line that was written is a record, though the writer waits for it before it writes the next one."""

    async def run():
        with fifo(tmp_path / "pipe") as (write, close):
            reader = open_input(str(tmp_path / "pipe")).open(Position())
            assert reader.total_bytes is None
            for text in RECORDS[:5]:
                write(gzip.compress(text + b"\n") if compress else text + b"\n")
                (frames,) = await asyncio.wait_for(reader.read(), 10)
                assert frames.texts == [text]
            close()
            assert await asyncio.wait_for(reader.read(), 10) is None

    asyncio.run(run())


def test_a_read_that_is_cancelled_loses_nothing(read, tmp_path):
    """Who stops waiting for the next records gets them when they ask again."""

    async def run():
        with fifo(tmp_path / "pipe") as (write, close):
            reader = open_input(str(tmp_path / "pipe")).open(Position())
            for text in RECORDS[:5]:
                waiting = asyncio.ensure_future(reader.read())
                await asyncio.sleep(0)
                waiting.cancel()
                write(text + b"\n")
                (frames,) = await asyncio.wait_for(reader.read(), 10)
                assert isinstance(frames, Frames)
                assert frames.texts == [text]
            close()
            assert await asyncio.wait_for(reader.read(), 10) is None

    asyncio.run(run())


def test_what_is_read_ahead_is_bounded(read, tmp_path):
    """Who does not ask for records keeps the file from being read on."""
    path = tmp_path / "a"
    path.write_bytes(NDJSON * 60)

    async def run():
        reader = open_input(str(path)).open(Position())
        first = await reader.read()
        assert first is not None
        await asyncio.to_thread(threading.Event().wait, 0.2)
        assert len(reader._inbox) <= 5
        await reader.close()
        assert await reader.read() is None

    asyncio.run(run())


def test_a_read_error_in_the_middle_is_one_fault(read, tmp_path):
    """An input that fails while it is read is one fault that tells the byte and the cause."""
    path = tmp_path / "a"
    path.write_bytes(b"{}\n")
    given = open_input(str(path))
    path.unlink()
    path.mkdir()  # What was a file is a directory by the time it is read: reading it is an error.

    async def run():
        framed = Framed()
        reader = given.open(Position())
        while (pieces := await reader.read()) is not None:
            framed.take(pieces)
        return framed

    framed = asyncio.run(run())
    (fault,) = framed.faults
    assert fault.reason == "reading failed at byte 0 (Is a directory); nothing behind it is read"
    assert framed.texts == []


SCRIPT = """
import asyncio, sys
from cdf_upsert.core.framing import Position
from cdf_upsert.sources.reading import open_input

given = open_input("-")

async def run():
    reader = given.open(Position())
    while (pieces := await asyncio.wait_for(reader.read(), float(sys.argv[1]))) is not None:
        for piece in pieces:
            print(given.name, len(piece.texts), flush=True)

try:
    asyncio.run(run())
except TimeoutError:
    print("tired of waiting")
"""


def test_standard_input_is_read_to_its_end():
    """`-` reads standard input, compressed or not."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "20"],
        input=gzip.compress(b"{}\n{}\n"),
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == b"standard input 2\n"


PAST = """
import asyncio, sys
from cdf_upsert.core.framing import Position
from cdf_upsert.sources.reading import open_input

async def run():
    seen = []
    reader = open_input("-", on_bytes=seen.append).open(Position(6, 2, 2))
    print([piece.texts for piece in await reader.read()], await reader.read(), b"".join(seen))

asyncio.run(run())
"""


def test_standard_input_is_read_past_and_never_sought(tmp_path):
    """All bytes of standard input are told, also when it is a file and an earlier run consumed some of it."""
    path = tmp_path / "a"
    path.write_bytes(b"{}\n{}\n[3]\n")
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", PAST], stdin=file, capture_output=True, timeout=30, check=True
        )
    assert done.stdout == b"[[b'[3]']] None b'{}\\n{}\\n[3]\\n'\n"


def test_a_crash_of_the_reading_thread_is_raised_where_it_is_waited_for(read, tmp_path):
    """What goes wrong in the thread, and is not the input's fault, does not leave anybody waiting."""
    path = tmp_path / "a"
    path.write_bytes(b"{}")

    async def run():
        reader = Input(str(path), size="no number").open(Position(1, 1, 1))
        await asyncio.wait_for(reader.read(), 10)

    with pytest.raises(TypeError):
        asyncio.run(run())


def test_a_pipe_that_stays_open_does_not_hold_up_the_end(read):
    """A process that has done its work ends, though standard input is still open and somebody waits for it."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "0.5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == b"standard input 1\ntired of waiting\n"


def test_a_closed_standard_input_is_told():
    """Without standard input `-` is refused with a sentence."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -c "$0" 1 <&-', SCRIPT],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (
        b"Standard input cannot be read (Bad file descriptor): pipe records into it, or name a file."
        in done.stderr
    )
