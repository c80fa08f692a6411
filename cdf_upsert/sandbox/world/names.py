"""Patterns and reserved words of the API's identifiers, as published in its schema."""

import re

SPACE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,41}[a-zA-Z0-9]?", re.ASCII)
STREAM = re.compile(r"[a-z]([a-z0-9_-]{0,98}[a-z0-9])?", re.ASCII)
CONTAINER = re.compile(r"[a-zA-Z]([a-zA-Z0-9_]{0,253}[a-zA-Z0-9])?", re.ASCII)
PROPERTY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,253}[a-zA-Z0-9]?", re.ASCII)
UNIT = re.compile(r"[a-z0-9_]+:[a-z0-9_-]+", re.ASCII)
ENUM_VALUE = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,127}", re.ASCII)

RESERVED_SPACES = frozenset(["space", "cdf", "dms", "pg3", "shared", "system", "node", "edge"])
RESERVED_STREAMS = frozenset({"logs", "records"})
RESERVED_STREAM_PREFIXES = ("cdf_", "cognite_")
RESERVED_CONTAINERS = frozenset(
    [
        "Query",
        "Mutation",
        "Subscription",
        "String",
        "Int32",
        "Int64",
        "Int",
        "Float32",
        "Float64",
        "Float",
        "Timestamp",
        "JSONObject",
        "Date",
        "Numeric",
        "Boolean",
        "PageInfo",
        "File",
        "Sequence",
        "TimeSeries",
    ]
)
RESERVED_PROPERTIES = frozenset(
    [
        "space",
        "externalId",
        "createdTime",
        "lastUpdatedTime",
        "deletedTime",
        "edge_id",
        "node_id",
        "project_id",
        "property_group",
        "seq",
        "tg_table_name",
        "extensions",
    ]
)
RESERVED_ENUM_VALUES = frozenset({"true", "false", "null"})


def is_space(text: str) -> bool:
    """Whether a text is a well-formed space id (43 characters at most)."""
    return len(text) <= 43 and SPACE.fullmatch(text) is not None


def is_stream(text: str) -> bool:
    """Whether a text is a well-formed and permitted stream id."""
    return (
        STREAM.fullmatch(text) is not None
        and text not in RESERVED_STREAMS
        and not text.startswith(RESERVED_STREAM_PREFIXES)
    )


def is_container(text: str) -> bool:
    """Whether a text is a well-formed container external id."""
    return CONTAINER.fullmatch(text) is not None


def is_property(text: str) -> bool:
    """Whether a text is a well-formed and permitted property id."""
    return len(text) <= 255 and PROPERTY.fullmatch(text) is not None and text not in RESERVED_PROPERTIES
