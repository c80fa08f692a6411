"""What the tests of the command line share: one sandbox, and a directory for each test."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.cli.service import variables_of
from tests.workdir import Workdir

_numbers = count(1)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Running]:
    """One sandbox for all tests, which remembers the order of writes."""
    with running(Options(keep_writes=True)) as served:
        yield served


@pytest.fixture
def stream() -> str:
    """A stream of one test's own."""
    return f"stream{next(_numbers)}"


@pytest.fixture
def shell(tmp_path: Path, sandbox: Running) -> Workdir:
    """A directory in which the sandbox is the target."""
    return Workdir(tmp_path, variables_of(sandbox))


@pytest.fixture
def alone(tmp_path: Path) -> Workdir:
    """A directory without a target."""
    return Workdir(tmp_path)
