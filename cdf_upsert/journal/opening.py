"""From a run directory to the journal of a run."""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from cdf_upsert.core.events import Outcome
from cdf_upsert.core.record import FailureClass
from cdf_upsert.core.standing import Checkpoint, Standing
from cdf_upsert.errors import UsageError
from cdf_upsert.journal import cases, facts
from cdf_upsert.journal.books import Journal, Opened, instant
from cdf_upsert.journal.cases import Case, Damaged, Earlier, decide
from cdf_upsert.journal.failures import FailedFile, keep_aside, marked, usable
from cdf_upsert.journal.identity import ROOT, Identity
from cdf_upsert.journal.lock import Lock
from cdf_upsert.journal.names import FAILED, JOURNAL, LOCK, REPORT
from cdf_upsert.journal.same import SameBytes
from cdf_upsert.journal.store import DamagedError, Run, Store


def open_journal(
    plan: Identity,
    directory: Path,
    *,
    run_id: str,
    now: datetime,
    fresh: bool = False,
    failed: Path | None = None,
) -> Journal:
    """Take the run directory for a run of `plan`, and find out which case it is.

    `run_id` names the run in the names of files that are kept aside; `failed` is the failed file, when it is
    to be elsewhere. The caller closes what is returned.

    Raises:
        BusyError: another run of the load is under way.
        UsageError: the directory or the failed file is not usable.
    """
    directory = directory.absolute()
    with contextlib.ExitStack() as undo:
        try:
            _make(directory)
            path = usable(failed or directory / FAILED, [one.path for one in plan.inputs])
            lock = Lock.take(directory / LOCK, now)
            undo.callback(lock.release)
            store, state, damaged = _read(directory / JOURNAL, now)
            undo.callback(store.close)
            here = _Directory(directory, FailedFile(path), store)
            last = store.last_run()
            case: Case | None = damaged or decide(plan, _earlier(store, state, last), fresh=fresh)
            run = Run(last.number + 1 if case is None and last else 1, run_id, instant(now), str(path))
            here.set_report_aside(last)
            if case is None:
                assert last is not None, "only a load with a run can go on"
                standing, case, kept = here.go_on(plan, state, last, run)
            else:
                kept = here.begin_anew(plan, last, run)
                standing, state = Standing(), facts.State()
            journal = Journal(
                Opened(
                    directory=directory,
                    lock=lock,
                    store=store,
                    state=state,
                    run=run,
                    case=case,
                    standing=standing,
                    failed_file=here.file,
                    kept=kept,
                    same={
                        index: _same(plan, store, state, index)
                        for index, one in enumerate(plan.inputs)
                        if one.fingerprint is None
                    },
                    inputs=len(plan.inputs),
                )
            )
        except (OSError, sqlite3.Error) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"The run directory {directory} is not usable ({why}): mend it, or choose another --run-dir."
            ) from error
        undo.pop_all()
    return journal


