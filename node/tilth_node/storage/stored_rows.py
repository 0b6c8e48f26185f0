"""Rows of the ledger as they stand in its file: the core's `Rows`.

Leaves to others: which rows there are (execution), how they lie and are written (row_tables).
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import islice

from tilth_ledger.rows import Row
from tilth_node.storage.row_tables import ABOVE, RowTables, Written, touched_digest
from tilth_node.storage.soundness import parsed

SCAN_ROWS = 256
KNOWN_BYTES = 8 << 20  # of rows that are remembered
KNOWN_COST = 200  # bytes of one more key, number and value, beside their content
_UNKNOWN = (0, b"")  # no row's number and value

FIND = "SELECT id, value FROM keys JOIN rows USING (id) WHERE key = ?"
SCAN = (
    "SELECT key, value FROM keys JOIN rows USING (id) WHERE key >= ? AND key <= ?"
    " ORDER BY key LIMIT ?"
)
VALUE = "SELECT id, value FROM rows WHERE id = ?"


class StoredRows:
    """The rows of the last final block; the core's `Rows`.

    What was looked up is remembered, rows that are missing too: executing an entry asks for a new
    key several times, and for its author and dataset again and again.
    """

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._tables = RowTables(reader)
        self._known: dict[str, tuple[int, bytes] | None] = {}
        self._known_bytes = 0
        self._damaged = 0  # the size of the newest line of `touched` that cannot be believed

    def get(self, key: str) -> Row | None:
        value = self.get_bytes(key)
        return None if value is None else parsed(self._reader, key, value)

    def get_bytes(self, key: str) -> bytes | None:
        """As `get`, with the value as it is stored."""
        found = self._known.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            found = self._find(key)
        return None if found is None else found[1]

    def _find(self, key: str) -> tuple[int, bytes] | None:
        """What is not remembered."""
        if not self._tables.may_hold(key):
            self._remember(key, None)
            return None
        number = self._tables.fresh.number_of(key)
        if not self._reader.in_transaction:
            self._reader.execute("BEGIN")  # one lock for all questions until the next block
        query, value = (FIND, key) if number is None else (VALUE, number)
        found: tuple[int, bytes] | None = self._reader.execute(query, (value,)).fetchone()
        self._remember(key, found)
        return found

    def get_ready(self) -> bool:
        """A little of what makes looking up new keys quick; whether that was all of it."""
        return self._tables.fill()

    def plan(self, rows: Mapping[str, bytes | None]) -> Written:
        """How these changes are to be written."""
        ids: dict[str, int | None] = {}
        for key in rows:
            found = self._known.get(key, _UNKNOWN)
            if found is _UNKNOWN:
                found = self._find(key)
            ids[key] = None if found is None else found[0]
        return self._tables.plan(rows, ids)

    def write(self, connection: sqlite3.Connection, size: int | None, written: Written) -> None:
        """Write a plan, inside the transaction that makes `size` leaves final."""
        self._tables.write(connection, size, written)

    def committed(self, written: Written) -> None:
        """These changes can be read."""
        self._tables.committed(written)
        known, more = self._known, 0
        for rows in (written.added, written.changed):
            for number, key, value in rows:
                if key in known:
                    known[key] = number, value
                    more += len(value)
        for _, key in written.removed:
            if key in known:
                known[key] = None
        self._known_bytes += more

    def _remember(self, key: str, found: tuple[int, bytes] | None) -> None:
        self._known_bytes += len(key) + (0 if found is None else len(found[1])) + KNOWN_COST
        if self._known_bytes > KNOWN_BYTES:  # starting anew is cheaper than keeping an order
            self._known.clear()
            self._known_bytes = 0
        self._known[key] = found

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        for key, value in self.scan_bytes(prefix, after, limit):
            yield key, parsed(self._reader, key, value)

    def scan_bytes(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """As `scan`, with values as they are stored."""
        left = limit
        while left is None or left > 0:
            # In pages, each a query of its own: a reader left open would hold back the checkpoint.
            page = SCAN_ROWS if left is None else min(left, SCAN_ROWS)
            low = prefix if after < prefix else after + "\0"  # the least above it
            found = self._first(low, prefix + ABOVE, page)
            yield from found
            if len(found) < page:
                return
            after = found[-1][0]
            left = None if left is None else left - page

    def _first(self, low: str, high: str, count: int) -> list[tuple[str, bytes]]:
        """The first rows from `low` to `high`: those of the index, and the fresh ones between."""
        found: list[tuple[str, bytes]] = self._reader.execute(SCAN, (low, high, count)).fetchall()
        fresh = self._tables.fresh
        last = found[-1][0] if len(found) == count else high
        between = list(islice(fresh.scan(low, last), count))
        for key, number in between:
            _, value = self._reader.execute(VALUE, (number,)).fetchone()
            found.append((key, value))
        return sorted(found)[:count] if between else found

    def touched(self, size: int) -> Iterator[list[str]]:
        """Keys of the rows that changed after a size, together by what became final together. It
        ends at a line that is not as it was written: `touched_since` says so from then on."""
        query = "SELECT size, first, last, keys, digest FROM touched WHERE size > ?"
        query += " ORDER BY size LIMIT 1"
        while (found := self._reader.execute(query, (size,)).fetchone()) is not None:
            size, first, last, keys, digest = found
            if touched_digest(size, first, last, keys) != digest:
                self._damaged = size
                return
            new = "SELECT key FROM recent WHERE id >= ? AND id <= ?"
            added = self._reader.execute(new, (first, last)).fetchall()
            yield [*(key for (key,) in added), *json.loads(keys)]

    @property
    def touched_since(self) -> int | None:
        """The size after which it is known what changed; None when nothing is known."""
        query = "SELECT min(size) FROM touched WHERE size >= ?"
        found: int | None = self._reader.execute(query, (self._damaged,)).fetchone()[0]
        return found
