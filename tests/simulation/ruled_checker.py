"""The invariants of the simulator, where every final block is executed by the real rules, and what
these rules say is held against second accounts of them: of who votes (ruled_roll).

Left to others: what nodes show and export at the end (ruled_world).
"""

from __future__ import annotations

from typing import Any

from checker import Checker, Violation
from number_ledger import InvalidInput
from ruled_boards import Boards
from ruled_roll import Roll
from ruled_script import script
from ruled_traitors import Beginning

from tilth_ledger.blocks import Block
from tilth_ledger.evidence import Evidence, Name
from tilth_ledger.execution import Executor, State
from tilth_ledger.leaf import EVIDENCE, leaf_type
from tilth_ledger.rows import MemoryRows


class RuledChecker(Checker):
    """What all honest nodes together may and may not do."""

    state: State  # type: ignore[assignment]
    executor: Executor  # type: ignore[assignment]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.rows = MemoryRows()  # after the final chain
        self.executor = Executor(self.genesis, self.rows)
        self.state = self.executor.genesis_state()
        self._settle()
        self.roll = Roll(self.genesis)
        self.boards = Boards(script().facts.objective)
        self.recorded: set[Name] = set()  # evidence
        self.beginning = Beginning.of(self.epochs[0], self.rows, self.state)  # of the newest epoch
        self.forbidden: dict[str, str] = {}  # entries that the rules refuse, and why

    def _check_outcome(self, block: Block) -> None:
        super()._check_outcome(block)
        self._settle()
        self.roll.follow(block.leaves, self.roots)
        first = block.header.size - block.header.leaf_count
        self.boards.follow(block.leaves, first)
        for index, leaf in enumerate(block.leaves, first):
            if leaf_type(leaf) == EVIDENCE:
                self._accuse(self._named(leaf), index)

    def _accuse(self, name: Name, index: int) -> None:
        self.recorded.add(name)
        self.boards.accused.setdefault(f"m{self._number(*name[::2])}", index)

    def _named(self, leaf: bytes) -> Name:
        try:
            return Evidence.parse(leaf, self.genesis.net).name
        except InvalidInput as error:
            raise Violation(f"a leaf of evidence that is none: {error}") from error

    def _begin_epoch(self, block: Block) -> None:
        super()._begin_epoch(block)
        if len(self.roll.epochs) != len(self.epochs):
            raise Violation("an epoch began without the leaf that says so")
        self.roll.check_epoch(self.epochs[-1])
        self.beginning = Beginning.of(self.epochs[-1], self.rows, self.state)

    def same_chain(self, member: int, blocks: list[Block]) -> None:
        if all(block is not None for block in blocks[-3:]):
            super().same_chain(member, blocks)

    def finish(self, submitted: dict[str, str], state: object) -> None:
        if missing := [name for name in submitted.values() if name not in self.ids]:
            raise Violation(f"{len(missing)} entries are not final: {missing[:3]}")
        if taken := [why for name, why in self.forbidden.items() if name in self.ids]:
            raise Violation(f"the ledger took what is forbidden: {taken}")
        if unseen := self.accused - self.recorded:
            raise Violation(f"evidence was seen and is not recorded: {sorted(unseen)[:3]}")
        if unjust := {name for name in self.recorded if not self.may_lie(name)}:
            raise Violation(f"honest members stand accused: {sorted(unjust)[:3]}")

    def _settle(self) -> None:
        self.rows.apply(self.state.changes)
        self.executor.settle(self.state)
