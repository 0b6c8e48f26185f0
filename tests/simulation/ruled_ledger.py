"""What a node of a simulated consortium stores: final blocks, rows, tree nodes; and what it gives
to others from them: snapshots, and how epochs ended.

Left to others: taking snapshots (joiners), bundles (ruled_bundles).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from number_ledger import MemoryArchive

from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.effects import Effects
from tilth_ledger.epochs import epoch_key, newest
from tilth_ledger.execution import Executor, State
from tilth_ledger.genesis import Genesis
from tilth_ledger.history import Past
from tilth_ledger.journal_records import Journal
from tilth_ledger.merkle import EMPTY_ROOT, Frontier, NewNode
from tilth_ledger.restart import Restored
from tilth_ledger.rows import MemoryRows
from tilth_ledger.snapshot_rows import Place
from tilth_ledger.snapshots import Milestone, Offer, grown


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node's store says of its newest block."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    digest: bytes = b""


class RuledArchive(MemoryArchive):
    """A node's store: final blocks (None where a snapshot left them out), rows, tree nodes."""

    def __init__(self, genesis: Genesis) -> None:
        super().__init__()
        self.genesis = genesis
        self.rows = MemoryRows()
        self.nodes: dict[tuple[int, int], bytes] = {}
        self._touched: list[tuple[int, frozenset[str]]] = []  # keys by the size after each block
        self._known_from = 0  # since which size
        state = Executor(genesis).genesis_state()
        self.rows.apply(state.changes)
        self._take(state)

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def block(self, height: int) -> bytes | None:
        held = self.held(height)
        return None if held is None else held.encode()

    def header(self, height: int) -> Header | None:
        held = self.held(height)
        return None if held is None else held.header

    def held(self, height: int) -> Block | None:
        return self.blocks[height - 1] if 1 <= height <= len(self.blocks) else None

    @property
    def is_whole(self) -> bool:
        return all(block is not None for block in self.blocks)

    def leaves(self) -> list[bytes]:
        return [leaf for block in self.blocks for leaf in block.leaves]

    def apply(self, effects: Effects) -> None:
        for final in effects.finalized:
            self.rows.apply(final.state.changes)
            self._touched.append((final.state.size, frozenset(final.state.changes)))
            self._complete(final.state.new_nodes)
            self.blocks.append(final.block)
            self.time_ms = final.block.header.time_ms
            self._take(final.state)
        if effects.finalized:
            last = effects.finalized[-1]
            self._prove(len(self.blocks), last.certificate, last.void)

    def adopt(self, offer: Offer, rows: dict[str, bytes], accumulator: bytes) -> None:
        """Begin in the middle: with the newest block, and those that ended epochs before it."""
        header = offer.tip.block.header
        blocks: list[Any] = [None] * header.height
        self.certificates, self.voids = {}, {}
        for each in offer.milestones:
            size, height = each.before.size, each.block.header.height
            levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
            peaks = zip(levels, each.before.peaks, strict=True)
            self._complete((level, (size >> level) - 1, peak) for level, peak in peaks)
            self._complete(grown(each.before, each.block)[1])
            blocks[height - 1] = each.block
            self._prove(height, each.certificate, each.void)
        self.blocks = blocks
        self.rows, self.accumulator = MemoryRows(rows), accumulator
        self._touched, self._known_from = [], header.size
        self.state = Shown(header.size, header.root, header.state)  # type: ignore[assignment]
        self.time_ms = header.time_ms

    def put(self, blocks: Sequence[tuple[Past, Sequence[NewNode]]]) -> None:
        """Blocks of the past."""
        for past, nodes in blocks:
            height = past.block.header.height
            self.blocks[height - 1] = past.block
            self._complete(nodes)
            if past.certificate is not None:
                self._prove(height, past.certificate, past.void)

    def past(self, height: int) -> Past:
        """A stored block as others fetch it."""
        proof = self.certificates.get(height)
        final = None if proof is None else Certificate.decode(proof)
        return Past(self.blocks[height - 1], final, self.voids.get(height, ()))

    def changed(self, place: Place) -> list[str] | None:
        """Keys up to a place of rows that changed since; None when that is not known."""
        if not place.key:
            return []
        if place.size < self._known_from:
            return None
        keys = {key for size, some in self._touched if size > place.size for key in some}
        return sorted(key for key in keys if key <= place.key)

    def offer(self) -> bytes:
        """What a snapshot begins with: how epochs ended, and the newest block."""
        rows = [(len(key.encode()), len(value)) for key, value in self.rows.items()]
        ends = [self._end(number).header.height for number in range(1, self.epoch + 1)]
        heights = sorted({*ends, len(self.blocks)})
        told = tuple(map(self._milestone, heights))
        return Offer(told, len(rows), sum(map(sum, rows))).encode()

    def _milestone(self, height: int) -> Milestone:
        past = self.past(height)
        header, certificate = past.block.header, past.certificate
        assert certificate is not None
        before = Frontier.read(header.size - header.leaf_count, self.node)
        return Milestone(before, past.block, certificate, past.void)

    @property
    def epoch(self) -> int:
        """The number of the epoch in force."""
        return newest(self.rows)[0]

    def final_with(self, index: int) -> tuple[Header, Certificate]:
        """The header that the certificate is of which made final the block of a leaf that ended an
        epoch; and it."""
        height = self._height_of(index)
        above = self.voids.get(height, ())
        top = above[-1] if above else self.blocks[height - 1]
        return top.header, Certificate.decode(self.certificates[height])

    def _end(self, epoch: int) -> Block:
        """The block that ended the epoch before this one."""
        row = self.rows.get(epoch_key(epoch))
        assert row is not None
        return self.blocks[self._height_of(int(row["index"])) - 1]

    def _height_of(self, index: int) -> int:
        there = enumerate(self.blocks, 1)
        return next(h for h, block in there if block is not None and block.header.size > index)

    def load(self, executor: Executor) -> Any:
        """The newest state, as a restarted process reads it."""
        size = self.state.size
        if not self.blocks:
            state = executor.genesis_state()
            executor.settle(state)
            return state
        return executor.load(Frontier.read(size, self.node), self.accumulator, self.time_ms)

    def restored_on(self, executor: Executor, journal: Journal) -> Restored:
        stored = self.certificates.get(len(self.blocks))
        tip = self.blocks[-1] if self.blocks else None
        final = Certificate.decode(stored) if stored else None
        start = self._end(self.epoch).header if self.epoch else None
        loaded, damaged = self.load(executor), journal.damaged
        return Restored(loaded, tip, final, journal.bodies, start, doubtful=damaged)

    def _prove(self, height: int, certificate: Certificate, void: tuple[Block, ...]) -> None:
        self.certificates[height], self.voids[height] = certificate.encode(), void

    def _complete(self, nodes: Any) -> None:
        self.nodes |= {(level, index): hashed for level, index, hashed in nodes}

    def _take(self, state: State) -> None:
        self.accumulator = state.accumulator
        shown = Shown(state.size, state.root, state.digest)
        self.state = shown  # type: ignore[assignment]
