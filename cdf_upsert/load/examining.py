"""Reading and checking without sending: `check`, and `load --dry-run`."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from cdf_upsert.core import events
from cdf_upsert.core.checking import Checked, Checker, failed_of
from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.core.packing import Packed, Packer
from cdf_upsert.core.record import Failed
from cdf_upsert.load.ports import Input


class Examined(Struct):
    """What the inputs hold: the records that are fit to be sent, and the requests they would take."""

    good: int = 0
    requests: int = 0
    nbytes: int = 0


async def examine(
    inputs: Sequence[Input],
    *,
    checker: Checker,
    packer: Packer,
    emit: Callable[[events.Event], None],
    write_failed: Callable[[Sequence[Failed]], None],
    found: Examined,
) -> None:
    """Read and check all inputs; failed records are handed to `write_failed`.

    `found` is filled as it goes, so that it holds what was seen when the task is cancelled, which may be done at any
    time.
    """
    loop = asyncio.get_running_loop()
    ordinal = 0

    def count(packed: Packed) -> None:
        found.requests += 1
        found.nbytes += packed.nbytes

    def take(path: str, position: int, piece: Frames | Unframed) -> None:
        nonlocal ordinal
        checked, nbytes = _checked(checker, piece, ordinal)
        ordinal += checked.count
        found.good += len(checked.records)
        for batch in packer.add(checked.records):
            count(batch)
        emit(events.BlockRead(path, checked.count, nbytes, position))
        if checked.failed or checked.superseded:
            write_failed(checked.failed)
            emit(events.Settled(loop.time(), superseded=len(checked.superseded), failed=checked.failed))

    for given in inputs:
        reader = given.open(Position())
        opened = False
        try:
            pieces: Sequence[Frames | Unframed] | None = ()
            while pieces is not None:
                pieces = await reader.read()
                if not opened:  # Also when there is nothing in it.
                    emit(events.InputOpened(given.path, reader.format or "", reader.total_bytes))
                    opened = True
                for piece in pieces or ():
                    take(given.path, reader.position, piece)
                await asyncio.sleep(0)
        finally:
            await reader.close()
    if packer.waiting:
        count(packer.flush())


def _checked(checker: Checker, piece: Frames | Unframed, ordinal: int) -> tuple[Checked, int]:
    if isinstance(piece, Frames):
        return checker.check(piece, ordinal), sum(map(len, piece.texts))
    return Checked(failed=[failed_of(piece, ordinal)]), piece.place.length
