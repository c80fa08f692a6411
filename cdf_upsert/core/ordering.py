"""At most one unsettled version per key, so that an older version never lands after a newer one.

Of several versions that wait, the newest is sent first. The older ones wait: when a newer one is accepted they
are superseded; when it is refused, the next older one has its turn, so that the last version that can be
accepted stands in the end.

    version arrives      key is free                    it goes
                         key is held                    it waits, as newer than the one under way
    head is accepted     none is newer                  what is older is superseded; the key is free
                         some are newer                 what is older is superseded; the newest goes
    head has failed      some wait, newer or older      the newest of them goes
                         none waits                     the key is free
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from cdf_upsert.core.record import Key, Record, keys_of, picked

RECORD_OVERHEAD = 300
"""What a waiting record takes in memory beside its text, in bytes (measured, CPython 3.11)."""


class _Chain(Struct):
    """The versions that wait behind the one under way, each list from old to new."""

    older: list[Record] = field(default_factory=list)
    newer: list[Record] = field(default_factory=list)


class Freed(Struct, frozen=True):
    """What an accepted batch sets free: versions whose turn it is, and versions that are superseded."""

    due: Sequence[Record] = ()
    superseded: Sequence[Record] = ()


class Ordering:
    """Holds the keys of all versions that are admitted and not settled.

    `in_doubt` maps keys to the ordinal of a version that may have landed in an earlier run whose end was cut
    off: an older version that arrives waits until that one has been read and sent again.
    """

    def __init__(self, in_doubt: Mapping[Key, int] | None = None) -> None:
        self._held: set[Key] = set()
        self._chains: dict[Key, _Chain] = {}
        self._in_doubt = dict(in_doubt or {})
        self.waiting_bytes = 0

    @property
    def held(self) -> int:
        """How many keys have an unsettled version."""
        return len(self._held)

    def waiting(self) -> Iterator[Record]:
        """The versions that wait for their turn."""
        for chain in self._chains.values():
            yield from chain.older
            yield from chain.newer

    def admit(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take `records` in, which come in input order; those that may be sent now, one at most of each key."""
        keys = keys_of(records)
        distinct = set(keys)
        if len(distinct) == len(keys) and self._held.isdisjoint(distinct) and not self._in_doubt:
            self._held |= distinct
            return records
        due: dict[Key, int] = {}
        for at, key in enumerate(keys):
            if key in self._held and key not in due:
                self._park(self._chain(key).newer, records[at])
            elif key in self._in_doubt and records[at].ordinal < self._in_doubt[key]:
                self._park(self._chain(key).older, records[at])
            else:
                self._in_doubt.pop(key, None)
                if key in due:
                    self._park(self._chain(key).older, records[due[key]])
                due[key] = at
                self._held.add(key)
        return picked(records, sorted(due.values()))

    def accepted(self, records: Sequence[Record]) -> Freed:
        """The versions `records`, which were under way, have been accepted."""
        keys = keys_of(records)
        if not self._chains:
            self._held.difference_update(keys)
            return Freed()
        due: list[Record] = []
        superseded: list[Record] = []
        for key in keys:
            chain = self._chains.get(key)
            if chain is None:
                self._held.discard(key)
                continue
            superseded += chain.older
            self._unpark(chain.older)
            if chain.newer:
                chain.older, chain.newer = chain.newer, []
                due.append(self._next(key, chain))
            else:
                self._free(key)
        return Freed(due, superseded)

    def failed(self, records: Iterable[Record]) -> list[Record]:
        """The versions `records`, which were under way, have failed; the versions whose turn it is now."""
        due: list[Record] = []
        for record in records:
            chain = self._chains.get(record.key)
            if chain is None:
                self._held.discard(record.key)
                continue
            chain.older += chain.newer
            chain.newer = []
            due.append(self._next(record.key, chain))
        return due

    def overtaking(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of `records`, which are about to be sent, behind which an older version waits."""
        if not self._chains:
            return ()
        chains = self._chains
        return picked(
            records, [at for at, key in enumerate(keys_of(records)) if key in chains and chains[key].older]
        )

    def give_up_doubt(self) -> list[Record]:
        """All inputs are read: versions that waited for one that never came; the newest of each key goes."""
        self._in_doubt.clear()
        due: list[Record] = []
        for key in [key for key in self._chains if key not in self._held]:
            self._held.add(key)
            due.append(self._next(key, self._chains[key]))
        return due

    def _chain(self, key: Key) -> _Chain:
        return self._chains.setdefault(key, _Chain())

    def _next(self, key: Key, chain: _Chain) -> Record:
        record = chain.older.pop()
        self._unpark([record])
        if not chain.older:
            del self._chains[key]
        return record

    def _free(self, key: Key) -> None:
        del self._chains[key]
        self._held.discard(key)

    def _park(self, where: list[Record], record: Record) -> None:
        where.append(record)
        self.waiting_bytes += len(record.text) + RECORD_OVERHEAD

    def _unpark(self, records: Sequence[Record]) -> None:
        self.waiting_bytes -= sum(len(record.text) + RECORD_OVERHEAD for record in records)
