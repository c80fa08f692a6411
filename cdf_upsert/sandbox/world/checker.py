"""A container compiled into one msgspec type, so that a thousand property objects are checked in one call.

What a type cannot say (sizes in bytes, JSON objects, target spaces, defaults) is checked afterwards, and only
for the properties that need it.
"""

import re
import sys
from collections.abc import Callable, Sequence
from collections.abc import Container as Known
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from cdf_upsert.sandbox.world import names
from cdf_upsert.sandbox.world.definitions import MAX_LIST, MAX_RELATIONS, MAX_TEXT, Property, PropertyType
from cdf_upsert.sandbox.world.refusal import place_and_fault

_LONG_MONTHS = r"(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
_SHORT_MONTHS = r"(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])"
_LEAP_YEAR = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
DATE = rf"(?!0000)(?:\d{{4}}-(?:{_LONG_MONTHS}|{_SHORT_MONTHS})|{_LEAP_YEAR}-02-29)"
TIME = r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,3})?(?:Z|[+-](?:0\d|1[0-8])(?::?[0-5]\d)?)?"
# What most times look like comes first, for speed; a whole column is matched as lines, in one call.
_QUICK_DATE = r"[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_QUICK_TIME = r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,3})?Z"
_TIMES = {
    "date": (re.compile(rf"(?:(?:{_QUICK_DATE}|{DATE})\n)*", re.ASCII), "expected a date `YYYY-MM-DD`"),
    "timestamp": (
        re.compile(rf"(?:(?:{_QUICK_DATE}{_QUICK_TIME}|(?:{DATE}){TIME})\n)*", re.ASCII),
        "expected a timestamp `YYYY-MM-DDTHH:MM:SS[.millis][Z|time zone]`",
    ),
}

_MAX_FLOAT32 = 3.4028234663852886e38
_MAX_FLOAT64 = sys.float_info.max
_MAX_JSON = 40_960
_MAX_JSON_VALUE = 10_240
_MAX_JSON_KEY = 128
_MAX_JSON_KEYS = 256
_MAX_JSON_DEPTH = 200  # not published; deeper ones could not be read back


