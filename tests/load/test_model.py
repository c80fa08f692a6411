"""The model: the input applied one by one to a dictionary. Whatever happens on the way, the end is the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdf_upsert.core.events import Outcome
from tests.load.harness import Fault, MemoryInput, Service, run_engine
from tests.records import make_text
from tests.virtual_time import run

versions = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([1, 1, 1, -1]), st.sampled_from([0, 0, 0, 400])),
    max_size=60,
)
MOST_BYTES = 600
"""Ceiling of a request in these tests: a padded record (some 540 bytes) nearly fills one, and two never fit."""


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    texts = [
        make_text(key, sign * (i + 1), pad=pad) if pad < 400 or sign > 0 else make_text(key, i, pad=900)
        for i, (key, sign, pad) in enumerate(draw(versions))
    ]
    blocks, at = [], 0
    while at < len(texts):
        size = draw(st.integers(1, 8))
        blocks.append(texts[at : at + size])
        at += size
    return {
        "texts": texts,
        "blocks": blocks,
        "pauses": draw(st.sampled_from([[], [0.02] * len(blocks), [2.0] * len(blocks)])),
        "faults": draw(st.lists(st.sampled_from(Fault), max_size=25)),
        "naming": draw(st.booleans()),
        "batch_records": draw(st.integers(1, 9)),
        "concurrency": draw(st.sampled_from([None, 1, 2, 5])),
        "seed": draw(st.integers(0, 1000)),
    }


def check_against_model(case: dict[str, object]) -> None:
    texts: list[bytes] = case["texts"]  # type: ignore[assignment]
    service = Service(case["faults"], seed=case["seed"], naming=case["naming"])  # type: ignore[arg-type]
    done = run(
        run_engine(
            [MemoryInput(case["blocks"], case["pauses"])],  # type: ignore[arg-type]
            service,
            batch_records=case["batch_records"],  # type: ignore[arg-type]
            batch_bytes=MOST_BYTES,
            concurrency=case["concurrency"],  # type: ignore[arg-type]
            seed=case["seed"],  # type: ignore[arg-type]
        )
    )
    good = {i for i, text in enumerate(texts) if b'"value":-' not in text and len(text) + 12 <= MOST_BYTES}
    keys = [text.split(b'"externalId":"')[1][:1].decode() for text in texts]
    model = {keys[i]: i for i in sorted(good)}

    assert done.ending.outcome is Outcome.COMPLETE
    assert sorted(done.books.settled) == list(range(len(texts)))
    assert not done.books.open
    assert {key[1]: record.ordinal for key, record in service.stored.items()} == model
    settled = done.books.settled
    assert all(settled[i] == "accepted" for i in model.values())
    for i, outcome in settled.items():
        match outcome:
            case "failed":
                assert i not in good, "a good record is blamed"
                assert done.books.failed[i].text == texts[i]
            case "accepted":
                assert i in good
                assert i in service.writes["s", keys[i]]
            case "superseded":
                assert model[keys[i]] > i, "given up without a newer version"


@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_any_input_under_any_faults_ends_as_one_by_one(case: dict[str, object]) -> None:
    """Few keys, many versions, bad and oversize records, any script of faults: the stream ends as the model, no older version is ever written after a newer one, exactly the bad records fail, the ledger balances."""
    check_against_model(case)


@pytest.mark.soak
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_the_same_for_a_long_time(case: dict[str, object]) -> None:
    """The law above, many more times."""
    check_against_model(case)
