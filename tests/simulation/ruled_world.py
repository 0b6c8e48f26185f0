"""Worlds over the real state machine, with real signatures: entries are handed in by a script until
models' rows are certified, recorded, withdrawn and superseded, while who votes changes; a newcomer,
a stranger and a member with an emptied disk join by snapshot meanwhile; in the end every node's
bundles of those rows pass the independent verifier, and no changed or forged one does.

    RuledWorld(seed).run()        # raises Violation
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from checker import Checker
from clients import Clients
from faults import Faults, of_seed
from joiners import Joiner
from liar import Liar, talk_of
from links import Node
from manners import MANNERS
from number_ledger import Consortium
from ruled_boards import Boards
from ruled_bundles import check_bundles
from ruled_changes import Council
from ruled_checker import RuledChecker
from ruled_ledger import RuledArchive
from ruled_script import MEMBERS, NEWCOMER, STRANGER, KeysOf, keys_of, script
from ruled_traitors import Beginning, RuledLiar
from world import World

from tilth_ledger.effects import Effects, Executor, Keyring, Submitted
from tilth_ledger.execution import Executor as RuledExecutor
from tilth_ledger.journal_records import Journal
from tilth_ledger.leaf import leaf_id
from tilth_ledger.replica import Restored
from tilth_ledger.rows import Rows

PATIENCE_MS = 3_000
LOOK_MS = 50
READS = 30
AWAY_MS = (5_000, 30_000)
JOINING = tuple(int(name[1:]) for name in (NEWCOMER, STRANGER))


class Scripted(Clients):
    """One client after the other: each comes when the entry before is final, and comes back, to
    another node, when it hears nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._entries = script().entries
        self.next, self._asked_ms = 0, 0

    def schedule(self) -> None:
        self._world.at(500, self._go)

    def resubmit(self) -> bool:
        return False

    def _go(self) -> None:
        told, now = self._world.checker.acknowledged, self._world.now
        entry = self._entries[self.next]
        if leaf_id(entry) in told:
            self.next += 1
            if self.next == len(self._entries):
                return
            self._hand_in(self._entries[self.next])
        elif now - self._asked_ms >= PATIENCE_MS or leaf_id(entry) not in self.submitted:
            self._hand_in(entry)
        self._world.at(LOOK_MS, self._go)

    def _hand_in(self, entry: bytes) -> None:
        self._asked_ms = self._world.now
        name = leaf_id(entry)
        self.submitted[name] = name
        assert isinstance(self._world, RuledWorld)
        self._world.hand_in(entry, self._random)


