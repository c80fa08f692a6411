"""The API over HTTP: who is let in, what is read, and what each reply looks like."""

import gzip
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cdf_upsert.sandbox.serve import Options, running
from cdf_upsert.sandbox.wire import gunzip
from cdf_upsert.sandbox.world import Refusal
from tests.sandbox.api import Api, body
from tests.sandbox.builders import record, stream

UPSERT = "/streams/events/records/upsert"
PARTIAL = """
[[fault]]
kind = "partial"
"""


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running(Options(strict=True)) as sandbox, Api(sandbox) as found:
        found.declare()
        yield found


def error(reply: httpx.Response, status: int) -> dict:
    """The error object of a refused request, which has the same shape everywhere."""
    assert reply.status_code == status, reply.text
    assert reply.headers["x-request-id"]
    found = reply.json()["error"]
    assert found["code"] == status
    assert found["message"]
    return found


def test_an_accepted_write_is_an_empty_object(api):
    """202 with `{}`, JSON, and a request id of its own."""
    first, second = api.upsert(record("a")), api.upsert(record("a"))
    assert (first.status_code, first.json(), first.headers["content-type"]) == (202, {}, "application/json")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("scheme", ["", "Bearer", "Bearer made-up", "Basic c2FuZGJveDpzYW5kYm94", "bearer"])
def test_without_a_valid_token_nobody_is_let_in(api, scheme):
    """A missing, malformed or unknown token is 401."""
    reply = api.http.post(UPSERT, json={}, headers={"Authorization": scheme})
    error(reply, 401)


def test_a_token_is_for_its_project(api):
    """Another project's name in the path is 401."""
    url = f"{api.sandbox.address.base_url}/api/v1/projects/other/streams"
    error(api.http.get(url), 401)


def test_a_reader_may_read_and_not_write(api):
    """A token without write gets 403 for each way to write, and its reads pass."""
    for form in ({"client_id": "sandbox-reader"}, {"scope": "records.read"}):
        with Api(api.sandbox, api.token(**form).json()["access_token"]) as reader:
            assert reader.get("/streams/events").status_code == 200
            assert reader.post("/streams/events/records/filter", {}).status_code == 200
            for path in (UPSERT, "/streams/events/records", "/streams/events/records/delete"):
                assert "streamRecordsAcl:WRITE" in error(reader.send(path, body("a")), 403)["message"]
            assert (
                "streamsAcl:CREATE"
                in error(reader.post("/streams", {"items": [stream("x")]}), 403)["message"]
            )
            error(reader.post("/models/spaces", {"items": [{"space": "x"}]}), 403)
            error(reader.post("/streams/delete", {"items": [{"externalId": "x"}]}), 403)


def test_records_need_access_to_containers_too(api):
    """A scope narrows a token to the access it names; without access to containers no record is written or read."""
    write, models = "streamRecordsAcl:WRITE", "dataModelsAcl:READ"
    gone = b'{"items":[{"space":"plant","externalId":"nothing"}]}'

    def ask(scope: str, path: str, content: bytes) -> httpx.Response:
        with Api(api.sandbox, api.token(scope=scope).json()["access_token"]) as narrow:
            return narrow.send(f"/streams/events/records{path}", content)

    for path in ("", "/upsert"):
        assert error(ask(write, path, body("a")), 403)["message"] == f"Forbidden: the token lacks {models}."
    assert ask(f"{write} {models}", "/upsert", body("a")).status_code == 202
    assert ask(write, "/delete", gone).status_code == 200
    for path, content in (
        ("/filter", b"{}"),
        ("/sync", b'{"initializeCursor":"1d-ago"}'),
        ("/aggregate", b'{"aggregates":{"n":{"count":{}}}}'),
    ):
        assert models in error(ask("streamRecordsAcl:READ", path, content), 403)["message"]
        assert "streamRecordsAcl:READ" in error(ask(f"{write} {models}", path, content), 403)["message"]
        assert ask(f"streamRecordsAcl:READ {models}", path, content).status_code == 200


