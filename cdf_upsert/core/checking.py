"""What is checked before a record is sent.

A record is checked for what the service would refuse a whole request for: an object with exactly `space`,
`externalId` and `sources`, of the right types, lengths and patterns (published schema of the records API,
20230101). Properties are not looked into: they are sent as the bytes that were read.
"""

import base64
import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, defstruct

from cdf_upsert.core.framing import Frames, Place, Unframed
from cdf_upsert.core.record import Failed, Failure, FailureClass, Key, Origin, Record, Records, Run

SPACE = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,41}[a-zA-Z0-9]?")
CONTAINER = re.compile(r"[a-zA-Z]([a-zA-Z0-9_]{0,253}[a-zA-Z0-9])?")

MOST_KNOWN = 256
"""So many names a decoder can know before looking them up costs more than making them anew."""

ENVELOPE_BYTES = len(b'{"items":[]}')
"""What a request's body takes beside its records and the commas between them."""


class Checked(Struct):
    """What became of framed texts: records to send, records that failed, and how many gave way to a newer version."""

    records: Sequence[Record] = ()
    failed: Sequence[Failed] = ()
    superseded: Sequence[int] = ()

    @property
    def count(self) -> int:
        """How many records were read."""
        return len(self.records) + len(self.failed) + len(self.superseded)


class _AnyObject(Struct, gc=False):
    """Any JSON object; its members are stepped over."""


class _Container(Struct, tag_field="type", tag="container", forbid_unknown_fields=True, gc=False):
    space: str
    externalId: str  # noqa: N815  the API's own name


_ExternalId = Annotated[str, Meta(min_length=1, max_length=256)]


class _Source(Struct, forbid_unknown_fields=True, gc=False):
    source: _Container
    properties: _AnyObject


class _Envelope(Struct, forbid_unknown_fields=True, gc=False):
    """The usual record: its sources are containers."""

    space: str
    externalId: _ExternalId  # noqa: N815  the API's own name
    sources: Annotated[list[_Source], Meta(min_length=1, max_length=100)]


class _LooseSource(Struct, forbid_unknown_fields=True, gc=False):
    source: Raw
    properties: _AnyObject


class _LooseEnvelope(Struct, forbid_unknown_fields=True, gc=False):
    """A record whose sources may be more than containers: newer clients also send views."""

    space: str
    externalId: _ExternalId  # noqa: N815  the API's own name
    sources: Annotated[list[_LooseSource], Meta(min_length=1, max_length=100)]


class _Names(Struct, gc=False):
    """What makes the key of a record, whatever else is wrong with it."""

    space: str
    externalId: _ExternalId  # noqa: N815  the API's own name


class _FailedLineSource(Struct, gc=False):
    path: str
    record: int
    offset: int
    length: int
    line: int | None = None


class _FailedLineError(Struct, gc=False, rename={"kind": "class"}):
    kind: FailureClass
    message: str


class _FailedLine(Struct, gc=False):
    """A line of a failed file of ours, which is itself a valid input."""

    error: _FailedLineError
    source: _FailedLineSource
    record: Raw | UnsetType = UNSET
    raw: str | UnsetType = UNSET
    rawBase64: str | UnsetType = UNSET  # noqa: N815  the file's own name
    supersededBy: _AnyObject | UnsetType = UNSET  # noqa: N815  the file's own name


def _decoder(spaces: AbstractSet[str], containers: AbstractSet[str]) -> Callable[[bytes], Any]:
    """Decodes usual records that name only these spaces and containers; what it makes looks like `_Envelope`."""
    one_of: Any = Literal
    space, name = one_of[tuple(sorted(spaces))], one_of[tuple(sorted(containers))]
    closed: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
    container: Any = defstruct(
        "_Container", [("space", space), ("externalId", name)], tag_field="type", tag="container", **closed
    )
    source: Any = defstruct("_Source", [("source", container), ("properties", _AnyObject)], **closed)
    sources = Annotated[list[source], Meta(min_length=1, max_length=100)]
    fields = [("space", space), ("externalId", _ExternalId), ("sources", sources)]
    return msgspec.json.Decoder(defstruct("_Envelope", fields, **closed)).decode


_decode_usual = msgspec.json.Decoder(_Envelope).decode
_decode_loose = msgspec.json.Decoder(_LooseEnvelope).decode
_decode_names = msgspec.json.Decoder(_Names).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_object = msgspec.json.Decoder(_AnyObject).decode
_decode_container = msgspec.json.Decoder(_Container).decode
_decode_failed_line = msgspec.json.Decoder(_FailedLine).decode
_decode_members = msgspec.json.Decoder(dict[str, Any]).decode


class _FaultError(Exception):
    """What is wrong with one record; never leaves this file."""

    def __init__(self, kind: FailureClass, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)


