"""The bar on a terminal, and the table of failures after it: all that needs rich."""

from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cdf_upsert.core import telling
from cdf_upsert.core.report import Report
from cdf_upsert.core.viewing import View
from cdf_upsert.core.wording import clock, count, one_line, rate
from cdf_upsert.screen.output import Output

WIDEST_BAR, NARROWEST_BAR = 40, 10
_BESIDE_BAR = len("  100%  0:00:00 left")


class Bar:
    """Two or three lines at the foot of a terminal, which are gone when it is closed.

    `view` tells how the run stands at a moment. Nothing is drawn but by `tick`: no thread, no timer.
    """

    def __init__(self, output: Output, view: Callable[[float], View]) -> None:
        self._view = view
        self._console = console_on(output)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep a line of the log; it appears above the bar with the next tick."""
        self._lines.append(line)

    def tick(self, now: float) -> None:
        """Draw."""
        if not self._live.is_started:
            self._live.start()
        drawn = draw(self._view(now), self._console.width, ascii_only=self._console.options.ascii_only)
        self._pass_on()
        self._live.update(drawn, refresh=True)

    def close(self) -> None:
        """Wipe the bar, show the cursor again, and say what is left to say."""
        self._live.stop()
        self._pass_on()

    def _pass_on(self) -> None:
        if self._lines:
            self._console.print(Text("\n".join(self._lines)), soft_wrap=True)
            self._lines.clear()


def console_on(output: Output) -> Console:
    """Return a console on `output`, as wide and as colourful as the terminal and NO_COLOR allow."""
    return Console(file=output, highlight=False)  # type: ignore[arg-type]  # rich asks for less than IO[str]


def draw(view: View, width: int, *, ascii_only: bool) -> Text:
    """Draw a view on lines of at most `width` columns."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if view.share is None:
        text.append(f"{clock(view.elapsed)} so far")
    else:
        _draw_bar(text, view.share, min(WIDEST_BAR, width - _BESIDE_BAR), ascii_only=ascii_only)
        text.append(f"{view.share:4.0%}", "bold")
        if view.left is not None:
            text.append(f"  {clock(view.left)} left")
    text.append(f"\n{view.accepted:,} accepted", "green")
    if view.already_accepted:
        text.append(f"  {view.already_accepted:,} already accepted", "dim")
    if view.failed:
        text.append(f"  {view.failed:,} failed", "red")
    text.append(f"  {rate(view.rate)}")
    requests = count(view.limit or view.under_way, "request")
    of_limit = "" if view.limit is None else f"{view.under_way} of "
    text.append(f"  {of_limit}{requests} under way", "dim")
    if view.pace is not None:
        text.append(f", {view.pace:.3g}/s", "dim")
    if view.throttled:
        text.append(f", {view.throttled:.1%} throttled", "dim")
    if view.wait is not None:
        text.append(f"\nWaiting: {one_line(view.wait)}", "yellow")
    return text


def _draw_bar(text: Text, share: float, width: int, *, ascii_only: bool) -> None:
    if width < NARROWEST_BAR:
        return
    done = int(share * width)
    text.append(("#" if ascii_only else "\N{BOX DRAWINGS HEAVY HORIZONTAL}") * done, "green")
    text.append(("-" if ascii_only else "\N{BOX DRAWINGS LIGHT HORIZONTAL}") * (width - done), "dim")
    text.append("  ")


def print_failures(output: Output, report: Report, *, sends: bool) -> None:
    """Print the groups of failures as a table."""
    shown, rest = telling.told(report, sends=sends)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("failed as", style="red", no_wrap=True)
    table.add_column("message", overflow="fold")
    table.add_column("for example", style="dim", overflow="fold")
    for failure in shown:
        cells = (
            f"{failure.count:,}",
            telling.why(failure),
            telling.message(failure),
            telling.example(failure),
        )
        table.add_row(*map(Text, cells))
    console = console_on(output)
    console.print(table)
    if rest is not None:
        console.print(Text(rest))
    console.print()
