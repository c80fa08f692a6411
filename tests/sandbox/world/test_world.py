"""The world against a dictionary: whatever is written, both hold the same."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cdf_upsert.sandbox.world import Operation, World
from tests.sandbox.builders import CONTAINER, NOW, declared_world, done, encode, items, patient, record

_NAMES = st.sampled_from([f"r{n}" for n in range(6)] + ["ø.x", "a\\b", '"'])
_VALUES = st.fixed_dictionaries(
    {"boolean": st.booleans()},  # at least one value, without drawing empty ones in vain
    optional={
        "text": st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        "int64": st.integers(0, 9),
    },
)


class Mirror(RuleBasedStateMachine):
    """A mutable stream and a dictionary side by side; time goes on by one second at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = declared_world()
        self.now = NOW
        self.model: dict[str, dict[str, Any]] = {}
        self.created: dict[str, int] = {}
        self.changes: list[str] = []

    def teardown(self) -> None:
        self.world.close()

    def _write(
        self, operation: Operation, content: list[dict[str, Any]], leave_out: frozenset[str]
    ) -> frozenset[str]:
        self.now += 1000
        prepared = self.world.prepare(operation, "events", items(*content), self.now)
        change = self.world.measure(prepared)
        self.world.apply(prepared, change, self.now, leave_out=leave_out)
        return change.conflicts

    def _remember(self, name: str, values: dict[str, Any]) -> None:
        self.model[name] = values
        self.created.setdefault(name, self.now)
        self._changed(name)

    def _changed(self, name: str) -> None:
        if name in self.changes:
            self.changes.remove(name)
        self.changes.append(name)

    @rule(content=st.dictionaries(_NAMES, _VALUES, min_size=1), leave_out=st.frozensets(_NAMES))
    def upsert(self, content: dict[str, dict[str, Any]], leave_out: frozenset[str]) -> None:
        self._write(
            Operation.UPSERT,
            [record(name, **values) for name, values in content.items()],
            frozenset(f"plant.{name}" for name in leave_out),
        )
        fresh = [name for name in content if name not in leave_out and name not in self.model]
        known = [name for name in content if name not in leave_out and name in self.model]
        for name in fresh + known:
            self._remember(name, content[name])

    @rule(content=st.dictionaries(_NAMES, _VALUES, min_size=1))
    def ingest(self, content: dict[str, dict[str, Any]]) -> None:
        conflicts = self._write(
            Operation.INGEST, [record(name, **values) for name, values in content.items()], frozenset()
        )
        assert conflicts == {f"plant.{name}" for name in content if name in self.model}
        for name, values in content.items():
            if name not in self.model:
                self._remember(name, values)

    @rule(names=st.lists(_NAMES, min_size=1, unique=True))
    def delete(self, names: list[str]) -> None:
        self._write(Operation.DELETE, [{"space": "plant", "externalId": name} for name in names], frozenset())
        for name in names:
            if name in self.model:
                del self.model[name], self.created[name]
                self._changed(name)

    @invariant()
    def the_stored_records_are_the_same(self) -> None:
        stored = self.world.records("events")
        assert stored == {("plant", name): {("plant", "pump"): values} for name, values in self.model.items()}

    @invariant()
    def what_is_consumed_is_what_is_stored(self) -> None:
        found = self.world.retrieve_stream("events", self.now, statistics=True)["settings"]["limits"]
        assert found["maxRecordsTotal"]["consumed"] == len(self.model)
        assert (found["maxGigaBytesTotal"]["consumed"] == 0) == (not self.model)

    @invariant()
    def a_filter_shows_them_in_the_order_of_their_change(self) -> None:
        page = done(
            self.world.filter(
                "events",
                encode({"limit": 1000, "sources": [{"source": CONTAINER, "properties": ["*"]}]}),
                self.now,
            )
        )["items"]
        assert [one["externalId"] for one in page] == [name for name in self.changes if name in self.model]
        for one in page:
            assert one["createdTime"] == self.created[one["externalId"]]
            assert one["properties"]["plant"]["pump"] == self.model[one["externalId"]]

    @invariant()
    def a_count_counts_them(self) -> None:
        for definition in ({"matchAll": {}}, None):  # the long way and the short one
            body = {"aggregates": {"n": {"count": {}}}, "filter": definition}
            found = done(self.world.aggregate("events", encode(body), self.now))
            assert found == {"aggregates": {"n": {"count": len(self.model)}}}

    @invariant()
    def a_sync_from_the_start_rebuilds_them(self) -> None:
        found: dict[str, str] = {}
        body: dict[str, Any] = {"initializeCursor": "9999w-ago", "limit": 2}
        while True:
            page = done(self.world.sync("events", encode(body), self.now))
            found |= {one["externalId"]: one["status"] for one in page["items"]}
            body = {"cursor": page["nextCursor"], "limit": 2}
            if not page["hasNext"]:
                break
        assert {name for name, status in found.items() if status != "deleted"} == set(self.model)
        assert list(found) == self.changes


TestMirror = Mirror.TestCase
TestMirror.settings = settings(patient, max_examples=40, stateful_step_count=15)


def test_a_world_that_is_closed_and_opened_is_the_same(tmp_path):
    """Learnt containers, streams and records come back from the directory, property for property."""
    world = World(tmp_path, strict=False)
    body = json.dumps({"items": [record(f"r{n}", number=n, note="ø") for n in range(50)]}).encode()
    prepared = world.prepare(Operation.UPSERT, "fresh", body, NOW)
    world.apply(prepared, world.measure(prepared), NOW)
    before = world.records("fresh")
    listed = world.models.list_containers(10, None, None, ["record"])
    world.close()
    again = World(tmp_path, strict=False)
    assert again.records("fresh") == before
    assert again.models.list_containers(10, None, None, ["record"]) == listed
    again.close()