class Checker:
    """Checks framed texts one block at a time; `body_bytes` is the ceiling of a request's whole body.

    Remembers the names of spaces and containers that it has found good: a decoder that knows them needs neither to
    make them anew nor to look at them again.
    """

    def __init__(self, body_bytes: int) -> None:
        self._room = body_bytes - ENVELOPE_BYTES
        self._spaces: set[str] = set()
        self._containers: set[str] = set()
        self._decode_known: Callable[[bytes], Any] = _decode_usual

    def check(self, frames: Frames, ordinal: int) -> Checked:
        """Check the texts of `frames`, the first of which is record `ordinal` of the load."""
        keys = frames.keys or self.keys(frames.texts)
        if keys is not None:
            return Checked(_in_columns(frames, keys, ordinal))
        records: list[Record] = []
        failed: list[Failed] = []
        superseded: list[int] = []
        for i, text in enumerate(frames.texts):
            found = self._check_one(text, frames.place(i), ordinal + i)
            match found:
                case Record():
                    records.append(found)
                case Failed():
                    failed.append(found)
                case None:
                    superseded.append(ordinal + i)
        return Checked(records, failed, superseded)

    def keys(self, texts: Sequence[bytes]) -> list[Key] | None:
        """The keys of `texts` when all of them are fit to be sent, or None when any needs a closer look."""
        if not texts:
            return []
        envelopes = self._decode(texts)
        if envelopes is None or max(map(len, texts)) > self._room:
            return None
        external_ids = [e.externalId for e in envelopes]
        if "\0" in "".join(external_ids):
            return None
        return list(zip([e.space for e in envelopes], external_ids, strict=True))

    def _decode(self, texts: Sequence[bytes]) -> list[Any] | None:
        """The envelopes of usual records with good names, or None when there are others among them."""
        if self._decode_known is not _decode_usual:
            try:
                return list(map(self._decode_known, texts))
            except (msgspec.DecodeError, RecursionError):
                pass  # A new name, or a fault.
        try:
            envelopes = list(map(_decode_usual, texts))
        except (msgspec.DecodeError, RecursionError):
            return None
        return envelopes if self._learn(envelopes) else None

    def _learn(self, envelopes: Sequence[_Envelope]) -> bool:
        """See that all names are good, and remember them."""
        sources = [source.source for e in envelopes for source in e.sources]
        spaces = {e.space for e in envelopes} | {source.space for source in sources}
        containers = {source.externalId for source in sources}
        if not (all(map(SPACE.fullmatch, spaces)) and all(map(CONTAINER.fullmatch, containers))):
            return False
        if not (spaces <= self._spaces and containers <= self._containers):
            self._spaces |= spaces
            self._containers |= containers
            few = len(self._spaces) + len(self._containers) <= MOST_KNOWN
            self._decode_known = _decoder(self._spaces, self._containers) if few else _decode_usual
        return True

    def _check_one(self, text: bytes, place: Place, ordinal: int) -> Record | Failed | None:
        """What one text is; None for a version that a newer one has overtaken."""
        line = _failed_line(text)
        if line is not None:
            place = Place(
                line.source.path, line.source.record, line.source.line, line.source.offset, line.source.length
            )
            if line.supersededBy is not UNSET:
                return None
            if isinstance(line.record, UnsetType):
                return Failed(ordinal, place, Failure(line.error.kind, line.error.message), _raw_bytes(line))
            text = bytes(line.record)
        try:
            key = self._key(text)
        except _FaultError as fault:
            return Failed(ordinal, place, fault.failure, text, _readable_key(text))
        return Record(text, key, ordinal, place.path, place.record, place.line, place.offset)

    def _key(self, text: bytes) -> Key:
        """The key of a record that is fit to be sent.

        Raises:
            _FaultError: the record is not fit, with the path of the fault.
        """
        try:
            _decode_raw(text)
            envelope = _decode_loose(text)
        except RecursionError:
            raise _FaultError(FailureClass.UNREADABLE, "nested too deeply to be read") from None
        except msgspec.ValidationError as e:
            raise _FaultError(FailureClass.INVALID, _told(e)) from None
        except msgspec.DecodeError as e:
            raise _FaultError(FailureClass.UNREADABLE, _malformed(e, text)) from None
        if not SPACE.fullmatch(envelope.space):
            raise _FaultError(FailureClass.INVALID, f"space: {_SPACE_RULE}")
        if "\0" in envelope.externalId:
            raise _FaultError(FailureClass.INVALID, "externalId: holds a NUL character")
        for i, loose in enumerate(envelope.sources):
            _check_source(loose.source, f"sources[{i}].source")
        if len(text) > self._room:
            raise _FaultError(
                FailureClass.OVERSIZE,
                f"{len(text):,} bytes, and a request has room for {self._room:,} bytes of records",
            )
        return (envelope.space, envelope.externalId)