def test_a_token_ends_when_it_was_said_to_end():
    """A token that has lived its time is 401."""
    with running(Options(token_seconds=0.05)) as sandbox, Api(sandbox) as api:
        codes = {api.get("/streams").status_code for _ in range(200)}
        assert 401 in codes
        assert api.token().json()["expires_in"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/streams/", 404),
        ("GET", "/models/containers?space=a.b", 400),
        ("GET", "/streams/events/records/upsert", 405),
        ("PUT", "/streams", 405),
        ("DELETE", "/streams/events", 410),
        ("GET", "/streams/nothing", 404),
        ("GET", "/streams/Nothing", 400),
        ("GET", "/streams/events?includeStatistics=perhaps", 400),
        ("GET", "/models/spaces?limit=0", 400),
        ("GET", "/models/spaces?limit=many", 400),
        ("GET", "/models/spaces?limit=%C2%B2", 400),
        ("GET", "/models/spaces?cursor=x", 400),
        ("GET", "/models/containers?usedFor=tree", 400),
    ],
)
def test_what_is_not_there_or_not_allowed(api, method, path, status):
    """Unknown paths, streams and parameters, and methods that a path has not, have their own status."""
    reply = api.http.request(method, path)
    error(reply, status)
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{}", {"Content_Type": ""}, 415),
        (b"{}", {"Content_Encoding": "br"}, 415),
        (b"{}", {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(body("a"), mtime=0)[:-9], {"Content_Encoding": "gzip"}, 400),
        (gzip.compress(body("a"), mtime=0) + b"junk", {"Content_Encoding": "gzip"}, 400),
        (b"", {"Content_Encoding": "gzip"}, 400),
        (b" " * 10_000_001, {}, 413),
        (gzip.compress(b" " * 10_000_001, mtime=0), {"Content_Encoding": "gzip"}, 413),
        (gzip.compress(gzip.compress(b"", mtime=0), mtime=0), {"Content_Encoding": "gzip"}, 400),
        (b"{", {}, 400),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(api, content, headers, status):
    """Types, encodings, sizes and broken gzip each have their status."""
    error(api.send(UPSERT, content, **headers), status)


def test_a_gzip_bomb_does_no_harm(api):
    """A gigabyte of zeros in a megabyte is refused, quickly and within the memory of a request."""
    bomb = gzip.compress(b"\0" * 100_000_000, mtime=0)
    error(api.send(UPSERT, bomb * 5, Content_Encoding="gzip"), 413)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal):
            gunzip(bomb)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "pack",
    [lambda content: content, gzip.compress, lambda c: gzip.compress(c[:9], mtime=0) + gzip.compress(c[9:])],
)
def test_a_body_may_be_packed(api, pack):
    """Plain, gzip, and gzip in several members are the same request; a charset may stand in the type."""
    content = pack(body("packed"))
    encoding = {} if content[:1] == b"{" else {"Content_Encoding": "gzip"}
    reply = api.send(UPSERT, content, Content_Type="application/json; charset=utf-8", **encoding)
    assert reply.status_code == 202


def test_a_body_may_come_in_chunks(api):
    """A body of no stated length that comes in chunks is a body like any other."""
    headers = {"Content-Type": "application/json"}
    reply = api.http.post(UPSERT, content=iter([body("chunked")[:9], body("chunked")[9:]]), headers=headers)
    assert reply.request.headers["transfer-encoding"] == "chunked"
    assert reply.status_code == 202


def test_lists_heed_their_parameters(api):
    """Space, use, limit and flags narrow a list; a limit beyond the largest is the largest."""

    def listed(path: str, **asked: str) -> list[str]:
        found = api.get(f"/models/{path}", **asked).json()["items"]
        return [one.get("externalId", one["space"]) for one in found]

    assert listed("containers", usedFor="record", space="plant") == ["pump"]
    assert listed("containers", usedFor="record", space="elsewhere") == []
    assert listed("containers", includeGlobal="true") == []
    assert listed("spaces", limit="9999999999", includeGlobal="false") == ["plant"]
    assert "consumed" in api.get("/streams/events", includeStatistics="true").text
    assert "consumed" not in api.get("/streams/events", includeStatistics="false").text


