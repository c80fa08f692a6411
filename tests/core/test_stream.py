"""What the service tells of a stream is read with tolerance, and never made up."""

import json
from typing import Any

import pytest

from cdf_upsert.core.stream import Limit, StreamFacts, stream_facts

WHOLE: dict[str, Any] = {
    "externalId": "st",
    "createdTime": 1,
    "createdFromTemplate": "BasicLiveData",
    "type": "Mutable",
    "settings": {
        "limits": {
            "maxRecordsTotal": {"provisioned": 5_000_000, "consumed": 4_999_999},
            "maxGigaBytesTotal": {"provisioned": 15, "consumed": 0.25},
        }
    },
}


def test_all_facts_are_read() -> None:
    """Kind, template and both limits."""
    expected = StreamFacts("st", "BasicLiveData", True, Limit(5_000_000, 4_999_999), Limit(15, 0.25))
    assert stream_facts(json.dumps(WHOLE).encode()) == expected


@pytest.mark.parametrize(
    "settings",
    [
        None,
        [],
        {},
        {"limits": None},
        {"limits": 3},
        {"limits": {"maxRecordsTotal": 5}},
        {"limits": {"maxRecordsTotal": {"consumed": 5}}},
        {"limits": {"maxRecordsTotal": {"provisioned": "5"}}},
    ],
)
def test_limits_that_are_not_told_are_none(settings: Any) -> None:
    """The kind of the stream still counts."""
    facts = stream_facts(json.dumps({**WHOLE, "type": "Immutable", "settings": settings}).encode())
    assert facts == StreamFacts("st", "BasicLiveData", False, None, None)


def test_what_is_taken_may_not_be_told() -> None:
    """Then only what there is room for is known."""
    settings = {"limits": {"maxRecordsTotal": {"provisioned": 5}}}
    facts = stream_facts(json.dumps({**WHOLE, "settings": settings}).encode())
    assert facts is not None
    assert facts.records == Limit(5, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"externalId":"a"}',
        b'{"externalId":"a","type":"New"}',
        b"[" * 5000,
        b'{"externalId":"\xff"}',
    ],
)
def test_anything_else_is_no_stream(body: bytes) -> None:
    """A kind that is not known is not taken for mutable."""
    assert stream_facts(body) is None
