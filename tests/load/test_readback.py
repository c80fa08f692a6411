"""Reading back: what is stored decides, but not before it had time to become visible."""

import asyncio
from collections.abc import Sequence

from cdf_upsert.core.comparing import Different, Found, Missing, Same, Unreadable
from cdf_upsert.core.record import Key, Record
from cdf_upsert.load.readback import LOOKS_AT_ONCE, LOOKS_PER_SECOND, Budgeted, Lookup, look_up
from tests.records import make_record, make_records
from tests.virtual_time import run

LONG_AGO = 0.0

OTHER = Different(("c.value",), [(1, 2)])


class Shelf:
    """Answers the looks one by one from a script, the last of which goes on; None is no answer, a key may lack."""

    def __init__(self, *script: dict[str, Found] | None) -> None:
        self._script = list(script)
        self.asked: list[tuple[float, list[str]]] = []

    async def compare(self, records: Sequence[Record]) -> dict[Key, Found] | None:
        now = asyncio.get_running_loop().time() - 1000
        self.asked.append((now, [record.key[1] for record in records]))
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return None if answer is None else {("s", name): found for name, found in answer.items()}

    def look_up(self, *names: str) -> Lookup:
        return run(look_up(self.compare, make_records(*names), LONG_AGO))


def test_what_is_stored_as_ours_is_known_at_once() -> None:
    """One look is enough."""
    shelf = Shelf({"a": Same(), "b": Same()})
    found = shelf.look_up("a", "b")
    assert [record.key[1] for record in found.same] == ["a", "b"]
    assert (found.other, found.unanswered) == ([], [])
    assert shelf.asked == [(0, ["a", "b"])]


def test_what_is_not_visible_yet_is_looked_up_again() -> None:
    """Only what is not there yet, after one, two and three more seconds."""
    shelf = Shelf({"a": Same(), "b": OTHER, "c": Missing()}, {"b": Same(), "c": OTHER}, {"c": Same()})
    found = shelf.look_up("a", "b", "c")
    assert [record.key[1] for record in found.same] == ["a", "b", "c"]
    assert shelf.asked == [(0, ["a", "b", "c"]), (1, ["b", "c"]), (3, ["c"])]


def test_after_six_seconds_what_was_found_last_is_believed() -> None:
    """A key that no answer names holds nothing."""
    shelf = Shelf({"a": Missing(), "b": OTHER}, {"a": OTHER})
    found = shelf.look_up("a", "b")
    assert [(record.key[1], what) for record, what in found.other] == [("a", OTHER), ("b", Missing())]
    assert (found.same, found.unanswered) == ([], [])
    assert [at for at, _ in shelf.asked] == [0, 1, 3, 6]


def test_without_an_answer_nothing_is_said() -> None:
    """The records are neither found nor missing."""
    shelf = Shelf(None)
    found = shelf.look_up("a", "b")
    assert [record.key[1] for record in found.unanswered] == ["a", "b"]
    assert (found.same, found.other) == ([], [])
    assert len(shelf.asked) == 4


def test_one_answer_of_four_is_enough() -> None:
    """Looks that fail before and after it change nothing."""
    found = Shelf(None, {"a": OTHER, "b": Same()}, None).look_up("a", "b")
    assert [record.key[1] for record in found.same] == ["b"]
    assert [(record.key[1], what) for record, what in found.other] == [("a", OTHER)]
    assert not found.unanswered


def test_what_cannot_be_read_is_neither_missing_nor_unanswered() -> None:
    """A question that the service refuses to the end leaves what it asked for, and nothing else, unreadable."""
    found = Shelf(
        {"a": Unreadable(), "b": Same(), "c": Unreadable()}, {"a": Unreadable(), "c": OTHER}
    ).look_up("a", "b", "c")
    assert [record.key[1] for record in found.unreadable] == ["a"]
    assert [record.key[1] for record in found.same] == ["b"]
    assert [(record.key[1], what) for record, what in found.other] == [("c", OTHER)]
    assert not found.unanswered


def test_a_hundred_keys_are_asked_for_at_a_time() -> None:
    """As many as one filter takes; none is left out."""
    records = [make_record(i, str(i)) for i in range(250)]
    shelf = Shelf({str(i): Same() for i in range(250)})
    found = run(look_up(shelf.compare, records, LONG_AGO))
    assert found.same == records
    assert [len(names) for _, names in shelf.asked] == [100, 100, 50]


def test_nothing_is_looked_up_while_an_older_version_may_still_be_seen() -> None:
    """What was written before the first try is visible six seconds after that."""
    shelf = Shelf({"a": Same()})
    run(look_up(shelf.compare, make_records("a"), since=1000.0 - 2.0))
    assert shelf.asked == [(4, ["a"])]


def test_looks_of_many_batches_keep_within_the_budget_for_questions() -> None:
    """No more at once, and no more a second, than the share of one identity's budget, however many batches ask."""
    under_way, most, began = 0, 0, []

    async def compare(records: Sequence[Record]) -> dict[Key, Found] | None:
        nonlocal under_way, most
        began.append(asyncio.get_running_loop().time())
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(2.0)
        under_way -= 1
        return {record.key: Same() for record in records}

    async def many() -> None:
        stored = Budgeted(compare)
        await asyncio.gather(
            *(look_up(stored.compare, [record], LONG_AGO) for record in make_records(*map(str, range(60))))
        )

    run(many())
    assert len(began) == 60
    assert most == LOOKS_AT_ONCE
    assert all(
        later - earlier > 0.99 for earlier, later in zip(began, began[int(LOOKS_PER_SECOND) :], strict=False)
    )