def _readable_key(text: bytes) -> Key | None:
    """The key of a record that is not fit to be sent, where it has one: a newer version may be accepted."""
    try:
        names = _decode_names(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    good = SPACE.fullmatch(names.space) and "\0" not in names.externalId
    return (names.space, names.externalId) if good else None


def _in_columns(frames: Frames, keys: list[Key], ordinal: int) -> Sequence[Record]:
    if not keys:
        return ()
    numbers = range(frames.first_record, frames.first_record + len(keys))
    origin = Origin(frames.path, numbers, frames.lines, frames.offsets)
    return Records(frames.texts, keys, [Run(0, ordinal, origin, 0)])


_SPACE_RULE = "expected 1 to 43 letters, digits, _ or -, the first of them a letter"
_CONTAINER_RULE = "expected 1 to 255 letters, digits or _, the first of them a letter, the last not _"


def _check_source(source: Raw, path: str) -> None:
    try:
        _decode_object(source)
    except msgspec.ValidationError as e:
        raise _FaultError(FailureClass.INVALID, _told(e, path)) from None
    if _decode_members(source).get("type") != "container":
        return
    try:
        container = _decode_container(source)
    except msgspec.ValidationError as e:
        raise _FaultError(FailureClass.INVALID, _told(e, path)) from None
    if not SPACE.fullmatch(container.space):
        raise _FaultError(FailureClass.INVALID, f"{path}.space: {_SPACE_RULE}")
    if not CONTAINER.fullmatch(container.externalId):
        raise _FaultError(FailureClass.INVALID, f"{path}.externalId: {_CONTAINER_RULE}")


def _failed_line(text: bytes) -> _FailedLine | None:
    if b'"error"' not in text or b'"source"' not in text:
        return None
    try:
        line = _decode_failed_line(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    has_record = line.record is not UNSET or line.raw is not UNSET or line.rawBase64 is not UNSET
    # A text that was too long to keep, and a place where an input breaks off, leave nothing to stand in the line.
    told = line.error.kind in {FailureClass.OVERSIZE, FailureClass.UNREADABLE}
    return line if has_record or told else None


def _raw_bytes(line: _FailedLine) -> bytes | None:
    if isinstance(line.raw, str):
        return line.raw.encode()
    if isinstance(line.rawBase64, str):
        try:
            return base64.b64decode(line.rawBase64, validate=True)
        except ValueError:
            return line.rawBase64.encode()
    return None


_AT = re.compile(r"(?s)(.*?)(?: - at `\$\.?(.*)`)?")
_TYPES = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


def _told(error: msgspec.ValidationError, prefix: str = "") -> str:
    """`sources[0].properties: expected object, got string`: the path of the fault, then what it is."""
    match = _AT.fullmatch(str(error))
    assert match is not None, "every text matches"
    what, path = match[1], ".".join(filter(None, [prefix, match[2]]))
    if types := _TYPES.fullmatch(what):
        told = f"expected {_type(types[1])}, got {_type(types[2])}"
    elif missing := _MISSING.fullmatch(what):
        path, told = _join(path, missing[1]), "missing"
    elif unknown := _UNKNOWN.fullmatch(what):
        told = f"unknown member; allowed are {_allowed(path)}"
        path = _join(path, unknown[1])
    elif path == "externalId":
        told = "expected 1 to 256 characters"
    elif path == "sources":
        told = "expected 1 to 100 sources"
    else:
        told = what[:1].lower() + what[1:]
    return f"{path or 'record'}: {told}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _allowed(path: str) -> str:
    if not path:
        return "space, externalId and sources"
    return "type, space and externalId" if path.endswith(".source") else "source and properties"


def _type(name: str) -> str:
    return {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}.get(name, name)


_BYTE = re.compile(r"(?:JSON is malformed: )?(.*?)(?: \(byte (\d+)\))?")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _malformed(error: msgspec.DecodeError, text: bytes) -> str:
    match = _BYTE.fullmatch(str(error))
    assert match is not None, "every text matches"
    what, byte = match[1], match[2]
    cut_short = what == "Input data was truncated"
    if (cut_short or "escape" in what) and text.rstrip().endswith(b"}") and _SURROGATE.search(text):
        return "not JSON: half a surrogate pair"
    if cut_short:
        return "not JSON: it ends in the middle"
    return f"not JSON: {what}" + (f" at byte {int(byte) + 1} of the record" if byte else "")


def failed_of(unframed: Unframed, ordinal: int) -> Failed:
    """The settlement of a text that could not even be framed."""
    kind = FailureClass.OVERSIZE if unframed.kind == "oversize" else FailureClass.UNREADABLE
    return Failed(ordinal, unframed.place, Failure(kind, unframed.reason), unframed.raw)
