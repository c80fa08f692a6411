"""The client says what came back and whether a request may have arrived, and nothing secret."""

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from cdf_upsert.client import MOST_REPLY_BYTES, Client, retry_after
from cdf_upsert.core.comparing import Different, Missing, Same, Unreadable
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.stream import Limit, StreamFacts
from cdf_upsert.errors import RefusedError, UsageError
from tests.loopback import Answer, Asked, Loopback, in_turn, raw, reply, serving
from tests.records import make_record, make_records

NOW = 1_700_000_000.0
SECRET = "eyJhbGciOi.secret-token"


@dataclass
class Tokens:
    """Gives the first of its tokens until it is refused, then the next."""

    tokens: list[str] = field(default_factory=lambda: [SECRET])
    refused: list[str] = field(default_factory=list)

    async def token(self) -> str:
        return self.tokens[0]

    async def renewed(self, refused: str) -> str | None:
        self.refused.append(refused)
        self.tokens = self.tokens[1:] or self.tokens
        return self.tokens[0] if self.tokens[0] != refused else None


def make_client(url: str, tokens: Any = None, **options: Any) -> Client:
    defaults: dict[str, Any] = {
        "project": "p",
        "stream": "st",
        "transport": {
            "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            "proxy": None,
            "trust_env": False,
            "follow_redirects": False,
        },
        "explain": lambda error: f"explained: {type(error).__name__}",
        "timeout": 5.0,
        "connections": 4,
        "version": "1.2.3",
        "now": lambda: NOW,
    }
    return Client(base_url=url, tokens=tokens or Tokens(), **{**defaults, **options})


def talk(
    answer: Answer, test: Callable[[Client, Loopback], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Run `test` with a client of a server that answers so."""

    async def main() -> None:
        async with serving(answer) as server, make_client(server.url, **options) as client:
            await test(client, server)

    asyncio.run(main())


def send_one(answer: Answer, **options: Any) -> Reply | NoReply:
    """Send one batch of two records, and tell what came of it."""
    got: list[Reply | NoReply] = []

    async def test(client: Client, _: Loopback) -> None:
        got.append(await client.send(make_records("a", "b")))

    talk(answer, test, **options)
    return got[0]


def test_records_are_sent_as_the_bytes_that_were_read() -> None:
    """The body holds the texts of the records, byte for byte, packed with gzip."""
    records = [make_record(0, "a", "1.10"), make_record(1, "b", "9007199254740993")]

    async def test(client: Client, server: Loopback) -> None:
        got = await client.send(records)
        [asked] = server.asked
        assert (asked.method, asked.target) == ("POST", "/api/v1/projects/p/streams/st/records/upsert")
        assert asked.content == b'{"items":[' + records[0].text + b"," + records[1].text + b"]}"
        assert isinstance(got, Reply)
        assert got.wire_bytes == len(asked.body)

    talk(reply(202), test)


def test_the_headers_say_who_calls_and_which_version_is_meant() -> None:
    """They are those that official clients send; nothing of httpx's own is among them."""

    async def test(client: Client, server: Loopback) -> None:
        await client.send(make_records("a"))
        headers = server.asked[0].headers
        assert headers.pop("content-length") == str(len(server.asked[0].body))
        assert headers == {
            "host": f"127.0.0.1:{server.port}",
            "authorization": f"Bearer {SECRET}",
            "content-type": "application/json",
            "content-encoding": "gzip",
            "accept": "application/json",
            "user-agent": "cdf-upsert/1.2.3",
            "x-cdp-sdk": "cdf-upsert:1.2.3",
            "x-cdp-app": "cdf-upsert",
            "cdf-version": "20230101",
        }

    talk(reply(202), test)


def test_names_in_the_address_are_quoted_and_the_path_of_the_base_is_kept() -> None:
    """A project's name is no way to another address."""

    async def main() -> None:
        async with serving(reply(202)) as server:
            async with make_client(f"{server.url}/gate", project="a/../b ?", stream="s") as client:
                await client.send(make_records("a"))
            assert server.asked[0].target == "/gate/api/v1/projects/a%2F..%2Fb%20%3F/streams/s/records/upsert"

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 202, 301, 400, 403, 409, 413, 422, 429, 500, 503, 504])
def test_every_status_is_a_reply(status: int) -> None:
    """The client does not judge; `interpret` does. A redirect is not followed."""
    got = send_one(reply(status, b'{"a":1}', Location="http://127.0.0.1:9/", x_request_id="r-1"))
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.request_id) == (status, b'{"a":1}', "r-1")
    assert (got.retry_after, got.auto_retryable) == (None, False)
    assert 0 < got.seconds < 5


