"""The Merkle tree of RFC 6962 over leaf bytes, with SHA-256.

Invariants:
- Leaf hash SHA-256(0x00 || leaf), node hash SHA-256(0x01 || left || right), empty root SHA-256("").
- A node (level, index) is the root of the complete subtree over leaves
  [index * 2^level, (index + 1) * 2^level); only complete subtrees are stored.
- A `Frontier` never changes; appending gives a new one, so that each unfinalized block has its own.
- Verifiers accept a proof of exactly the right length only.

Left to others: storing nodes, and signing roots. Algorithms: RFC 6962 section 2.1, RFC 9162 section
2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from tilth_ledger.errors import InvalidInput

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
NewNode = tuple[int, int, bytes]


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs: the size, and the complete subtrees' roots, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.peaks) != self.size.bit_count():
            raise InvalidInput(
                "frontier does not fit its size",
                found=f"{len(self.peaks)} peaks",
                expected=f"{max(self.size, 0).bit_count()} for size {self.size}",
            )

    @staticmethod
    def read(size: int, node: NodeReader) -> Frontier:
        """The frontier of a stored tree."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return Frontier(size, tuple(node(level, (size >> level) - 1) for level in levels))

    def append(self, hashed: bytes) -> tuple[Frontier, list[NewNode]]:
        """The frontier after one more leaf, and the (level, index, hash) nodes it completed."""
        return self.extend((hashed,))

    def extend(self, hashes: Sequence[bytes]) -> tuple[Frontier, list[NewNode]]:
        """As `append`, for leaf after leaf."""
        peaks, size = list(self.peaks), self.size
        new: list[NewNode] = []
        for hashed in hashes:
            level, index = 0, size
            new.append((level, index, hashed))
            while index & 1:
                hashed = node_hash(peaks.pop(), hashed)
                level, index = level + 1, index >> 1
                new.append((level, index, hashed))
            peaks.append(hashed)
            size += 1
        return Frontier(size, tuple(peaks)), new

    def root(self) -> bytes:
        """The tree's root: the peaks folded from the smallest."""
        if not self.peaks:
            return EMPTY_ROOT
        return reduce(lambda right, left: node_hash(left, right), reversed(self.peaks))


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over a list of leaf hashes."""
    return Frontier().extend(leaf_hashes)[0].root()


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, from the leaf upwards."""
    _check_index(index, size)
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: NodeReader) -> list[bytes]:
    """Hashes proving that the tree of `new` leaves extends the one of `old` leaves."""
    _check_sizes(old, new)
    if old in (0, new):
        return []
    path: list[bytes] = []
    low, high, whole = 0, new, True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low, whole = middle, False
    if not whole:
        path.append(_range_hash(low, high, node))
    return path[::-1]


def verify_inclusion(
    hashed: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise `InvalidInput` unless leaf hash `hashed` is at `index` under `root`."""
    _check_index(index, size)
    position, last = index, size - 1
    for sibling in _steps(proof, _path_length(index, size)):
        if position & 1 or position == last:
            hashed = node_hash(sibling, hashed)
            while not position & 1:  # levels where the right edge has no sibling
                position, last = position >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        position, last = position >> 1, last >> 1
    _check_root("inclusion", hashed, root)


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Raise `InvalidInput` unless the tree under `new_root` extends the one under `old_root`."""
    _check_sizes(old, new)
    if old in (0, new):
        _steps(proof, 0)
        if old == 0:
            _check_root("consistency with the empty tree", old_root, EMPTY_ROOT)
        if old == new:
            _check_root("consistency", new_root, old_root)
        return
    # RFC 9162 2.1.4.2: when the old tree is one complete subtree, its root leads the proof.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    _steps(path, 1 + _path_length(position, last + 1))
    before = after = path[0]
    for sibling in path[1:]:
        if position & 1 or position == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        position, last = position >> 1, last >> 1
    _check_root("consistency with the old tree", before, old_root)
    _check_root("consistency", after, new_root)


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range_hash(low: int, high: int, node: NodeReader) -> bytes:
    """The hash over leaves [low, high), a range that RFC 6962's splitting visits."""
    count = high - low
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(count)
    return node_hash(_range_hash(low, middle, node), _range_hash(middle, high, node))


def _path_length(index: int, size: int) -> int:
    """How many siblings the path of `index` has: all below the split from the right edge."""
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def _steps(proof: Sequence[bytes], length: int) -> Sequence[bytes]:
    if len(proof) != length or any(len(step) != HASH_BYTES for step in proof):
        raise InvalidInput(
            "Merkle proof has the wrong shape",
            found=f"{len(proof)} hashes",
            expected=f"{length} hashes of {HASH_BYTES} bytes",
        )
    return proof


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise InvalidInput("no such leaf in the tree", found=f"index {index}", expected=f"< {size}")


def _check_sizes(old: int, new: int) -> None:
    if not 0 <= old <= new:
        raise InvalidInput("tree sizes shrink", found=f"{old} to {new}", expected="old <= new")


def _check_root(what: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise InvalidInput(
            f"Merkle proof of {what} fails", found=found.hex(), expected=f"root {expected.hex()}"
        )