class Relation(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """The value of a direct relation."""

    space: str
    external_id: Annotated[str, Meta(min_length=1, max_length=256)]


_SCALARS: dict[str, Any] = {
    "text": str,
    "boolean": bool,
    "int32": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "int64": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "float32": Annotated[float, Meta(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)],
    "float64": float,
    "timestamp": str,
    "date": str,
    "json": Raw,
    "direct": Relation,
    "timeseries": str,
    "file": str,
    "sequence": str,
}

# A late check of one value: why it does not fit, or None. A column check takes all values of a property at
# once and says which does not fit, for what must be quick.
Late = Callable[[Any], str | None]


class Fault(Exception):  # noqa: N818 - always turned into a Refusal by whoever knows the item
    """One property object does not fit: its place in the list that was checked, the path within, and why."""

    def __init__(self, index: int, path: str, fault: str) -> None:
        super().__init__(fault)
        self.index = index
        self.path = path
        self.fault = fault


def value_type(kind: PropertyType) -> Any:
    """The msgspec type of a property's value."""
    if kind.type == "enum":
        values = tuple(sorted(set(kind.values or ()) - {kind.unknown_value}))
        scalar: Any = Literal[values] if values else Annotated[str, Meta(max_length=0, min_length=1)]
    else:
        scalar = _SCALARS[kind.type]
    if not kind.list:
        return scalar
    most = kind.max_list_size or (MAX_RELATIONS if kind.type == "direct" else MAX_LIST)
    return Annotated[list[scalar], Meta(min_length=1, max_length=most)]


class Checker:
    """The compiled check of one container's property objects."""

    def __init__(self, properties: dict[str, Property], spaces: Known[str] | None) -> None:
        """`spaces` are asked for the target space of each direct relation; None lets every space pass."""
        fields: list[Any] = []
        rename: dict[str, str] = {}
        self._late: list[tuple[str, str, Late]] = []
        self._times: list[tuple[str, str, re.Pattern[str], str, bool]] = []
        self._defaults: list[tuple[str, bytes]] = []
        for number, (name, prop) in enumerate(properties.items()):
            field = f"p{number}"
            rename[field] = name
            kind = value_type(prop.type)
            default = prop.default_value
            has_default = default is not UNSET and default is not None
            if prop.nullable or has_default:
                fields.append((field, kind | UnsetType, UNSET))
            else:
                fields.append((field, kind))
            if has_default:
                self._defaults.append((field, msgspec.json.encode({name: default})[1:-1]))
            if prop.type.type in _TIMES:
                self._times.append((field, name, *_TIMES[prop.type.type], prop.type.list))
            late = _late_check(prop.type, spaces)
            if late is not None:
                self._late.append((field, name, late))
        texts = [
            (f"p{number}", name)
            for number, (name, prop) in enumerate(properties.items())
            if prop.type.type == "text"
        ]
        self._texts = [(field, name, _text_size(MAX_TEXT)) for field, name in texts]
        shape = msgspec.defstruct(
            "Properties", fields, rename=rename, forbid_unknown_fields=True, kw_only=True, gc=False
        )
        self._decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]  # made at run time

    def check(self, objects: Sequence[Raw]) -> Sequence[Raw | bytes]:
        """The property objects, with defaults filled in, in the same order.

        Raises:
            Fault: the first object that does not fit.
        """
        try:
            values = self._decoder.decode(b"[" + b",".join(objects) + b"]")
        except msgspec.ValidationError as error:
            raise _fault(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fault(0, "", f"is not valid JSON: {error}") from None
        for index, one in enumerate(objects):
            if b'"' not in bytes(one):
                raise Fault(index, "", "at least one property is required")
        for field, name, pattern, fault, is_list in self._times:
            _check_times(values, field, name, pattern, fault, is_list=is_list)
        late = self._late
        if any(len(one) > MAX_TEXT for one in objects):
            late = self._texts + late
        for field, name, check in late:
            for index, value in enumerate(values):
                found = getattr(value, field)
                if found is not UNSET and (why := check(found)) is not None:
                    raise Fault(index, name, why)
        if self._defaults:
            return [self._with_defaults(one, value) for one, value in zip(objects, values, strict=True)]
        return objects

    def _with_defaults(self, one: Raw, value: Any) -> bytes:
        missing = [text for field, text in self._defaults if getattr(value, field) is UNSET]
        return b",".join([bytes(one).rstrip()[:-1], *missing]) + b"}" if missing else bytes(one)


def _check_times(
    values: Sequence[Any], field: str, name: str, pattern: re.Pattern[str], fault: str, *, is_list: bool
) -> None:
    """Hold all times of one property against their pattern, in one call."""
    found = [
        (index, value) for index, one in enumerate(values) if (value := getattr(one, field)) is not UNSET
    ]
    texts = [text for _, value in found for text in value] if is_list else [value for _, value in found]
    whole = "\n".join([*texts, ""])
    if pattern.fullmatch(whole) and whole.count("\n") == len(texts):
        return
    for index, value in found:
        for position, text in enumerate(value if is_list else [value]):
            if "\n" in text or not pattern.fullmatch(f"{text}\n"):
                raise Fault(index, f"{name}[{position}]" if is_list else name, fault)


def _fault(error: msgspec.ValidationError) -> Fault:
    path, fault = place_and_fault(error)
    index, _, rest = path.partition("]")
    if fault.startswith("Object contains unknown field"):
        fault = fault.replace("Object contains unknown field", "the container has no property")
    elif fault.startswith("Object missing required field"):
        fault = fault.replace("Object missing required field", "a value is required for")
    elif "got `null`" in fault:
        fault = "`null` values aren't allowed"
    else:
        fault = fault[:1].lower() + fault[1:]
    return Fault(int(index[1:]), rest.lstrip("."), fault)


def _late_check(kind: PropertyType, spaces: Known[str] | None) -> Late | None:
    if kind.type == "json":
        return _json_list if kind.list else _json_object
    if kind.type == "direct":
        return _relations(spaces)
    if kind.type == "text" and kind.max_text_size:
        return _text_size(kind.max_text_size)
    return None


def _text_size(most: int) -> Late:
    def check(value: str | list[str]) -> str | None:
        texts = [value] if isinstance(value, str) else value
        size = sum(len(text.encode()) for text in texts)
        return None if size <= most else f"text of {size} bytes is longer than {most} bytes"

    return check


def _relations(spaces: Known[str] | None) -> Late:
    def check(value: Relation | list[Relation]) -> str | None:
        for relation in value if isinstance(value, list) else [value]:
            if not names.is_space(relation.space) or (spaces is not None and relation.space not in spaces):
                return f"the space `{relation.space[:60]}` of the relation does not exist"
        return None

    return check


def _json_list(value: list[Raw]) -> str | None:
    total = sum(len(one) for one in value)
    if total > _MAX_JSON:
        return f"a list of JSON objects of {total} bytes is longer than {_MAX_JSON} bytes"
    return next((fault for one in value if (fault := _json_object(one)) is not None), None)


def _json_object(value: Raw) -> str | None:
    if len(value) > _MAX_JSON:
        return f"a JSON object of {len(value)} bytes is longer than {_MAX_JSON} bytes"
    try:
        content = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"is not valid JSON: {error}"
    if not isinstance(content, dict):
        return "expected a JSON object"
    return _json_sizes(content)


def _json_sizes(content: dict[str, Any]) -> str | None:
    keys = 0
    todo: list[tuple[Any, int]] = [(content, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, dict):
            keys += len(value)
            if keys > _MAX_JSON_KEYS:
                return f"a JSON object has at most {_MAX_JSON_KEYS} keys"
            if any(len(key) > _MAX_JSON_KEY for key in value):
                return f"a key of a JSON object has at most {_MAX_JSON_KEY} characters"
        if isinstance(value, dict | list):
            if depth > _MAX_JSON_DEPTH:
                return f"a JSON object is at most {_MAX_JSON_DEPTH} levels deep"
            inner = value.values() if isinstance(value, dict) else value
            todo.extend((one, depth + 1) for one in inner)
        elif isinstance(value, str) and len(value.encode()) > _MAX_JSON_VALUE:
            return f"a value of a JSON object has at most {_MAX_JSON_VALUE} bytes"
        elif isinstance(value, int) and not -_MAX_FLOAT64 <= value <= _MAX_FLOAT64:
            return "a number of a JSON object is out of range"
    return None
