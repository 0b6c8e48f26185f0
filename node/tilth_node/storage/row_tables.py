"""How the ledger's rows lie in its file, and how changes of them are written.

A value is written once, at the end of `rows`, under a number. Keys are random, so an index of them
costs a page for each new key once it is large. The index `keys` is therefore written late, for
many keys at once and in their order: until then a key stands in `recent`, beside its number, and in
memory (`fresh_keys`).

- A key of the state is either merged (in `keys`) or fresh, never both.
- While MERGE_ROWS are fresh, each commit merges about as many as it adds: no commit is much longer
  than others. Merging goes round: in the order of keys from `place` on, through all that are fresh
  by then, and at the end again from the beginning, a *lap* later. So a lap takes twice as many keys
  as are fresh at one time, and finds twice as many for each page.
- `recent` says of each key in which lap it is merged: in this one when it is above `place` as it
  comes, else in the next one. So what is fresh is what a later lap merges, or this one and above.
- What exists is also in a filter in memory, so that a new key costs no look into index and fresh
  keys. It is filled beside other work after a start, and believed when it is.
- A line of `recent` stays until it is the first one and its key is merged: with `touched` it says
  which rows became final when, for watches that resume. Each line of `touched` has a digest of its
  own, since no hash of the ledger covers it.

Leaves to others: reading (stored_rows), the transaction and what stands beside (ledger_store).
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from tilth_node.storage.fresh_keys import FreshKeys
from tilth_node.storage.key_filter import KeyFilter

MERGE_ROWS = 262_144
READ_ROWS = 8_192  # lines that are read at once at a start
FILTER_KEYS = 512  # that are read for the filter at once: less than a millisecond
TOUCHED_BYTES = 2 << 20  # of keys of rows that were not new, as far back as watches may resume
REMOVED_PER_NEW = 2  # lines of `recent` that may go for one that comes

# No key holds a code point above U+10FFFF: this is above all of a prefix.
ABOVE = "\U0010ffff" * 4

RECENT_SCHEMA = """
CREATE TABLE recent (id INTEGER PRIMARY KEY, lap INTEGER NOT NULL, key TEXT NOT NULL);
CREATE TABLE merging (
  one INTEGER PRIMARY KEY CHECK (one = 1), lap INTEGER NOT NULL, place TEXT NOT NULL
);
INSERT INTO merging VALUES (1, 1, '')
"""
ROWS_SCHEMA = f"""
CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE touched (
  size INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL,
  keys TEXT NOT NULL, digest BLOB NOT NULL
);
{RECENT_SCHEMA}
"""
# What makes the tables of older versions of the ledger's file those of this one.
# Version 3 held each key twice: what is copied is as large as the rows, and needs room for that.
# Version 4 merged keys by batches of numbers: what it had not merged is of the first lap.
UPGRADES = {
    3: f"""
ALTER TABLE rows RENAME TO old_rows;
DROP TABLE touched;
{ROWS_SCHEMA};
INSERT INTO rows SELECT rowid, value FROM old_rows;
INSERT INTO keys SELECT key, rowid FROM old_rows ORDER BY key;
DROP TABLE old_rows
""",  # noqa: S608
    4: f"""
ALTER TABLE recent RENAME TO old_recent;
ALTER TABLE merging RENAME TO old_merging;
{RECENT_SCHEMA};
INSERT INTO recent SELECT id, id > last OR id > done AND key > place, key
  FROM old_recent, old_merging ORDER BY id;
