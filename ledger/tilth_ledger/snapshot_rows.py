"""Rows of a snapshot on their way: in the order of keys, from a ledger that grows meanwhile.

Rows come in parts, each of one moment of the node that gives them. What changes behind the last key
is given again with the next part, so a taker always holds the rows up to some key as they stand at
some size; any node that is as far can go on from there. When a part ends the rows at the moment of
a proven block, their set hash must be the digest that the block states.

Invariants:
- A part is refused when its rows are not above what was taken, or its changes not below; so no row
  comes twice, and whoever breaks off has given what counts.
- A place is of no moment beyond what its giver proved: a false one would leave nobody to go on.
- A taker remembers no row: the old value of one that changed is asked of what it wrote.

Left to others: proving the block (snapshots), reading and writing rows, whom to ask (the node).
All integers are big-endian; layouts stand beside each class.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tilth_ledger.errors import InvalidInput
from tilth_ledger.lthash import LtHash
from tilth_ledger.reader import Reader

MAX_PART_BYTES = 16 << 20
MAX_KEY_BYTES = 65_535

_HEAD = struct.Struct(">QBI")  # size, flags, bytes of changes
_SIZE = struct.Struct(">Q")
_KEY = struct.Struct(">H")
_LENGTH = struct.Struct(">I")
_ENDED, _ANEW = 1, 2
_GONE = 0xFFFF_FFFF  # instead of a value's length

Pair = tuple[str, bytes]
Change = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a taker is: it holds all rows up to a key, as they stand at a size or later.

    Layout: size u64, then the key.
    """

    size: int = 0
    key: str = ""

    def encode(self) -> bytes:
        return _SIZE.pack(self.size) + self.key.encode()

    @staticmethod
    def decode(data: bytes) -> Place:
        if not _SIZE.size <= len(data) <= _SIZE.size + MAX_KEY_BYTES:
            raise InvalidInput("a place in a snapshot is 8 bytes and a key", found=len(data))
        return Place(_SIZE.unpack_from(data)[0], _key(data[_SIZE.size :]))


@dataclass(frozen=True, slots=True)
class Part:
    """Rows above a key, and what changed below it; after it the taker is at `size`.

    `ended`: no rows follow. `anew`: the giver no longer knows what changed, forget what you hold.
    Layout: size u64, flags u8 (1 ended, 2 anew), length of the changes u32, changes, rows; each of
    them key length u16, key, value length u32 (2^32 - 1: the row went), value.
    """

    size: int
    changed: tuple[Change, ...]
    rows: tuple[Pair, ...]
    ended: bool = False
    anew: bool = False

    def encode(self) -> bytes:
        changed = _write(self.changed)
        flags = _ENDED * self.ended | _ANEW * self.anew
        return b"".join((_HEAD.pack(self.size, flags, len(changed)), changed, _write(self.rows)))

    @staticmethod
    def decode(data: bytes) -> Part:
        reader = Reader(data, "part of a snapshot")
        size, flags, length = reader.unpack(_HEAD)
        if flags > (_ENDED | _ANEW):
            raise InvalidInput("part of a snapshot has unknown flags", found=flags)
        changed = _read(reader.take(length))
        rows: list[Pair] = []
        for key, value in _read(reader.take(reader.left)):
            if value is None:
                raise InvalidInput("a row that went stands among the rows", found=key)
            rows.append((key, value))
        return Part(size, tuple(changed), tuple(rows), bool(flags & _ENDED), bool(flags & _ANEW))


@dataclass(frozen=True, slots=True)
class Taken:
    """All that a taker must remember beside the rows themselves."""

    place: Place = Place()
    rows: int = 0
    row_bytes: int = 0  # of keys and values
    sum: LtHash = field(default_factory=LtHash)

    def after(self, part: Part, value_of: Callable[[str], bytes | None]) -> Taken:
        """With one part more; `value_of` gives what was taken before. Raises `InvalidInput` when
        the part does not go on from here."""
        taken = Taken() if part.anew else self
        self._check(part, taken.place)
        old: list[Pair] = []
        new: list[Pair] = list(part.rows)
        for key, value in part.changed:
            before = value_of(key)
            if before is not None:
                old.append((key, before))
            if value is not None:
                new.append((key, value))
        last = part.rows[-1][0] if part.rows else taken.place.key
        return Taken(
            Place(part.size, last),
            taken.rows + len(new) - len(old),
            taken.row_bytes + _bytes(new) - _bytes(old),
            taken.sum.replace(old, new),
        )

    def within(self, size: int) -> Taken:
        """The same, said to be of no later moment than the one that was proven, of `size` leaves:
        what changed after it is given once more."""
        return replace(self, place=Place(min(self.place.size, size), self.place.key))

    def _check(self, part: Part, place: Place) -> None:
        if part.size < place.size:
            raise InvalidInput("a part that is older than what was taken", found=part.size)
        last = place.key
        for key, _ in part.rows:
            if key <= last:
                raise InvalidInput("rows do not come in order", found=key, expected=f"after {last}")
            last = key
        keys = {key for key, _ in part.changed}
        if len(keys) < len(part.changed) or any(key > place.key for key in keys):
            raise InvalidInput("changes are not of rows that were taken", found=len(part.changed))
        if not (part.rows or part.changed or part.ended):
            raise InvalidInput("a part without rows that ends nothing")

    def check(self, digest: bytes) -> None:
        """Raise `InvalidInput` unless these are the rows that a block states."""
        found = self.sum.digest()
        if found != digest:
            raise InvalidInput(
                "the rows are not those of the block",
                found=f"digest {found.hex()} of {self.rows} rows",
                expected=digest.hex(),
            )


def _bytes(rows: Iterable[Pair]) -> int:
    return sum(len(key.encode()) + len(value) for key, value in rows)


def _write(rows: Iterable[Change]) -> bytes:
    parts: list[bytes] = []
    for key, value in rows:
        name = key.encode()
        parts += (_KEY.pack(len(name)), name)
        parts += (_LENGTH.pack(_GONE),) if value is None else (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def _read(data: bytes) -> list[Change]:
    reader, rows = Reader(data, "rows of a snapshot"), []
    while reader.left:
        key = _key(reader.take(reader.number(2)))
        length = reader.number(4)
        rows.append((key, None if length == _GONE else reader.take(length)))
    return rows


def _key(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidInput("row's key is not UTF-8", found=name[:40].hex()) from None
