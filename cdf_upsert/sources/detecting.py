"""How records stand in an input, told from its content and never from its name."""

from cdf_upsert.core.framing import Format, Framer, Frames, Place, Position, Unframed
from cdf_upsert.errors import UsageError
from cdf_upsert.sources.envelope import items_begin
from cdf_upsert.sources.lines import LineFramer
from cdf_upsert.sources.nesting import Nesting

HEAD = 64 * 1024
"""Bytes that are enough to tell the format of any input."""

_BOM = b"\xef\xbb\xbf"


def detect(head: bytes, *, complete: bool) -> Format | None:
    """Tell the format from the first bytes of an input; None when more of them are needed (`HEAD` always do).

    `complete` says that nothing follows.
    """
    full, head = len(head) >= HEAD, head[:HEAD]
    complete = complete and not full
    undecided = Format.JSON if complete or full else None
    body = head.removeprefix(_BOM).lstrip()
    if not body:
        return undecided
    if body.startswith(b"["):
        return Format.JSON
    if body.startswith(b"{") and isinstance(items_begin(body, 0, len(body)), int):
        return Format.JSON
    lines = body.split(b"\n")
    unfinished = b"" if complete else lines.pop()
    if not lines:
        # One long line: values one after the other, or a record of NDJSON that is longer than what is seen?
        holds_a_value = Nesting(unfinished[0]).end(unfinished, 0, len(unfinished)) is not None
        return undecided and (Format.JSON if holds_a_value else Format.NDJSON)
    if _is_object(lines[0]) or (any(map(_is_object, lines)) and _is_broken(body, complete=complete)):
        return Format.NDJSON
    return undecided


def _is_object(line: bytes) -> bool:
    """Tell whether a line is one object by its brackets: what is inside them may be wrong, and costs one record."""
    # At the very beginning of its line: what is indented is part of a pretty-printed document.
    line = line.rstrip()
    return line.startswith(b"{") and Nesting(line[0]).end(line, 0, len(line)) == len(line)


def _is_broken(head: bytes, *, complete: bool) -> bool:
    from cdf_upsert.sources.grammar import BROKEN, Grammar  # noqa: PLC0415  Most inputs do not need ijson.

    grammar = Grammar(b"")
    try:
        grammar.send(head)
        if complete:
            grammar.finish()
    except BROKEN:
        return True
    return False


class AutoFramer:
    """Frames an input of any format, and passes by what an earlier run consumed.

    Of NDJSON the bytes before `start` are passed by unseen; a document is read again, and its records up to
    `start` are left out.
    """

    def __init__(self, path: str, fmt: Format | None = None, start: Position | None = None) -> None:
        self.format = fmt
        self._path = path
        self._start = start or Position()
        self._head = b""
        self._framer: Framer | None = None
        self._skip = 0  # Bytes of NDJSON that are still to be passed by.
        self._passed = 0  # The last record that was framed or passed by.

    @property
    def ended(self) -> bool:
        """Tell whether the input is broken in a way that ends it: nothing more is framed."""
        return self._framer is not None and self._framer.ended

    def feed(self, data: bytes) -> list[Frames | Unframed]:
        """Take the next bytes."""
        return self._feed(data, complete=False)

    def finish(self) -> list[Frames | Unframed]:
        """Take the end of the input.

        Raises:
            UsageError: it comes before the position to start from.
        """
        found = self._feed(b"", complete=True)
        if self._framer is not None:
            found += self._from_start(self._framer.finish())
        if self._skip or self._passed < self._start.record:
            raise UsageError(
                f"{self._path} ends before the place where the earlier run stood, so it is not the same input: give "
                "the same input again, or begin anew with --fresh."
            )
        return found

    def abort(self, reason: str) -> list[Frames | Unframed]:
        """Take that no more can be read, and why."""
        if self._framer is None and self.format is None and self._head:
            is_json = not _is_broken(self._head, complete=False)
            self.format = Format.JSON if is_json else Format.NDJSON
        found = self._feed(b"", complete=True)
        framer = self._framer or LineFramer(self._path)
        return found + self._from_start(framer.abort(reason))

    def _feed(self, data: bytes, *, complete: bool) -> list[Frames | Unframed]:
        if self._framer is None:
            data = self._head = self._head + data
            if len(data) < 2 and not complete:
                return []
            self._framer = self._choose(data, complete=complete)
            if self._framer is None:
                return []
            self._head = b""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        return self._from_start(self._framer.feed(data)) if data else []

    def _choose(self, head: bytes, *, complete: bool) -> Framer | None:
        if head[:1] in {b"\xff", b"\xfe", b"\0"} or head[1:2] == b"\0":
            return _Refuser(self._path)
        self.format = self.format or detect(head, complete=complete)
        match self.format:
            case None:
                return None
            case Format.NDJSON:
                self._skip = self._start.offset
                self._passed = self._start.record
                return LineFramer(self._path, self._start)
            case Format.JSON:
                from cdf_upsert.sources.documents import DocumentFramer  # noqa: PLC0415  NDJSON needs no ijson.

                return DocumentFramer(self._path)

    def _from_start(self, found: list[Frames | Unframed]) -> list[Frames | Unframed]:
        kept: list[Frames | Unframed] = []
        for piece in found:
            if self._passed >= self._start.record:
                kept.append(piece)
                continue
            self._passed = piece.end.record
            if self._passed > self._start.record:
                assert isinstance(piece, Frames)  # An Unframed is one record: it cannot reach over the start.
                kept.append(piece.part(self._start.record + 1 - piece.first_record, len(piece.texts)))
        return kept


class _Refuser:
    """Answers an input that is not in UTF-8 at all with one fault."""

    def __init__(self, path: str) -> None:
        self.ended = False
        self._path = path

    def feed(self, _data: bytes) -> list[Frames | Unframed]:
        return self.abort(
            "the input is not in UTF-8 but looks like UTF-16 or UTF-32: convert it, for example with iconv -t UTF-8"
        )

    def finish(self) -> list[Frames | Unframed]:
        return []

    def abort(self, reason: str) -> list[Frames | Unframed]:
        if self.ended:
            return []
        self.ended = True
        return [Unframed(Place(self._path, 1, 1, 0, 0), reason, "unreadable", None, Position(record=1))]
