"""The law of the model over the sandbox: the real engine, client, journal and HTTP, and a world that keeps every write."""

import json
import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, reject, settings
from hypothesis import strategies as st

from cdf_upsert.core.events import Outcome
from cdf_upsert.errors import RefusedError
from cdf_upsert.sandbox.faults import Answer, Cut, Delay, Expire, Fault, Lost, Partial, Throttle, Trickle
from tests.load.sandboxed import Case, Loaded, run_load
from tests.records import make_text

MOST_BYTES = 600
"""Ceiling of a request in these tests: a long record nearly fills one."""

KINDS = [
    "good",
    "good",
    "good",
    "good",
    "long",
    "text for a number",
    "unknown property",
    "oversize",
    "no record",
]


def make(kind: str, key: str, number: int) -> bytes:
    """The text of record `number`, whose value is its number."""
    match kind:
        case "long":
            return make_text(key, number, pad=400)
        case "text for a number":
            return make_text(key, '"wrong"')
        case "unknown property":
            return make_text(key, number).replace(b'"value"', b'"valve"')
        case "oversize":
            return make_text(key, number, pad=2000)
        case "no record":
            return make_text(key, number).replace(b'"sources"', b'"source"')
        case _:
            return make_text(key, number)


UNCLEAR = {"unavailable", "unknown", "conflict"}
"""What a good record fails as, when its tries are used up."""

CLASSES = {
    "text for a number": UNCLEAR | {"rejected"},
    "unknown property": UNCLEAR | {"rejected"},
    "oversize": {"oversize"},
    "no record": {"invalid"},
}
"""What each kind of bad record fails as: what the service refuses may be met by faults to the end, too."""

SHAPES = st.sampled_from(["partial", "partial", "no list", "text", "empty"])
SHARES = st.sampled_from([0.01, 0.5, 1.0])


EITHER = st.booleans()


def partials(code: int, *, written: st.SearchStrategy[bool] = EITHER) -> st.SearchStrategy[Fault]:
    """Some records fail with a code; some are left out; or the list is spoilt."""
    return st.builds(
        lambda of, left_out, shape, wrote: Partial(
            code=code, of=of, left_out=left_out, shape=shape, written=wrote
        ),
        SHARES,
        st.sampled_from([0.0, 0.0, 0.5]),
        SHAPES,
        written,
    )


HARMLESS: list[st.SearchStrategy[Fault]] = [
    st.builds(
        lambda after, as_date: Throttle(retry_after=after, as_date=as_date),
        st.sampled_from([None, 0, 2]),
        st.booleans(),
    ),
    st.just(Trickle(seconds=0.5)),
    st.just(Expire()),
    st.just(Delay(seconds=0.5)),
    st.just(Lost()),
]
"""However often they happen, no record has to fail: the service did not refuse, or what is stored tells."""

COSTLY: list[st.SearchStrategy[Fault]] = [
    partials(503),
    partials(500),
    partials(409),
    st.just(Cut()),
    st.builds(
        lambda status, html: Answer(status=status, html=html),
        st.sampled_from([500, 502, 503, 504, 408]),
        st.booleans(),
    ),
]
"""Too many of them end the patience with a record."""


@st.composite
def scripts(draw: st.DrawFn) -> list[Fault]:
    """Faults for single upserts among the first; of the costly ones only two, fewer than any record's tries."""
    faults = draw(st.lists(st.one_of(HARMLESS), max_size=12)) + draw(st.lists(st.one_of(COSTLY), max_size=2))
    return [_placed(fault, draw(st.integers(1, 25))) for fault in draw(st.permutations(_good(faults)))] + [
        _placed(fault, draw(st.integers(1, 3)), on="filter")
        for fault in draw(st.lists(st.one_of([*HARMLESS[:2], *HARMLESS[3:], *COSTLY[3:]]), max_size=2))
    ]


def _good(faults: list[Fault]) -> list[Fault]:
    """Without the second of two tokens that end early: a new one that is refused, too, ends the run."""
    return [
        fault for i, fault in enumerate(faults) if not isinstance(fault, Expire) or fault not in faults[:i]
    ]


def _placed(fault: Fault, request: int, on: str = "upsert") -> Fault:
    return msgspec.structs.replace(fault, requests=(request,), on=(on,))


LATE: list[st.SearchStrategy[Fault]] = [st.just(Delay(seconds=8.0)), st.just(Trickle(seconds=8.0))]
"""Replies that come when nobody waits for them any more; until then the sandbox calls the next try a conflict."""

UNWRITTEN = st.just(False)
HARSH: list[st.SearchStrategy[Fault]] = [
    *HARMLESS,
    *LATE,
    partials(503, written=UNWRITTEN),
    partials(500, written=UNWRITTEN),
    partials(409, written=UNWRITTEN),
    *COSTLY[3:],
]
"""So that records fail which are good. What is said not to be written is not: else nobody could keep an order."""


