"""Submitted leaves that are not final yet.

Invariants:
- A leaf stands here once, by its id; bounded in number and in bytes.
- A leaf that was final a short while ago does not come back.
- A leaf that did not execute on a state that is not final is *stalled*: it is no work until the
  next finality, when it is judged again. On a final state it is dropped.

Left to others: executing leaves (executor), reporting refusals (replica).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from tilth_ledger.errors import Refused
from tilth_ledger.leaf import leaf_id

POOL_LEAVES = 16_384
POOL_BYTES = 32 << 20
REMEMBERED_IDS = 16_384


@dataclass(slots=True)
class Pending:
    """A leaf that waits; `local` when a client of this node waits for it."""

    leaf: bytes
    local: bool
    stalled: bool = False


class Pool:
    """Pending leaves in the order in which they came."""

    def __init__(self, most_leaves: int = POOL_LEAVES, most_bytes: int = POOL_BYTES) -> None:
        self._pending: dict[str, Pending] = {}
        self._bytes = 0
        self._most_leaves = most_leaves
        self._most_bytes = most_bytes
        self._final: OrderedDict[str, None] = OrderedDict()
        self.version = 0
        self._answer: tuple[int, Collection[str], bool] = (-1, (), False)  # of `has_work`

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pending)

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def add(self, leaf: bytes, *, local: bool, share: int = 2) -> str | None:
        """Keep a leaf; its id if it is new. Raises `InvalidInput`, or `Refused` when full: for one
        that is not local, when a `share`-th part is taken, so that this node's clients find room.
        """
        name = leaf_id(leaf)
        if name in self._final:
            return None
        if (held := self._pending.get(name)) is not None:
            held.local = held.local or local
            return None
        share = 1 if local else share
        leaves, size = self._most_leaves // share, self._most_bytes // share
        if len(self._pending) >= leaves or self._bytes + len(leaf) > size:
            raise Refused(
                "busy",
                "this node has too many entries waiting",
                found=f"{len(self._pending)} entries, {self._bytes} bytes",
                expected=f"at most {leaves} entries and {size} bytes",
                remedy="Submit the same bytes again in a moment.",
            )
        self._pending[name] = Pending(leaf, local)
        self._bytes += len(leaf)
        self.version += 1
        return name

    def is_local(self, name: str) -> bool:
        held = self._pending.get(name)
        return held is not None and held.local

    def has_work(self, excluded: Collection[str]) -> bool:
        """Whether a leaf waits that is neither stalled nor in `excluded`, which never changes."""
        version, same, answer = self._answer  # a step asks several times
        if version != self.version or same is not excluded:
            pairs = self._pending.items()
            answer = any(not p.stalled and name not in excluded for name, p in pairs)
            self._answer = self.version, excluded, answer
        return answer

    def candidates(
        self, excluded: Collection[str], most_leaves: int, most_bytes: int
    ) -> list[bytes]:
        """Leaves for a block, oldest first, within bounds."""
        chosen: list[bytes] = []
        for name, pending in self._pending.items():
            if pending.stalled or name in excluded:
                continue
            most_bytes -= len(pending.leaf) + 4
            if len(chosen) >= most_leaves or most_bytes < 0:
                break
            chosen.append(pending.leaf)
        return chosen

    def oldest(self, most_leaves: int, most_bytes: int) -> list[bytes]:
        """Leaves to gossip again."""
        return self.candidates((), most_leaves, most_bytes)

    def stall(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._pending:
                self._pending[name].stalled = True
        self.version += 1

    def stalled(self) -> Iterator[str]:
        return (name for name, pending in self._pending.items() if pending.stalled)

    def wake(self) -> bool:
        """Judge stalled leaves again; whether there were any."""
        woken = [pending for pending in self._pending.values() if pending.stalled]
        for pending in woken:
            pending.stalled = False
        self.version += bool(woken)
        return bool(woken)

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            if (pending := self._pending.pop(name, None)) is not None:
                self._bytes -= len(pending.leaf)
        self.version += 1

    def settle(self, names: Iterable[str]) -> None:
        """These leaves are final."""
        names = list(names)
        self.drop(names)
        for name in names:
            self._final[name] = None
        while len(self._final) > REMEMBERED_IDS:
            self._final.popitem(last=False)
