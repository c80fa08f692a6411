"""What the engine needs of the world outside; handed in, so that the engine knows no file, socket or screen."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from cdf_upsert.core.comparing import Found
from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.record import Key, Record
from cdf_upsert.core.standing import Again, Checkpoint, Settlement


class Reader(Protocol):
    """One input, being read."""

    @property
    def format(self) -> str | None:
        """`ndjson` or `json`; known after the first read."""
        ...

    @property
    def total_bytes(self) -> int | None:
        """How many bytes there are to read, as stored; None when nobody knows."""
        ...

    @property
    def position(self) -> int:
        """How many of the stored bytes have been read."""
        ...

    async def read(self) -> Sequence[Frames | Unframed] | None:
        """The next records, in input order; None at the end of the input."""
        ...

    async def close(self) -> None:
        """Let go of the input."""
        ...


class Input(Protocol):
    """One input of a load."""

    @property
    def path(self) -> str:
        """The name that was given; `-` for standard input."""
        ...

    def open(self, start: Position) -> Reader:
        """Begin to read behind what is consumed at `start`."""
        ...


class Sender(Protocol):
    """Sends one batch, once."""

    async def send(self, records: Sequence[Record]) -> Reply | NoReply:
        """What came back. Raises only what ends the run (`errors.LoaderError`)."""
        ...

    async def compare(self, records: Sequence[Record]) -> dict[Key, Found] | None:
        """What is stored under the keys of at most 100 records, against the records; None: no answer came."""
        ...


class Books(Protocol):
    """The durable state of the load. Each call has survived a killed process when it returns."""

    def again(self) -> AsyncIterator[Sequence[Again]]:
        """The failed records of the earlier run that this run tries again, some at a time, in input order."""
        ...

    def foresee(self, batch: int, records: Sequence[Record], overtaking: Sequence[Record]) -> None:
        """`records` will be sent as batch number `batch`; it is enough to write that down when there is more to write.

        `overtaking` are those of them behind which an older version of their key waits.
        """
        ...

    async def intend(self, batch: int) -> None:
        """Batch number `batch` is about to be sent: it was foreseen, or a settlement has opened or will open it."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Write down final outcomes, and failed records into the failed file.

        Raises:
            LoaderError: there is no room, or the run directory cannot be written.
        """
        ...

    def passed(self, checkpoint: Checkpoint) -> None:
        """All records before `checkpoint` have been read; written down with the next settlement."""
        ...
