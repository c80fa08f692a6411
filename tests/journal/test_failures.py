"""The failed file: what its lines say, and what becomes of a file that holds records."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.checking import Checker
from cdf_upsert.core.framing import Frames, Place, Position
from cdf_upsert.core.record import Failed, Failure, FailureClass
from cdf_upsert.errors import UsageError
from cdf_upsert.journal.failures import FailedFile, keep_aside, line_of, mark_of, marked, usable
from tests.journal.making import make_failed, make_unreadable
from tests.records import make_record, make_text

PLACE = Place("a.ndjson.gz", 1042, 1042, 477811, 458)


def checked_again(line: bytes):
    """What the checker makes of a line of the failed file, given as an input."""
    return Checker(10_000_000).check(Frames("failed.ndjson", [line], [0], [1], 1, Position()), 5)


def test_the_line_of_a_rejected_record() -> None:
    """The line is the one that the design fixes: error, source, and the record's own bytes."""
    text = b'{"space":"s","externalId":"a",  "sources":[], "n":1.10,"big":123456789012345678901,"e":1e400}'
    failure = Failure(FailureClass.REJECTED, "Unknown container", 400, "request-7", 3)
    line = line_of(Failed(7, PLACE, failure, text, ("s", "a")))
    assert line == (
        b'{"error":{"class":"rejected","status":400,"message":"Unknown container","requestId":"request-7",'
        b'"attempts":3},"source":{"path":"a.ndjson.gz","record":1042,"line":1042,"offset":477811,"length":458},'
        b'"record":' + text + b"}"
    )


def test_what_is_not_known_is_null() -> None:
    """The keys of a line are always there."""
    failure = Failure(FailureClass.INVALID, "space: missing")
    place = Place("a.json", 3, None, 9, 2)
    line = json.loads(line_of(Failed(0, place, failure, b"{}")))
    assert line["error"] == {
        "class": "invalid",
        "status": None,
        "message": "space: missing",
        "requestId": None,
        "attempts": 0,
    }
    assert line["source"] == {"path": "a.json", "record": 3, "line": None, "offset": 9, "length": 2}
    assert line["record"] == {}


@pytest.mark.parametrize(
    ("text", "kind", "member", "value"),
    [
        (b'{"space":', FailureClass.UNREADABLE, "raw", '{"space":'),
        (b'{"space":5, junk', FailureClass.INVALID, "raw", '{"space":5, junk'),
        (b"\xff\xfe", FailureClass.UNREADABLE, "rawBase64", base64.b64encode(b"\xff\xfe").decode()),
        (b'{"a":"\xff"}', FailureClass.INVALID, "rawBase64", base64.b64encode(b'{"a":"\xff"}').decode()),
        (b"[1]", FailureClass.INVALID, "record", [1]),
        (b'{"a":\r\n {"b":1}\n}', FailureClass.INVALID, "record", {"a": {"b": 1}}),
    ],
)
def test_what_is_not_json_stands_under_another_name(
    text: bytes, kind: FailureClass, member: str, value: object
) -> None:
    """JSON stands under `record`, other text under `raw`, other bytes under `rawBase64`; each line is one line."""
    line = line_of(Failed(0, PLACE, Failure(kind, "why"), text))
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line)[member] == value
    assert len({"raw", "rawBase64", "record"} & set(json.loads(line))) == 1


def test_a_text_too_long_to_keep_is_left_out() -> None:
    """The line says where it stood and how long it was."""
    line = json.loads(line_of(Failed(0, PLACE, Failure(FailureClass.OVERSIZE, "too long"), None)))
    assert set(line) == {"error", "source"}


def test_a_name_that_is_not_utf_8_is_shown() -> None:
    """A path of any bytes does not break the line."""
    place = Place("\udcff.ndjson", 1, 1, 0, 2)
    line = json.loads(line_of(Failed(0, place, Failure(FailureClass.INVALID, "why"), b"{}")))
    assert line["source"]["path"] == "\\xff.ndjson"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_every_line_is_json_and_loses_nothing(text: bytes) -> None:
    """Whatever a record that could not be read is made of, its line is JSON and gives back its bytes."""
    line = json.loads(line_of(make_unreadable(0, text)))
    found = line["raw"].encode() if "raw" in line else base64.b64decode(line["rawBase64"])
    assert found == text


