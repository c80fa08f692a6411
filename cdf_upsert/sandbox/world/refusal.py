"""Why the world does not do what a request asks, in the words of the API's error body."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_PLACE = re.compile(r"^(?P<fault>.*?)(?: - at `(?:\$|key in \$)(?P<path>[^`]*)`)?$", re.DOTALL)


class Refusal(Exception):  # noqa: N818 - it is an answer of the service, and for the sandbox no error at all
    """One refused request: HTTP status, message and the optional lists of the API's `error` object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        missing: Sequence[dict[str, Any]] = (),
        duplicated: Sequence[dict[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.missing = tuple(missing)
        self.duplicated = tuple(duplicated)
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The error body as the API writes it."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.missing:
            error["missing"] = list(self.missing)
        if self.duplicated:
            error["duplicated"] = list(self.duplicated)
        return {"error": error}


def at(path: str, fault: str) -> Refusal:
    """A 400 that names the place: `items[3].externalId: expected ...`."""
    return Refusal(400, f"{path}: {fault}" if path else fault)


def place_and_fault(error: msgspec.DecodeError) -> tuple[str, str]:
    """Split a decoder's message into the path, without `$` and empty for the document, and the fault."""
    match = _PLACE.match(str(error))
    assert match is not None  # the pattern matches every text
    return (match["path"] or "").lstrip("."), match["fault"]


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """The decoded request body.

    Raises:
        Refusal: 400 that names the item and the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        path, fault = place_and_fault(error)
        raise at(path, fault[:1].lower() + fault[1:]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"The request body is not valid JSON: {error}.") from None
    except RecursionError:
        raise Refusal(400, "The request body is not valid JSON: it is nested too deeply.") from None
