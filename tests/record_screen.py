"""Records what a load shows on a terminal, as the picture for the README: `python -m tests.record_screen`.

The real command runs in a pseudo-terminal on the samples, many times over so that there is a bar to watch.
The picture holds the bar as it stood about half-way, and what was left on the screen at the end.
"""

import io
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.terminal import run_in_terminal

SAMPLES = Path(__file__).parent.parent / "samples"
COMMAND = ["cdf-upsert", "load", "--sandbox", "demo", "weather.ndjson"]
COLUMNS = 100
COPIES = 150

_REDRAWN = re.compile(rb"(?:\r|\x1b\[1A|\x1b\[2K)*\x1b\[2K")
_MOVES = re.compile(r"\x1b\[\??[\d;]*[A-HJKSTfhl]")
_SHARE = re.compile(r"(\d+)%")
_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def enlarge(folder: Path) -> None:
    """Write the weather many times over, each time under other keys, with some broken lines among them."""
    broken = b"".join((SAMPLES / "broken.ndjson").read_bytes().splitlines(keepends=True)[:8])
    weather = (SAMPLES / "weather.ndjson").read_bytes()
    with (folder / "weather.ndjson").open("wb") as file:
        for copy in range(COPIES):
            file.write(weather.replace(b'"weather:', b'"weather:%d:' % copy))
            if copy % (COPIES // 5) == 0:
                file.write(broken)


def halfway(frames: Sequence[str]) -> str:
    """Return the frame whose share is nearest to a half.

    Raises:
        SystemExit: the load was over before a bar was drawn.

    """
    shares = [(int(found[1]), frame) for frame in frames if (found := _SHARE.search(frame))]
    if not shares:
        raise SystemExit("The load was over before a bar was drawn: raise COPIES.")
    return min(shares, key=lambda entry: abs(entry[0] - 50))[1]


def picture(written: bytes, command: Sequence[str]) -> str:
    """Return the picture of all that `command` has written, as SVG that loads nothing from elsewhere."""
    frames = [_MOVES.sub("", frame.decode()).replace("\r", "") for frame in _REDRAWN.split(written)]
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    for text in (f"$ {' '.join(command)}", halfway(frames[:-1]), "", frames[-1].strip("\n")):
        console.print(Text.from_ansi(text), soft_wrap=False, highlight=False)
    svg = console.export_svg(title="cdf-upsert", unique_id="screen")
    return _COMMENT.sub("", _FONT.sub("", svg))


def main(target: Path) -> None:
    """Run the command and write the picture to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        enlarge(Path(folder))
        script = Path(sys.executable).parent / COMMAND[0]
        code, written = run_in_terminal([str(script), *COMMAND[1:]], columns=COLUMNS, directory=folder)
    if code not in (0, 3):
        raise SystemExit(written.decode())
    target.write_text(picture(written, COMMAND), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES / "screen.svg")
