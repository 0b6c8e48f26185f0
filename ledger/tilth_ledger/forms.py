"""Leaves whose form holds, whatever the state of the ledger: decoded once, and remembered.

Invariants:
- A leaf is known by the hash of its WHOLE bytes, because its id leaves its signatures out: so what
  is remembered of one (its signature was verified) holds for no other.
- Bounded by number and by bytes.
- A form holds under some versions of the rules: which these are is remembered with the leaf, and
  judged where it is executed. What holds under none that this release has is refused here.

Left to others: what a leaf may do (`execution`), the shapes of operations (`operations`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from tilth_ledger.context import Op
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import Entry, Leaf
from tilth_ledger.limits import Limits
from tilth_ledger.versions import RULES, Rules

CACHED_LEAVES = 16_384
CACHED_BYTES = 64 << 20  # of leaves, encoded


@dataclass(slots=True)
class Checked:
    """A leaf whose form holds; perhaps its signature too."""

    leaf: Leaf
    id: str
    entry: Entry
    size: int
    versions: tuple[int, ...]  # of the rules under which its form holds
    verified: bool = False


class Forms:
    """What the entries of one consortium look like."""

    def __init__(self, genesis: Genesis, rules: Mapping[int, Rules] = RULES) -> None:
        self._net = genesis.net
        self._versions = tuple(rules)
        self._checks: dict[Callable[[Op], object], list[int]] = {}
        for version, each in rules.items():
            self._checks.setdefault(each.check, []).append(version)
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
        decoded, entry = self._parse(leaf)
        versions = self._versions_of(entry)
        return self._keep(digest, Checked(decoded, decoded.id, entry, len(leaf), versions))

    def is_verified(self, leaf: bytes) -> bool:
        """Whether this leaf is remembered with its signature verified."""
        cached = self._cache.get(sha256(leaf).digest())
        return cached is not None and cached.verified

    def check(self, leaf: bytes) -> tuple[Leaf, Entry]:
        """As `look_at`, and nothing is remembered; the form must hold under all versions."""
        decoded, entry = self._parse(leaf)
        for check in self._checks:
            _check(entry, check)
        return decoded, entry

    def accept(self, leaf: bytes) -> Checked:
        """As `look_at`, of a leaf that was checked elsewhere: nothing is checked again."""
        digest = sha256(leaf).digest()
        if (cached := self._cache.get(digest)) is not None:
            return cached
        decoded = Leaf.decode(leaf)
        entry = Entry.read(decoded)
        return self._keep(digest, Checked(decoded, decoded.id, entry, len(leaf), self._versions))

    def _versions_of(self, entry: Entry) -> tuple[int, ...]:
        """The versions under which the form of all operations holds; raises what the last one says
        if it holds under none."""
        found: list[int] = []
        for check, versions in self._checks.items():
            try:
                _check(entry, check)
            except InvalidInput as error:
                refusal = error
            else:
                found += versions
        if not found:
            raise refusal
        return tuple(found)

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


def _check(entry: Entry, check: Callable[[Op], object]) -> None:
    for operation in entry.operations:
        check(operation)
