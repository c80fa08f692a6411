"""Compares what is stored with the last version of each key in the inputs."""

from cdf_upsert.verify.flow import AT_ONCE, Ask, Input, Reader, Verification
from cdf_upsert.verify.versions import LastVersions

__all__ = ["AT_ONCE", "Ask", "Input", "LastVersions", "Reader", "Verification"]
