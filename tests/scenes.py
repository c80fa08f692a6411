"""Scripted runs for the screen: events at fixed times, and the moments at which it is looked at.

Run as a module it plays one scene on its own standard error, so that a test can watch it in a terminal.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TextIO

from cdf_upsert.core.events import (
    BatchReplied,
    BatchSent,
    BlockRead,
    Ended,
    Event,
    InputOpened,
    Notice,
    Outcome,
    Paced,
    Retrying,
    Settled,
    Waiting,
)
from cdf_upsert.core.report import Report, RunFacts, make_report
from cdf_upsert.core.showing import LogFormat, Progress, Showing, Verbosity
from cdf_upsert.core.tally import Tally
from cdf_upsert.screen import Screen
from tests.core.test_grouping import a_failure

DAWN = datetime(2026, 5, 28, 12, 0, tzinfo=UTC)
FAILED = [
    a_failure("Unknown property '[b]'", ordinal=11, key=("weather", "EWR-2")),
    a_failure("Unknown property 'a'", ordinal=41, key=("weather", "EWR-3")),
]

Step = float | Event
"""An event, or a moment at which the screen is ticked."""

BEGUN: list[Step] = [
    InputOpened("a.ndjson", "ndjson", 1_000_000),
    BlockRead("a.ndjson", 20_000, 480_000, 500_000),
    BatchSent(1, 1000, 24_000, retry=False, under_way=1),
    BatchSent(1, 1000, 24_000, retry=False, under_way=2),
    BatchSent(2, 1000, 24_000, retry=False, under_way=3),
    Settled(8, accepted=9_998, failed=FAILED),
    10.0,
]
WAITS: list[Step] = [*BEGUN, Waiting(18, "quota spent", 280), 28.0]
TELLS: list[Step] = [
    InputOpened("a.ndjson", "ndjson", 1_000_000),
    Notice(1, "The journal stands in .cdf-upsert/[demo]."),
    Retrying(2, 5, "unavailable", "busy\x1b[2J", 1.25),
    BatchReplied(3, 202, 0.125, 24_000, 2, "r-1"),
    BatchReplied(3, None, 60, 24_000, 1),
    Waiting(4, "quota\x07 spent", 256),
]
ENDS: list[Step] = [
    *BEGUN,
    Settled(19, accepted=9_997, superseded=3),
    Ended(20, Outcome.FAILURES, "", 0),
]
QUICK: list[Step] = [
    InputOpened("a.ndjson", "ndjson", 100),
    0.1,
    BlockRead("a.ndjson", 1, 99, 100),
    Settled(0.2, accepted=1),
    0.3,
    Ended(0.3, Outcome.COMPLETE, "", 0),
]
LONG: list[Step] = [*BEGUN, *(float(second) for second in range(11, 601))]

SCENES = {
    "begun": BEGUN,
    "waits": WAITS,
    "tells": [*TELLS[:1], 0.5, *TELLS[1:], 10.0],
    "ends": ENDS,
    "quick": QUICK,
    "long": LONG,
}
COMMAND = ["cdf-upsert", "load", "demo"]


class Stage:
    """A screen, its tally and a clock that only the script moves."""

    def __init__(
        self, stream: TextIO | None, showing: Showing | None = None, *, term: str = "xterm", limit: int = 4
    ) -> None:
        self.now = 0.0
        self.tally = Tally(0.0)
        self.tally.hear(Paced(0.0, limit, None))
        self.screen = Screen(
            showing or Showing(),
            self.tally,
            stream,
            environment={"TERM": term},
            wall=lambda: DAWN + timedelta(seconds=self.now),
        )

    def play(self, steps: list[Step]) -> None:
        for at, step in _timed(steps):
            self.now = at
            if isinstance(step, float):
                self.screen.tick(step)
            else:
                self.tally.hear(step)
                self.screen.hear(step)

    def report(self) -> Report:
        facts = RunFacts("demo-1", "demo", "p", "https://example.org", DAWN, DAWN, "demo/failed.ndjson")
        return make_report(self.tally, facts)


def _timed(steps: list[Step]) -> Iterator[tuple[float, Step]]:
    now = 0.0
    for step in steps:
        now = step if isinstance(step, float) else getattr(step, "at", now)
        yield now, step


def main() -> None:
    """Play the scene of the first argument; `ends` is told to its end, others are left as they stand."""
    name, progress, log_format, verbosity = sys.argv[1:]
    showing = Showing(Progress(progress), LogFormat(log_format), Verbosity(verbosity))
    stage = Stage(sys.stderr, showing, term=os.environ.get("TERM", ""))
    stage.play(SCENES[name])
    if stage.tally.ended is not None:
        stage.screen.tell(stage.report(), COMMAND)
    sys.stdout.write(f"{'rich' in sys.modules}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
