"""The engine against a scripted service, on virtual time."""

import asyncio
from itertools import pairwise
from math import log2

import pytest

from cdf_upsert.core.events import BatchSent, Outcome
from cdf_upsert.core.framing import Position
from cdf_upsert.core.interpret import NoReply, Reply
from cdf_upsert.core.standing import Checkpoint, Ranges, Standing
from cdf_upsert.core.stopping import FailureCount, StoppingPolicy
from cdf_upsert.load import Engine
from tests.load.harness import Fault, MemoryBooks, MemoryInput, Service, error, input_of, run_engine
from tests.records import make_text
from tests.virtual_time import run


def test_good_records_go_in_full_batches() -> None:
    """2,500 good records are three requests, and all are accepted."""
    source = input_of(*((str(i), i) for i in range(2500)))
    done = run(run_engine([source], Service()))
    assert done.ending.outcome is Outcome.COMPLETE
    assert done.tally.accepted == 2500
    assert [e.records for e in done.events if isinstance(e, BatchSent)] == [1000, 1000, 500]


@pytest.mark.parametrize("concurrency", [1, 4, 8, None])
def test_twenty_bad_records_among_ten_thousand_cost_only_themselves(concurrency: int | None) -> None:
    """20 bad among 10,000, with an answer that names none: exactly 20 fail, in at most about 20·2·log2(1000) requests."""
    bad = {i * 487 + 13 for i in range(20)}
    source = input_of(*((str(i), -1 if i in bad else i) for i in range(10_000)))
    done = run(run_engine([source], Service(), concurrency=concurrency))
    assert set(done.books.failed) == bad
    assert done.tally.accepted == 9980
    assert done.service.requests <= 20 * 2 * log2(1000)
    assert {f.failure.kind for f in done.books.failed.values()} == {"rejected"}


def test_a_message_that_names_the_record_finds_it_at_once() -> None:
    """When the service names the record, one bad record among 1,000 costs three requests."""
    source = input_of(*((f"k{i}", -1 if i == 77 else i) for i in range(1000)))
    done = run(run_engine([source], Service(naming=True)))
    assert set(done.books.failed) == {77}
    assert done.service.requests == 3


def test_a_batch_that_is_bad_throughout_costs_a_request_a_record() -> None:
    """Soon each record is sent alone: all fail by a reply to themselves alone, and none is forgotten."""
    many = StoppingPolicy(max_failures=FailureCount(1000))  # Or the run would stop, as all fail alike.
    done = run(run_engine([input_of(*((str(i), -1) for i in range(300)))], Service(), policy=many))
    assert set(done.books.failed) == set(range(300))
    assert {f.failure.kind for f in done.books.failed.values()} == {"rejected"}
    assert 300 < done.service.requests < 320


def test_the_last_version_of_each_key_stands() -> None:
    """400 keys in 12,000 records at 8 at once, with lost replies, 503 and 409: the last version of each stands."""
    faults = ([Fault.LOST] * 10 + [Fault.SOME_UNAVAILABLE] * 5 + [Fault.SOME_CONFLICT] * 2) * 3
    source = input_of(*((f"k{i % 400}", i) for i in range(12_000)), block=97)
    done = run(run_engine([source], Service(faults), batch_records=50, concurrency=8))
    assert done.ending.outcome is Outcome.COMPLETE
    assert not done.books.failed
    assert {key[1]: record.ordinal for key, record in done.service.stored.items()} == {
        f"k{i % 400}": i for i in range(11_600, 12_000)
    }


