"""The published schema of the API, where it lies beside the checkout; tests that need it skip where it does not."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_FILE = Path(__file__).parents[2].parent / "shared" / "api" / "cdf-openapi.json"
_URI = "urn:cdf"

needs_schema = pytest.mark.skipif(
    not _FILE.exists(), reason="the published schema is not beside the checkout"
)


@cache
def document() -> dict[str, Any]:
    """The document, with three things mended that no reply could ever fit.

    The pattern of external ids, taken literally, forbids `x`, `0` and the backslash. Several `oneOf` have
    alternatives that overlap, the results of aggregates among them: there `anyOf` is meant. The number of an
    enum's values stands at the single value, which its own example contradicts.
    """
    return _mend(json.loads(_FILE.read_text(encoding="utf-8")))


def _mend(node: Any) -> Any:
    if isinstance(node, list):
        return [_mend(one) for one in node]
    if not isinstance(node, dict):
        return node
    mended = {("anyOf" if name == "oneOf" else name): _mend(one) for name, one in node.items()}
    if mended.get("pattern") == r"^[^\\x00]{1,256}$":
        mended["pattern"] = r"^[^\x00]{1,256}$"
    if mended.get("x-additionalPropertiesName") == "enumValueIdentifier":
        del mended["minProperties"]
    return mended


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resource(_URI, DRAFT202012.create_resource(document()))


def operations() -> list[tuple[str, str]]:
    """Every path of the document with its methods; none where there is no document."""
    if not _FILE.exists():
        return []
    return [(path, method) for path, methods in document()["paths"].items() for method in methods]


def _operation(method: str, path: str) -> tuple[str, dict[str, Any]]:
    """The path of the document that a request's path fits, and the operation."""
    relative = path.split("/projects/", 1)[1].split("/", 1)[1]
    for template, methods in sorted(document()["paths"].items(), key=lambda entry: "{" in entry[0]):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, f"/{relative}") and method.lower() in methods:
            return template, methods[method.lower()]
    raise AssertionError(f"the document has no {method} {path}")


def check(reply: httpx.Response) -> None:
    """Hold a reply against the schema of its operation and status; a status that is not documented fails."""
    template, operation = _operation(reply.request.method, reply.request.url.path)
    status = str(reply.status_code)
    assert status in operation["responses"], f"{template} has no documented {status}: {reply.text}"
    pointer = f"/paths/{template.replace('~', '~0').replace('/', '~1')}/{reply.request.method.lower()}/responses/{status}"
    response = operation["responses"][status]
    if "$ref" in response:
        pointer = response["$ref"].removeprefix("#")
    schema = {"$ref": f"{_URI}#{pointer}/content/application~1json/schema"}
    validator = Draft202012Validator(schema, registry=_registry())
    errors = [f"{one.json_path}: {one.message}" for one in validator.iter_errors(reply.json())]
    assert not errors, f"{template} {status}: {errors[:5]} in {reply.text[:500]}"