def test_what_a_reply_says_of_trying_again_is_told() -> None:
    """Both headers may be absent; their names and values come in any case."""
    got = send_one(reply(503, RETRY_AFTER="7", cdf_is_auto_retryable="True"))
    assert isinstance(got, Reply)
    assert (got.retry_after, got.auto_retryable) == (7.0, True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
        ("99999999999999", None),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """All three forms of a date that RFC 9110 knows; what makes no sense is as good as absent."""
    assert retry_after(value, NOW) == seconds


def test_a_refused_token_is_renewed_once() -> None:
    """The batch goes out again with the new token, and its reply counts."""
    tokens = Tokens(["old", "new", "newer"])

    async def test(client: Client, server: Loopback) -> None:
        got = await client.send(make_records("a"))
        assert isinstance(got, Reply)
        assert got.status == 202
        assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer old", "Bearer new"]
        assert server.asked[0].content == server.asked[1].content
        assert tokens.refused == ["old"]

    talk(in_turn(reply(401), reply(202)), test, tokens=tokens)


@pytest.mark.parametrize(("tokens", "requests"), [(["old"], 1), (["old", "new", "newer"], 2)])
def test_a_token_that_stays_refused_is_the_reply(tokens: list[str], requests: int) -> None:
    """There is no third try, and none without another token."""

    async def test(client: Client, server: Loopback) -> None:
        got = await client.send(make_records("a"))
        assert isinstance(got, Reply)
        assert got.status == 401
        assert len(server.asked) == requests

    talk(reply(401), test, tokens=Tokens(tokens))


def test_what_keeps_a_token_from_being_had_ends_the_run() -> None:
    """It is raised, not turned into a reply."""

    class Refused(Tokens):
        async def token(self) -> str:
            raise RefusedError("The provider refuses.")

    with pytest.raises(RefusedError):
        send_one(reply(202), tokens=Refused())


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "", "ünicode", "tab\t"])
def test_a_token_that_fits_no_header_is_a_fault_of_the_settings(token: str) -> None:
    """It is said without the token."""
    with pytest.raises(UsageError) as told:
        send_one(reply(202), tokens=Tokens([token]))
    assert not token or token not in str(told.value)
    assert told.value.__cause__ is None


def test_a_refused_connection_has_sent_nothing() -> None:
    """The words are those of whoever knows the network."""

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
            async with make_client(f"http://127.0.0.1:{free.getsockname()[1]}") as client:
                got = await client.send(make_records("a"))
        assert isinstance(got, NoReply)
        assert (got.sent, got.message, got.wire_bytes) == (False, "explained: ConnectError", 0)

    asyncio.run(main())


