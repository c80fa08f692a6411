"""What people do today: cognite-sdk's `records.upsert`, 1000 records a call, with the SDK's own settings.

`python -m tests.benchmarks.baseline_sdk FILE PORT`. NDJSON is read line by line, a JSON array (`.json`)
whole. Two things differ from a plain script, neither of them about speed: the look for a newer SDK is off,
for it asks the internet; so is the notice that the SDK's records are of alpha maturity.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cognite.client import ClientConfig, CogniteClient, global_config
from cognite.client.credentials import Token
from cognite.client.data_classes.data_modeling.records import RecordWrite
from cognite.client.utils._experimental import FeaturePreviewWarning


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Give the records of the file as JSON objects."""
    with path.open("rb") as file:
        if path.suffix == ".json":
            yield from json.load(file)
        else:
            yield from map(json.loads, file)


def main(path: Path, port: int) -> None:
    """Upsert the whole file."""
    global_config.disable_pypi_version_check = True
    warnings.simplefilter("ignore", FeaturePreviewWarning)
    client = CogniteClient(
        ClientConfig(
            client_name="benchmark",
            project="bench",
            credentials=Token("benchmark"),
            base_url=f"http://127.0.0.1:{port}",
        )
    )
    records = read(path)
    while batch := [RecordWrite.load(record) for record in islice(records, 1000)]:
        client.data_modeling.records.upsert(batch, stream_id="bench")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
