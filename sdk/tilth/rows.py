"""Rows of the ledger's state, read from a node: the same view that the pure core reads through.

So the leaderboard, rights and states that the SDK shows come from the very functions that the
nodes run (tilth_ledger), on rows that the node serves.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tilth.errors import InvalidInput
from tilth_ledger.canonical import dumps
from tilth_ledger.rows import Rows

PAGE = 500


# How fresh a read is:
# local         what is final at the node, however far it has come
# at-least      no older than what this client has written, has watched, or was told the size of
# linearizable  no older than anything that was final anywhere before the read began
READS = ("local", "at-least", "linearizable")


class Source(Protocol):
    """Where rows come from; a Transport in life."""

    def get_row(
        self, key: str, at_least: int = 0, *, linearizable: bool = False
    ) -> dict[str, Any] | None: ...

    def scan_rows(
        self, prefix: str, after: str, limit: int, at_least: int = 0, *, linearizable: bool = False
    ) -> tuple[list[tuple[str, dict[str, Any]]], bool]: ...


@dataclass(slots=True)
class Told:
    """The largest size of the ledger, in entries, that those who share this were told."""

    size: int = 0


class NodeRows:
    """`tilth_ledger.rows.Rows` over the wire, as fresh as `read` says (one of `READS`); no older
    than what others were `told` who share that."""

    def __init__(self, source: Source, read: str = "at-least", told: Told | None = None) -> None:
        if read not in READS:
            raise InvalidInput(
                "there is no such read",
                found=read,
                expected=", ".join(READS),
                remedy='Leave it out for "at-least": reads see what this client has written.',
            )
        self._source = source
        self.read = read
        self.told = told or Told()
        self._held = 0  # entries that this node is known to hold

    def at_least(self, size: int) -> None:
        """From now on reads wait until so many entries are final (but for local ones)."""
        self.told.size = max(self.told.size, size)

    def holds(self, size: int) -> None:
        """This node itself told of so many entries."""
        self.at_least(size)
        self._held = max(self._held, size)

    def reach(self) -> None:
        """Wait until the node holds what was told, before it is asked for what is no row."""
        if self._least > self._held:
            self.get("epoch/000000")

    @property
    def _least(self) -> int:
        return 0 if self.read == "local" else self.told.size

    @property
    def _fresh(self) -> bool:
        return self.read == "linearizable"

    def get(self, key: str) -> dict[str, Any] | None:
        least = self._least
        row = self._source.get_row(key, least, linearizable=self._fresh)
        self._held = max(self._held, least)
        return row

    def get_bytes(self, key: str) -> bytes | None:
        row = self.get(key)
        return None if row is None else dumps(row)

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        left = limit
        fresh = self._fresh  # the first page waits; those after it are no older
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page, more = self._source.scan_rows(
                prefix, after, size, self._least, linearizable=fresh
            )
            fresh = False
            yield from page
            if not more or not page:
                return
            after = page[-1][0]
            left = None if left is None else left - len(page)


class Remembered:
    """Other rows, each asked for once: for a computation that reads the same few again and again.
    True as of its making, more or less; make a new one to look again."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[str, bytes] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        if key not in self._known:
            self._known[key] = json.dumps(self._rows.get(key)).encode()
        value: dict[str, Any] | None = json.loads(self._known[key])
        return value

    def get_bytes(self, key: str) -> bytes | None:
        return self._rows.get_bytes(key)

    def scan(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        return self._rows.scan(prefix, after, limit)