@pytest.mark.parametrize("concurrency", [None, 1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_load_that_begins_with_a_429_does_not_crawl(concurrency: int | None, seed: int) -> None:
    """The first request is told to come later, the other eighty are not: the load takes seconds, not half an hour."""
    source = input_of(*((str(i), i) for i in range(4000)))
    service = Service([Fault.THROTTLED], seed=seed)
    done = run(run_engine([source], service, batch_records=50, concurrency=concurrency, seed=seed))
    assert done.ending.outcome is Outcome.COMPLETE
    assert done.seconds < 15


def test_replies_that_are_always_lost_end_in_reading_back() -> None:
    """When every reply is lost after the write, all records are accepted by what is stored."""
    service = Service(forever=Fault.LOST)
    done = run(run_engine([input_of(*((str(i), i) for i in range(250)))], service, batch_records=100))
    assert done.tally.accepted == 250
    assert done.ending.outcome is Outcome.COMPLETE
    assert service.looks >= 3


def test_while_nobody_can_tell_what_is_stored_nothing_is_settled() -> None:
    """When reading back fails, too, the records are sent and looked up again, until an answer comes."""

    class Mute(Service):
        async def compare(self, records):
            answer = await super().compare(records)
            return None if self.looks <= 6 else answer

    done = run(run_engine([input_of(*((str(i), i) for i in range(50)))], Mute(forever=Fault.LOST)))
    assert done.tally.accepted == 50
    assert done.service.looks == 7


@pytest.mark.parametrize("trouble", [None, "busy", "lost", "bad"])
def test_what_the_service_holds_for_the_same_is_sent_in_order(trouble: str | None) -> None:
    """The records that a 422 names go one by one, each when the one before is settled, whatever becomes of that."""

    class OneKey(Service):
        def __init__(self) -> None:
            super().__init__()
            self.sent: list[tuple[str, float, float]] = []

        async def send(self, records):
            began = asyncio.get_running_loop().time()
            named = [record for record in records if record.key[1] in "aAB"]
            await asyncio.sleep(1.0)
            if len(named) > 1:
                return error(422, "the same", duplicated=[{"externalId": ".".join(r.key)} for r in named])
            self.sent += [(r.key[1], began, asyncio.get_running_loop().time()) for r in named]
            if [r.key[1] for r in named] == ["a"] and (trouble == "bad" or len(self.sent) < 3):
                match trouble:
                    case "busy":
                        return error(503, "later")
                    case "lost":
                        return NoReply("cut", sent=True)
                    case "bad":
                        return error(400, "bad")
            self._write(records)
            return Reply(202, b"{}")

    service = OneKey()
    source = input_of(*((name, i) for i, name in enumerate("xaByAz")))
    done = run(run_engine([source], service, concurrency=8))
    names = [name for name, _, _ in service.sent]
    tries = names.count("a")
    assert names == ["a"] * tries + ["B", "A"]
    assert all(later[1] >= earlier[2] for earlier, later in pairwise(service.sent))
    assert (done.tally.accepted, done.tally.failed) == ((5, 1) if trouble == "bad" else (6, 0))


def test_a_message_that_names_the_wrong_record_is_not_believed_for_ever() -> None:
    """The first of a batch is always named, the last is bad: after a few good ones alone the batch is halved."""

    class Lying(Service):
        def _answer(self, records):
            reply = super()._answer(records)
            if reply.status != 400:
                return reply
            return error(400, f"record '{records[0].key[1]}' is wrong")

    done = run(run_engine([input_of(*((str(i), -1 if i == 999 else i) for i in range(1000)))], Lying()))
    assert set(done.books.failed) == {999}
    assert done.service.requests < 40


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(500, "internal"), "unavailable"),
        (error(409, "busy"), "conflict"),
        (NoReply("no reply came within 60 seconds", sent=True), "unknown"),
    ],
)
def test_a_record_that_breaks_its_request_costs_only_itself(reply: Reply | NoReply, kind: str) -> None:
    """Each request that holds it ends without a word on any record: when the tries are used up the rest goes without it."""

    class Poisoned(Service):
        def _answer(self, records):
            if any(record.ordinal in {77, 700} for record in records):
                return reply
            return super()._answer(records)

    done = run(run_engine([input_of(*((str(i), i) for i in range(1000)))], Poisoned()))
    assert {ordinal: failed.failure.kind for ordinal, failed in done.books.failed.items()} == {
        77: kind,
        700: kind,
    }
    assert done.tally.accepted == 998
    assert done.service.requests < 120, "it is tried a few times in each of the halves of halves"


def test_what_was_never_stored_fails_as_unknown() -> None:
    """When connections always break before the write, reading back shows that nothing is stored."""
    done = run(run_engine([input_of(("a", 1))], Service(forever=Fault.CUT)))
    (failed,) = done.books.failed.values()
    assert failed.failure.kind == "unknown"
    assert "nothing is stored under this key" in failed.failure.message


def test_one_key_a_million_times_in_little_memory() -> None:
    """A file that is one key over and over runs, and sends far fewer versions than it holds."""
    source = input_of(*(("k", i) for i in range(100_000)), block=1000)
    done = run(run_engine([source], Service()))
    assert done.tally.accepted + done.tally.superseded == 100_000
    assert done.service.stored["s", "k"].ordinal == 99_999
    assert done.service.requests < 1000


def test_a_refused_newest_version_gives_way_to_the_one_before() -> None:
    """Of versions good, good, bad the second stands: the last that can be accepted."""
    done = run(run_engine([input_of(("k", 1), ("k", 2), ("k", -3))], Service()))
    assert done.service.stored["s", "k"].ordinal == 1
    assert done.books.settled == {0: "superseded", 1: "accepted", 2: "failed"}


