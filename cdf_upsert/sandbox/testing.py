"""A running sandbox for tests with pytest.

In a `conftest.py`:

    pytest_plugins = ["cdf_upsert.sandbox.testing"]

and in a test:

    def test_my_job(cdf_sandbox):
        run_my_job(cdf_sandbox.address.environment())
        assert len(cdf_sandbox.records("events")) == 2500
        assert cdf_sandbox.traffic.count("upsert", 429) == 0

The sandbox listens on a free port of this machine, starts empty and forgets everything at the end of the
test. Other options, faults among them, come from a fixture of your own named `cdf_sandbox_options`:

    @pytest.fixture
    def cdf_sandbox_options():
        return Options(strict=True, chaos=0.1, seed=7)

PYTEST_DONT_REWRITE: there is no assertion here, and so this may be imported before pytest takes it up.
"""

from collections.abc import Iterator

import pytest

from cdf_upsert.sandbox.serve import Address, Options, Running, running

__all__ = ["Address", "Options", "Running", "cdf_sandbox", "cdf_sandbox_options", "running"]


@pytest.fixture
def cdf_sandbox_options() -> Options:
    """How `cdf_sandbox` is served; define your own to change it."""
    return Options()


@pytest.fixture
def cdf_sandbox(cdf_sandbox_options: Options) -> Iterator[Running]:
    """A running sandbox, empty at first and gone at the end."""
    with running(cdf_sandbox_options) as sandbox:
        yield sandbox
