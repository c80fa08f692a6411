"""The API's paths: which methods each has, what access they need, and who answers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qsl

from cdf_upsert.sandbox.call import Call, Endpoint
from cdf_upsert.sandbox.faults import WRITES
from cdf_upsert.sandbox.limits import Kind
from cdf_upsert.sandbox.wire import NOT_KEPT, Reply, json_reply
from cdf_upsert.sandbox.world import Operation, Refusal, Steps
from cdf_upsert.sandbox.world.names import is_space
from cdf_upsert.sandbox.writes import write


async def _streams_create(call: Call) -> Reply:
    return json_reply(call.service.world.streams.create(call.body, call.now), 201)


async def _streams_list(call: Call) -> Reply:
    return json_reply({"items": [stream.read() for stream in call.service.world.streams.all()]})


async def _stream(call: Call) -> Reply:
    statistics = call.flag("includeStatistics")
    return json_reply(call.service.world.retrieve_stream(call.stream, call.now, statistics=statistics))


async def _streams_delete(call: Call) -> Reply:
    name = call.service.world.streams.delete(call.body)
    if call.service.quotas is not None:
        call.service.quotas.forget(name)
    return Reply(200)


async def _stream_gone(call: Call) -> Reply:
    raise Refusal(
        410,
        "This endpoint is deprecated and no longer supported. Use POST /streams/delete with the body "
        f'{{"items": [{{"externalId": "{call.stream}"}}]}}.',
    )


async def _filter(call: Call) -> Reply:
    return await _in_steps(call.service.world.filter(call.stream, call.body, call.now))


async def _sync(call: Call) -> Reply:
    return await _in_steps(call.service.world.sync(call.stream, call.body, call.now))


async def _aggregate(call: Call) -> Reply:
    return await _in_steps(call.service.world.aggregate(call.stream, call.body, call.now))


async def _in_steps(query: Steps[dict[str, Any]]) -> Reply:
    """Go through a query step by step: a long one lets other requests in between."""
    with closing(query):
        while True:
            try:
                next(query)
            except StopIteration as end:
                return json_reply(end.value)
            await asyncio.sleep(0)


async def _inspect(call: Call) -> Reply:
    assert call.grant is not None  # every endpoint is behind a token
    return json_reply(call.service.inspect(call.grant))


async def _spaces_list(call: Call) -> Reply:
    call.flag("includeGlobal")  # the sandbox has no global spaces, so either answer is the same
    return json_reply(call.service.world.models.list_spaces(call.limit(), call.one("cursor")))


async def _containers_list(call: Call) -> Reply:
    call.flag("includeGlobal")  # no global containers either
    used_for = [part for name, value in call.query if name == "usedFor" for part in value.split(",")]
    unknown = set(used_for) - {"node", "edge", "record", "all"}
    if unknown:
        raise Refusal(400, f"usedFor: expected node, edge, record or all, got `{min(unknown)[:60]}`")
    space = call.one("space")
    if space is not None and not is_space(space):
        raise Refusal(400, f"space: `{space[:60]}` is not a valid space id")
    models = call.service.world.models
    return json_reply(models.list_containers(call.limit(), call.one("cursor"), space, used_for))


def _models(name: str) -> Callable[[Call], Awaitable[Reply]]:
    """An endpoint that hands its body to a method of the models."""

    async def answer(call: Call) -> Reply:
        models = call.service.world.models
        if name.startswith("apply"):
            return json_reply(getattr(models, name)(call.body, call.now))
        return json_reply(getattr(models, name)(call.body))

    return answer


def _parts(word: Literal["constraints", "indexes"]) -> dict[str, Endpoint]:
    async def answer(call: Call) -> Reply:
        return json_reply(call.service.world.models.delete_parts(word, call.body, call.now))

    return {"POST": Endpoint("models", ("dataModelsAcl:WRITE",), answer)}


async def _token(call: Call) -> Reply:
    form = dict(parse_qsl(call.body.decode("latin-1")))
    given = call.service.identity.token(form, call.authorization, call.service.clock.wall())
    return json_reply(given, headers=NOT_KEPT)


_PROJECT = "/api/v1/projects/{project}"
_RECORDS = f"{_PROJECT}/streams/{{stream_id}}/records"
_READ = ("streamRecordsAcl:READ", "dataModelsAcl:READ")
_WRITE = ("streamRecordsAcl:WRITE",)


def _record_write(operation: Operation) -> dict[str, Endpoint]:
    assert operation in WRITES  # faults and the log use the same words
    answer = partial(write, operation)
    # Who writes properties must be allowed to read their containers; a delete names none.
    access = _WRITE if operation is Operation.DELETE else (*_WRITE, "dataModelsAcl:READ")
    return {"POST": Endpoint(operation, access, answer, Kind.WRITE, writes=True)}


def _model(name: str, access: str) -> dict[str, Endpoint]:
    return {"POST": Endpoint("models", (f"dataModelsAcl:{access}",), _models(name))}


_STREAM = {
    "GET": Endpoint("streams", ("streamsAcl:READ",), _stream, Kind.STREAMS, body="none"),
    "DELETE": Endpoint("streams", ("streamsAcl:DELETE",), _stream_gone, body="none"),
}

_TOKEN = {"POST": Endpoint("token", None, _token, body="form")}

ENDPOINTS: dict[str, dict[str, Endpoint]] = {
    f"{_PROJECT}/streams": {
        "POST": Endpoint("streams", ("streamsAcl:CREATE",), _streams_create),
        "GET": Endpoint("streams", ("streamsAcl:READ",), _streams_list, body="none"),
    },
    f"{_PROJECT}/streams/delete": {"POST": Endpoint("streams", ("streamsAcl:DELETE",), _streams_delete)},
    f"{_PROJECT}/streams/{{stream_id}}": _STREAM,
    _RECORDS: _record_write(Operation.INGEST),
    f"{_RECORDS}/upsert": _record_write(Operation.UPSERT),
    f"{_RECORDS}/delete": _record_write(Operation.DELETE),
    f"{_RECORDS}/filter": {"POST": Endpoint("filter", _READ, _filter, Kind.FILTER)},
    f"{_RECORDS}/sync": {"POST": Endpoint("sync", _READ, _sync, Kind.QUERY)},
    f"{_RECORDS}/aggregate": {"POST": Endpoint("aggregate", _READ, _aggregate, Kind.QUERY)},
    f"{_PROJECT}/models/spaces": {
        **_model("apply_spaces", "WRITE"),
        "GET": Endpoint("models", ("dataModelsAcl:READ",), _spaces_list, body="none"),
    },
    f"{_PROJECT}/models/spaces/byids": _model("spaces_by_ids", "READ"),
    f"{_PROJECT}/models/spaces/delete": _model("delete_spaces", "WRITE"),
    f"{_PROJECT}/models/containers": {
        **_model("apply_containers", "WRITE"),
        "GET": Endpoint("models", ("dataModelsAcl:READ",), _containers_list, body="none"),
    },
    f"{_PROJECT}/models/containers/byids": _model("containers_by_ids", "READ"),
    f"{_PROJECT}/models/containers/delete": _model("delete_containers", "WRITE"),
    f"{_PROJECT}/models/containers/constraints/delete": _parts("constraints"),
    f"{_PROJECT}/models/containers/indexes/delete": _parts("indexes"),
    # The same provider at the addresses of both kinds of identity provider that the tools know.
    "/oauth2/token": _TOKEN,
    "/{tenant}/oauth2/v2.0/token": _TOKEN,
    "/api/v1/token/inspect": {"GET": Endpoint("inspect", (), _inspect, body="none")},
}