class RuledWorld(World):
    """One run."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(f"ruled {seed}")
        self._joiners: dict[int, Joiner] = {}
        self._away: Node | None = None
        self._lying: dict[int, Beginning] = {}  # where each liar lies, by its node
        self.entries = script().entries
        self.rows_proven = 0
        super().__init__(seed, faults_of(seed))
        self._joiners = {
            number: Joiner(self, self.nodes[number], self._dice, self._dice.randint(2, 12))
            for number in (*JOINING, *self.machines.fragile)
        }
        for number in self.machines.fragile:
            self._joiners[number].joins = False
        self.council = Council(self, self.faults.changes)
        self.churn = self.council

    def _found(self, followers: int) -> Consortium:
        return Consortium(script().genesis, tuple(keys_of(name)["vote"] for name in MEMBERS))

    def new_archive(self) -> RuledArchive:
        return RuledArchive(script().genesis)

    def _checker(self, honest: frozenset[int]) -> Checker:
        wiped = self._dice.randrange(len(MEMBERS))
        self.machines.fragile = frozenset(() if self.faults.traitors else (wiped,))
        return RuledChecker(self.consortium.genesis, honest, self.machines.fragile)

    def _clients(self) -> Clients:
        return Scripted(self)

    def _keyring(self, member: int) -> Keyring:
        return KeysOf(f"m{member}")

    def _load(self, node: Node, found: Journal) -> tuple[Executor, Restored]:
        archive = node.archive
        assert isinstance(archive, RuledArchive)
        executor = RuledExecutor(archive.genesis, archive.rows)
        return executor, archive.restored_on(executor, found)

    def _liar(self, node: Node) -> Liar:
        """In the newest epoch, if it votes in it."""
        assert isinstance(self.checker, RuledChecker)
        newest = self.checker.beginning
        votes = newest.place(node.member) is not None
        self._lying[node.number] = newest if votes else self._lying[node.number]
        return RuledLiar(
            self._lying[node.number],
            self.consortium,
            node.member,
            self.random,
            self.faults.manner,
            talk_of(self, node),
            self.met,
        )

    def _apply(self, node: Node, effects: Effects) -> None:
        """A liar hears of an epoch soon after the first honest node."""
        before = self.checker.epochs[-1]
        super()._apply(node, effects)
        if self.checker.epochs[-1] is not before:
            for liar in (node for node in self.nodes if node.member in self.liars):
                self.at(self._dice.randint(0, 500), self._lie_on, liar)

    def _lie_on(self, node: Node) -> None:
        if node.replica is not None and node.member in self.liars:
            node.replica = self._liar(node)
            self.network.meet(node)

    # For those who hand in entries.

    @property
    def final_rows(self) -> Rows:
        assert isinstance(self.checker, RuledChecker)
        return self.checker.rows

    @property
    def progress(self) -> int:
        """How many of the script's entries are recorded."""
        assert isinstance(self.clients, Scripted)
        return self.clients.next

    def hand_in(self, entry: bytes, random: Random) -> None:
        """To a node that runs."""
        ready = [node for node in self.nodes if node.replica is not None]
        if ready:
            self.hand(random.choice(ready), Submitted(entry))

    def forbid(self, name: str, why: str) -> None:
        """An entry of this name may never be recorded."""
        assert isinstance(self.checker, RuledChecker)
        self.checker.forbidden[name] = why

    # What happens.

    def _run(self) -> None:
        for number in JOINING:
            self.at(self._dice.randint(0, 10_000), self._joiners[number].ask)
        for number in self.machines.fragile:
            self.at(self._dice.randint(2_000, self.faults.faulty_ms), self._wipe, number)
        self.at(self._dice.randint(0, self.faults.faulty_ms), self._go_away)
        for _ in range(READS):
            self.at(self._dice.randint(0, 2 * self.faults.faulty_ms), self._read_board)
        super()._run()

    def boot(self, node: Node) -> None:
        joiner = self._joiners.get(node.number)
        if (joiner is None or not joiner.joins) and node is not self._away:
            super().boot(node)

    def _go_away(self) -> None:
        """One node is down for long; when it comes back, epochs have passed."""
        running = [node for node in self.nodes if node.replica is not None]
        if self.healed or not running:
            return
        self._away = self._dice.choice(running)
        epoch = self.checker.epochs[-1].number
        self.crash(self._away)
        self.at(self._dice.randint(*AWAY_MS), self._come_back, self._away, epoch)

    def _come_back(self, node: Node, epoch: int) -> None:
        self._away = None
        missed = self.checker.epochs[-1].number - epoch
        self.met["epoch: away over several"] += missed > 1
        self.boot(node)

    def _heal(self) -> None:
        self._away = None
        super()._heal()

    def _read_board(self) -> None:
        """Somebody reads the leaderboards of some node, as of a size that it has."""
        node = self._dice.choice(self.nodes)
        archive = node.archive
        assert isinstance(archive, RuledArchive)
        if node.replica is not None and node.member in self.checker.honest and archive.state.size:
            self.met["board read"] += 1
            self._boards.check_shown(archive.rows, self._dice.randint(1, archive.state.size))

    @property
    def _boards(self) -> Boards:
        assert isinstance(self.checker, RuledChecker)
        return self.checker.boards

    def _wipe(self, number: int) -> None:
        """A member's disk is replaced by an empty one."""
        node = self.nodes[number]
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
        assert isinstance(self.checker, RuledChecker)
        self.met["evidence recorded"] += len(self.checker.recorded)
        shown = self._boards.lines(1, self.checker.state.size)
        self.met["evidence shown on a row"] += any(line.accused for line in shown)
        rows = {self._epoch_of(result.index) for result in self._boards.results}
        self.met["epoch: rows of two"] += len(rows) > 1
        attacked = self._dice.choice(self.present())
        for node in self.present():
            self._check_shown(node, attack=node is attacked)

    def _epoch_of(self, index: int) -> int:
        blocks = self.checker.chain
        return next(b.header.epoch for b in blocks if b.header.size > index)

    def _check_shown(self, node: Node, *, attack: bool) -> None:
        """What a node shows and exports, of all epochs and boards."""
        archive, boards = node.archive, self._boards
        assert isinstance(archive, RuledArchive)
        assert isinstance(self.checker, RuledChecker)
        self.checker.roll.check_policies(archive.rows)
        boards.check_recorded(archive.rows)
        for size in (*(board.size for board in boards.recorded), archive.state.size):
            boards.check_shown(archive.rows, size)
        self.rows_proven += check_bundles(archive, boards, self._dice, attack=attack)
        self.met["bundle proven"] += 1


def faults_of(seed: int) -> Faults:
    """A network and machines as in any seed, for four members of whom one may lose its disk, or is
    a traitor: a liar or twins."""
    kinds = Random(f"traitors of {seed}")
    traitor = kinds.choice(("", "", "liar", "twins"))
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
        faulty_ms=30_000,
        traitors=bool(traitor),
        liars=traitor == "liar",
        manner=kinds.choice(("", *MANNERS, "equivocates", "misstates")),
        talks=kinds.random() < 0.5,
        severed=False,
        followers=1,
        false_followers=0,
        changes=Random(f"changes of {seed}").choice((0, 2, 3, 4, 5)),
        strangers=1,
        fragile=0,
        rotten=0,
        jumpers=0,
        partition_every_ms=of_seed(seed).partition_every_ms and 3_000,
        down_ms=(100, 2_000),
    )
