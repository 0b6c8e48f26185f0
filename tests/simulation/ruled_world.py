"""Worlds over the real state machine, with real signatures: entries are handed in by a script until
a model's row is certified; a newcomer and a member with an emptied disk join by snapshot meanwhile;
in the end every node's bundle of that row passes the independent verifier, and no changed one does.

    RuledWorld(seed).run()        # raises Violation
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from checker import Checker
from clients import Clients
from faults import Faults, of_seed
from joiners import Joiner
from links import Node
from number_ledger import Consortium, holding
from ruled_ledger import MEMBERS, RuledArchive, RuledChecker, check_bundle, script
from rules_world import named_key
from world import World

from tilth_ledger.effects import Executor, Keyring, Submitted
from tilth_ledger.execution import Executor as RuledExecutor
from tilth_ledger.journal_records import Journal
from tilth_ledger.leaf import leaf_id
from tilth_ledger.replica import Restored

PATIENCE_MS = 3_000
LOOK_MS = 50


class Scripted(Clients):
    """One client after the other: each comes when the entry before is final, and comes back, to
    another node, when it hears nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._entries = script().entries
        self._next, self._asked_ms = 0, 0

    def schedule(self) -> None:
        self._world.at(500, self._go)

    def resubmit(self) -> bool:
        return False

    def _go(self) -> None:
        told, now = self._world.checker.acknowledged, self._world.now
        entry = self._entries[self._next]
        if leaf_id(entry) in told:
            self._next += 1
            if self._next == len(self._entries):
                return
            self._hand_in(self._entries[self._next])
        elif now - self._asked_ms >= PATIENCE_MS or leaf_id(entry) not in self.submitted:
            self._hand_in(entry)
        self._world.at(LOOK_MS, self._go)

    def _hand_in(self, entry: bytes) -> None:
        self._asked_ms = self._world.now
        name = leaf_id(entry)
        self.submitted[name] = name
        ready = [node for node in self._world.nodes if node.replica is not None]
        if ready:
            self._world.hand(self._random.choice(ready), Submitted(entry))


class RuledWorld(World):
    """One run."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(f"ruled {seed}")
        self._joiners: dict[int, Joiner] = {}
        self.rows_proven = 0
        super().__init__(seed, faults_of(seed))
        self._joiners = {
            number: Joiner(self, self.nodes[number], self._dice, self._dice.randint(2, 12))
            for number in (len(MEMBERS), self._wiped)
        }
        self._joiners[self._wiped].joins = False

    def _found(self, followers: int) -> Consortium:
        made = script()
        return Consortium(made.genesis, tuple(named_key(f"{name} vote") for name in MEMBERS))

    def new_archive(self) -> RuledArchive:
        return RuledArchive(script().genesis)

    def _checker(self, honest: frozenset[int]) -> Checker:
        self._wiped = self._dice.randrange(len(MEMBERS))
        self.machines.fragile = frozenset({self._wiped})
        return RuledChecker(self.consortium.genesis, honest, self.machines.fragile)

    def _clients(self) -> Clients:
        return Scripted(self)

    def _keyring(self, member: int) -> Keyring:
        return holding(named_key(f"m{member} vote"))

    def _load(self, node: Node, found: Journal) -> tuple[Executor, Restored]:
        archive = node.archive
        assert isinstance(archive, RuledArchive)
        executor = RuledExecutor(archive.genesis, archive.rows)
        return executor, archive.restored_on(executor, found)

    def _run(self) -> None:
        self.at(0, self._joiners[len(MEMBERS)].ask)
        self.at(self._dice.randint(2_000, self.faults.faulty_ms), self._wipe)
        super()._run()

    def boot(self, node: Node) -> None:
        joiner = self._joiners.get(node.number)
        if joiner is None or not joiner.joins:
            super().boot(node)

    def _wipe(self) -> None:
        """A member's disk is replaced by an empty one."""
        node = self.nodes[self._wiped]
        if self.healed:
            return
        if node.replica is not None:
            self.crash(node)
        self.met["disk: wipe"] += 1
        node.journal, node.sequence, node.archive = b"", 0, self.new_archive()
        node.cosigner.newest = 0
        joiner = self._joiners[node.number]
        joiner.joins = True
        joiner.ask()

    def lost_views(self) -> int:
        """Not counted: entries go on after the healing, while the member that joins again does not
        vote yet, and every view that it leads is lost."""
        return 0

    def _check_end(self) -> None:
        super()._check_end()
        for node in self.present():
            assert isinstance(node.archive, RuledArchive)
            self.rows_proven += check_bundle(node.archive, self._dice)
            self.met["bundle proven"] += 1


def faults_of(seed: int) -> Faults:
    """A network and machines as in any seed, for four members of whom one may lose its disk."""
    return replace(
        of_seed(seed),
        n=len(MEMBERS),
        q=3,
        cheap_keys=False,
        delta_ms=300,
        delay=(1, 40),
        loss=min(of_seed(seed).loss, 0.1),
        leaves=0,
        bursts=0,
        faulty_ms=15_000,
        traitors=0,
        liars=False,
        severed=False,
        followers=1,
        false_followers=0,
        changes=0,
        strangers=0,
        fragile=0,
        rotten=0,
        jumpers=0,
        partition_every_ms=of_seed(seed).partition_every_ms and 3_000,
        down_ms=(100, 2_000),
    )