class _Directory(Struct, frozen=True):
    """What happens to the files of earlier runs when a run begins."""

    directory: Path
    file: FailedFile
    store: Store

    def go_on(
        self, plan: Identity, state: facts.State, last: Run, run: Run
    ) -> tuple[Standing, cases.GoingOn, Sequence[Path]]:
        """Begin a run that goes on where `state` stands."""
        ours = self._ours(last)
        if ours and plan.streamed:
            self._complete(last)
        already = state.accepted + state.superseded
        with self.store.transaction():
            overtaken = self.store.drop_marked()
            failed = self.store.failed_count()
            # Behind the checkpoint an older version may be unsettled, which must not land after the failed one:
            # there all is read again, and tried in input order. Before it everything is settled.
            unsettled = self.store.drop_failed_from(state.checkpoint.ordinal)
            state.settled = state.settled.without(facts.spans_of(unsettled))
            standing = Standing(
                run=run.number,
                # What can be read only once is read from its beginning: every byte of it is compared.
                start=Checkpoint() if plan.streamed else state.checkpoint,
                settled=state.ranges(),
                in_doubt=state.in_doubt(),
                already_accepted=already,
                again=self.store.failed_count(),
                superseded=overtaken,
            )
            state.superseded += overtaken
            self.store.renew(plan)
            self.store.begin_run(run)
            self.store.fold(state)
        names = tuple(one.name for one in plan.inputs)
        case = cases.going_on(standing, state.checkpoint, failed, names, state.total)
        kept: Sequence[Path] = []
        if not ours:
            kept = self._set_aside(None)
        elif unsettled and plan.streamed:
            kept = self._set_aside(last.id)  # Nobody knows yet whether the same bytes will come.
        if standing.again or self.file.holds_records:
            self._rewrite()
        self.store.own_file(run.number, self.file.inode)
        return standing, case, kept

    def begin_anew(self, plan: Identity, last: Run | None, run: Run) -> Sequence[Path]:
        """Begin the first run of a load, in place of the one that was here."""
        ours = last is not None and self._ours(last)
        if last is not None and ours:
            self._complete(last)
        kept = self._set_aside(last.id if last is not None and ours else None)
        self.store.reset(plan, run)
        return kept

    def set_report_aside(self, last: Run | None) -> None:
        """Give the report of the last run that run's name."""
        report = self.directory / REPORT
        if last is not None and report.exists():
            keep_aside(report, last.id)

    def _ours(self, last: Run) -> bool:
        """Whether the last run wrote the file that stands there: elsewhere other loads may write, too."""
        if last.failed_file != str(self.file.path):
            return False
        return self.file.path.parent == self.directory or last.failed_inode == self.file.inode

    def _set_aside(self, name: str | None) -> list[Path]:
        kept = self.file.keep_aside(name)
        return [] if kept is None else [kept]

    def _complete(self, last: Run) -> None:
        """Make the failed file of the last run whole: when it was cut off, that may lack the last touch."""
        if last.ended is None and self.store.failed_count():
            self._rewrite()

    def _rewrite(self) -> None:
        self.file.rewrite(marked(*line) for line in self.store.failed_lines())


def _make(directory: Path) -> None:
    """Make the run directory, for its owner only."""
    if directory.is_dir():
        return
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.parent.name == ROOT:
        # Failed records are nobody's source code.
        (directory.parent / ".gitignore").write_text("*\n")


def _read(path: Path, now: datetime) -> tuple[Store, facts.State, Damaged | None]:
    """The journal and what it says; a damaged one is set aside, and a new one is in its place."""
    try:
        store = Store(path)
        try:
            store.see_readable()
            return store, store.state(), None
        except BaseException:
            store.close()
            raise
    except DamagedError as error:
        kept = keep_aside(path, f"damaged-{now:%Y%m%dT%H%M%SZ}")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
        return Store(path), facts.State(), Damaged(kept, str(error))


def _earlier(store: Store, state: facts.State, last: Run | None) -> Earlier | None:
    """What is there of an earlier load; nothing, when no run of it came so far as to send or settle a record."""
    identity = store.identity()
    if identity is None or last is None:
        return None
    ended_well = last.outcome in {Outcome.COMPLETE, Outcome.FAILURES}
    begun = bool(state.open) or any(True for _ in state.settled)
    if not begun and not ended_well:
        return None
    return Earlier(
        identity,
        complete=last.outcome == Outcome.COMPLETE and not store.failed_count(),
        unfinished=not ended_well,
    )


def _same(plan: Identity, store: Store, state: facts.State, index: int) -> SameBytes:
    """What earlier runs have heard of input number `index`.

    Where they came to its end, more may follow only if each record keeps its number and its bytes: not before another
    input, and not behind a record that was cut off.
    """
    marks = store.heard(index)
    latest = state.heard.get(index)
    if latest is not None and (not marks or latest.length > marks[-1][0]):
        marks.append((latest.length, latest.check))
    ended = latest is not None and latest.ended
    last = index == len(plan.inputs) - 1
    cut_off = state.total is not None and store.failed_kind(state.total - 1) == FailureClass.UNREADABLE
    return SameBytes(plan.inputs[index].name, marks, ended=ended, closed=ended and (cut_off or not last))
