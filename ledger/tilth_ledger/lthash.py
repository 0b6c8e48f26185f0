"""LtHash: one digest of all state rows, changed in constant time per row.

Each row is expanded to 1,024 lanes of 16 bits; the digest's state is the lane-wise sum modulo 2^16
over all rows. Source: Bellare and Micciancio 1997; Lewi, Kim, Maykov, Weis, "Securing update
propagation with homomorphic hashing" (IACR 2019/227), whose parameters these are.

A row is expanded by the keystream of ChaCha20 (RFC 8439) under the key SHA-256(tag, length of key,
key, value), counter 0, nonce "LibsodiumDRG": that is libsodium's `randombytes_buf_deterministic`.
Bitcoin Core's MuHash3072 expands its elements in this way too.
The paper's argument wants a random oracle. SHA-256 into a second oracle of fixed input is one as
long as no two rows collide in SHA-256 (Coron, Dodis, Malinaud, Puniya 2005); ChaCha20's block is
that second oracle, its permutation being fed forward and 224 of its input's 512 bits being
constants, which nobody who inverts the permutation hits. So 128 bits, as SHAKE-128 had, in half the
time.

Invariants:
- The state depends on the set of rows alone, not on the order or history of changes.
- Removing a row that was added gives back the state from before.
- A row is hashed with the length of its key, so no two rows have the same preimage.

Left to others: never adding one key twice (state).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from nacl.bindings import randombytes_buf_deterministic as keystream

from tilth_ledger.errors import InvalidInput

LANES = 1024
STATE_BYTES = 2 * LANES

# Two lanes share 32 bits, so that every second lane can be added with room for its carries.
_EVEN = int.from_bytes(b"\xff\xff\x00\x00" * (LANES // 2), "little")
_ODD = _EVEN << 16
_BORROW = int.from_bytes(b"\x00\x00\x01\x00" * (LANES // 2), "little")
_ROWS_PER_CARRY = 1 << 15  # of 16 bits each: their sum stays within 32


class SetHash(Protocol):
    """A digest of all rows as execution sees it: `LtHash`, or one that is computed elsewhere and
    waited for when its value is asked for."""

    def replace(
        self, old: Iterable[tuple[str, bytes]], new: Iterable[tuple[str, bytes]]
    ) -> SetHash: ...

    def digest(self) -> bytes: ...

    @property
    def state(self) -> bytes: ...


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
        return LtHash(_minus(_sum(new, self._lanes), _sum(old)))

    def plus(self, other: LtHash) -> LtHash:
        """The sum of the rows of both: what `other` took away is missing in it."""
        return LtHash(_plus(self._lanes, other._lanes))

    def digest(self) -> bytes:
        """32 bytes that stand in a block's header."""
        return sha256(b"tilth/state/1\0" + self.state).digest()

    @property
    def state(self) -> bytes:
        """The lanes as 2,048 bytes, little-endian: what a node stores to go on from."""
        return self._lanes.to_bytes(STATE_BYTES, "little")

    @staticmethod
    def from_state(state: bytes) -> LtHash:
        """The sum whose `state` these bytes are."""
        if len(state) != STATE_BYTES:
            raise InvalidInput("not an LtHash state", found=len(state), expected=STATE_BYTES)
        return LtHash(int.from_bytes(state, "little"))


def _expand(key: str, value: bytes) -> int:
    name = key.encode()
    row = b"tilth/row/1\0%b%b%b" % (len(name).to_bytes(4), name, value)
    return int.from_bytes(keystream(STATE_BYTES, sha256(row).digest()), "little")


def _sum(rows: Iterable[tuple[str, bytes]], total: int = 0) -> int:
    """The lanes of `total` and of all these rows. Carries are cut off at the end, not row by row:
    what of the whole sum is not in its even lanes is in the odd ones."""
    even = total & _EVEN
    for count, (key, value) in enumerate(rows, 1):
        row = _expand(key, value)
        total += row
        even += row & _EVEN
        if not count % _ROWS_PER_CARRY:
            total = even & _EVEN | total - even & _ODD
            even = total & _EVEN
    return even & _EVEN | total - even & _ODD


def _plus(a: int, b: int) -> int:
    return (a & _EVEN) + (b & _EVEN) & _EVEN | (a & _ODD) + (b & _ODD) & _ODD


def _minus(a: int, b: int) -> int:
    even = (a & _EVEN | _BORROW) - (b & _EVEN) & _EVEN
    odd = ((a & _ODD) >> 16 | _BORROW) - ((b & _ODD) >> 16) & _EVEN
    return even | odd << 16
