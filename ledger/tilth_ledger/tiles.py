"""Tiles and entry bundles (c2sp.org/tlog-tiles): the tree as files that never change.

    tile/<L>/<N>[.p/<W>]         W (else 256) hashes of level 8 L of the tree, from N * 256 on
    tile/entries/<N>[.p/<W>]     W (else 256) entries from N * 256 on, each behind its u16 length

N is written in groups of three digits, all but the last with an `x`: 1234067 is x001/x234/067.

Invariants:
- A path has one form only: `parse(p).path == p` for every path that parses.
- What a path names is the same for ever: only complete subtrees and final entries are in a tile.

Left to others: reading hashes and entries (the node's store), HTTP.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.leaf import MAX_LEAF_BYTES

WIDTH = 256
HEIGHT = 8  # levels of the tree in a tile
MAX_LEVEL = 63
MAX_INDEX = 2**54

_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(x[0-9]{3}/){0,6}[0-9]{3})"
    r"(\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """What a path names; `level` None is entries."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def start(self) -> int:
        """The first hash of the tile in its level of the tree, or the first entry."""
        return self.index * WIDTH

    @property
    def path(self) -> str:
        kind = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{kind}/{_digits(self.index)}{partial}"

    def fits(self, size: int) -> bool:
        """Whether a tree of `size` leaves has all of this tile."""
        return self.start + self.width <= size >> HEIGHT * (self.level or 0)

    @staticmethod
    def parse(path: str) -> Tile:
        """The tile that a path (without a leading slash) names. Raises `InvalidInput`."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise InvalidInput("not the path of a tile", found=repr(path)[:80])
        level = None if found["level"] == "entries" else int(found["level"])
        index = int(found["index"].replace("x", "").replace("/", ""))
        tile = Tile(level, index, int(found["width"] or WIDTH))
        beyond = (level or 0) > MAX_LEVEL or index > MAX_INDEX or tile.width > WIDTH
        if beyond or tile.path != path:
            raise InvalidInput(
                "path of a tile is not in its one form", found=repr(path)[:80], expected=tile.path
            )
        return tile


def tiles_of(size: int) -> list[Tile]:
    """The right edge of a tree: the partial tiles of each level, entries first, then the root's."""
    found: list[Tile] = []
    for level in range(MAX_LEVEL + 1):
        whole, width = divmod(size >> HEIGHT * level, WIDTH)
        if width:
            found += [Tile(None, whole, width)] * (level == 0) + [Tile(level, whole, width)]
    return found


def entry_bundle(leaves: Iterable[bytes]) -> bytes:
    """Entries as they are served: each behind its length, u16, big-endian."""
    return b"".join(part for leaf in leaves for part in (struct.pack(">H", len(leaf)), leaf))


def read_entry_bundle(data: bytes, count: int) -> list[bytes]:
    """Exactly `count` entries. Raises `InvalidInput`."""
    entries: list[bytes] = []
    at = 0
    while at + 2 <= len(data) and len(entries) < count:
        (length,) = struct.unpack_from(">H", data, at)
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(data) or len(entries) != count:
        raise InvalidInput(
            "entry bundle's lengths do not add up",
            found=f"{len(entries)} entries in {len(data)} bytes",
            expected=f"{count} entries of at most {MAX_LEAF_BYTES} bytes",
        )
    return entries


def _digits(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))
