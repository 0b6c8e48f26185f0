"""LtHash: one digest of all state rows, changed in constant time per row.

Each row is expanded by SHAKE-128 to 1,024 lanes of 16 bits; the digest's state is the lane-wise sum
modulo 2^16 over all rows. Source: Bellare and Micciancio 1997; Lewi et al., "Securing update
propagation with homomorphic hashing" (IACR 2019/227), whose parameters these are.

Invariants:
- The state depends on the set of rows alone, not on the order or history of changes.
- Removing a row that was added gives back the state from before.
- A row is hashed with the length of its key, so no two rows have the same preimage.

Left to others: never adding one key twice (state).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput

LANES = 1024
STATE_BYTES = 2 * LANES

# Two lanes share 32 bits, so that every second lane can be added with room for its carry.
_EVEN = int.from_bytes(b"\x00\x00\xff\xff" * (LANES // 2))
_ODD = _EVEN << 16
_BORROW = int.from_bytes(b"\x00\x01\x00\x00" * (LANES // 2))


@dataclass(frozen=True, slots=True)
class LtHash:
    """An immutable sum of rows; `LtHash()` is the sum of none."""

    _lanes: int = 0

    def add(self, key: str, value: bytes) -> LtHash:
        """The sum with one more row."""
        return self.replace((), ((key, value),))

    def remove(self, key: str, value: bytes) -> LtHash:
        """The sum without a row that is in it."""
        return self.replace(((key, value),), ())

    def replace(self, old: Iterable[tuple[str, bytes]], new: Iterable[tuple[str, bytes]]) -> LtHash:
        """The sum without the rows of `old`, which are in it, and with those of `new`."""
        return LtHash(_minus(_plus(self._lanes, new), _plus(0, old)))

    def digest(self) -> bytes:
        """32 bytes that stand in a block's header."""
        return hashlib.sha256(b"tilth/state/1\0" + self.state).digest()

    @property
    def state(self) -> bytes:
        """The lanes as 2,048 bytes, big-endian: what a node stores to go on from."""
        return self._lanes.to_bytes(STATE_BYTES)

    @staticmethod
    def from_state(state: bytes) -> LtHash:
        """The sum whose `state` these bytes are."""
        if len(state) != STATE_BYTES:
            raise InvalidInput("not an LtHash state", found=len(state), expected=STATE_BYTES)
        return LtHash(int.from_bytes(state))


def _expand(key: str, value: bytes) -> int:
    name = key.encode()
    row = b"".join((struct.pack(">I", len(name)), name, value))
    return int.from_bytes(hashlib.shake_128(row).digest(STATE_BYTES))


def _plus(lanes: int, rows: Iterable[tuple[str, bytes]]) -> int:
    even, odd = lanes & _EVEN, lanes & _ODD
    for key, value in rows:
        row = _expand(key, value)
        even = even + (row & _EVEN) & _EVEN
        # The highest lane's carry leaves the number: the mask cuts it off.
        odd = odd + (row & _ODD) & _ODD
    return even | odd


def _minus(a: int, b: int) -> int:
    even = (a & _EVEN | _BORROW) - (b & _EVEN) & _EVEN
    odd = ((a & _ODD) >> 16 | _BORROW) - ((b & _ODD) >> 16) & _EVEN
    return even | odd << 16
