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
- numpy adds the lanes, as unsigned integers: the only arrays in the core, and no float.

Left to others: never adding one key twice (state).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Protocol

import numpy as np
from nacl.bindings import randombytes_buf_deterministic as keystream
from numpy.typing import NDArray

from tilth_ledger.errors import InvalidInput

LANES = 1024
STATE_BYTES = 2 * LANES

ROWS_AT_ONCE = 64  # expanded: 128 KB, so that they are summed where they were written

_Lanes = NDArray[np.uint16]
_STORED = np.dtype("<u2")


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

    state: bytes = bytes(STATE_BYTES)
    """The lanes, little-endian: what a node stores to go on from."""

    def add(self, key: str, value: bytes) -> LtHash:
        """The sum with one more row."""
        return self.replace((), ((key, value),))

    def remove(self, key: str, value: bytes) -> LtHash:
        """The sum without a row that is in it."""
        return self.replace(((key, value),), ())

    def replace(self, old: Iterable[tuple[str, bytes]], new: Iterable[tuple[str, bytes]]) -> LtHash:
        """The sum without the rows of `old`, which are in it, and with those of `new`."""
        lanes = _lanes(self.state) + _sum(new)
        if old := list(old):  # most blocks change no row
            lanes -= _sum(old)
        return LtHash._of(lanes)

    def plus(self, other: LtHash) -> LtHash:
        """The sum of the rows of both: what `other` took away is missing in it."""
        return LtHash._of(_lanes(self.state) + _lanes(other.state))

    def digest(self) -> bytes:
        """32 bytes that stand in a block's header."""
        return sha256(b"tilth/state/1\0" + self.state).digest()

    @staticmethod
    def from_state(state: bytes) -> LtHash:
        """The sum whose `state` these bytes are."""
        if len(state) != STATE_BYTES:
            raise InvalidInput("not an LtHash state", found=len(state), expected=STATE_BYTES)
        return LtHash(state)

    @staticmethod
    def _of(lanes: _Lanes) -> LtHash:
        return LtHash(lanes.astype(_STORED, copy=False).tobytes())


def _lanes(stored: bytes) -> _Lanes:
    return np.frombuffer(stored, _STORED).astype(np.uint16, copy=False)


def _expand(key: str, value: bytes) -> bytes:
    name = key.encode()
    row = b"tilth/row/1\0%b%b%b" % (len(name).to_bytes(4), name, value)
    return keystream(STATE_BYTES, sha256(row).digest())


def _sum(rows: Iterable[tuple[str, bytes]]) -> _Lanes:
    """The lanes of all these rows: unsigned arrays add modulo 2^16, on every machine."""
    total = np.zeros(LANES, np.uint16)
    left = iter(rows)
    while some := [_expand(key, value) for key, value in islice(left, ROWS_AT_ONCE)]:
        total += _lanes(b"".join(some)).reshape(-1, LANES).sum(axis=0, dtype=np.uint16)
    return total
