"""Every record is asked for, within the limits of one question, and answers are put together again."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.comparing import Different, Missing, Same
from cdf_upsert.core.querying import MOST_BYTES, MOST_CONTAINERS, MOST_KEYS, Findings, Query, portions
from cdf_upsert.core.record import Record


def make(space: str, external_id: str, *containers: str, pad: int = 0) -> Record:
    sources = ",".join(
        f'{{"source":{{"type":"container","space":"s","externalId":"{name}"}},"properties":{{"p":1}}}}'
        for name in containers
    )
    text = f'{{"space":"{space}","externalId":"{external_id}","sources":[{sources}]}}{" " * pad}'.encode()
    return Record(text, (space, external_id), 0, "a", 1, 1, 0)


def queries(records: list[Record]) -> list[Query]:
    return [query for portion in portions(records) for query in portion.queries]


def containers(query: Query) -> list[str]:
    return [json.loads(source)["externalId"] for source in query.sources]


SPACES = st.sampled_from(["s", "t"])
CONTAINERS = st.lists(st.sampled_from([f"c{i}" for i in range(25)]), min_size=1, max_size=25, unique=True)
PLANS = st.lists(st.tuples(SPACES, CONTAINERS), max_size=250)


@given(PLANS)
def test_every_container_of_every_record_is_asked_for_once(plan: list[tuple[str, list[str]]]) -> None:
    """And no question passes a limit."""
    records = [make(space, str(i), *names) for i, (space, names) in enumerate(plan)]
    asked: list[tuple[str, str, str]] = []
    for query in queries(records):
        assert 1 <= len(query.external_ids) <= MOST_KEYS
        assert 1 <= len(query.sources) <= MOST_CONTAINERS
        asked += [(query.space, key, name) for key in query.external_ids for name in containers(query)]
    taken = [record for portion in portions(records) for record in portion.records]
    assert sorted(record.key for record in taken) == sorted(record.key for record in records)
    wanted = [(space, str(i), name) for i, (space, names) in enumerate(plan) for name in names]
    assert sorted(asked) == sorted(wanted)


def test_records_of_one_kind_are_asked_for_together() -> None:
    """The order in which a record names its containers does not matter."""
    records = [make("s", str(i), *("ab" if i % 2 else "ba")) for i in range(MOST_KEYS)]
    assert len(queries(records)) == 1


def test_no_question_is_about_too_many_records() -> None:
    """The last one is about the rest."""
    asked = queries([make("s", str(i), "c") for i in range(2 * MOST_KEYS + 1)])
    assert [len(query.external_ids) for query in asked] == [MOST_KEYS, MOST_KEYS, 1]


def test_records_of_other_containers_are_asked_for_apart() -> None:
    """Or a record that lacks a container might not be given."""
    asked = queries([make("s", "1", "a"), make("s", "2", "a", "b"), make("s", "3", "a")])
    assert [(query.external_ids, containers(query)) for query in asked] == [
        (["1", "3"], ["a"]),
        (["2"], ["a", "b"]),
    ]


def test_long_records_are_asked_for_a_few_at_a_time() -> None:
    """An answer has a limit in bytes too; one record is never too long to be asked for."""
    third = MOST_BYTES // 3
    sizes = [third - 500] * 4 + [MOST_BYTES * 2, 10]
    asked = queries([make("s", str(i), "c", pad=size) for i, size in enumerate(sizes)])
    assert [query.external_ids for query in asked] == [["0", "1", "2"], ["3"], ["4"], ["5"]]


def test_a_source_is_asked_for_as_the_record_names_it() -> None:
    """Views, too, with all their members."""
    view = '{"type":"view","space":"s","externalId":"v","version":"1"}'
    text = f'{{"space":"s","externalId":"x","sources":[{{"source":{view},"properties":{{}}}}]}}'.encode()
    [query] = queries([Record(text, ("s", "x"), 0, "a", 1, 1, 0)])
    assert json.loads(query.body())["sources"] == [{"source": json.loads(view), "properties": ["*"]}]


def answer(properties: dict[str, Any], **more: Any) -> bytes:
    item = {"space": "s", "externalId": "x", "createdTime": 1, "properties": properties}
    return json.dumps({"items": [item], **more}).encode()


def test_answers_to_several_questions_are_one_record() -> None:
    """A record of more containers than a question may name is whole again, with the types of all."""
    names = [f"c{i:02}" for i in range(MOST_CONTAINERS + 1)]
    record = make("s", "x", *names)
    findings = Findings()
    for query in queries([record]):
        # What is stored but was not sent is no difference where the types tell that it is the default.
        held = {name: {"p": 2 if name == "c00" else 1.0, "q": 0} for name in containers(query)}
        typing = {"s": {name: {"q": {"defaultValue": 0, "type": {"type": "int64"}}} for name in held}}
        assert findings.add(answer({"s": held}, typing=typing))
    assert findings.compare(record) == Different(("c00.p",), [(2, 1)])


def test_a_record_that_no_answer_holds_is_missing() -> None:
    """Another record's answer is none of its own."""
    findings = Findings()
    assert findings.add(answer({"s": {"c": {"p": 1}}}))
    assert findings.compare(make("s", "x", "c")) == Same()
    assert findings.compare(make("s", "y", "c")) == Missing()
    assert findings.compare(make("t", "x", "c")) == Missing()


@pytest.mark.parametrize("typing", [None, [], 3, {"s": 3}, {"s": {"c": None}}])
def test_types_of_another_shape_do_no_harm(typing: Any) -> None:
    """Values can be compared without."""
    findings = Findings()
    assert findings.add(answer({"s": {"c": {"p": 1}}}, typing=typing))
    assert findings.compare(make("s", "x", "c")) == Same()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"items":3}',
        b'{"items":[3]}',
        b'{"items":[{"space":"s","externalId":"x"}]}',
        b'{"items":[{"space":"s","externalId":"x","properties":[]}]}',
        b'{"items":[{"space":"s","externalId":"x","properties":{"s":{"c":[]}}}]}',
        b'{"items":[{"space":"s","properties":{}}]}',
        b'{"items":' + b"[" * 5000,
        b'{"items":[{"space":"\xff","externalId":"x","properties":{}}]}',
    ],
)
def test_an_answer_of_another_shape_is_none(body: bytes) -> None:
    """Nothing in it is believed."""
    assert not Findings().add(body)
