"""Seed files: spaces, containers and streams that exist from the start, as the API takes them.

{"spaces": [{"space": "plant"}],
 "containers": [{"space": "plant", "externalId": "events", "usedFor": "record", "properties": {...}}],
 "streams": [{"externalId": "events", "settings": {"template": {"name": "BasicLiveData"}}}]}
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from cdf_upsert.sandbox.problem import SandboxError
from cdf_upsert.sandbox.world import Refusal, World


class _Seed(Struct, forbid_unknown_fields=True):
    spaces: list[Raw] = []
    containers: list[Raw] = []
    streams: list[Raw] = []


def sow(paths: Iterable[Path], world: World, now: int) -> None:
    """Make what seed files name; streams that exist already are left as they are.

    Raises:
        SandboxError: a file cannot be read, or the API would refuse what stands in it.
    """
    for path in paths:
        try:
            seed = msgspec.json.decode(path.read_bytes(), type=_Seed)
            if seed.spaces:
                world.models.apply_spaces(_items(seed.spaces), now)
            if seed.containers:
                world.models.apply_containers(_items(seed.containers), now)
            for stream in seed.streams:
                _sow_stream(stream, world, now)
        except OSError as error:
            raise SandboxError(f"The seed file {path} cannot be read: {error.strerror}.") from error
        except msgspec.DecodeError as error:
            raise SandboxError(f"The seed file {path} is not usable: {error}.") from error
        except Refusal as refusal:
            raise SandboxError(f"The seed file {path} is not usable: {refusal.message}") from refusal


def _items(items: Iterable[Raw]) -> bytes:
    return b'{"items":[' + b",".join(items) + b"]}"


def _sow_stream(stream: Raw, world: World, now: int) -> None:
    try:
        world.streams.create(_items([stream]), now)
    except Refusal as refusal:
        if refusal.status != 409:
            raise
