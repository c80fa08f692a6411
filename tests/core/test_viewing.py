"""How a run stands at one moment."""

import pytest

from cdf_upsert.core.diagnosing import progress_diagnostic
from cdf_upsert.core.events import BlockRead, InputOpened, Settled, Waiting
from cdf_upsert.core.tally import Tally
from cdf_upsert.core.viewing import progress_line, view_of


def a_tally(*events) -> Tally:
    tally = Tally(0.0)
    for event in events:
        tally.hear(event)
    return tally


READ = [InputOpened("a", "ndjson", 100), BlockRead("a", 10, 50, 50)]


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (a_tally(), "0 accepted of 0 read, 0/s"),
        (a_tally(*READ), "0 accepted of 10 read, 0/s, 0% done"),
        (
            a_tally(*READ, Settled(5, accepted=4, failed=[])),
            "4 accepted of 10 read, 0.4/s, 20% done, 40 s left",
        ),
        (
            a_tally(*READ, Settled(5, already_accepted=2), Waiting(5, "quota spent", 100)),
            "0 accepted, 2 already accepted of 12 read, 0/s, 8% done, waiting: quota spent, next try in 1:30",
        ),
    ],
)
def test_a_line_of_progress(tally, line):
    """A line says what is known, and nothing of what is not."""
    view = view_of(tally, 10.0)
    assert progress_line(view) == line
    assert progress_diagnostic(view).message == f"{line}."


@pytest.mark.parametrize(
    ("at", "until", "told"),
    [
        (10.0, 10.9, None),
        (10.0, 12.0, "paced, next try in 0:02"),
        (8.0, 10.5, "paced, next try in 0:00"),
        (10.0, None, None),
        (9.0, None, "paced"),
    ],
)
def test_only_a_wait_that_is_felt_is_told(at, until, told):
    """A wait is told when it has lasted a second or will last one."""
    assert view_of(a_tally(Waiting(at, "paced", until)), 10.0).wait == told
