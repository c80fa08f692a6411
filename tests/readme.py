"""The README as the tests read it: its blocks, its tables, what stands in backticks."""

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text()

PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)

INSTALLS, SERVES, SIGNS_IN, FAILED_LINE = "installs", "serves", "a person signs in", "a failed line"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the comment above it, and the number of its first line."""

    language: str
    mark: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}"


def blocks(language: str, *marks: str) -> list[Block]:
    """The blocks of one language that bear one of the marks; without marks, those that bear none."""
    fence = re.compile(r"(?:^<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [
        Block(one[2], one[1] or "", README[: one.start(3)].count("\n") + 1, one[3])
        for one in fence.finditer(README)
    ]
    return [one for one in found if one.language == language and one.mark in (marks or ("",))]


def table(header: str) -> list[list[str]]:
    """The cells of the table whose first header is this."""
    found = re.search(rf"^\| {re.escape(header)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found is not None, header
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def ticked(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)
