"""In which form a run is shown, and how often."""

from itertools import pairwise

import pytest

from cdf_upsert.core.showing import LogFormat, Progress, Showing, Verbosity, form_of, next_line_at

AUTO, BAR, PLAIN, NONE = Progress


@pytest.mark.parametrize(
    ("progress", "is_terminal", "term", "form"),
    [
        (AUTO, True, "xterm", BAR),
        (AUTO, True, "dumb", PLAIN),
        (AUTO, True, "", PLAIN),
        (AUTO, False, "xterm", PLAIN),
        (BAR, True, "xterm", BAR),
        (BAR, False, "xterm", PLAIN),
        (BAR, True, "dumb", PLAIN),
        (PLAIN, True, "xterm", PLAIN),
        (NONE, True, "xterm", NONE),
        (NONE, False, "", NONE),
    ],
)
def test_the_form_of_progress(progress, is_terminal, term, form):
    """A bar is drawn only where a cursor can move and no JSON lines stand; a quiet run shows nothing."""
    assert form_of(Showing(progress), is_terminal=is_terminal, term=term) is form
    json_form = form_of(Showing(progress, LogFormat.JSON), is_terminal=is_terminal, term=term)
    assert json_form is (PLAIN if form is BAR else form)
    quiet = Showing(progress, verbosity=Verbosity.QUIET)
    assert form_of(quiet, is_terminal=is_terminal, term=term) is NONE


def test_plain_lines_come_ever_more_seldom():
    """The first lines are ten seconds apart, the gaps never shrink, and none is longer than a minute."""
    times = [0.0]
    while times[-1] < 3600:
        times.append(next_line_at(times[-1], 0.0))
    gaps = [round(after - before, 6) for before, after in pairwise(times)]
    assert gaps[:3] == [10, 10, 10]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60
    assert len(gaps) < 80
