"""Which case a run is: a new load, and why, or one that goes on. Decided without looking at anything else.

nothing in the directory                      a new load
the same load, unfinished or with failures    it goes on
the same load, all accepted                   a new load
an input is another than it was               a new load
another load, finished                        a new load
another load, unfinished                      refused
--fresh                                       a new load
a damaged journal                             a new load; the journal is kept aside
"""

from pathlib import Path
from typing import assert_never

from msgspec import Struct

from cdf_upsert.core.standing import Checkpoint, Standing
from cdf_upsert.errors import UsageError
from cdf_upsert.journal.identity import Identity, InputIdentity


class Earlier(Struct, frozen=True):
    """What the directory holds: which load, whether all was accepted, whether a run was cut short."""

    identity: Identity
    complete: bool
    unfinished: bool


class NewLoad(Struct, frozen=True):
    """The directory was empty."""


class Repeated(Struct, frozen=True):
    """Everything was accepted the last time: the same command is a new load."""


class InputChanged(Struct, frozen=True):
    """An input is not what it was, so nothing that is known of its records holds."""

    names: tuple[str, ...]


class OtherLoad(Struct, frozen=True):
    """The directory held a load of something else, which is finished."""


class Forgotten(Struct, frozen=True):
    """`--fresh`."""


class Damaged(Struct, frozen=True):
    """The journal cannot be read; it is kept at `kept`."""

    kept: Path
    why: str


class GoingOn(Struct, frozen=True):
    """The load goes on where run number `run` stood; `to_go` is None until a run has read to the end."""

    run: int
    accepted: int
    failed: int
    to_go: int | None
    at: str


Case = NewLoad | Repeated | InputChanged | OtherLoad | Forgotten | Damaged | GoingOn


def decide(plan: Identity, earlier: Earlier | None, *, fresh: bool) -> Case | None:
    """The case of a run of `plan` in a directory that holds `earlier`; None when the load goes on.

    Raises:
        UsageError: the directory holds an unfinished load of something else.
    """
    if earlier is None:
        return NewLoad()
    if fresh:
        return Forgotten()
    if difference := _difference(plan, earlier.identity):
        if earlier.unfinished:
            raise UsageError(
                f"The run directory holds an unfinished load {difference}: give this load another --run-dir, "
                "or forget the unfinished one with --fresh."
            )
        return OtherLoad()
    changed = [
        new.name for new, old in zip(plan.inputs, earlier.identity.inputs, strict=True) if _changed(new, old)
    ]
    if earlier.complete:
        return Repeated()
    return InputChanged(tuple(changed)) if changed else None


def going_on(
    standing: Standing, start: Checkpoint, failed: int, names: tuple[str, ...], total: int | None
) -> GoingOn:
    """The case of a run that goes on from `standing`, with `failed` records that failed before.

    Everything before `start` is settled.
    The load has `total` records, if that is known.
    """
    at = "the end of the input"
    if start.index < len(names):
        at = f"record {start.position.record + 1:,} of {names[start.index]}"
    to_go = None if total is None else total - len(standing.settled) + standing.again
    return GoingOn(standing.run - 1, standing.already_accepted, failed, to_go, at)


def sentence(case: Case, name: str) -> str:
    """The first line of a run of the load `name`."""
    match case:
        case NewLoad():
            return f"new load {name}"
        case Repeated():
            return f"new load {name}: everything was accepted the last time"
        case InputChanged(names):
            changed = "has changed" if len(names) == 1 else "have changed"
            return f"new load {name}: {', '.join(names)} {changed} since the last run"
        case OtherLoad():
            return f"new load {name}: the run directory held another load, which is finished"
        case Forgotten():
            return f"new load {name}: what earlier runs did is forgotten (--fresh)"
        case Damaged(kept, why):
            return f"new load {name}: its journal cannot be read ({why}) and is kept as {kept}"
        case GoingOn(run, accepted, failed, to_go, at):
            rest = f"going on at {at}" if to_go is None else f"{to_go:,} to go"
            return f"resuming run {run} of {name}: {accepted:,} accepted, {failed:,} failed, {rest}"
        case _:
            assert_never(case)


def _difference(plan: Identity, earlier: Identity) -> str | None:
    """In what the two are different loads, as part of a sentence; the content of inputs does not count."""
    if (plan.base_url, plan.project) != (earlier.base_url, earlier.project):
        return f"into project {earlier.project} at {earlier.base_url}"
    if plan.stream != earlier.stream:
        return f"into stream {earlier.stream}"
    if plan.format != earlier.format:
        return f"with --format {earlier.format}"
    if len(plan.inputs) != len(earlier.inputs) or any(
        new.path != old.path and not _moved(new, old)
        for new, old in zip(plan.inputs, earlier.inputs, strict=True)
    ):
        return f"of {', '.join(one.name for one in earlier.inputs)}"
    return None


def _moved(new: InputIdentity, old: InputIdentity) -> bool:
    """Whether a file is the same one under another name."""
    return new.fingerprint is not None and new.fingerprint == old.fingerprint


def _changed(new: InputIdentity, old: InputIdentity) -> bool:
    """Whether an input is another; of what can be read only once, the bytes are compared when they come."""
    return new.fingerprint != old.fingerprint