def test_a_slow_input_does_not_hold_its_records_back() -> None:
    """A part-filled batch goes out after `linger`, while the pipe is still open."""
    texts = [[make_text(str(i), i)] for i in range(3)]
    source = MemoryInput(texts, pauses=[0.0, 10.0, 10.0])
    done = run(run_engine([source], Service(), linger=1.0))
    sent = [event.at - 1000 for event in done.events if isinstance(event, BatchSent)]
    assert sent == pytest.approx([1.0, 11.0, 20.0], abs=0.01)


def test_a_stalled_input_stalls_no_reply() -> None:
    """While the pipe says nothing for an hour, batches under way are settled."""
    texts = [[make_text(str(i), i) for i in range(1000)], [make_text("last", 1)]]
    settled_at: list[float] = []
    source = MemoryInput(texts, pauses=[0.0, 3600.0])
    done = run(run_engine([source], Service()))
    settled_at = [event.at - 1000 for event in done.events if type(event).__name__ == "Settled"]
    assert settled_at[0] < 1.0
    assert done.tally.accepted == 1001


def test_a_stop_lets_requests_finish_and_counts_the_rest_as_unsent() -> None:
    """An interrupted run reads no more, settles what is under way, and its ledger balances."""

    def interrupt(engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, engine.halt, Outcome.INTERRUPTED, "Interrupted.")

    source = MemoryInput(
        [[make_text(f"{i}-{j}", j) for j in range(100)] for i in range(200)], pauses=[0.01] * 200
    )
    done = run(run_engine([source], Service(latency=0.5), batch_records=100, meanwhile=interrupt))
    assert done.ending.outcome is Outcome.INTERRUPTED
    assert done.tally.accepted > 0
    assert done.tally.unsent > 0
    assert done.tally.read < 20_000
    assert done.service.at_once == 0


def test_versions_that_wait_when_a_run_stops_are_unsent() -> None:
    """They were read, and no newer version of them was accepted."""

    def interrupt(engine: Engine) -> None:
        asyncio.get_running_loop().call_later(0.2, engine.halt, Outcome.INTERRUPTED, "Interrupted.")

    source = MemoryInput([[make_text("k", i)] for i in range(5)], pauses=[0.0, *[0.02] * 4])
    done = run(run_engine([source], Service(latency=1.0), linger=0.0, meanwhile=interrupt))
    assert done.service.writes["s", "k"] == [0]
    assert (done.tally.read, done.tally.accepted, done.tally.unsent) == (5, 1, 4)


def test_a_stop_asks_and_fails_nobody() -> None:
    """The run is interrupted during a record's last try: what that would have settled is unsent, and a rerun tries it."""

    class Interrupting(Service):
        async def send(self, records):
            if self.requests == 3:
                engine.halt(Outcome.INTERRUPTED, "Interrupted.")
            return await super().send(records)

    def meet(running: Engine) -> None:
        nonlocal engine
        engine = running

    engine: Engine
    done = run(run_engine([input_of(("a", 1))], Interrupting(forever=Fault.CUT), meanwhile=meet))
    assert done.ending.outcome is Outcome.INTERRUPTED
    assert (done.service.requests, done.service.looks) == (4, 0)
    assert (done.tally.failed, done.tally.unsent) == (0, 1)


def test_a_stop_waits_no_longer_than_its_grace() -> None:
    """A request that hangs is cut off after the grace, and its records are unsent."""

    def interrupt(engine: Engine) -> None:
        asyncio.get_running_loop().call_later(1.0, engine.halt, Outcome.INTERRUPTED, "Interrupted.")

    done = run(run_engine([input_of(("a", 1))], Service(latency=1e6), grace=5.0, meanwhile=interrupt))
    assert done.tally.unsent == 1
    assert done.seconds < 10


@pytest.mark.parametrize(("status", "outcome"), [(401, "refused"), (403, "refused"), (404, "refused")])
def test_a_refusal_of_everything_ends_the_run(status: int, outcome: str) -> None:
    """401, 403 and 404 end the run; nothing is called failed."""

    class Refusing(Service):
        def _answer(self, records):
            return error(status, "no")

    done = run(run_engine([input_of(*((str(i), i) for i in range(5000)))], Refusing()))
    assert done.ending.outcome == outcome
    assert done.ending.reason == f"refused {status}: no"
    assert done.tally.unsent == done.tally.read > 0
    assert not done.books.failed


@pytest.mark.parametrize("count", [500, 5000])
def test_a_service_that_is_dead_for_ten_minutes_fails_no_record(count: int) -> None:
    """While the service says later the run goes on, and nobody is blamed."""

    class Dead(Service):
        def _next_fault(self, records):
            loop = asyncio.get_running_loop()
            return Fault.UNAVAILABLE if loop.time() < 1600 else None

    done = run(run_engine([input_of(*((str(i), i) for i in range(count)))], Dead()))
    assert done.ending.outcome is Outcome.COMPLETE
    assert done.tally.accepted == count
    assert done.service.requests < 150


