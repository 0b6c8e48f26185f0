"""The ledger's state as rows: a key, and a JSON object.

Invariants:
- `scan` yields keys in the order of their UTF-8 bytes, which is Python's order of strings.
- What `get` and `scan` return is fresh: changing it changes no row.
- What `read_row` returns is shared with every other reader: it is for reading only.
- An `Overlay` never writes to its parent; `changes` is all that was put or deleted, as canonical
  bytes, less what was undone.
- Nothing is put in order before somebody scans.

Left to others: which keys exist (transitions), durable rows (the node's storage), the digest
(lthash).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

from tilth_ledger import canonical

Row = dict[str, Any]
RowView = Mapping[str, Any]  # for reading only: others read the same object

FEW = 32  # keys that are quicker put in their places than all sorted anew

READ_ROWS = 512  # parsed rows that are kept for reading
READ_BYTES = 4096  # of the largest of them

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # no stub knows it
_ABSENT = b""  # no row's value


def parse_row(value: bytes) -> Row:
    """A row from its canonical bytes."""
    row: Row = _scan(value.decode(), 0)[0]  # nothing stands around it
    return row


def read_row(value: bytes) -> RowView:
    """As `parse_row`: the same object for the same bytes, while it is kept."""
    return _kept_row(value) if len(value) <= READ_BYTES else parse_row(value)


_kept_row = lru_cache(READ_ROWS)(parse_row)


class Rows(Protocol):
    """What the core reads through."""

    def get(self, key: str) -> Row | None:
        """The row's value, or None when there is no such row."""

    def get_bytes(self, key: str) -> bytes | None:
        """As `get`, with the value as canonical bytes."""

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        """Rows whose key starts with `prefix` and is greater than `after`, in order of key."""


class MemoryRows:
    """Rows in a dict."""

    def __init__(self, rows: Mapping[str, bytes] | None = None) -> None:
        self._rows: dict[str, bytes] = dict(rows or {})
        self._order: _Order | None = None  # of the keys, once somebody scans

    def get(self, key: str) -> Row | None:
        value = self._rows.get(key)
        return None if value is None else parse_row(value)

    def get_bytes(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        if self._order is None:
            self._order = _Order(self._rows)
        for key in islice(self._order.slice(prefix, after), limit):
            yield key, parse_row(self._rows[key])

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Make an overlay's `changes` part of these rows."""
        rows, order = self._rows, self._order
        for key, value in changes.items():
            if value is None:
                if rows.pop(key, None) is not None and order is not None:
                    order.remove(key)
            else:
                if order is not None and key not in rows:
                    order.add(key)
                rows[key] = value

    def items(self) -> Iterable[tuple[str, bytes]]:
        """Every row as stored: key and canonical bytes."""
        return self._rows.items()

    def taken(self) -> dict[str, bytes]:
        """Every row, for who needs no copy: none is left here."""
        rows, self._rows, self._order = self._rows, {}, None
        return rows


class Overlay:
    """Changes on top of other rows: one per unfinalized block, dropped or merged at finality."""

    def __init__(self, parent: Rows) -> None:
        self._parent = parent
        self._order: _Order | None = None  # of the changed keys, once somebody scans
        self._before: dict[str, bytes | None] = {}  # the mark: what was changed since
        # What the parent answered while the block executes; None afterwards, for others may read
        # through it for long.
        self._below: dict[str, bytes | None] | None = {}
        self.changes: dict[str, bytes | None] = {}

    def get(self, key: str) -> Row | None:
        value = self.get_bytes(key)
        return None if value is None else parse_row(value)

    def get_bytes(self, key: str) -> bytes | None:
        value = self.changes.get(key, _ABSENT)
        if value is not _ABSENT:
            return value
        below = self._below
        if below is None:
            return self._parent.get_bytes(key)
        value = below.get(key, _ABSENT)
        if value is _ABSENT:
            value = below[key] = self._parent.get_bytes(key)
        return value

    def executed(self) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
        """The block is done: rows below that are not as they were, and those here in their place or
        new."""
        old: list[tuple[str, bytes]] = []
        new: list[tuple[str, bytes]] = []
        below, self._below = self._below or {}, None
        for key, value in self.changes.items():
            before = below.get(key, _ABSENT)
            if before is _ABSENT:
                before = self._parent.get_bytes(key)
            if before == value:
                continue
            if before is not None:
                old.append((key, before))
            if value is not None:
                new.append((key, value))
        return old, new

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        if not self.changes:
            return self._parent.scan(prefix, after, limit)
        if self._order is None:
            self._order = _Order(self.changes)
        own = self._order.slice(prefix, after)
        if not own:
            return self._parent.scan(prefix, after, limit)
        return islice(self._merged(own, self._parent.scan(prefix, after)), limit)

    def put(self, key: str, value: Row) -> None:
        self._change(key, canonical.dumps(value))

    def delete(self, key: str) -> None:
        self._change(key, None)

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Make another overlay's `changes` part of this one."""
        for key, value in changes.items():
            self._change(key, value)

    def rebase(self, parent: Rows) -> None:
        """Stand on `parent` instead: rows that now hold all that the old parent did."""
        self._parent = parent

    def mark(self) -> None:
        """Changes up to here hold; those after it may be undone together."""
        self._before.clear()

    def undo(self) -> None:
        """As if nothing had been changed since the mark."""
        for key, value in self._before.items():
            if value is _ABSENT:
                del self.changes[key]
                if self._order is not None:
                    self._order.remove(key)
            else:
                self.changes[key] = value
        self._before.clear()

    def _change(self, key: str, value: bytes | None) -> None:
        before = self.changes.get(key, _ABSENT)
        if before is _ABSENT and self._order is not None:
            self._order.add(key)
        self._before.setdefault(key, before)
        self.changes[key] = value

    def _merged(
        self, own: list[str], below: Iterator[tuple[str, Row]]
    ) -> Iterator[tuple[str, Row]]:
        position = 0
        for key, row in below:
            while position < len(own) and own[position] <= key:
                yield from self._own(own[position])
                position += 1
            if key not in self.changes:
                yield key, row
        for mine in own[position:]:
            yield from self._own(mine)

    def _own(self, key: str) -> Iterator[tuple[str, Row]]:
        value = self.changes[key]
        if value is not None:
            yield key, parse_row(value)


class _Order:
    """Keys, each once; sorted when somebody asks, since most entries scan nothing."""

    __slots__ = ("_new", "_sorted")

    def __init__(self, keys: Iterable[str]) -> None:
        self._sorted = sorted(keys)
        self._new: list[str] = []

    def add(self, key: str) -> None:
        self._new.append(key)

    def remove(self, key: str) -> None:
        self._sort()
        del self._sorted[bisect_left(self._sorted, key)]

    def slice(self, prefix: str, after: str) -> list[str]:
        """Keys that start with `prefix` and are greater than `after`, in order."""
        self._sort()
        keys = self._sorted
        start = bisect_left(keys, prefix)
        if after >= prefix:
            start = bisect_right(keys, after, start)
        # Above every key that starts with the prefix: no key holds a code point past U+10FFFF.
        stop = bisect_right(keys, prefix + "\U0010ffff" * 4, start)
        return keys[start:stop]

    def _sort(self) -> None:
        if len(self._new) > FEW:
            self._sorted += sorted(self._new)
            self._sorted.sort()  # two runs: a merge
        else:
            for key in self._new:
                insort(self._sorted, key)
        self._new.clear()
