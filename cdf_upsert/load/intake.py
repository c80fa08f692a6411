"""What a run reads: first the records that failed in the run before, then the inputs from where that run stood."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, assert_never

from msgspec import Struct

from cdf_upsert.core import events
from cdf_upsert.core.checking import Checked, Checker, failed_of
from cdf_upsert.core.framing import Frames, Position, Unframed
from cdf_upsert.core.standing import Again, Checkpoint, Standing
from cdf_upsert.load.ports import Books, Input


class Taken(Struct, frozen=True):
    """Checked records of one input; `position` is how many of its stored bytes are behind the reader."""

    checked: Checked
    path: str
    nbytes: int
    position: int


class Intake:
    """Reads and checks, block by block, and leaves out what is settled.

    `wait_for` awaits what may take long and is the only place where reading is cut off; `over` tells that nothing
    more is wanted.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[Input],
        standing: Standing,
        checker: Checker,
        books: Books,
        emit: Callable[[events.Event], None],
        wait_for: Callable[[Awaitable[Any]], Awaitable[Any]],
        over: Callable[[], bool],
    ) -> None:
        self._inputs = inputs
        self._standing = standing
        self._checker = checker
        self._books = books
        self._emit = emit
        self._wait_for = wait_for
        self._over = over
        self._ordinal = standing.start.ordinal

    async def blocks(self) -> AsyncIterator[Iterator[Taken]]:
        """The records, a block of bytes at a time, in input order."""
        async for lines in self._books.again():
            yield map(self._take_again, lines)
        start = self._standing.start
        for index in range(start.index, len(self._inputs)):
            position = start.position if index == start.index else Position()
            async for block in self._blocks_of(index, position):
                yield block
            if self._over():
                return
            self._books.passed(Checkpoint(self._ordinal, index + 1))

    async def _blocks_of(self, index: int, start: Position) -> AsyncIterator[Iterator[Taken]]:
        given = self._inputs[index]
        reader = given.open(start)
        opened = False
        try:
            while not self._over():
                pieces = await self._wait_for(reader.read())
                if not opened:  # Also when there is nothing in it.
                    self._emit(events.InputOpened(given.path, reader.format or "", reader.total_bytes))
                    opened = True
                if pieces is None:
                    break
                yield self._take(pieces, index, reader.position)
        finally:
            await reader.close()

    def _take(self, pieces: Sequence[Frames | Unframed], index: int, position: int) -> Iterator[Taken]:
        path = self._inputs[index].path
        for piece in pieces:
            first = self._ordinal
            self._ordinal += len(piece.texts) if isinstance(piece, Frames) else 1
            self._books.passed(Checkpoint(self._ordinal, index, piece.end))
            for begin, end in self._standing.settled.missing_from(first, self._ordinal):
                match piece:
                    case Unframed():
                        failed = Checked(failed=[failed_of(piece, begin)])
                        yield Taken(failed, path, piece.place.length, position)
                    case Frames():
                        frames = piece.part(begin - first, end - first)
                        checked = self._checker.check(frames, begin)
                        yield Taken(checked, path, sum(map(len, frames.texts)), position)
                    case _:
                        assert_never(piece)

    def _take_again(self, line: Again) -> Taken:
        """A record that failed in an earlier run: its line of the failed file tells where it first stood."""
        checked = self._checker.check(Frames("", [line.line], [0], [1], 1, Position()), line.ordinal)
        places = [*(one.place for one in checked.failed), *(one.place for one in checked.records)]
        return Taken(checked, places[0].path if places else "", 0, 0)
