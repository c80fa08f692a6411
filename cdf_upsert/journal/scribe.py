"""One thread that does all work of a journal; what is asked for together is committed together."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_Answer = tuple["asyncio.Future[object]", object, BaseException | None]


@dataclass(frozen=True, slots=True)
class _Work:
    """`do` is to be done; who waits learns of it through `future` when it is committed."""

    do: Callable[[], object]
    future: "asyncio.Future[object] | Future[object]"


class Scribe:
    """Does works in the order in which they are asked for, and commits as many at once as have come by then.

    `commit` makes lasting what the works before it did, `undo` forgets it. After an error nothing is done any
    more: what the memory knows and what is written down may differ. `told` says an error to the user.
    """

    def __init__(
        self, commit: Callable[[], None], undo: Callable[[], None], told: Callable[[Exception], Exception]
    ) -> None:
        self._commit = commit
        self._undo = undo
        self._told = told
        self._works: SimpleQueue[_Work | None] = SimpleQueue()
        self.error: Exception | None = None
        # A daemon: a second signal leaves at once.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], T]) -> T:
        """Come back when `work` is done and lasts."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._works.put(_Work(work, future))  # type: ignore[arg-type]  # Its result is what `work` returns.
        return await future

    def do_now(self, work: Callable[[], T]) -> T:
        """The same for a caller outside of the event loop, who is blocked until then."""
        future: Future[T] = Future()
        self._works.put(_Work(work, future))  # type: ignore[arg-type]  # As above.
        return future.result()

    def stop(self) -> None:
        """End the thread after what it was asked for."""
        self._works.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._works.get()) is not None:
            works = [first]
            last = False
            while not last:
                try:
                    work = self._works.get_nowait()
                except Empty:
                    break
                if work is None:
                    last = True
                else:
                    works.append(work)
            self._do(works)
            if last:
                return

    def _do(self, works: Sequence[_Work]) -> None:
        results: list[object] = []
        if self.error is None:
            try:
                results = [work.do() for work in works]
                self._commit()
            except Exception as error:  # noqa: BLE001  Whatever it is, those who wait must learn of it.
                self.error = error
                self._undo()
        answers: list[_Answer] = []
        for at, work in enumerate(works):
            failure = None if self.error is None else self._told(self.error)
            result = None if failure else results[at]
            if isinstance(work.future, asyncio.Future):
                answers.append((work.future, result, failure))
            elif failure is not None:
                work.future.set_exception(failure)
            else:
                work.future.set_result(result)
        if answers:
            self._answer(answers)

    @staticmethod
    def _answer(answers: Sequence[_Answer]) -> None:
        try:
            answers[0][0].get_loop().call_soon_threadsafe(_resolve, answers)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.


def _resolve(answers: Sequence[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():
            continue  # Who waited was cancelled.
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