def test_a_line_is_itself_an_input() -> None:
    """A load reads a failed file: the record comes back with its own bytes and the place where it first stood."""
    failed = make_failed(make_record(4, "a", "1.10"))
    (record,) = checked_again(line_of(failed)).records
    assert (record.text, record.key, record.place) == (failed.text, failed.key, failed.place)
    assert record.ordinal == 5


def test_a_marked_line_is_not_tried_again() -> None:
    """A record of which a newer version was accepted is stepped over when its line is an input."""
    line = marked(line_of(make_failed(make_record(4, "a"))), mark_of(Place("b.ndjson", 9, 9, 0, 1)))
    assert json.loads(line)["supersededBy"] == {"path": "b.ndjson", "record": 9, "line": 9}
    assert checked_again(line).superseded == [5]


def test_the_file_holds_what_it_was_told_last(tmp_path: Path) -> None:
    """Lines are added to what is there; a rewritten file holds exactly the new ones, for its owner only."""
    file = FailedFile(tmp_path / "failed.ndjson")
    assert file.append([b"1", b"2"])
    assert not file.append([b"3"])
    assert file.path.read_bytes() == b"1\n2\n3\n"
    file.rewrite(iter([b"2", b"x" * 300_000]))
    assert file.append([b"4"])
    assert file.path.read_bytes() == b"2\n" + b"x" * 300_000 + b"\n4\n"
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.rewrite(iter([]))
    assert list(tmp_path.iterdir()) == []


GROW = """
import resource, sys
from pathlib import Path
from cdf_upsert.journal.failures import FailedFile

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
file = FailedFile(Path(sys.argv[1]))
try:
    while True:
        file.append([b"x" * 70, b"y" * 70])
except OSError as error:
    print(error.strerror)
"""


def test_lines_that_do_not_fit_leave_no_part_of_them(tmp_path: Path) -> None:
    """Where a file cannot grow, what was added stays and what could not be added is not there at all."""
    path = tmp_path / "failed.ndjson"
    done = subprocess.run([sys.executable, "-c", GROW, str(path)], check=True, capture_output=True, text=True)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == (b"x" * 70 + b"\n" + b"y" * 70 + b"\n") * 70


def test_a_rewriting_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    """Until all lines are stored the file stays as it was, and nothing else is left behind."""
    file = FailedFile(tmp_path / "failed.ndjson")
    file.append([b"1"])

    def broken():
        yield b"2"
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  It is the one that was raised.
        file.rewrite(broken())
    assert file.path.read_bytes() == b"1\n"
    assert list(tmp_path.iterdir()) == [file.path]


def test_files_are_kept_under_their_runs_name(tmp_path: Path) -> None:
    """A name that is taken gets a number: nothing is ever overwritten."""
    names = []
    for text in ("one", "two", "three"):
        (tmp_path / "failed.ndjson").write_text(text)
        names.append(keep_aside(tmp_path / "failed.ndjson", "run-1").name)
    assert names == ["failed.run-1.ndjson", "failed.run-1-2.ndjson", "failed.run-1-3.ndjson"]
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "three"]


def test_an_empty_file_is_not_kept(tmp_path: Path) -> None:
    """Only a file that holds records is kept aside."""
    file = FailedFile(tmp_path / "failed.ndjson")
    assert file.keep_aside("run-1") is None
    file.path.write_text("")
    assert file.keep_aside("run-1") is None


def test_places_where_no_failed_file_can_be(tmp_path: Path) -> None:
    """An input, a device, a missing directory: each is told before anything is sent."""
    given_input = tmp_path / "failed.ndjson"
    given_input.write_bytes(make_text("a"))
    link = tmp_path / "link.ndjson"
    link.symlink_to(given_input)
    for asked, told in [
        (given_input, "is an input of this load"),
        (link, "is an input of this load"),
        (Path("/dev/null"), "is no ordinary file"),
        (tmp_path / "nowhere" / "failed.ndjson", "does not exist: make it first"),
    ]:
        with pytest.raises(UsageError, match=told):
            usable(asked, [str(given_input)])
    assert usable(tmp_path / "new.ndjson", [str(given_input)]) == tmp_path / "new.ndjson"
