"""Makes records for tests."""

from cdf_upsert.core.record import Record


def make_text(external_id: str, value: object = 0, space: str = "s", pad: int = 0) -> bytes:
    """The text of a good record; `pad` makes it longer."""
    filling = f',"pad":"{"x" * pad}"' if pad else ""
    return (
        f'{{"space":"{space}","externalId":"{external_id}","sources":[{{"source":{{"type":"container","space":"s",'
        f'"externalId":"c"}},"properties":{{"value":{value}{filling}}}}}]}}'
    ).encode()


def make_record(ordinal: int, external_id: str, value: object = 0, pad: int = 0, space: str = "s") -> Record:
    """A record as the checker makes it from line `ordinal + 1` of `a.ndjson`."""
    text = make_text(external_id, value, space, pad)
    return Record(text, (space, external_id), ordinal, "a.ndjson", ordinal + 1, ordinal + 1, ordinal * 1000)


def make_records(*external_ids: str) -> list[Record]:
    """Records of these keys, in this order."""
    return [make_record(i, external_id, i) for i, external_id in enumerate(external_ids)]