def test_a_request_of_the_full_size_is_taken(api):
    """Exactly ten million bytes are taken."""
    content = body("big", json={"a": 1})
    content += b" " * (10_000_000 - len(content))
    assert api.send(UPSERT, content).status_code == 202


def raw(api: Api, request: bytes) -> bytes:
    """What comes back for bytes on a connection."""
    host, port = api.sandbox.address.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_post_must_say_its_length(api):
    """A POST with neither a length nor chunks is 411."""
    head = f"POST /api/v1/projects/sandbox{UPSERT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.sandbox.token}\r\n\r\n"
    assert raw(api, head.encode()).startswith(b"HTTP/1.1 411 ")


def test_junk_on_the_wire_does_no_harm(api):
    """What is not HTTP is refused, half a request is forgotten, and the next request is served."""
    assert raw(api, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    head = f"POST /api/v1/projects/sandbox{UPSERT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    raw(api, f"{head}Authorization: Bearer {api.sandbox.token}\r\nContent-Length: 500\r\n\r\n{{".encode())
    assert api.upsert(record("a")).status_code == 202


def test_ingest_says_which_records_exist(api):
    """409 with a list of all records, each with its code, the failed ones with a message."""
    api.upsert(record("here"))
    content = {"items": [record(name) for name in ("here", "new.1", "new.2")]}
    found = error(api.post("/streams/events/records", content), 409)["partial"]
    assert {one["externalId"]: one["code"] for one in found} == {"here": 409, "new.1": 202, "new.2": 202}
    assert all(("message" in one) == (one["code"] != 202) for one in found)


def test_the_list_of_results_is_shuffled(api):
    """The order of the list is not that of the request."""
    api.upsert(record("here"))
    names = ["here", *(f"shuffle{n}" for n in range(50))]
    found = error(api.post("/streams/events/records", {"items": [record(name) for name in names]}), 409)[
        "partial"
    ]
    assert sorted(one["externalId"] for one in found) == sorted(names)
    assert [one["externalId"] for one in found] != names


def test_duplicates_and_missing_things_are_named(api):
    """`duplicated` joins the key by a dot, `missing` names the container."""
    assert error(api.upsert(record("x.y"), record("x.y")), 422)["duplicated"] == [{"externalId": "plant.x.y"}]
    one = record("a")
    one["sources"][0]["source"] = {"type": "container", "space": "plant", "externalId": "nope"}
    assert error(api.upsert(one), 400)["missing"] == [{"space": "plant", "externalId": "nope"}]
    error(api.upsert(record("a"), stream_id="log"), 422)


def test_two_writes_of_one_key_at_the_same_moment(tmp_path):
    """The later request gets 409 for the shared record and writes the others; the first one's version stands."""
    script = tmp_path / "faults.toml"
    script.write_text("latency = { fixed = 0.3 }")
    with running(Options(faults=script)) as sandbox, Api(sandbox) as api, ThreadPoolExecutor(1) as other:
        first = other.submit(api.upsert, record("shared", int64=1), record("mine"))
        while sandbox.ask(lambda service: service.flights._open) == 0:
            pass
        second = api.upsert(record("shared", int64=2), record("yours"))
        found = error(second, 409)["partial"]
        assert {one["externalId"]: one["code"] for one in found} == {"shared": 409, "yours": 202}
        assert first.result().status_code == 202
        stored = sandbox.records("events")
        assert stored["plant", "shared"] == {("plant", "pump"): {"int64": 1}}
        assert ("plant", "yours") in stored
        assert api.upsert(record("shared", int64=3)).status_code == 202
        assert sandbox.traffic.highest_at_once == 2


def test_a_delete_is_never_in_conflict(tmp_path):
    """The API knows no 409 for a delete: one that overlaps a write of the same key passes."""
    script = tmp_path / "faults.toml"
    script.write_text("latency = { fixed = 0.2 }")
    with running(Options(faults=script)) as sandbox, Api(sandbox) as api, ThreadPoolExecutor(1) as other:
        first = other.submit(api.upsert, record("shared"))
        while sandbox.ask(lambda service: service.flights._open) == 0:
            pass
        content = {"items": [{"space": "plant", "externalId": "shared"}]}
        assert api.post("/streams/events/records/delete", content).status_code == 200
        assert first.result().status_code == 202


def test_an_immutable_stream_knows_no_overlap(tmp_path):
    """Ingests of one key at the same moment are both taken where nothing is ever changed."""
    script = tmp_path / "faults.toml"
    script.write_text("latency = { fixed = 0.2 }")
    options = Options(strict=True, faults=script)
    with running(options) as sandbox, Api(sandbox) as api, ThreadPoolExecutor(1) as other:
        api.declare()
        ingest = "/streams/log/records"
        first = other.submit(api.post, ingest, {"items": [record("shared", int64=1)]})
        while sandbox.ask(lambda service: service.flights._open) == 0:
            pass
        assert api.post(ingest, {"items": [record("shared", int64=2)]}).status_code == 202
        assert first.result().status_code == 202


def test_budgets_hold_over_http():
    """With the limits of CDF the stream endpoint lets three requests a second pass; the clock may run faster."""
    with running(Options(limits="cdf")) as sandbox, Api(sandbox) as api:
        codes = [api.get("/streams/events").status_code for _ in range(8)]
        assert codes[:3] == [200] * 3
        assert 429 in codes
    with running(Options(limits="cdf", clock_speed=10_000)) as sandbox, Api(sandbox) as api:
        assert {api.get("/streams/events").status_code for _ in range(8)} == {200}


def test_each_kind_of_request_has_its_budget():
    """With a clock that all but stands still: writes of all kinds share one budget, queries another, filters have less."""
    writes = [
        ("/upsert", body("a")),
        ("", body("b")),
        ("/delete", b'{"items":[{"space":"plant","externalId":"x"}]}'),
    ]
    sync = ("/sync", b'{"initializeCursor":"1d-ago"}')
    aggregate = ("/aggregate", b'{"aggregates":{"n":{"count":{}}}}')
    for requests, most in (
        (writes, 30),
        ([("/filter", b"{}")], 15),
        ([sync, aggregate], 30),
        ([("/filter", b"{}"), sync, aggregate], 30),
    ):
        with running(Options(limits="cdf", clock_speed=0.001)) as sandbox, Api(sandbox) as api:
            codes = []
            for number in range(most + len(requests)):
                path, content = requests[number % len(requests)]
                codes.append(api.send(f"/streams/events/records{path}", content).status_code)
            assert 429 not in codes[:most]
            assert codes[most:] == [429] * len(requests)


def test_quotas_hold_over_http():
    """Past the ten-minute quota a write is 429 with the seconds to wait, in the client's time."""
    with running(Options(limits="cdf", clock_speed=60)) as sandbox, Api(sandbox) as api:
        api.upsert(record("a"))
        sandbox.ask(_spend_all)
        reply = api.upsert(record("b"))
        error(reply, 429)
        assert 1 <= int(reply.headers["retry-after"]) <= 10
        assert len(sandbox.records("events")) == 1


def test_a_deleted_stream_takes_its_quota_along():
    """A stream that is made anew under an old name has its whole quota."""
    with running(Options(strict=True, limits="cdf")) as sandbox, Api(sandbox) as api:
        api.declare()
        sandbox.ask(_spend_all)
        api.upsert(record("a"))
        error(api.upsert(record("b")), 429)
        api.post("/streams/delete", {"items": [{"externalId": "events"}]}).raise_for_status()
        api.post("/streams", {"items": [stream("events")]}).raise_for_status()
        assert api.upsert(record("b")).status_code == 202


def test_a_full_disk_is_told_and_forgotten():
    """What cannot be kept is a 500 that says so, of which nothing stays; with room again the next write passes."""
    with running(Options(strict=True)) as sandbox, Api(sandbox) as api:
        api.declare()
        assert api.upsert(record("a")).status_code == 202
        sandbox.ask(lambda service: _allow_pages(service, 1))
        large = [record(f"l{number}", text="x" * 100_000) for number in range(20)]
        fault = error(api.upsert(*large), 500)
        assert "cannot keep its state" in fault["message"]
        sandbox.ask(lambda service: _allow_pages(service, 100_000))
        found = api.get("/streams/events", includeStatistics="true").json()
        assert found["settings"]["limits"]["maxRecordsTotal"]["consumed"] == 1
        assert api.upsert(*large).status_code == 202
        assert len(sandbox.records("events")) == 21


def _allow_pages(service, most: int) -> None:
    """Let the database have so many pages, or as many as it has already."""
    service.world._store._sql.execute(f"PRAGMA max_page_count = {most}")


def _spend_all(service) -> None:
    from cdf_upsert.sandbox.limits import Amounts

    template = service.world.streams.get("events", 0).template
    service.quotas.spend("events", template, Amounts(template.quota_created - 1, 0, 0), service.clock.now())


def faulty(tmp_path, text: str) -> Options:
    script = tmp_path / "faults.toml"
    script.write_text(text)
    return Options(faults=script, keep_writes=True)


def test_a_throttled_request_says_when_to_come_back(tmp_path):
    """429 with seconds, with a date, or without `Retry-After`; nothing is written."""
    text = """
[[fault]]
kind = "throttle"
requests = [1]
retry_after = 2
[[fault]]
kind = "throttle"
requests = [2]
retry_after = 60
as_date = true
[[fault]]
kind = "throttle"
requests = [3]
"""
    with running(faulty(tmp_path, text)) as sandbox, Api(sandbox) as api:
        replies = [api.upsert(record("a")) for _ in range(4)]
        assert [one.status_code for one in replies] == [429, 429, 429, 202]
        assert replies[0].headers["retry-after"] == "2"
        assert replies[1].headers["retry-after"].endswith(" GMT")
        assert "retry-after" not in replies[2].headers
        assert len(sandbox.traffic.writes) == 1
        assert sandbox.traffic.faults == {"throttle": 3}


def test_the_gateway_may_answer_in_html(tmp_path):
    """502 with a page, 503 with a hint to retry; nothing is written."""
    text = """
[[fault]]
kind = "answer"
html = true
requests = [1]
[[fault]]
kind = "answer"
status = 503
auto_retryable = true
retry_after = 0.5
requests = [2]
"""
    with running(faulty(tmp_path, text)) as sandbox, Api(sandbox) as api:
        page, later = api.upsert(record("a")), api.upsert(record("a"))
        assert (page.status_code, page.headers["content-type"]) == (502, "text/html")
        assert page.text.startswith("<html>")
        assert (later.status_code, later.headers["cdf-is-auto-retryable"]) == (503, "true")
        assert later.headers["retry-after"] == "0.5"
        assert sandbox.traffic.writes == []


@pytest.mark.parametrize("code", [409, 500, 503])
@pytest.mark.parametrize("written", ["true", "false"])
def test_some_records_may_fail(tmp_path, code, written):
    """The named record fails with the code and the others are written; it may be written all the same."""
    text = f'{PARTIAL}code = {code}\nkeys = ["plant.b"]\nwritten = {written}'
    with running(faulty(tmp_path, text)) as sandbox, Api(sandbox) as api:
        found = error(api.upsert(record("a"), record("b"), record("c")), code)["partial"]
        assert {one["externalId"]: one["code"] for one in found} == {"a": 202, "b": code, "c": 202}
        stored = {name for _, name in sandbox.records("events")}
        assert stored == ({"a", "b", "c"} if written == "true" else {"a", "c"})
        assert api.upsert(record("c")).status_code == 202
        assert {write.key for write in sandbox.traffic.writes} == {f"plant.{name}" for name in stored}


def test_results_may_be_left_out_or_spoilt(tmp_path):
    """The list may lack records, be missing, or give way to text or to nothing."""
    shapes = ("partial", "no list", "text", "empty")
    text = "".join(
        f'{PARTIAL}requests = [{n}]\nleft_out = 0.5\nshape = "{shape}"\n' for n, shape in enumerate(shapes, 1)
    )
    with running(faulty(tmp_path, text)) as sandbox, Api(sandbox) as api:
        replies = [api.upsert(*(record(str(n)) for n in range(10))) for _ in shapes]
        assert {one.status_code for one in replies} == {503}
        assert len(replies[0].json()["error"]["partial"]) == 5
        assert "partial" not in replies[1].json()["error"]
        assert replies[2].headers["content-type"] == "text/plain"
        assert replies[3].content == b""


def test_a_connection_may_be_cut_before_or_after_the_write(tmp_path):
    """A cut loses request and reply; a lost reply loses only the reply."""
    text = '[[fault]]\nkind = "cut"\nrequests = [1]\n[[fault]]\nkind = "lost"\nrequests = [2]\n'
    with running(faulty(tmp_path, text)) as sandbox, Api(sandbox) as api:
        for name in ("cut", "lost"):
            with pytest.raises(httpx.TransportError):
                api.upsert(record(name))
        assert api.upsert(record("after")).status_code == 202
        assert {name for _, name in sandbox.records("events")} == {"lost", "after"}
        assert sandbox.traffic.count("upsert", 0) == 2


def test_a_reply_may_trickle_or_be_late(tmp_path):
    """A slow reply comes whole in the end; a client that does not wait leaves a written record behind."""
    text = '[[fault]]\nkind = "trickle"\nseconds = 0.2\nrequests = [1]\n[[fault]]\nkind = "delay"\nseconds = 0.4\nrequests = [2]\n'
    with running(faulty(tmp_path, text)) as sandbox:
        with Api(sandbox) as api:
            reply = api.upsert(record("slow"))
            assert (reply.status_code, reply.json()) == (202, {})
            assert reply.elapsed.total_seconds() >= 0.15
        with Api(sandbox, timeout=0.1) as hasty, pytest.raises(httpx.TimeoutException):
            hasty.upsert(record("late"))
        assert {name for _, name in sandbox.records("events")} == {"slow", "late"}


def test_a_token_may_end_early(tmp_path):
    """The request that meets the fault and all later ones with its token get 401; a new token is good."""
    with (
        running(faulty(tmp_path, '[[fault]]\nkind = "expire"\nrequests = [2]\n')) as sandbox,
        Api(sandbox) as api,
    ):
        assert [api.upsert(record("a")).status_code for _ in range(3)] == [202, 401, 401]
        with Api(sandbox, api.token().json()["access_token"]) as again:
            assert again.upsert(record("a")).status_code == 202


def test_the_token_endpoint_may_fail_too(tmp_path):
    """A scripted fault on `token` refuses the sign-in, and the next one passes."""
    script = """
latency = { fixed = 0.02 }
[[fault]]
kind = "answer"
status = 503
on = ["token"]
requests = [1]
[[fault]]
kind = "throttle"
retry_after = 3
on = ["token"]
requests = [2]
[[fault]]
kind = "cut"
on = ["token"]
requests = [3]
"""
    with running(faulty(tmp_path, script)) as sandbox, Api(sandbox) as api:
        assert api.token().status_code == 503
        throttled = api.token()
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "3")
        with pytest.raises(httpx.TransportError):
            api.token()
        good = api.token()
        assert (good.status_code, good.elapsed.total_seconds() >= 0.02) == (200, True)
        assert sandbox.traffic.faults == {"answer 503": 1, "throttle": 1, "cut": 1}


def test_latency_holds_for_every_request(tmp_path):
    """A fixed latency is what every request takes at least, also one that is refused or meets a fault."""
    script = "latency = { fixed = 0.1 }\n[[fault]]\nkind = 'throttle'\nrequests = [2]"
    with running(faulty(tmp_path, script)) as sandbox, Api(sandbox) as api:
        for reply in (
            api.upsert(record("a")),
            api.upsert(record("a")),
            api.upsert(),
            api.get("/streams"),
            api.post("/streams/events/records/filter", {}),
        ):
            assert reply.elapsed.total_seconds() >= 0.1


def test_the_token_inspection_tells_what_a_token_may_do(api):
    """Subject, project and capabilities, as the loader's doctor asks for them."""
    found = api.http.get(f"{api.sandbox.address.base_url}/api/v1/token/inspect").json()
    assert found["projects"] == [{"projectUrlName": "sandbox", "groups": [1]}]
    acls = {name for one in found["capabilities"] for name in one if name != "projectScope"}
    assert {"streamsAcl", "streamRecordsAcl", "dataModelsAcl"} <= acls


def test_what_was_asked_and_written_can_be_looked_up():
    """Entries, counts, the highest number at once and, on demand, each write with its request and digest."""
    with running(Options(keep_writes=True)) as sandbox, Api(sandbox) as api:
        replies = [api.upsert(record("a", int64=n), record("b")) for n in range(3)]
        api.upsert(record("a"), record("a"))
        traffic = sandbox.traffic
        assert (traffic.count("upsert"), traffic.count("upsert", 202), traffic.count("upsert", 422)) == (
            4,
            3,
            1,
        )
        assert traffic.records == 6
        assert [one.request_id for one in traffic.requests][:3] == [
            one.headers["x-request-id"] for one in replies
        ]
        versions = [write for write in traffic.writes if write.key == "plant.a"]
        assert len({write.digest for write in versions}) == 3
        assert [write.request for write in versions] == sorted(write.request for write in versions)
        assert {write.digest for write in traffic.writes if write.key == "plant.b"} == {
            traffic.writes[1].digest
        }


def test_many_clients_at_once_lose_nothing():
    """Eight threads write disjoint records; all are stored, each request is answered once."""
    with running(Options()) as sandbox, Api(sandbox) as api:
        api.upsert(record("first"))
        start = threading.Barrier(8)

        def work(worker: int) -> list[int]:
            start.wait()
            return [
                api.upsert(*(record(f"{worker}.{n}.{m}") for m in range(20))).status_code for n in range(10)
            ]

        with ThreadPoolExecutor(8) as pool:
            codes = [code for found in pool.map(work, range(8)) for code in found]
        assert codes == [202] * 80
        assert len(sandbox.records("events")) == 1601


def test_a_long_query_lets_others_in():
    """While one request goes through a whole stream, others are answered."""
    with running(Options()) as sandbox, Api(sandbox) as api, ThreadPoolExecutor(1) as other:
        for part in range(20):
            api.upsert(*(record(f"{part}.{n}", json={"a": "x" * 9000}) for n in range(50)))
        long = other.submit(
            api.post, "/streams/events/records/filter", {"sort": [{"property": ["externalId"]}]}
        )
        stream = sandbox.ask(lambda service: service.world.streams.get("events", 0))
        while not long.done() and not sandbox.ask(lambda service: service.world._store._walks.get(stream.id)):
            pass
        assert api.get("/streams/events").status_code == 200
        assert len(long.result().json()["items"]) == 10
        assert [one.operation for one in sandbox.traffic.requests][-2:] == ["streams", "filter"]


def test_what_is_refused_is_logged_too(api):
    """Unknown paths and methods stand among the requests, with their status and time."""
    before = api.sandbox.traffic.count("unknown")
    api.get("/nowhere")
    api.http.put("/streams")
    traffic = api.sandbox.traffic
    assert traffic.count("unknown") == before + 2
    assert [(one.method, one.status) for one in traffic.requests][-2:] == [("GET", 404), ("PUT", 405)]
    assert traffic.requests[-1].seconds > 0
