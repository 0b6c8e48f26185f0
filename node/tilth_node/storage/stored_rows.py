"""Rows of the ledger as they stand in its file: the core's `Rows`.

Leaves to others: which rows there are (execution), writing them (ledger_store).
"""

import sqlite3
from collections.abc import Iterator, Mapping

from tilth_ledger.rows import Row, parse_row

SCAN_ROWS = 256
KNOWN_BYTES = 8 << 20  # of rows that are remembered
KNOWN_COST = 150  # bytes of one more key and value, beside their content


class StoredRows:
    """The rows of the last final block; the core's `Rows`.

    What was looked up is remembered, rows that are missing too: executing an entry asks for a new
    key several times, and for its author and dataset again and again.
    """

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._known: dict[str, bytes | None] = {}
        self._known_bytes = 0

    def get(self, key: str) -> Row | None:
        value = self.get_bytes(key)
        return None if value is None else parse_row(value)

    def get_bytes(self, key: str) -> bytes | None:
        """As `get`, with the value as it is stored."""
        if key in self._known:
            return self._known[key]
        if not self._reader.in_transaction:
            self._reader.execute("BEGIN")  # one lock for all questions until the next block
        found = self._reader.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        value = None if found is None else bytes(found[0])
        self._remember(key, value)
        return value

    def changed(self, rows: Mapping[str, bytes | None]) -> None:
        """These rows have been committed."""
        for key, value in rows.items():
            if key in self._known:
                self._remember(key, value)

    def _remember(self, key: str, value: bytes | None) -> None:
        self._known_bytes += len(key) + (0 if value is None else len(value)) + KNOWN_COST
        if self._known_bytes > KNOWN_BYTES:  # starting anew is cheaper than keeping an order
            self._known.clear()
            self._known_bytes = 0
        self._known[key] = value

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        for key, value in self.scan_bytes(prefix, after, limit):
            yield key, parse_row(value)

    def scan_bytes(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """As `scan`, with values as they are stored."""
        # No key holds a code point above U+10FFFF, so this is above all that start with the prefix.
        last = prefix + "\U0010ffff" * 4
        low = max(prefix, after)
        compare = ">" if after >= prefix else ">="
        left = limit
        while left is None or left > 0:
            # In pages, each a query of its own: a reader left open would hold back the checkpoint.
            page = SCAN_ROWS if left is None else min(left, SCAN_ROWS)
            found = self._reader.execute(
                f"SELECT key, value FROM rows WHERE key {compare} ? AND key <= ?"  # noqa: S608
                " ORDER BY key LIMIT ?",
                (low, last, page),
            ).fetchall()
            yield from found
            if len(found) < page:
                return
            low, compare = found[-1][0], ">"
            left = None if left is None else left - page