@st.composite
def harsh_scripts(draw: st.DrawFn) -> list[Fault]:
    """Many faults, so that the tries of some records are used up."""
    faults = draw(st.lists(st.one_of(HARSH), min_size=5, max_size=40))
    return [_placed(fault, number + 1) for number, fault in enumerate(_good(faults))]


@st.composite
def cases(draw: st.DrawFn, script: st.SearchStrategy[list[Fault]]) -> tuple[Case, list[str]]:
    """A load, and the kind of each of its records."""
    drawn = draw(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(KINDS)), max_size=40))
    texts = [make(kind, key, number) for number, (key, kind) in enumerate(drawn)]
    blocks, at = [], 0
    while at < len(texts):
        size = draw(st.integers(1, 12))
        blocks.append(texts[at : at + size])
        at += size
    case = Case(
        blocks,
        pauses=draw(st.sampled_from([[], [0.02] * len(blocks), [2.0] * len(blocks)])),
        batch_records=draw(st.integers(1, 9)),
        batch_bytes=draw(st.sampled_from([MOST_BYTES, 2 * MOST_BYTES])),
        concurrency=draw(st.sampled_from([None, 1, 2, 5])),
        faults=draw(script),
        visible_after=draw(st.sampled_from([0.0, 2.0])),
        seed=draw(st.integers(0, 1000)),
    )
    return case, [kind for _, kind in drawn]


def check_outcomes(case: Case, kinds: list[str], loaded: Loaded) -> set[str]:
    """What holds whatever happens: one true outcome a record, and each key's writes in order. The classes of failures."""
    note(repr(case))
    texts = case.texts
    keys = [json.loads(text)["externalId"] for text in texts]
    assert loaded.ending.outcome is Outcome.COMPLETE
    assert sorted(loaded.settled) == list(range(len(texts)))
    for values in loaded.written.values():
        assert values == sorted(values), "an older version lands after a newer one"
    accepted = {number for number, outcome in loaded.settled.items() if outcome == "accepted"}
    newest = {keys[number]: number for number in sorted(accepted)}
    for number in accepted:
        assert number in loaded.written[keys[number]], "accepted without ground"
        assert loaded.stored[keys[number]] >= number
    for number, outcome in loaded.settled.items():
        if outcome == "superseded":
            assert newest[keys[number]] > number, "given up without a newer version"
    failed = {}
    for line in loaded.failed_lines:
        told = json.loads(line)
        number = told["source"]["record"] - 1
        assert number not in failed, "a record stands twice in the failed file"
        failed[number] = told
        assert b',"record":' + texts[number] in line
        assert told["error"]["class"] in CLASSES.get(kinds[number], UNCLEAR), "a good record is blamed"
        overtaken = newest.get(keys[number], -1) > number
        assert ("supersededBy" in told) is overtaken
    assert set(failed) == {number for number, outcome in loaded.settled.items() if outcome == "failed"}
    assert loaded.again == sum("supersededBy" not in told for told in failed.values())
    assert (loaded.tally.accepted, loaded.tally.failed) == (len(accepted), len(failed))
    assert loaded.tally.read == len(texts)
    return {told["error"]["class"] for told in failed.values()}


def check_against_model(case: Case, kinds: list[str], loaded: Loaded) -> None:
    """Bad records alone fail (or give way to a newer version), and the stream ends as if all had been sent one by one."""
    assert check_outcomes(case, kinds, loaded).isdisjoint(UNCLEAR)
    bad = {number for number, kind in enumerate(kinds) if kind in CLASSES}
    assert {number for number, outcome in loaded.settled.items() if outcome == "failed"} <= bad
    assert bad.isdisjoint(number for number, outcome in loaded.settled.items() if outcome == "accepted")
    model = {
        json.loads(text)["externalId"]: number for number, text in enumerate(case.texts) if number not in bad
    }
    assert loaded.stored == model
    assert all(loaded.settled[number] == "accepted" for number in model.values())


