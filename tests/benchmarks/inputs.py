"""Writes the inputs of the benchmarks: `python -m tests.benchmarks.inputs FILE RECORDS`.

The records are those of `samples/weather.ndjson`, but of the whole year; for more than that the same hours
come again a year later. A file that ends in `.json` gets a JSON array, any other NDJSON. In a process of its
own, for a parent's peak of memory would be counted as its child's.
"""

import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from samples.remake import encode, read, weather


def records() -> Iterator[bytes]:
    """Give records without end, each with a key of its own."""
    hours = [encode(weather(cells)) for cells in read("weather.csv")]
    for year in count(2013):
        for hour in hours:
            yield hour.replace(b"2013-", b"%d-" % year)


def write(path: Path, amount: int) -> None:
    """Write `amount` records to `path`."""
    texts = islice(records(), amount)
    with path.open("wb", buffering=1 << 20) as file:
        if path.suffix == ".json":
            file.write(b"[\n" + next(texts))
            file.writelines(b",\n" + text for text in texts)
            file.write(b"\n]\n")
        else:
            file.writelines(text + b"\n" for text in texts)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
