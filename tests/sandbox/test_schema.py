"""Every kind of reply against the published schema, and requests made up from it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from cdf_upsert.sandbox.serve import Options, Running, running
from tests.sandbox.api import Api
from tests.sandbox.builders import CONTAINER, PROPERTIES, container, record, stream
from tests.sandbox.openapi import check, document, needs_schema, operations

pytestmark = needs_schema

VALUES: dict[str, Any] = {
    "text": "x0\\",
    "boolean": True,
    "int32": 1,
    "int64": 2**53,
    "float32": 1.5,
    "float64": 0.1,
    "timestamp": "2024-01-01T00:00:00.5Z",
    "date": "2024-01-01",
    "json": {"a": [1]},
    "direct": {"space": "plant", "externalId": "n"},
    "enum": "on",
}
ALL = VALUES | {f"{name}s": [value] for name, value in VALUES.items()}
SOURCES = [{"source": CONTAINER, "properties": ["*"]}]


def path(name: str) -> list[str]:
    return ["plant", "pump", name]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running(Options(strict=True)) as sandbox, Api(sandbox) as found:
        found.http.event_hooks["response"] = [_checked]
        found.declare()
        found.upsert(
            record("all", **ALL), record("some", int64=5), record("x0\\", text="ø")
        ).raise_for_status()
        yield found


def _checked(reply: httpx.Response) -> None:
    reply.read()
    check(reply)


_RECORDS = "/streams/events/records"
_NODES = container(
    "nodes",
    usedFor="all",
    name="Nodes",
    properties=PROPERTIES
    | {
        "needed": {"type": {"type": "int32"}, "nullable": False, "autoIncrement": True},
        "file": {"type": {"type": "file"}, "description": "d"},
        "short": {"type": {"type": "text", "maxTextSize": 9, "collation": "und"}, "defaultValue": "x"},
        "few": {
            "type": {
                "type": "float64",
                "list": True,
                "maxListSize": 9,
                "unit": {"externalId": "temperature:deg_c"},
            }
        },
        "to": {"type": {"type": "direct", "container": CONTAINER}},
    },
    constraints={
        "c": {"constraintType": "uniqueness", "properties": ["short"], "bySpace": True},
        "r": {"constraintType": "requires", "require": CONTAINER},
    },
    indexes={"i": {"indexType": "btree", "properties": ["short"], "cursorable": True}},
)
_TREE = {
    "n": {"count": {}},
    "u": {
        "uniqueValues": {
            "property": path("enum"),
            "aggregates": {"avg": {"avg": {"property": path("float64")}}},
        }
    },
    "h": {"numberHistogram": {"property": path("int64"), "interval": 2.5e15}},
    "t": {
        "timeHistogram": {
            "property": path("timestamp"),
            "calendarInterval": "1M",
            "aggregates": {
                "m": {
                    "movingFunction": {
                        "bucketsPath": "_count",
                        "window": 2,
                        "function": "MovingFunctions.sum",
                    }
                }
            },
        }
    },
    "f": {
        "filters": {
            "filters": [{"matchAll": {}}],
            "aggregates": {"min": {"min": {"property": ["createdTime"]}}},
        }
    },
}


@pytest.mark.parametrize(
    ("target", "content", "status"),
    [
        ("/streams", {"items": [stream("fresh")]}, 201),
        ("/streams", {"items": [stream("events")]}, 409),
        ("/streams", {"items": [stream("NO")]}, 400),
        ("/streams/delete", {"items": [{"externalId": "nothing"}]}, 200),
        ("/streams/delete", {"items": []}, 400),
        ("/models/spaces", {"items": [{"space": "other", "name": "n", "description": "d"}]}, 200),
        ("/models/spaces", {"items": [{"space": "cdf"}]}, 400),
        ("/models/spaces/byids", {"items": [{"space": "plant"}, {"space": "nope"}]}, 200),
        ("/models/spaces/byids", {"items": [{"space": "-"}]}, 400),
        ("/models/containers", {"items": [_NODES]}, 200),
        ("/models/containers", {"items": [container(space="nope")]}, 400),
        ("/models/containers/byids", {"items": [{"space": "plant", "externalId": "pump"}]}, 200),
        ("/models/containers/byids", {}, 400),
        (_RECORDS, {"items": [record("fresh", **ALL)]}, 202),
        (_RECORDS, {"items": [record("some"), record("other")]}, 409),
        (_RECORDS, {"items": [record("x"), record("x")]}, 422),
        (_RECORDS, {"items": []}, 400),
        (f"{_RECORDS}/upsert", {"items": [record("a"), record("b")]}, 202),
        (f"{_RECORDS}/upsert", {"items": [record("a", int32="x")]}, 400),
        (f"{_RECORDS}/upsert", {"items": [record("x.y"), record("x.y")]}, 422),
        ("/streams/log/records/upsert", {"items": [record("a")]}, 422),
        (f"{_RECORDS}/delete", {"items": [{"space": "plant", "externalId": "nope"}]}, 200),
        (f"{_RECORDS}/delete", {"items": [{"space": "plant"}]}, 400),
        ("/streams/log/records/delete", {"items": [{"space": "plant", "externalId": "a"}]}, 422),
        (f"{_RECORDS}/filter", {"sources": SOURCES, "limit": 100, "includeTyping": True}, 200),
        (
            f"{_RECORDS}/filter",
            {"filter": {"exists": {"property": path("json")}}, "includeTyping": True},
            200,
        ),
        (f"{_RECORDS}/filter", {"filter": {}}, 400),
        (f"{_RECORDS}/filter", {"targetUnits": {"unitSystemName": "SI"}, "sources": SOURCES}, 200),
        (f"{_RECORDS}/filter", {"targetUnits": {"unitSystemName": "Nautical"}}, 400),
        (f"{_RECORDS}/sync", {"initializeCursor": "1d-ago", "sources": SOURCES, "includeTyping": True}, 200),
        (f"{_RECORDS}/sync", {}, 400),
        (f"{_RECORDS}/aggregate", {"aggregates": _TREE, "includeTyping": True}, 200),
        (f"{_RECORDS}/aggregate", {"aggregates": {}}, 400),
    ],
)
def test_a_reply_fits_the_schema(api, target, content, status):
    """Each kind of reply has a documented status and the shape that the schema gives it."""
    assert api.post(target, content).status_code == status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/streams", 200),
        ("/streams/events", 200),
        ("/streams/log?includeStatistics=true", 200),
        ("/streams/NO", 400),
        ("/models/spaces?limit=1", 200),
        ("/models/spaces?limit=0", 400),
        ("/models/containers?usedFor=record&usedFor=node&limit=1", 200),
        ("/models/containers?usedFor=tree", 400),
    ],
)
def test_a_list_fits_the_schema(api, target, status):
    """Lists and single streams too."""
    assert api.get(target).status_code == status


def test_tombstones_and_the_gone_endpoint_fit_the_schema(api):
    """A deleted record in the change feed, and the endpoint that is no more."""
    api.upsert(record("gone"))
    api.post(f"{_RECORDS}/delete", {"items": [{"space": "plant", "externalId": "gone"}]})
    page = api.post(f"{_RECORDS}/sync", {"initializeCursor": "1d-ago", "limit": 1000}).json()
    assert page["items"][-1]["status"] == "deleted"
    assert api.http.delete("/streams/events").status_code == 410


@pytest.mark.parametrize("code", [409, 500, 503])
def test_partial_replies_fit_the_schema(tmp_path, code):
    """The list of results of each failing status has the documented shape."""
    script = tmp_path / "faults.toml"
    script.write_text(f'[[fault]]\nkind = "partial"\ncode = {code}\nof = 0.5\n')
    with running(Options(faults=script)) as sandbox, Api(sandbox) as api:
        api.http.event_hooks["response"] = [_checked]
        assert api.upsert(record("a"), record("b")).status_code == code


@pytest.fixture
def lenient() -> Iterator[Running]:  # a fresh one each: the first declaration would end its lenience
    with running(Options()) as sandbox:
        yield sandbox


@pytest.mark.parametrize(("path", "method"), operations())
def test_made_up_requests_are_answered(path, method, lenient):
    """No request that the schema can think of is answered with a 5xx, or with a body that the schema has not."""
    operation = schemathesis.openapi.from_dict(document())[path][method]
    base_url = f"{lenient.address.base_url}/api/v1/projects/{lenient.address.project}"
    headers = {"Authorization": f"Bearer {lenient.token}"}
    checks = [not_a_server_error, response_schema_conformance]

    @given(operation.as_strategy())
    @settings(
        max_examples=4,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    def answered(case: Any) -> None:
        case.call_and_validate(base_url=base_url, headers=headers, checks=checks)

    answered()