def test_patience_ends() -> None:
    """After `patience` without one accepted record the run stops in good order; its records are unsent."""
    service = Service(forever=Fault.THROTTLED)
    done = run(run_engine([input_of(("a", 1))], service, policy=StoppingPolicy(patience=300.0)))
    assert done.ending.outcome is Outcome.STOPPED
    assert done.tally.unsent == 1
    assert 299 <= done.seconds <= 361
    assert "--patience" in done.ending.reason


def test_a_disk_that_is_full_stops_the_run_in_good_order() -> None:
    """When the books cannot be written the run ends as an error, and its ledger still balances."""
    books = MemoryBooks(fail_after=1)
    done = run(run_engine([input_of(*((str(i), i) for i in range(5000)))], Service(), books=books))
    assert done.ending.outcome is Outcome.ERROR
    assert done.ending.reason == "The disk is full: make room and rerun."
    assert done.tally.accepted == 1000
    assert done.tally.unsent > 0


def test_a_run_goes_on_where_the_last_one_stood() -> None:
    """What is settled is stepped over, and what earlier runs accepted is counted."""
    standing = Standing(
        run=2,
        start=Checkpoint(3, 0, Position(offset=3 * 200, line=3, record=3)),
        settled=Ranges([(0, 3), (4, 6)]),
        already_accepted=5,
    )
    source = input_of(*((str(i), i) for i in range(8)), block=3)
    done = run(run_engine([source], Service(), standing=standing))
    assert set(done.books.settled) == {3, 6, 7}
    assert done.tally.already_accepted == 5
    assert done.tally.read == 8


def test_a_version_that_may_have_landed_is_sent_before_older_ones() -> None:
    """After a kill, an older version is not sent over a newer one that was under way."""
    standing = Standing(run=2, in_doubt={("s", "k"): 5})
    source = input_of(("k", 0), *((f"x{i}", i) for i in range(1, 5)), ("k", 5), block=1)
    service = Service()
    done = run(run_engine([source], service, standing=standing, batch_records=1, linger=0.0))
    assert service.writes["s", "k"] == [5]
    assert done.books.settled[0] == "superseded"


@pytest.mark.parametrize("linger", [0.0, 1.0])
def test_older_versions_that_wait_for_one_yet_to_be_read_never_stop_the_reading(linger: float) -> None:
    """After a kill more of them than may wait come before the version that may have landed: it is read, sent and stands."""
    texts = [make_text("other", 0), *(make_text("k", i, pad=1_000_000) for i in range(1, 40))]
    service = Service()
    source, standing = MemoryInput([[text] for text in texts]), Standing(run=2, in_doubt={("s", "k"): 39})
    done = run(run_engine([source], service, standing=standing, linger=linger))
    assert service.writes == {("s", "other"): [0], ("s", "k"): [39]}
    assert (done.tally.accepted, done.tally.superseded) == (2, 38)


def test_a_batch_that_is_called_too_large_makes_the_next_ones_smaller() -> None:
    """413 halves the batch without blame, and later batches are packed smaller."""

    class Small(Service):
        def _next_fault(self, records):
            return Fault.TOO_LARGE if len(records) > 300 else None

    done = run(run_engine([input_of(*((str(i), i) for i in range(20_000)), block=100)], Small()))
    assert done.tally.accepted == 20_000
    assert done.service.requests < 120, "140 are sent when each batch is halved anew"


def test_conflicts_go_again_in_small_batches() -> None:
    """After a 409 for a whole batch its records go again in batches of at most 100, and all are accepted."""
    source = input_of(*((str(i), i) for i in range(950)))
    done = run(run_engine([source], Service([Fault.SOME_CONFLICT])))
    assert done.tally.accepted == 950
    sent = [event.records for event in done.events if isinstance(event, BatchSent)]
    assert sent[0] == 950
    assert all(records <= 100 for records in sent[1:])


def test_faults_by_chance_never_cost_a_record() -> None:
    """With 10 % lost replies, 5 % 503 and 2 % 409 at 8 at once, the last version of each of 400 keys stands."""

    class Unlucky(Service):
        def _next_fault(self, records):
            chances = {Fault.LOST: 0.10, Fault.SOME_UNAVAILABLE: 0.05, Fault.SOME_CONFLICT: 0.02, None: 0.83}
            return self.dice.choices(list(chances), list(chances.values()))[0]

    source = input_of(*((f"k{i % 400}", i) for i in range(12_000)), block=500)
    done = run(run_engine([source], Unlucky(seed=7), batch_records=100, concurrency=8))
    assert done.ending.outcome is Outcome.COMPLETE
    assert not done.books.failed
    assert {record.ordinal for record in done.service.stored.values()} == set(range(11_600, 12_000))
    assert done.service.most_at_once <= 8
