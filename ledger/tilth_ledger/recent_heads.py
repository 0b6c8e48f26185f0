"""Sizes and roots that the tree had lately, as rows: by them every voter judges the copy of the
ledger that a newcomer says it holds (M5). The state holds no other roots of the past.

A row is written by a block that crosses a multiple of 64 leaves, by the first block with leaves,
and by one that ends an epoch, so that a quiet ledger has one too. There is one for every 64 leaves;
a later one of the same 64 takes its place, and the row of 10,240 leaves ago is used again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tilth_ledger import limits
from tilth_ledger.merkle import Frontier
from tilth_ledger.rows import Overlay, Row, Rows

EVERY_LEAVES: Final = 64
PREFIX: Final = "head/"
ROWS: Final = limits.RECENT_COPY_LEAVES // EVERY_LEAVES + 4


def note(rows: Overlay, before: int, after: Frontier, *, ends_epoch: bool) -> None:
    """At a block's end: `before` is the tree's size below it, `after` the tree with it."""
    crossed = before // EVERY_LEAVES != after.size // EVERY_LEAVES
    if after.size > before and (crossed or before == 0 or ends_epoch):
        rows.put(_key(after.size), {"size": after.size, "root": after.root().hex()})


def newest(held: Iterable[Row], most: int) -> Row | None:
    """The newest of these heads with at most so many leaves: what a node of that size states."""
    fitting = (row for row in held if row["size"] <= most)
    return max(fitting, key=lambda row: int(row["size"]), default=None)


def root_at(rows: Rows, size: int) -> str | None:
    """The root that the tree had at a recent size; None where no row tells."""
    row = rows.get(_key(size))
    return str(row["root"]) if row is not None and row["size"] == size else None


def _key(size: int) -> str:
    return f"{PREFIX}{size // EVERY_LEAVES % ROWS:03}"
