"""Which case a run is, and what the first line says of it."""

from pathlib import Path

import pytest

from cdf_upsert.core.framing import Position
from cdf_upsert.core.standing import Checkpoint, Ranges, Standing
from cdf_upsert.errors import UsageError
from cdf_upsert.journal import cases
from cdf_upsert.journal.identity import Fingerprint, Identity, InputIdentity

OLD = Fingerprint(10, 1, "aa")
PLAN = Identity("https://cdf.test", "p", "events", (InputIdentity("/in/a.ndjson", OLD),))
STREAMED = Identity("https://cdf.test", "p", "events", (InputIdentity("-", None),))


def changed(**fields: object) -> Identity:
    whole = {name: getattr(PLAN, name) for name in PLAN.__struct_fields__}
    return Identity(**{**whole, **fields})


def earlier(identity: Identity = PLAN, how: str = "cut off") -> cases.Earlier:
    return cases.Earlier(identity, complete=how == "complete", unfinished=how == "cut off")


other_size = changed(inputs=(InputIdentity("/in/a.ndjson", Fingerprint(11, 1, "aa")),))
other_time = changed(inputs=(InputIdentity("/in/a.ndjson", Fingerprint(10, 2, "aa")),))
other_text = changed(inputs=(InputIdentity("/in/a.ndjson", Fingerprint(10, 1, "bb")),))
moved = changed(inputs=(InputIdentity("/elsewhere/a.ndjson", OLD),))
other_input = changed(inputs=(InputIdentity("/in/b.ndjson", Fingerprint(7, 7, "cc")),))
more_inputs = changed(inputs=(*PLAN.inputs, InputIdentity("/in/b.ndjson", OLD)))

ANEW = cases.InputChanged(("/in/a.ndjson",))


@pytest.mark.parametrize(
    ("before", "fresh", "case"),
    [
        (None, False, cases.NewLoad()),
        (None, True, cases.NewLoad()),
        (earlier(), False, None),
        (earlier(how="failures"), False, None),
        (earlier(how="complete"), False, cases.Repeated()),
        (earlier(), True, cases.Forgotten()),
        (earlier(how="complete"), True, cases.Forgotten()),
        (earlier(other_size), False, ANEW),
        (earlier(other_time), False, ANEW),
        (earlier(other_text), False, ANEW),
        (earlier(other_text, "complete"), False, cases.Repeated()),
        (earlier(moved), False, None),
        (earlier(other_input), True, cases.Forgotten()),
        (earlier(other_input, "failures"), False, cases.OtherLoad()),
        (earlier(more_inputs, "complete"), False, cases.OtherLoad()),
        (earlier(changed(stream="other"), "failures"), False, cases.OtherLoad()),
    ],
)
def test_the_case_of_a_run(before: cases.Earlier | None, fresh: bool, case: cases.Case | None) -> None:
    """The same load goes on unless everything was accepted; whatever else is there, a new load begins."""
    assert cases.decide(PLAN, before, fresh=fresh) == case


@pytest.mark.parametrize(
    ("before", "names"),
    [
        (changed(base_url="https://other.test"), "into project p at https://other.test"),
        (changed(project="q"), "into project q at https://cdf.test"),
        (changed(stream="other"), "into stream other"),
        (changed(format="json"), "with --format json"),
        (other_input, "of /in/b.ndjson"),
        (more_inputs, "of /in/a.ndjson, /in/b.ndjson"),
        (STREAMED, "of standard input"),
    ],
)
def test_an_unfinished_load_of_something_else_is_not_forgotten(before: Identity, names: str) -> None:
    """A run directory that holds another, unfinished load is refused, and the sentence says in what it differs."""
    with pytest.raises(UsageError) as caught:
        cases.decide(PLAN, earlier(before), fresh=False)
    assert f"an unfinished load {names}: give this load another --run-dir" in str(caught.value)


def test_what_is_read_only_once_goes_on() -> None:
    """Standard input has no fingerprint, so that it goes on: its bytes are compared as they come."""
    assert cases.decide(STREAMED, earlier(STREAMED), fresh=False) is None


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (cases.NewLoad(), "new load events-1"),
        (cases.Repeated(), "new load events-1: everything was accepted the last time"),
        (cases.InputChanged(("/a",)), "new load events-1: /a has changed since the last run"),
        (cases.InputChanged(("/a", "/b")), "new load events-1: /a, /b have changed since the last run"),
        (cases.OtherLoad(), "new load events-1: the run directory held another load, which is finished"),
        (cases.Forgotten(), "new load events-1: what earlier runs did is forgotten (--fresh)"),
        (
            cases.Damaged(Path("/j.sqlite"), "no journal"),
            "new load events-1: its journal cannot be read (no journal) and is kept as /j.sqlite",
        ),
        (
            cases.GoingOn(3, 1_204_000, 12, 795_988, "record 7 of /a"),
            "resuming run 3 of events-1: 1,204,000 accepted, 12 failed, 795,988 to go",
        ),
        (
            cases.GoingOn(3, 1_204_000, 0, None, "record 1,204,001 of /a"),
            "resuming run 3 of events-1: 1,204,000 accepted, 0 failed, going on at record 1,204,001 of /a",
        ),
    ],
)
def test_the_first_line(case: cases.Case, line: str) -> None:
    """Each case has its sentence."""
    assert cases.sentence(case, "events-1") == line


@pytest.mark.parametrize(
    ("total", "start", "case"),
    [
        (100, Checkpoint(90, 0, Position(900, 90, 90)), cases.GoingOn(2, 88, 2, 12, "record 91 of /a")),
        (None, Checkpoint(90, 0, Position(900, 90, 90)), cases.GoingOn(2, 88, 2, None, "record 91 of /a")),
        (90, Checkpoint(90, 1), cases.GoingOn(2, 88, 2, 2, "the end of the input")),
    ],
)
def test_where_a_load_goes_on(total: int | None, start: Checkpoint, case: cases.GoingOn) -> None:
    """To go are the records that are not settled and the failed ones, once the inputs have been read to the end."""
    standing = Standing(3, start, Ranges([(0, 90)]), already_accepted=88, again=2)
    assert cases.going_on(standing, start, 2, ("/a",), total) == case
