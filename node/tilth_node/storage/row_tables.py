"""How the ledger's rows lie in its file, and how changes of them are written.

A value is written once, at the end of `rows`, under a number. Keys are random, so an index of them
costs a page for each new key once it is large. The index `keys` is therefore written late, for
many keys at once and in their order: until then a key stands in `recent`, beside its number, and in
memory (`fresh_keys`).

- A key of the state is either merged (in `keys`) or fresh, never both. `merging` says which:
  fresh is what `recent` lists above `last`, and above `done` what comes after `place`.
- When MERGE_ROWS are fresh they are merged in the order of keys, with each commit about as many as
  it adds: no commit is much longer than others, and as many stay fresh as before.
- What is in the index is also in a filter in memory, so that a new key costs no look into the
  index. It is filled beside other work after a start, and believed when it is.
- A line of `recent` stays for a while after its key was merged: with `touched` it says which rows
  became final when, for watches that resume. Each line of `touched` has a digest of its own, since
  no hash of the ledger covers it.

Leaves to others: reading (stored_rows), the transaction and what stands beside (ledger_store).
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from tilth_node.storage.fresh_keys import FreshKeys
from tilth_node.storage.key_filter import KeyFilter

MERGE_ROWS = 131_072
FILTER_KEYS = 512  # that are read for the filter at once: less than a millisecond
TOUCHED_BYTES = 2 << 20  # of keys of rows that were not new, as far back as watches may resume
REMOVED_PER_NEW = 2  # lines of `recent` that go for one that comes: they end before the next batch

# No key holds a code point above U+10FFFF: this is above all of a prefix.
ABOVE = "\U0010ffff" * 4

ROWS_SCHEMA = """
CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE recent (id INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE merging (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  done INTEGER NOT NULL, last INTEGER NOT NULL, place TEXT NOT NULL
);
CREATE TABLE touched (
  size INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL,
  keys TEXT NOT NULL, digest BLOB NOT NULL
);
INSERT INTO merging VALUES (1, 0, 0, '')
"""
# Keys of the state that `keys` does not hold yet.
UNMERGED = """
SELECT recent.key, recent.id FROM recent, merging
WHERE recent.id > merging.last OR recent.id > merging.done AND recent.key > merging.place
"""


ALL_KEYS = f"SELECT key, id FROM keys UNION ALL {UNMERGED}"  # noqa: S608
ALL_ROWS = f"SELECT key, value FROM ({ALL_KEYS}) JOIN rows USING (id)"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Batch:
    """Numbers up to `done` are merged; those up to `last` are, whose key is not above `place`."""

    done: int = 0
    last: int = 0
    place: str = ""

    @property
    def open(self) -> bool:
        return self.last > self.done


@dataclass(frozen=True, slots=True)
class Written:
    """Changes of rows with the numbers of their values, and the keys that are merged beside."""

    added: list[tuple[int, str, bytes]]
    changed: list[tuple[int, str, bytes]]
    removed: list[tuple[int, str]]
    merged: list[tuple[str, int]]
    batch: Batch  # how far merging is with these

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class RowTables:
    """The tables of rows in one ledger's file; it is told what was committed."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        found = reader.execute("SELECT done, last, place FROM merging").fetchone()
        self._batch = Batch(*found) if found else Batch()
        pairs = reader.execute(UNMERGED).fetchall()
        last = self._batch.last
        self._reader = reader
        self._filter: KeyFilter | None = None
        self._filling: KeyFilter | None = None
        self._filled = ""  # the last key that was read for the filter
        self.fresh = FreshKeys(
            (pair for pair in pairs if pair[1] <= last), (pair for pair in pairs if pair[1] > last)
        )
        query = "SELECT max((SELECT coalesce(max(id), 0) FROM rows), coalesce(max(last), 0)),"
        query += " coalesce(sum(length(keys)), 0) FROM touched"
        self._newest, self._touched_bytes = reader.execute(query).fetchone()
        self._oldest = reader.execute("SELECT coalesce(min(id), 0) FROM recent").fetchone()[0]

    def may_hold(self, key: str) -> bool:
        """False for a key that is surely not in the index."""
        return self._filter is None or self._filter.may_hold(key)

    def fill(self) -> bool:
        """Read some more keys of the index for its filter; whether that is all."""
        if self._filling is None:
            if self._filter is not None and self._filter.room(self._newest):
                return True
            self._filling, self._filled = KeyFilter(self._newest), ""
        query = "SELECT key FROM keys WHERE key > ? ORDER BY key LIMIT ?"
        found = self._reader.execute(query, (self._filled, FILTER_KEYS)).fetchall()
        for (key,) in found:
            self._filling.add(key)
        if len(found) < FILTER_KEYS:
            self._filter, self._filling = self._filling, None
            return True
        self._filled = found[-1][0]
        return False

    def plan(self, rows: Mapping[str, bytes | None], ids: Mapping[str, int | None]) -> Written:
        """What is to be written for these changes; `ids` are the numbers of those rows that exist,
        in what is committed."""
        added: list[tuple[int, str, bytes]] = []
        changed: list[tuple[int, str, bytes]] = []
        removed: list[tuple[int, str]] = []
        number = self._newest
        for key, value in rows.items():
            found = ids[key]
            if value is None:
                if found is not None:
                    removed.append((found, key))
            elif found is None:
                number += 1
                added.append((number, key, value))
            else:
                changed.append((found, key, value))
        return Written(added, changed, removed, *self._next_slice(len(added)))

    def _next_slice(self, count: int) -> tuple[list[tuple[str, int]], Batch]:
        """The keys to merge beside so many new ones, and the batch after them."""
        batch = self._batch
        if not batch.open and len(self.fresh) >= MERGE_ROWS:
            self.fresh.begin()
            batch = Batch(batch.done, self._newest)
        if not (batch.open and count):
            return [], self._batch
        some = count + min(count, max(0, len(self.fresh) - MERGE_ROWS))
        found = self.fresh.front(some + 1, batch.last)
        if len(found) <= some:
            return found, Batch(batch.last, batch.last)
        return found[:some], Batch(batch.done, batch.last, found[some - 1][0])

    def write(self, connection: sqlite3.Connection, size: int | None, written: Written) -> None:
        """Write a plan, inside the transaction that makes `size` leaves final; None: no watch need
        know."""
        self._put(connection, written)
        self._merge(connection, written)
        if size is not None and written.any:
            self._touch(connection, size, written)
        self._forget(connection, len(written.added))

    def _put(self, connection: sqlite3.Connection, written: Written) -> None:
        values = [(number, value) for number, _, value in written.added]
        connection.executemany("INSERT INTO rows (id, value) VALUES (?, ?)", values)
        keys = [(number, key) for number, key, _ in written.added]
        connection.executemany("INSERT INTO recent (id, key) VALUES (?, ?)", keys)
        connection.executemany(
            "UPDATE rows SET value = ? WHERE id = ?",
            [(value, number) for number, _, value in written.changed],
        )

    def _merge(self, connection: sqlite3.Connection, written: Written) -> None:
        connection.executemany("INSERT INTO keys (key, id) VALUES (?, ?)", written.merged)
        gone = [(number,) for number, _ in written.removed]
        connection.executemany("DELETE FROM rows WHERE id = ?", gone)
        connection.executemany("DELETE FROM recent WHERE id = ?", gone)
        names = [(key,) for _, key in written.removed]
        connection.executemany("DELETE FROM keys WHERE key = ?", names)
        if written.batch != self._batch:
            batch = written.batch.done, written.batch.last, written.batch.place
            connection.execute("UPDATE merging SET done = ?, last = ?, place = ?", batch)

    def _touch(self, connection: sqlite3.Connection, size: int, written: Written) -> None:
        # Of new rows only the numbers: their keys stand in `recent`.
        first, last = self._newest + 1, self._newest + len(written.added)
        known = [key for _, key, _ in written.changed] + [key for _, key in written.removed]
        keys = json.dumps(known)
        connection.execute(
            "INSERT INTO touched (size, first, last, keys, digest) VALUES (?, ?, ?, ?, ?)",
            (size, first, last, keys, touched_digest(size, first, last, keys)),
        )
        self._touched_bytes += len(keys)
        if self._touched_bytes > TOUCHED_BYTES:
            query = "SELECT size FROM touched ORDER BY size LIMIT 1 OFFSET 64"
            self._forget_touched(connection, connection.execute(query).fetchone())

    def _forget(self, connection: sqlite3.Connection, count: int) -> None:
        """Remove lines of keys that were merged by earlier batches."""
        if not count or self._oldest > self._batch.done:
            return
        self._oldest = min(self._oldest + REMOVED_PER_NEW * count, self._batch.done + 1)
        connection.execute("DELETE FROM recent WHERE id < ?", (self._oldest,))
        query = "SELECT size FROM touched WHERE first >= ? ORDER BY size LIMIT 1"
        self._forget_touched(connection, connection.execute(query, (self._oldest,)).fetchone())

    def _forget_touched(self, connection: sqlite3.Connection, until: tuple[int] | None) -> None:
        """Remove what was touched before a size; None: all of it."""
        size = (1 << 62,) if until is None else until
        query = "SELECT coalesce(sum(length(keys)), 0) FROM touched WHERE size < ?"
        self._touched_bytes -= connection.execute(query, size).fetchone()[0]
        connection.execute("DELETE FROM touched WHERE size < ?", size)

    def committed(self, written: Written) -> None:
        """The plan is durable: what reads see follows."""
        for each in (self._filter, self._filling):
            if each is not None:
                for key, _ in written.merged:
                    each.add(key)
        if self._filter is not None:
            self.fill()  # it grows with the ledger
        self.fresh.merged(written.merged)
        self.fresh.remove(key for _, key in written.removed)
        self.fresh.add((key, number) for number, key, _ in written.added)
        self._batch = written.batch
        self._newest += len(written.added)


def touched_digest(size: int, first: int, last: int, keys: str) -> bytes:
    """Tells a line of `touched` that is as it was written."""
    return sha256(f"{size} {first} {last} {keys}".encode()).digest()[:8]
