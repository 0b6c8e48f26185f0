"""Leaves whose form holds, whatever the state of the ledger: decoded once, and remembered.

Invariants:
- A leaf is known by the hash of its WHOLE bytes, because its id leaves its signatures out: so what
  is remembered of one (its signature was verified) holds for no other.
- Bounded by number and by bytes.

Left to others: what a leaf may do (`execution`), the shapes of operations (`operations`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from tilth_ledger import operations
from tilth_ledger.errors import Refused
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import Entry, Leaf
from tilth_ledger.limits import Limits

CACHED_LEAVES = 16_384
CACHED_BYTES = 64 << 20  # of leaves, encoded


@dataclass(slots=True)
class Checked:
    """A leaf whose form holds; perhaps its signature too."""

    leaf: Leaf
    id: str
    entry: Entry
    size: int
    verified: bool = False


class Forms:
    """What the entries of one consortium look like."""

    def __init__(self, genesis: Genesis) -> None:
        self._net = genesis.net
        self._most_operations = Limits.of_genesis(genesis.limits).entry_operations
        self._cache: OrderedDict[bytes, Checked] = OrderedDict()
        self._cached_bytes = 0

    def look_at(self, leaf: bytes) -> Checked:
        """The leaf with its form checked; as it was left when it was looked at before. Raises
        `InvalidInput`, `Refused` (A1) for another consortium's."""
        digest = sha256(leaf).digest()
        if (cached := self._cache.get(digest)) is not None:
            self._cache.move_to_end(digest)
            return cached
        decoded, entry = self.check(leaf)
        return self._keep(digest, Checked(decoded, decoded.id, entry, len(leaf)))

    def is_verified(self, leaf: bytes) -> bool:
        """Whether this leaf is remembered with its signature verified."""
        cached = self._cache.get(sha256(leaf).digest())
        return cached is not None and cached.verified

    def check(self, leaf: bytes) -> tuple[Leaf, Entry]:
        """As `look_at`, and nothing is remembered."""
        decoded, entry = self._parse(leaf)
        for operation in entry.operations:
            operations.check(operation)
        return decoded, entry

    def accept(self, leaf: bytes) -> Checked:
        """As `look_at`, of a leaf that was checked elsewhere: nothing is checked again."""
        digest = sha256(leaf).digest()
        if (cached := self._cache.get(digest)) is not None:
            return cached
        decoded = Leaf.decode(leaf)
        return self._keep(digest, Checked(decoded, decoded.id, Entry.read(decoded), len(leaf)))

    def _keep(self, digest: bytes, checked: Checked) -> Checked:
        self._cache[digest] = checked
        self._cached_bytes += checked.size
        while len(self._cache) > CACHED_LEAVES or self._cached_bytes > CACHED_BYTES:
            self._cached_bytes -= self._cache.popitem(last=False)[1].size
        return checked

    def _parse(self, leaf: bytes) -> tuple[Leaf, Entry]:
        decoded = Leaf.decode(leaf)
        entry = Entry.parse(decoded, self._most_operations)
        if entry.net != self._net:
            raise Refused(
                "A1",
                "the entry is for another consortium",
                found=entry.net,
                expected=self._net,
                remedy="Sign it for this consortium: check the genesis file of your profile.",
            )
        return decoded, entry