DROP TABLE old_recent;
DROP TABLE old_merging
""",  # noqa: S608
}
# Keys of the state that `keys` does not hold yet.
FRESH = "(recent.lap > merging.lap OR recent.lap = merging.lap AND recent.key > merging.place)"
UNMERGED = f"SELECT recent.key, recent.id FROM recent, merging WHERE {FRESH}"  # noqa: S608
OLDEST = f"{UNMERGED} AND recent.id < ? ORDER BY recent.id LIMIT 1"

ALL_KEYS = f"SELECT key, id FROM keys UNION ALL {UNMERGED}"  # noqa: S608
ALL_ROWS = f"SELECT key, value FROM ({ALL_KEYS}) JOIN rows USING (id)"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Place:
    """Keys up to this one are merged in this lap."""

    lap: int
    key: str

    def lap_of(self, key: str) -> int:
        """The lap in which a key that comes now is merged."""
        return self.lap if key > self.key else self.lap + 1


@dataclass(frozen=True, slots=True)
class Written:
    """Changes of rows with the numbers of their values, and the keys that are merged beside."""

    added: list[tuple[int, str, bytes]]
    changed: list[tuple[int, str, bytes]]
    removed: list[tuple[int, str]]
    merged: list[tuple[str, int]]
    place: Place  # how far merging is with these

    @property
    def any(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class RowTables:
    """The tables of rows in one ledger's file; it is told what was committed."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        found = reader.execute("SELECT lap, place FROM merging").fetchone()
        self._place = Place(*found) if found else Place(1, "")
        self._filter: KeyFilter | None = None
        self._filling: KeyFilter | None = None
        self._filled = ""  # the last key that was read for the filter
        self._indexed = False  # whether all of the index was read for it
        self.fresh = FreshKeys(self._unmerged())
        query = "SELECT max((SELECT coalesce(max(id), 0) FROM rows), coalesce(max(last), 0)),"
        query += " coalesce(sum(length(keys)), 0) FROM touched"
        self._newest, self._touched_bytes = reader.execute(query).fetchone()
        self._oldest = reader.execute("SELECT coalesce(min(id), 0) FROM recent").fetchone()[0]

    def _unmerged(self) -> Iterator[tuple[str, int]]:
        """What the file lists as fresh, read in pages."""
        query = f"{UNMERGED} AND recent.id > ? ORDER BY recent.id LIMIT ?"
        last = -1
        while found := self._reader.execute(query, (last, READ_ROWS)).fetchall():
            yield from found
            last = found[-1][1]

    def may_hold(self, key: str) -> bool:
        """False for a key that surely does not exist."""
        return self._filter is None or self._filter.may_hold(key)

    def fill(self) -> bool:
        """Read some more keys for their filter; whether that is all."""
        if self._filling is None:
            if self._filter is not None and self._filter.room(self._newest):
                return True
            self._filling, self._filled, self._indexed = KeyFilter(self._newest), "", False
        found = self._some_more()
        self._filling.add(found)
        if len(found) == FILTER_KEYS:
            self._filled = found[-1]
        elif self._indexed:
            self._filter, self._filling = self._filling, None
            return True
        else:  # what is merged meanwhile is added by then
            self._filled, self._indexed = "", True
        return False

    def _some_more(self) -> list[str]:
        """The next keys for the filter: of the index, then of those that are fresh."""
        if self._indexed:
            return [key for key, _ in self.fresh.front(self._filled, FILTER_KEYS)]
        query = "SELECT key FROM keys WHERE key > ? ORDER BY key LIMIT ?"
        found = self._reader.execute(query, (self._filled, FILTER_KEYS)).fetchall()
        return [key for (key,) in found]

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

    def _next_slice(self, count: int) -> tuple[list[tuple[str, int]], Place]:
        """The keys to merge beside so many new ones, and how far merging is with them."""
        place, over = self._place, len(self.fresh) - MERGE_ROWS
        if not count or over < 0:
            return [], place
        some = count + min(count, over)
        found = self.fresh.front(place.key, some)
        if len(found) < some:
            return found, Place(place.lap + 1, "")
        return found, Place(place.lap, found[-1][0])

    def write(self, connection: sqlite3.Connection, size: int | None, written: Written) -> None:
        """Write a plan, inside the transaction that makes `size` leaves final; None: no watch need
        know."""
        self._put(connection, written)
        self._merge(connection, written)
        if size is not None and written.any:
            self._touch(connection, size, written)
        self._forget(connection, written)

    def _put(self, connection: sqlite3.Connection, written: Written) -> None:
        values = [(number, value) for number, _, value in written.added]
        connection.executemany("INSERT INTO rows (id, value) VALUES (?, ?)", values)
        lap_of = written.place.lap_of
        keys = [(number, lap_of(key), key) for number, key, _ in written.added]
        connection.executemany("INSERT INTO recent (id, lap, key) VALUES (?, ?, ?)", keys)
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
        if written.place != self._place:
            place = written.place.lap, written.place.key
            connection.execute("UPDATE merging SET lap = ?, place = ?", place)

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

    def _forget(self, connection: sqlite3.Connection, written: Written) -> None:
        """Remove the first lines of `recent` whose keys are merged."""
        if not written.merged:
            return
        until = self._oldest + REMOVED_PER_NEW * len(written.added)
        found = connection.execute(OLDEST, (until,)).fetchone()
        oldest = until if found is None else found[1]
        if oldest == self._oldest:
            return
        self._oldest = oldest
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
        added = [(key, number) for number, key, _ in written.added]
        if self._filling is not None:
            self._filling.add(key for key, _ in written.merged)
        for each in (self._filter, self._filling):
            if each is not None:
                each.add(key for key, _ in added)
        self._newest += len(added)
        if self._filter is not None:
            self.fill()  # it grows with the ledger
        self.fresh.merged(self._place.key, written.merged)
        self.fresh.remove(key for _, key in written.removed)
        self.fresh.add(added)
        self._place = written.place


def touched_digest(size: int, first: int, last: int, keys: str) -> bytes:
    """Tells a line of `touched` that is as it was written."""
    return sha256(f"{size} {first} {last} {keys}".encode()).digest()[:8]
