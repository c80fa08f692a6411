"""What becomes of a batch once its reply is understood; pure, so that nothing runs here."""

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.comparing import Different
from cdf_upsert.core.interpret import NoReply, Reply, Said, interpret
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.retrying import Tries
from cdf_upsert.load.outbox import Batch
from cdf_upsert.load.readback import Lookup
from cdf_upsert.load.settling import (
    CONFLICT_RECORDS,
    Consequences,
    Question,
    consequences,
    consequences_of_answer,
)
from tests.records import make_records

RECORDS = make_records(*(f"k{i}" for i in range(250)))
NOW = 100.0

CODES = st.sampled_from([202, 400, 408, 409, 413, 422, 429, 500, 503])


def a_batch(number: int = 250) -> Batch:
    return Batch(RECORDS[:number], 40 * number, number=7, tries=Tries().started())


def error(code: int, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": "why", **more}}).encode()


def became(batch: Batch, reply: Reply | NoReply, *, ending: bool = False) -> Consequences:
    verdict = interpret(batch.records, reply, batch.tries.all)
    return consequences(batch, verdict, reply, NOW, alive=True, ending=ending, dice=random.Random(0))


@given(
    reply=st.one_of(
        st.builds(NoReply, st.booleans(), st.just("cut")),
        st.builds(Reply, CODES, CODES.map(error)),
        st.builds(
            lambda codes: Reply(
                503,
                error(
                    503,
                    partial=[
                        {"space": "s", "externalId": f"k{i}", "code": code} for i, code in enumerate(codes)
                    ],
                ),
            ),
            st.lists(CODES, max_size=250),
        ),
    ),
    number=st.integers(1, 250),
    tried=st.integers(1, 9),
    ending=st.booleans(),
)
def test_every_record_has_one_way_to_go(reply, number, tried, ending):
    """Whatever the reply: each record of the batch is accepted, failed, asked for or goes again, and only one of these."""
    batch = a_batch(number)
    for _ in range(tried - 1):
        batch.tries = batch.tries.started()
    accepted = interpret(batch.records, reply, batch.tries.all).accepted
    found = became(batch, reply, ending=ending)
    ordinals = [
        *(record.ordinal for record in accepted),
        *(failed.ordinal for failed in found.failed),
        *(record.ordinal for question in found.asked for record in question.batch.records),
        *(record.ordinal for part, _ in found.again for record in part.records),
    ]
    assert sorted(ordinals) == [record.ordinal for record in batch.records]


def test_a_batch_that_goes_again_whole_stays_the_same():
    """The journal knows it under its number; when it is due is after the pause that is told."""
    batch = a_batch()
    found = became(batch, Reply(429, error(429), retry_after=9.0))
    [(again, due)] = found.again
    assert again is batch
    assert batch.number == 7
    assert due == NOW + found.told[0].seconds >= NOW + 9.0


def test_records_in_conflict_go_again_in_small_batches():
    """No more than a hundred together, in their order, as parts that nobody has numbered."""
    found = became(a_batch(), Reply(409, error(409)))
    parts = [part for part, _ in found.again]
    assert [len(part.records) for part in parts] == [CONFLICT_RECORDS, CONFLICT_RECORDS, 50]
    assert [record for part in parts for record in part.records] == RECORDS
    assert {part.number for part in parts} == {0}


def test_at_the_end_of_a_run_nothing_waits_and_nobody_is_asked():
    """What would go again is kept to be counted as unsent, and no pause is told of."""
    found = became(a_batch(), NoReply(sent=True, message="cut"), ending=True)
    assert [due for _, due in found.again] == [NOW]
    assert (found.failed, found.asked, found.told) == ([], [], [])


def test_what_is_stored_otherwise_fails_and_what_nobody_knows_goes_again():
    """The message names what differs and not its values; these stand apart, for who asks for them."""
    question = Question(a_batch(3), FailureClass.CONFLICT, Said("busy", 409, "id"))
    first, second, third = RECORDS[:3]
    lookup = Lookup([first], [(second, Different(["c.a"], [(1, 2)]))], [third])
    found = consequences_of_answer(question, lookup, NOW, dice=random.Random(0))
    [failed] = found.failed
    assert (failed.ordinal, failed.failure.kind) == (second.ordinal, FailureClass.CONFLICT)
    assert failed.failure.message == "busy; what is stored differs in c.a"
    assert failed.failure.detail == "c.a: stored 1, ours 2"
    [(again, due)] = found.again
    assert (list(again.records), again.tries.all) == ([third], 1)
    assert due >= NOW


def test_several_that_no_reply_named_are_taken_apart_before_any_of_them_fails():
    """What is known not to be stored begins anew in halves; what is stored counts for the service."""
    batch = a_batch(4)
    batch.tries = Tries(all=3, unclear=True)
    question = Question(batch, FailureClass.UNAVAILABLE, Said("internal", 500), whole=True)
    lookup = Lookup(list(RECORDS[:1]), [(record, Different(["c.a"])) for record in RECORDS[1:4]])
    found = consequences_of_answer(question, lookup, NOW, dice=random.Random(0))
    assert not found.failed
    assert [list(part.records) for part, _ in found.again] == [RECORDS[1:3], RECORDS[3:4]]
    assert all(part.tries == Tries() for part, _ in found.again)
    assert batch.hunt is not None
    assert batch.hunt.accepted == 1


def test_what_is_refused_after_it_may_have_been_stored_is_asked_for_first():
    """Its question keeps the words of the refusal; when the run ends it is neither asked for nor failed."""
    batch = a_batch(1)
    batch.tries = Tries(all=2, unclear=True)
    [question] = became(batch, Reply(400, error(400), "id")).asked
    assert (question.otherwise, question.refused) == (FailureClass.REJECTED, True)
    assert question.said == Said("why", 400, "id")
    ended = became(batch, Reply(400, error(400), "id"), ending=True)
    assert ([part.records for part, _ in ended.again], ended.asked) == ([RECORDS[:1]], [])
    assert not ended.failed


def test_what_is_refused_and_cannot_be_read_has_failed_while_the_rest_is_asked_for_again():
    """A service that knows neither the record nor the question has not stored it; without a refusal nobody is blamed."""
    lookup = Lookup(unreadable=RECORDS[:1])
    refused = Question(a_batch(1), FailureClass.REJECTED, Said("why", 400, "id"), refused=True)
    [failed] = consequences_of_answer(refused, lookup, NOW, dice=random.Random(0)).failed
    assert (failed.failure.kind, failed.failure.message) == (FailureClass.REJECTED, "why")
    unclear = Question(a_batch(1), FailureClass.UNKNOWN, Said("cut"))
    found = consequences_of_answer(unclear, lookup, NOW, dice=random.Random(0))
    assert not found.failed
    assert [list(part.records) for part, _ in found.again] == [RECORDS[:1]]
