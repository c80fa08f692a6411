"""A load from standard input goes on only on the same bytes, and reads all of them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.records import make_text


def load(directory: Path, texts: list[bytes], *, end: bytes = b"\n") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cdf_upsert", "load", "events", "-", "--sandbox", "--run-dir", "run"],
        cwd=directory,
        input=b"\n".join(texts) + end,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_records_behind_what_an_earlier_run_has_read_are_loaded(tmp_path):
    """After a run that read one record to the end and failed it, more records on the same pipe are not passed over."""
    bad = b'{"space":"s","externalId":"bad"}'
    assert load(tmp_path, [bad])[0] == 3
    code, said = load(tmp_path, [bad, *(make_text(str(i), i) for i in range(50))])
    assert code == 3, said
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["records"]["accepted"] == 50, said
    assert report["records"]["read"] == 51, said


def test_a_record_that_was_cut_off_is_not_passed_over(tmp_path):
    """A pipe that broke in the middle of a record and comes whole is another one, and is refused: going on would skip the rest."""
    good = make_text("a", 1)
    assert load(tmp_path, [good, good[:40]], end=b"")[0] == 3
    code, said = load(tmp_path, [good, good])
    assert code == 2, said
    assert f"it goes on after {len(good) + 41} bytes, where it ended then" in said
    assert "--fresh" in said
    assert len((tmp_path / "run" / "failed.ndjson").read_bytes().splitlines()) == 1


def test_other_bytes_are_refused_before_anything_is_sent(tmp_path):
    """A pipe that ends before the earlier run's end, or differs from it, ends with 2 and sends nothing."""
    bad = b'{"space":"s","externalId":"bad"}'
    good = [make_text(str(i), i) for i in range(50)]
    assert load(tmp_path, [bad, *good])[0] == 3
    for other in ([bad, *good[:-1]], [bad.replace(b"bad", b"bat"), *good]):
        code, said = load(tmp_path, other)
        assert code == 2, said
        assert "is not what it was in the earlier run" in said
