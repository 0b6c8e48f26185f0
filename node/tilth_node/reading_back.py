"""The root of the tree made again from what the disk returns, before anybody signs it (F5).

- Every leaf is read back and hashed once, in order; so a changed bit is found before the first head
  over it is signed, and not when somebody asks for it years later.
- Two roots are compared with the final one: that of the leaves, and that of the stored tree nodes.
- The loop may do something else after each handful of leaves.

Leaves to others: what a difference means (the node stops), when to sign (cosigning).
"""

import asyncio

from tilth_ledger.cosigning import Head, is_weighty
from tilth_ledger.merkle import Frontier, leaf_hash
from tilth_node.errors import StorageFailed
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.soundness import damaged

LEAVES_AT_ONCE = 512


class ReadBack:
    """How far the ledger of a node was read back, from the newest head that it signed."""

    def __init__(self, ledger: LedgerStore) -> None:
        self._ledger = ledger
        self._hashed: Frontier | None = None  # over the leaves that were read back
        self.weighty = False  # a system leaf is among those not signed with ML-DSA-44 yet

    async def check(self, head: Head, newest: tuple[int, bytes]) -> None:
        """Read on up to `head`; `newest` is size and root of the head signed before.

        Raises `StorageFailed` when the disk returns another tree than the final one.
        """
        hashed = self._hashed or self._begin(*newest)
        while hashed.size < head.size:
            start = hashed.size
            leaves = self._ledger.leaves(start, min(LEAVES_AT_ONCE, head.size - start))
            hashed, _ = hashed.extend([leaf_hash(leaf) for leaf in leaves])
            self.weighty = self.weighty or any(map(is_weighty, leaves))
            if hashed.size == start:
                raise _corrupt(self._ledger, head.size, b"", head.root)
            self._hashed = hashed
            await asyncio.sleep(0)
        stored = Frontier.read(head.size, self._ledger.node)
        for found in (hashed.root(), stored.root()):
            if found != head.root:
                raise _corrupt(self._ledger, head.size, found, head.root)

    def _begin(self, size: int, root: bytes) -> Frontier:
        """Go on from the newest head that was signed: it is of this history, or nothing is. After a
        snapshot, from where that begins: a certified header proved the tree below."""
        began = self._ledger.history
        if began is not None and began[1] > size:
            return Frontier.read(began[1], self._ledger.node)
        frontier = Frontier.read(size, self._ledger.node)
        if size and frontier.root() != root:
            raise _corrupt(self._ledger, size, frontier.root(), root)
        return frontier


def _corrupt(ledger: LedgerStore, size: int, found: bytes, expected: bytes) -> StorageFailed:
    """What the disk returns is not what was final: nothing is cosigned on it."""
    stands = f"root {found.hex() or 'of fewer leaves'} at size {size}"
    return damaged(ledger.path, stands, f"{expected.hex()}, as it was final")
