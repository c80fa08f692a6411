"""What the tests of the settings share: variables that are whole, and what becomes of them."""

from pathlib import Path

import pytest

from cdf_upsert.errors import UsageError
from cdf_upsert.settings import Settings, resolve

ENTRA = "https://login.microsoftonline.com"
TARGET = {"CDF_PROJECT": "acme", "CDF_CLUSTER": "westeurope-1"}
TOKEN = {**TARGET, "CDF_TOKEN": "t0ken-t0ken"}
CLIENT = {**TARGET, "IDP_CLIENT_ID": "me", "IDP_CLIENT_SECRET": "s3cret-s3cret", "IDP_TENANT_ID": "tenant"}
PERSON = {**TARGET, "LOGIN_FLOW": "interactive", "IDP_CLIENT_ID": "me", "IDP_TENANT_ID": "tenant"}


def settings(directory: Path, environment=None, flags=None, **how) -> Settings:
    state = {"CDF_UPSERT_STATE_DIR": str(directory / "state")}
    return resolve(flags or {}, state | (environment or {}), directory, **how)


def faults(directory: Path, environment=None, flags=None, **how) -> str:
    with pytest.raises(UsageError) as caught:
        settings(directory, environment, flags, **how)
    return str(caught.value)
