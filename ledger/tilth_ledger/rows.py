"""The ledger's state as rows: a key, and a JSON object.

Invariants:
- `scan` yields keys in the order of their UTF-8 bytes, which is Python's order of strings.
- What `get` and `scan` return is fresh: changing it changes no row.
- An `Overlay` never writes to its parent; `changes` is all that was put or deleted, as canonical
  bytes.

Left to others: which keys exist (transitions), durable rows (the node's storage), the digest
(lthash).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from tilth_ledger import canonical

Row = dict[str, Any]

FEW = 32  # keys that are quicker put in their places than all sorted anew

_raw_decode = json.JSONDecoder().raw_decode
_ABSENT = b""  # no row's value


def parse_row(value: bytes) -> Row:
    """A row from its canonical bytes."""
    row: Row = _raw_decode(value.decode())[0]  # nothing stands around it
    return row


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
        self._keys = sorted(self._rows)

    def get(self, key: str) -> Row | None:
        value = self._rows.get(key)
        return None if value is None else parse_row(value)

    def get_bytes(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        for key in islice(_slice(self._keys, prefix, after), limit):
            yield key, parse_row(self._rows[key])

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Make an overlay's `changes` part of these rows."""
        for key, value in changes.items():
            if value is None:
                if self._rows.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._rows:
                    insort(self._keys, key)
                self._rows[key] = value

    def items(self) -> Iterable[tuple[str, bytes]]:
        """Every row as stored: key and canonical bytes."""
        return self._rows.items()


class Overlay:
    """Changes on top of other rows: one per unfinalized block, dropped or merged at finality."""

    def __init__(self, parent: Rows) -> None:
        self._parent = parent
        self._keys: list[str] = []  # of changes, sorted; those of `_unsorted` are still missing
        self._unsorted: list[str] = []
        self.changes: dict[str, bytes | None] = {}

    def get(self, key: str) -> Row | None:
        value = self.get_bytes(key)
        return None if value is None else parse_row(value)

    def get_bytes(self, key: str) -> bytes | None:
        value = self.changes.get(key, _ABSENT)
        return self._parent.get_bytes(key) if value is _ABSENT else value

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, Row]]:
        self._sort()
        own = _slice(self._keys, prefix, after)
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

    def _change(self, key: str, value: bytes | None) -> None:
        if key not in self.changes:
            self._unsorted.append(key)
        self.changes[key] = value

    def _sort(self) -> None:
        """Only who scans needs an order, and most entries scan nothing."""
        if len(self._unsorted) > FEW:
            self._keys += sorted(self._unsorted)
            self._keys.sort()  # two runs: a merge
        else:
            for key in self._unsorted:
                insort(self._keys, key)
        self._unsorted.clear()

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


def _slice(keys: list[str], prefix: str, after: str) -> list[str]:
    """Keys of the sorted list that start with `prefix` and are greater than `after`."""
    start = bisect_left(keys, prefix)
    if after >= prefix:
        start = bisect_right(keys, after, start)
    # Above every key that starts with the prefix: no key holds a code point past U+10FFFF.
    stop = bisect_right(keys, prefix + "\U0010ffff" * 4, start)
    return keys[start:stop]
