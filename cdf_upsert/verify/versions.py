"""Which version of each key is the last one, in flat memory: two versions may lie gigabytes apart."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from cdf_upsert.core.record import Key, Record
from cdf_upsert.core.verifying import Sample


@contextmanager
def _on_disk() -> Iterator[None]:
    """Errors of the database are errors of the disk to whoever uses it."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


class LastVersions:
    """The last version of each key, and which keys are chosen; kept on disk, in a directory that is its own.

    Whatever cannot be written or read raises `OSError`.

    A key stands there as a digest of 16 bytes, salted, so that keys in the order of their digests are shuffled.
    """

    @_on_disk()
    def __init__(self, directory: Path, salt: bytes) -> None:
        self._salt = salt
        self._database = sqlite3.connect(directory / "keys.sqlite", isolation_level=None)
        # Nothing here outlives the process, so nothing has to survive it.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "cache_size=-8000"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE seen (digest BLOB, ordinal INTEGER)")
        self._database.execute("CREATE TABLE last (digest BLOB, ordinal INTEGER)")
        self._database.execute("BEGIN")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def digest(self, key: Key) -> bytes:
        """What stands for a key; neither part of it holds a NUL, so no two keys look alike."""
        return blake2b(
            "\0".join(key).encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt
        ).digest()

    @_on_disk()
    def see(self, records: Sequence[Record]) -> None:
        """Take note of these versions."""
        self._database.executemany(
            "INSERT INTO seen VALUES (?, ?)",
            [(self.digest(record.key), record.ordinal) for record in records],
        )

    @_on_disk()
    def choose(self, sample: Sample) -> tuple[int, int]:
        """All versions have been seen; how many keys there are, and how many of them are chosen."""
        # Sorting spills to disk and goes through it in order; an index would be written to in random places.
        self._database.execute(
            "INSERT INTO last SELECT digest, max(ordinal) FROM seen GROUP BY digest ORDER BY digest"
        )
        keys = self._count()
        if sample.keys is not None:
            self._database.execute("DELETE FROM last WHERE rowid > ?", (sample.keys,))
        if sample.percent is not None and sample.percent < 100:
            bound = int(2**64 * sample.percent / 100).to_bytes(8, "big")
            self._database.execute("DELETE FROM last WHERE digest >= ?", (bound,))
        return keys, self._count()

    def chosen(self) -> Iterator[tuple[int, bytes]]:
        """Ordinal and digest of each version that is to be compared, in input order."""
        with _on_disk():
            # Not `yield from`: left unfinished, it would close a cursor that may outlive its database.
            for row in self._database.execute("SELECT ordinal, digest FROM last ORDER BY ordinal"):  # noqa: UP028
                yield row

    def _count(self) -> int:
        [count] = self._database.execute("SELECT count(*) FROM last").fetchone()
        return int(count)