def test_a_server_without_tls_has_been_sent_nothing() -> None:
    """A failed handshake comes before the first byte of a request."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 no TLS here\r\n")
        writer.close()

    async def main() -> None:
        async with (
            await asyncio.start_server(greet, "127.0.0.1", 0) as server,
            make_client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client,
        ):
            got = await client.send(make_records("a"))
        assert isinstance(got, NoReply)
        assert (got.sent, got.message, got.wire_bytes) == (False, "explained: ConnectError", 0)

    asyncio.run(main())


LOST = "the connection ended before the reply did, or the reply is not HTTP"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", LOST),
        (b"HTTP/1.1 202 Acc", LOST),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{}", LOST),
        (b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", LOST),
        (b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", LOST),
        (b"SSH-2.0-OpenSSH_9.6\r\n", LOST),
        (b"HTTP/1.1 two Accepted\r\n\r\n", LOST),
    ],
)
def test_a_reply_that_does_not_come_whole_is_none(data: bytes, message: str) -> None:
    """The service may have stored the records, and a half reply is never taken for a whole one."""
    got = send_one(raw(data, cut=True))
    assert isinstance(got, NoReply)
    assert (got.sent, got.message) == (True, message)
    assert got.wire_bytes > 0


def test_a_connection_that_is_reset_may_have_carried_the_request() -> None:
    """A reset tells nothing about what the other side has read."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    got = send_one(answer)
    assert isinstance(got, NoReply)
    assert got.sent


async def forever(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""
    await asyncio.Event().wait()


async def trickle(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer without end, a byte at a time."""
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [forever, trickle])
def test_the_time_out_covers_the_whole_request(answer: Answer) -> None:
    """A reply that trickles in is as late as one that never comes."""
    got = send_one(answer, timeout=0.2)
    assert isinstance(got, NoReply)
    assert (got.sent, got.message) == (True, "no reply came within 0.2 seconds")
    assert 0.2 <= got.seconds < 2


def test_requests_that_time_out_or_are_cancelled_leave_no_trace() -> None:
    """With room for one connection, the next request still gets through."""

    async def test(client: Client, server: Loopback) -> None:
        for _ in range(3):
            assert isinstance(await client.send(make_records("a")), NoReply)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.send(make_records("a")), 0.05)
        got = await client.send(make_records("a"))
        assert isinstance(got, Reply)

    talk(in_turn(*[forever] * 6, reply(202)), test, connections=1, timeout=0.2)


def test_connections_are_used_again() -> None:
    """A connection is only made anew when the other side has closed it."""

    async def test(client: Client, server: Loopback) -> None:
        for _ in range(5):
            assert isinstance(await client.send(make_records("a")), Reply)
        assert server.connections == 1
        await asyncio.gather(*(client.send(make_records("a")) for _ in range(20)))
        assert server.connections <= 4

    talk(reply(202), test)


def test_a_connection_that_the_server_closed_while_idle_costs_nothing() -> None:
    """It is noticed before the request goes out on it."""
    closed = asyncio.Event()

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def test(client: Client, server: Loopback) -> None:
        for connections in (1, 2, 3):
            assert isinstance(await client.send(make_records("a")), Reply)
            await closed.wait()
            closed.clear()
            assert server.connections == connections

    talk(answer, test)


def test_a_cookie_is_not_sent_back() -> None:
    """The service has no use for one, and a gateway's would only tie requests together."""

    async def test(client: Client, server: Loopback) -> None:
        await client.send(make_records("a"))
        await client.send(make_records("a"))
        assert "cookie" not in server.asked[1].headers

    talk(reply(202, Set_Cookie="session=1"), test)


def test_a_reply_is_cut_off_where_it_is_longer_than_any_reply() -> None:
    """A portal that answers without end does not fill the memory."""

    async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" " * 65536)
            await writer.drain()

    got = send_one(endless)
    assert isinstance(got, Reply)
    assert len(got.body) == MOST_REPLY_BYTES


def test_no_secret_is_in_what_is_said() -> None:
    """Not even when the request itself is what fails."""
    for data in (b"HTTP/1.1 202\x00 \r\n\r\n", b"\xff\xfe"):
        assert SECRET not in repr(send_one(raw(data, cut=True)))


STREAM = {
    "externalId": "st",
    "createdFromTemplate": "BasicLiveData",
    "type": "Mutable",
    "settings": {"limits": {"maxRecordsTotal": {"provisioned": 5e6, "consumed": 17}}},
}


def test_a_stream_tells_its_kind_and_its_room() -> None:
    """With statistics, or there would be no telling how full it is."""

    async def test(client: Client, server: Loopback) -> None:
        facts = await client.stream()
        assert facts == StreamFacts("st", "BasicLiveData", True, Limit(5e6, 17), None)
        [asked] = server.asked
        assert (asked.method, asked.target, asked.body) == (
            "GET",
            "/api/v1/projects/p/streams/st?includeStatistics=true",
            b"",
        )
        assert "content-type" not in asked.headers

    talk(reply(200, json.dumps(STREAM).encode()), test)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"type":"Mutable"}')]
)
def test_what_is_no_description_of_a_stream_is_the_reply(status: int, body: bytes) -> None:
    """Who asked decides what it means."""

    async def test(client: Client, _: Loopback) -> None:
        got = await client.stream()
        assert isinstance(got, Reply)
        assert (got.status, got.body) == (status, body)

    talk(reply(status, body), test)


