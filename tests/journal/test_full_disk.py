"""A run directory that can hold no more: the run ends with a sentence, and the next one goes on."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdf_upsert.core.standing import Checkpoint
from tests.journal.making import make_input, make_plan, open_run

FILL = """
import asyncio, json, resource, sys
from pathlib import Path
from cdf_upsert.core.events import Outcome
from cdf_upsert.core.standing import Checkpoint, Settlement
from cdf_upsert.errors import LoaderError
from tests.journal.making import NOW, intend, make_failed, make_plan, open_run
from tests.records import make_record

source, directory, limit, failing = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "failing"
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
journal = open_run(make_plan(source), directory)

async def fill():
    for i in range(2000):
        record = make_record(i, f"{i * 0x9E3779B97F4A7C15:x}", pad=1000)
        try:
            await intend(journal, i + 1, [record], [])
            journal.passed(Checkpoint(i + 1))
            await journal.settle(
                Settlement(() if failing else [record], failed=[make_failed(record)] if failing else (), closed=i + 1)
            )
        except LoaderError as error:
            try:
                await intend(journal, 9999, [record], [])
            except LoaderError as second:
                return i, str(error), str(second)
    return 2000, "", ""

done, told, again = asyncio.run(fill())
journal.finish(Outcome.ERROR, told, NOW)
journal.close()
print(json.dumps([done, told, again]))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(path)], check=False, capture_output=True
    )
    if not made or made.returncode != 0:
        pytest.skip("only root can make a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(source: str, directory: Path, limit: int, how: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", FILL, source, str(directory), str(limit), how],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    count, told, again = json.loads(done.stdout)
    assert again == told, "nothing is written any more once something could not be"
    return count, told


def check_going_on(source: str, directory: Path, done: int, how: str) -> None:
    """All that was confirmed is known; of what was not, at most the one that was being written."""
    journal = open_run(make_plan(source), directory, "two")
    settled = len(journal.standing.settled)
    assert done <= settled <= done + 1
    assert journal.standing.start == Checkpoint(settled)
    assert journal.standing.again == (settled if how == "failing" else 0)
    assert journal.standing.already_accepted == (0 if how == "failing" else settled)
    if how == "failing":
        lines = journal.failed_path.read_bytes().splitlines()
        assert [json.loads(line)["source"]["record"] for line in lines] == list(range(1, settled + 1))
    journal.close()


@pytest.mark.parametrize("how", ["accepting", "failing"])
def test_a_disk_that_is_full_ends_the_run_in_good_order(tmp_path: Path, small_disk: Path, how: str) -> None:
    """No space left: the sentence names the file and the mend, and after room is made the load goes on."""
    source = make_input(tmp_path)
    done, told = fill(source, small_disk / "load", 0, how)
    assert 10 < done < 2000
    assert f"{small_disk / 'load'}/" in told
    assert told.endswith("make room there, then give the same command again to go on.")
    roomy = tmp_path / "roomy"
    shutil.copytree(small_disk / "load", roomy)
    check_going_on(source, roomy, done, how)


@pytest.mark.parametrize("how", ["accepting", "failing"])
def test_a_file_that_cannot_grow_ends_the_run_in_good_order(tmp_path: Path, how: str) -> None:
    """A write that fails for another reason is told likewise, and nothing that was confirmed is lost."""
    source = make_input(tmp_path)
    done, told = fill(source, tmp_path / "load", 600_000, how)
    assert 10 < done < 2000
    assert "cannot be written" in told
    assert told.endswith("then give the same command again to go on.")
    check_going_on(source, tmp_path / "load", done, how)
