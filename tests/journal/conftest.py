"""Journals are tested in memory: what a disk takes for its fsync is not what these tests are about."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journal.making import FAST


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST) as name:
        yield Path(name)