def stored(external_id: str, value: Any) -> dict[str, Any]:
    return {
        "space": "s",
        "externalId": external_id,
        "createdTime": 1,
        "properties": {"s": {"c": {"value": value}}},
    }


def test_reading_back_tells_same_missing_and_different() -> None:
    """One answer for each record, by its key."""
    items = [stored("b", 7), stored("a", 0.0)]

    async def test(client: Client, server: Loopback) -> None:
        found = await client.compare(make_records("a", "b", "c"))
        assert found == {
            ("s", "a"): Same(),
            ("s", "b"): Different(("c.value",), [(7, 1)]),
            ("s", "c"): Missing(),
        }
        assert server.asked[0].target == "/api/v1/projects/p/streams/st/records/filter"
        asked = json.loads(server.asked[0].content)
        assert asked == {
            "filter": {
                "and": [
                    {"equals": {"property": ["space"], "value": "s"}},
                    {"in": {"property": ["externalId"], "values": ["a", "b", "c"]}},
                ]
            },
            "sources": [
                {"source": {"type": "container", "space": "s", "externalId": "c"}, "properties": ["*"]}
            ],
            "limit": 3,
            "includeTyping": True,
        }

    talk(reply(200, json.dumps({"items": items}).encode()), test)


@pytest.mark.parametrize(
    "answer",
    [
        reply(429),
        reply(503),
        reply(403),
        reply(200, b"<html>"),
        reply(200, b'{"items":[{"space":"s"}]}'),
        reply(200, b'{"items":[{"space":"s","externalId":"a","properties":{"s":{"c":3}}}]}'),
        reply(200, b"{}"),
        reply(202, b'{"items":[]}'),
        raw(b"", cut=True),
    ],
)
def test_no_answer_is_none_and_not_missing(answer: Answer) -> None:
    """Only an answer of the known shape tells that nothing is stored."""

    async def test(client: Client, _: Loopback) -> None:
        assert await client.compare(make_records("a")) is None

    talk(answer, test)


def test_a_question_that_is_refused_leaves_the_others_answered() -> None:
    """What is asked of an unknown space cannot be read; what stands in other spaces can."""
    records = [*make_records("a"), make_record(1, "b", space="t")]

    async def test(client: Client, _: Loopback) -> None:
        assert await client.compare(records) == {("s", "a"): Unreadable(), ("t", "b"): Missing()}

    talk(in_turn(reply(400), reply(200, b'{"items":[]}')), test)


def test_one_question_without_an_answer_leaves_all_open() -> None:
    """Half an answer would look as if records were missing."""
    records = make_records(*(str(i) for i in range(101)))

    async def test(client: Client, server: Loopback) -> None:
        assert await client.compare(records) is None
        assert len(server.asked) == 2

    talk(in_turn(reply(200, b'{"items":[]}'), reply(500)), test)
