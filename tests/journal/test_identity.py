"""What makes two command lines the same load."""

import contextlib
import os
from pathlib import Path

import pytest

from cdf_upsert.errors import UsageError
from cdf_upsert.journal.identity import Identity, default_directory, identify
from tests.journal.making import NOW, make_input, make_plan


def test_the_same_command_line_has_the_same_directory(tmp_path: Path) -> None:
    """Target, stream, format and the inputs' paths name the directory; their content does not."""
    first = make_input(tmp_path)
    before = default_directory(make_plan(first), NOW, 1)
    make_input(tmp_path, "changed")
    assert default_directory(make_plan(first), NOW, 2) == before
    assert before.parent == Path(".cdf-upsert")
    assert before.name.startswith("events-")
    second = make_input(tmp_path, name="b.ndjson")
    others = [
        make_plan(first, stream="other"),
        make_plan(first, project="q"),
        make_plan(first, fmt="json"),
        make_plan(second),
        make_plan(first, second),
        make_plan(second, first),
        identify(base_url="https://b.test", project="p", stream="events", inputs=[first]),
    ]
    assert len({default_directory(one, NOW, 1) for one in [make_plan(first), *others]}) == len(others) + 1


def test_a_relative_path_is_the_absolute_one(tmp_path: Path) -> None:
    """The same file is the same input, wherever the command is given."""
    path = make_input(tmp_path)
    with contextlib.chdir(tmp_path):
        assert make_plan("a.ndjson") == make_plan(path)


def test_what_is_read_only_once_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """A load from standard input or a pipe is a new one each time, named after time and dice."""
    assert default_directory(make_plan("-"), NOW, 0xABCDE) == Path(".cdf-upsert/events-20260528T101500Z-bcde")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert make_plan(str(pipe)).streamed
    assert not make_plan(make_input(tmp_path)).streamed


@pytest.mark.parametrize("at", [0, 100, 65_535, 200_000 - 65_536, 199_999])
def test_a_change_of_head_or_tail_is_seen_though_size_and_time_are_the_same(tmp_path: Path, at: int) -> None:
    """The first and the last 64 KiB count, byte by byte."""
    text = bytearray(b"x" * 200_000)
    path = tmp_path / "a"
    path.write_bytes(text)
    os.utime(path, ns=(5, 5))
    before = make_plan(str(path))
    text[at] = ord("y")
    path.write_bytes(text)
    os.utime(path, ns=(5, 5))
    assert make_plan(str(path)) != before


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 100_000, 131_072, 131_073])
def test_every_byte_of_a_short_input_counts(tmp_path: Path, size: int) -> None:
    """Up to 128 KiB head and tail are the whole input, and time and size are part of it anyway."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    os.utime(path, ns=(5, 5))
    (one,) = make_plan(str(path)).inputs
    assert one.fingerprint is not None
    assert (one.fingerprint.size, one.fingerprint.modified) == (size, 5)
    if 0 < size <= 131_072:
        path.write_bytes(b"x" * (size // 2) + b"y" + b"x" * (size - size // 2 - 1))
        os.utime(path, ns=(5, 5))
        assert make_plan(str(path)).inputs != (one,)


def test_a_missing_input_is_told(tmp_path: Path) -> None:
    """The sentence names the file."""
    with pytest.raises(UsageError, match=r"nowhere\.ndjson cannot be read \(No such file or directory\)"):
        make_plan(str(tmp_path / "nowhere.ndjson"))


def test_a_name_that_is_not_utf_8_can_be_written_down(tmp_path: Path) -> None:
    """A file whose name is any bytes has an identity that goes through the journal."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.ndjson")
    Path(path).write_bytes(b"{}")
    plan = make_plan(path)
    assert plan.inputs[0].path.endswith("/\\xff.ndjson")
    assert isinstance(plan, Identity)
    assert len(plan.digest) == 12
