"""The final tip, and the blocks above it that may still become final.

Invariants:
- A block is executed at most once, on its parent's executed state, and only kept as executed when
  the outcome is what its header states.
- A block whose leaves are not those of its header is no block: whoever handed it on changed it. It
  is forgotten and asked for again; only what fails with its own leaves says something of this
  member.
- The final tip only moves to a descendant; blocks that do not descend from it are dropped.
- What follows a block that ends the epoch is empty (M2).
- `content` of a block: it, or an ancestor that is not final, carries leaves or barriers.

Left to others: which blocks to trust (ballot's rules, certificates), storing what is final.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tilth_ledger.blocks import Block, Certificate
from tilth_ledger.effects import Executor
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.leaf import DERIVED, leaf_type
from tilth_ledger.limits import Limits

VOTED_VIEWS = 64


@dataclass(frozen=True, slots=True)
class Tip:
    """The newest final block. The one that the epoch starts on needs no certificate here; the
    genesis block is no block at all."""

    hash: bytes
    view: int
    height: int
    time_ms: int
    state: Any
    certificate: Certificate | None
    block: Block | None

    def without_certificate(self) -> Tip:
        """The same as the block that an epoch starts on."""
        return replace(self, certificate=None)


@dataclass(slots=True)
class Candidate:
    """A block above the final tip."""

    block: Block
    hash: bytes
    state: Any = None
    failure: str = ""
    garbled: bool = False  # it fails, and its leaves are not those that its header states
    content: bool = False
    empties: int = 0  # empty blocks from here down to the last one with leaves
    ids: frozenset[str] = frozenset()
    pending_ids: frozenset[str] = frozenset()  # of it and its ancestors that are not final
    pending_barriers: frozenset[bytes] = frozenset()  # likewise
    journaled: bool = False
    reported: bool = False  # its failure, to the operator

    @property
    def view(self) -> int:
        return self.block.header.view

    @property
    def executed(self) -> bool:
        return self.state is not None


@dataclass(slots=True)
class BlockTree:
    """All blocks a member holds in memory."""

    executor: Executor
    tip: Tip
    limits: Limits
    epoch: int  # its number
    _candidates: dict[bytes, Candidate] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates.values())

    def get(self, block: bytes) -> Candidate | None:
        return self._candidates.get(block)

    def ends_epoch(self, state: Any) -> bool:
        """Whether the epoch ends with the block of this state, or below it."""
        return bool(state.epoch != self.epoch)

    def executed(self, block: bytes) -> bool:
        """Whether this block's state is at hand."""
        if block == self.tip.hash:
            return True
        candidate = self._candidates.get(block)
        return candidate is not None and candidate.executed

    def add(self, block: Block, hashed: bytes | None = None) -> Candidate | None:
        """Keep a block above the tip; None if it is not above it."""
        if block.header.view <= self.tip.view or block.header.height <= self.tip.height:
            return None
        hashed = hashed or block.hash
        return self._candidates.setdefault(hashed, Candidate(block, hashed))

    def put_built(self, block: Block, hashed: bytes, state: Any) -> Candidate:
        """Keep a block that I built, with the state that building gave."""
        candidate = Candidate(block, hashed)
        self._candidates[hashed] = candidate
        self._accept(candidate, state)
        return candidate

    def execute_ready(self) -> bool:
        """Execute every block whose parent is executed; whether there was one."""
        waiting = [c for c in self._candidates.values() if not c.executed and not c.failure]
        waiting = [c for c in waiting if self.executed(c.block.header.parent)]
        for candidate in waiting:
            self._execute(candidate)
        return bool(waiting)

    def drop_garbled(self) -> list[bytes]:
        """Forget what is garbled; the hashes of it, which others hold a sound block of."""
        dropped = [hashed for hashed, candidate in self._candidates.items() if candidate.garbled]
        for hashed in dropped:
            del self._candidates[hashed]
        return dropped

    def missing_below(self, block: bytes) -> bytes | None:
        """The hash of the nearest ancestor (or itself) that I do not hold; None if I hold all."""
        while block != self.tip.hash:
            candidate = self._candidates.get(block)
            if candidate is None:
                return block
            block = candidate.block.header.parent
        return None

    def path_to(self, block: bytes) -> list[Candidate] | None:
        """Executed blocks from above the tip to this one; None if one is missing."""
        path: list[Candidate] = []
        while block != self.tip.hash:
            candidate = self._candidates.get(block)
            if candidate is None or not candidate.executed:
                return None
            path.append(candidate)
            block = candidate.block.header.parent
        return path[::-1]

    def finalize(self, path: list[Candidate], certificate: Certificate) -> None:
        """Move the tip to the end of a path from it."""
        last = path[-1]
        header = last.block.header
        self.tip = Tip(
            last.hash,
            header.view,
            header.height,
            header.time_ms,
            last.state,
            certificate,
            last.block,
        )
        self._prune()

    def beside_tip(self, block: bytes) -> list[Block]:
        """The held ancestors of a block, oldest first, and itself, if the oldest stands beside the
        final tip's children, or below: then none of them descends from the tip."""
        line: list[Block] = []
        while (candidate := self._candidates.get(block)) is not None:
            line.append(candidate.block)
            block = candidate.block.header.parent
        beside = bool(line) and block != self.tip.hash
        return line[::-1] if beside and line[-1].header.height <= self.tip.height + 1 else []

    def drop_unproven(self, below_view: int, certified: Iterable[bytes]) -> None:
        """Forget blocks of past views, unless they are certified or lie below one that is, or I
        voted for them not long ago: whoever certifies one late may ask me for it."""
        keep: set[bytes] = set()
        for block in certified:
            while block in self._candidates and block not in keep:
                keep.add(block)
                block = self._candidates[block].block.header.parent
        self._candidates = {
            hashed: candidate
            for hashed, candidate in self._candidates.items()
            if hashed in keep or candidate.view >= below_view - VOTED_VIEWS * candidate.journaled
        }

    def _prune(self) -> None:
        """Keep the descendants of the tip only, and what they carry above it."""
        kept: dict[bytes, Candidate] = {}
        for candidate in sorted(self._candidates.values(), key=lambda c: c.view):
            if candidate.view <= self.tip.view:
                continue
            parent = kept.get(candidate.block.header.parent)
            orphan = parent is None and candidate.block.header.parent != self.tip.hash
            if candidate.executed and orphan:
                continue
            kept[candidate.hash] = candidate
            if candidate.executed:
                self._inherit(candidate, parent)
        self._candidates = kept

    def _execute(self, candidate: Candidate) -> None:
        header = candidate.block.header
        parent = self._candidates.get(header.parent)
        state = self.tip.state if parent is None else parent.state
        height = self.tip.height if parent is None else parent.block.header.height
        time_ms = self.tip.time_ms if parent is None else parent.block.header.time_ms
        view = self.tip.view if parent is None else parent.view
        try:
            self._check_size(candidate.block)
            _expect("height", header.height, height + 1)
            _expect("parent view", header.parent_view, view)
            _expect("leaves", len(candidate.block.leaves), header.leaf_count)
            if header.time_ms <= time_ms:
                _expect("time", header.time_ms, f"more than {time_ms}")
            if candidate.block.leaves and self.ends_epoch(state):
                _expect("body (M2)", "leaves after the end of an epoch", "none")
            after = self.executor.execute(state, candidate.block.leaves, header.time_ms)
            _expect("size", header.size, after.size)
            _expect("root", header.root.hex(), after.root.hex())
            _expect("state", header.state.hex(), after.digest.hex())
        except (InvalidInput, Refused) as error:
            candidate.failure = str(error)
            root = self.executor.root_after(state, candidate.block.leaves)
            candidate.garbled = root != header.root
            return
        self._accept(candidate, after)

    def _accept(self, candidate: Candidate, state: Any) -> None:
        candidate.state = state
        candidate.ids = frozenset(state.entries)
        self._inherit(candidate, self._candidates.get(candidate.block.header.parent))

    @staticmethod
    def _inherit(candidate: Candidate, parent: Candidate | None) -> None:
        barriers = candidate.block.justification.barriers
        own = bool(candidate.block.leaves or barriers)
        above = parent.pending_barriers if parent else frozenset()
        candidate.pending_barriers = above.union(barriers) if barriers else above
        candidate.content = own or (parent is not None and parent.content)
        candidate.empties = 0 if own or parent is None else parent.empties + 1
        candidate.pending_ids = candidate.ids | (parent.pending_ids if parent else frozenset())

    def _check_size(self, block: Block) -> None:
        """A body is bounded up to its last entry; what derives from that one comes on top."""
        leaves = list(block.leaves)
        while leaves and leaf_type(leaves[-1]) in DERIVED:
            leaves.pop()
        size = sum(len(leaf) for leaf in leaves)
        if size > self.limits.block_bytes or len(leaves) > self.limits.block_leaves:
            raise InvalidInput(
                "block is larger than genesis allows",
                found=f"{len(leaves)} leaves, {size} bytes",
                expected=f"{self.limits.block_leaves} leaves, {self.limits.block_bytes} bytes",
            )


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise InvalidInput(f"block's {what} is wrong", found=found, expected=expected)