def some(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@some(150)
@given(cases(scripts()))
def test_any_load_over_the_sandbox_ends_as_one_by_one(drawn: tuple[Case, list[str]]) -> None:
    """Few keys, many versions, bad and oversize records, any batches, any script of faults that a record survives: stream, order of writes, ledger and failed file are those of the model."""
    check_against_model(*drawn, run_load(drawn[0]))


@some(50)
@given(cases(harsh_scripts()))
def test_when_tries_are_used_up_every_outcome_is_still_true(drawn: tuple[Case, list[str]]) -> None:
    """Faults without end: good records may fail, but none is called accepted without being stored, none is blamed, and no older version is ever written after a newer one."""
    check_outcomes(*drawn, run_load(drawn[0]))


@some(8)
@given(st.integers(0, 10_000))
def test_chaos_never_puts_an_older_version_over_a_newer_one(seed: int) -> None:
    """With a fault in every fifth request, 800 versions of 50 keys at 8 at once: the last stand, each key's writes are in order, and nothing fails."""
    dice = random.Random(seed)
    texts = [make_text(f"k{dice.randrange(50)}", number) for number in range(800)]
    blocks = [texts[i : i + 60] for i in range(0, len(texts), 60)]
    case = Case(blocks, batch_records=40, concurrency=8, chaos=0.2, visible_after=1.0, seed=seed)
    try:
        loaded = run_load(case)
    except RefusedError:
        reject()  # By chance a token and the one after it ended early, which rightly ends the run.
    check_against_model(case, ["good"] * len(texts), loaded)


@pytest.mark.parametrize("status", [400, 413])
def test_a_version_that_may_be_stored_is_looked_up_though_it_is_refused(status: int) -> None:
    """A lost reply, then refusals of each record alone: both stand, so neither has failed, and the older version is not sent."""
    refused = Answer(on=("upsert",), first=2, status=status)
    faults: list[Fault] = [Lost(on=("upsert",), requests=(1,)), refused]
    loaded = run_load(Case([[make_text("k", 0), make_text("k", 1), make_text("other", 2)]], faults=faults))
    assert loaded.written == {"k": [1], "other": [2]}
    assert loaded.settled == {0: "superseded", 1: "accepted", 2: "accepted"}


def test_a_bad_record_that_may_be_stored_fails_with_the_words_of_its_refusal() -> None:
    """A 503 without a list, then 400: nothing is found under its key, and it is rejected; the version before it stands."""
    faults: list[Fault] = [Answer(on=("upsert",), requests=(1,), status=503)]
    loaded = run_load(Case([[make_text("k", 0), make_text("k", '"wrong"')]], faults=faults))
    assert loaded.settled == {0: "accepted", 1: "failed"}
    [told] = [json.loads(line)["error"] for line in loaded.failed_lines]
    assert (told["class"], told["status"]) == ("rejected", 400)
    assert "stored under" not in told["message"]


@pytest.mark.parametrize("split", [False, True])
def test_a_version_that_may_be_stored_is_looked_up_before_an_older_one_goes(split: bool) -> None:
    """A lost reply, then refusals that name the record, to the end: it stands, so the older version is not sent over it."""
    faults: list[Fault] = [Lost(on=("upsert",), requests=(1,))]
    if split:
        faults.append(Answer(on=("upsert",), requests=(2,), status=413))
    faults.append(Partial(on=("upsert",), first=2 + split, code=500, of=1.0))
    loaded = run_load(Case([[make_text("k", 0), make_text("k", 1), make_text("other", 2)]], faults=faults))
    assert loaded.written["k"] == [1]
    assert loaded.settled == {0: "superseded", 1: "accepted", 2: "accepted"}


@pytest.mark.parametrize("seed", range(8))
def test_what_is_seen_of_an_older_version_accepts_no_newer_one(seed: int) -> None:
    """Of the values 1, 2, 1 the last never arrives, while readers still see the first: it has failed, and 2 stands."""
    texts = [make_text("k", 1), make_text("k", 2), make_text("k", 1)]
    cut: list[Fault] = [Cut(on=("upsert",), first=3)]
    blocks = [[text] for text in texts]
    case = Case(blocks, pauses=[0.0, 4.0, 1.5], faults=cut, visible_after=2.0, timeout=0.5, seed=seed)
    loaded = run_load(case)
    assert loaded.settled == {0: "accepted", 1: "accepted", 2: "failed"}
    assert (loaded.written, loaded.stored) == ({"k": [1, 2]}, {"k": 2})


def test_a_conflict_to_the_end_tells_names_in_files_and_keeps_values_for_eyes() -> None:
    """409 for every try, and something else is stored: `conflict`, by what was read back; its message names properties, the values are apart, for -v alone."""
    never = Partial(on=("upsert",), first=2, code=409, of=1.0)
    blocks = [[make_text("k", 1)], [make_text("k", 2, pad=5), make_text("new", 3)]]
    loaded = run_load(Case(blocks, pauses=[0.0, 10.0], faults=[never]))
    assert loaded.settled == {0: "accepted", 1: "failed", 2: "failed"}
    told = [json.loads(line)["error"] for line in loaded.failed_lines]
    assert [error["class"] for error in told] == ["conflict", "conflict"]
    assert told[0]["message"].endswith("; what is stored differs in c.value, c.pad")
    assert told[1]["message"].endswith("; nothing is stored under this key")
    details = [failed.failure.detail for failed in loaded.failed.values()]
    assert details == ['c.value: stored 1, ours 2; c.pad: stored nothing, ours "xxxxx"', ""]
    assert not any(b"stored 1" in line for line in loaded.failed_lines)


@pytest.mark.soak
@some(5000)
@given(cases(scripts()))
def test_the_same_for_a_long_time(drawn: tuple[Case, list[str]]) -> None:
    """The first law above, many more times."""
    check_against_model(*drawn, run_load(drawn[0]))


@pytest.mark.soak
@some(5000)
@given(cases(harsh_scripts()))
def test_the_same_for_a_long_time_when_tries_are_used_up(drawn: tuple[Case, list[str]]) -> None:
    """The second law above, many more times."""
    check_outcomes(*drawn, run_load(drawn[0]))
