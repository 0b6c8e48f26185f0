"""A member that lies: it votes for everything, and leads with whatever it can make up, or in one
manner of its own (manners); it may talk as well (chatter).

It has the replica's interface, so that the world runs it like any other, but keeps nothing over a
crash. It stays within what a real liar can do: it signs with its own key only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from chatter import Chatter
from manners import MANNERS
from number_ledger import Consortium, NumberExecutor, Numbers, write_leaf
from schemes import SCHEMES

from tilth_ledger import forks
from tilth_ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Header,
    Justification,
    Kind,
    Vote,
)
from tilth_ledger.effects import Effects, Event, PeerConnected, Received, Send
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.messages import (
    Body,
    Certificates,
    Chain,
    FetchBlock,
    FetchChain,
    Message,
    Proposal,
    Status,
    Votes,
)
from tilth_ledger.votes import KEPT_VIEWS, VoteTable

if TYPE_CHECKING:
    from links import Node
    from world import World

MOST_ACTS = 1_500  # of a liar in a run that is as long as its seed says, and after the healing
MOST_SAID = 12  # times that a liar with a scheme shows a block
LEADING = {**MANNERS, **SCHEMES}


class Liar:
    """One lying member."""

    def __init__(
        self,
        consortium: Consortium,
        member: int,
        random: Random,
        manner: str = "",
        talk: Random | None = None,
        met: Counter[str] | None = None,
        epoch: Epoch | None = None,
    ) -> None:
        """`manner`: how it leads, of LEADING; else with what it makes up. `talk`: the dice of what
        it says beside; None: nothing. `met` counts what it does. `epoch`: where it lies; else in
        the first one."""
        self._manner = manner
        self.met = Counter() if met is None else met
        self._chatter = None if talk is None else Chatter(self, talk, self.met)
        self.genesis = consortium.genesis
        self.epoch = epoch or consortium.epoch
        self.member = member
        self.random = random
        self._key = consortium.keys[member]
        self._executor: Any = NumberExecutor(consortium.genesis)
        self._table = VoteTable(self.epoch)
        self.blocks: dict[bytes, Block] = {}
        self._states: dict[bytes, Any] = {self.genesis.net_bytes: Numbers()}
        self._heights: dict[bytes, tuple[int, int]] = {self.genesis.net_bytes: (0, 0)}
        self._led: dict[int, int] = {}
        self._plots: dict[int, list[Send]] = {}
        self.kept_back: dict[int, tuple[int, Proposal]] = {}  # for members that come back
        self.acts_left = MOST_ACTS
        self.view = 1
        self.height = 0
        self.votes = True
        self.pending = 0
        self.held: dict[str, int] = {}

    def step(self, now_ms: int, clock_ms: int, events: Sequence[Event]) -> Effects:
        sends: list[Send] = []
        for event in events:
            if isinstance(event, Received) and self.acts_left > 0:
                self.acts_left -= 1
                with suppress(InvalidInput):  # others may lie to a liar
                    self._learn(event.message)
                sends += self._answer(event.member, event.message)
                sends += self._vote_for_everything(event.message)
                sends += self._lead(clock_ms)
                if self._chatter is not None and self.others:
                    sends += self._chatter.talk(event.message, event.member)
            if isinstance(event, PeerConnected):
                sends += self._greet(event.member)
        return Effects(send=tuple(sends))

    def tire(self) -> None:
        """The faults are over: what is left to it is as in a short run."""
        self.acts_left = min(self.acts_left, MOST_ACTS)

    def _greet(self, member: int) -> list[Send]:
        """One that comes back is shown what it was not shown before."""
        view, said = self.kept_back.pop(member, (0, None))
        if said is None or view < self.view:
            return []
        self.met["liar: shows a block to one that came back"] += 1
        return [Send((member,), said)]

    def _learn(self, message: Message) -> None:
        match message:
            case Proposal(vote, block):
                self.keep(block)
                why = block.justification
                self._certificates((*why.skips, *((why.parent,) if why.parent else ())))
                self._table.admit(vote)
                self.view = max(self.view, vote.view)
            case Body(block):
                self.keep(block)
            case Chain(blocks, final) if self._manner:
                self._keep_chain(blocks, final)
            case Votes(votes):
                for vote in votes:
                    self._table.admit(vote)
                    self.view = max(self.view, vote.view)
            case Certificates(certificates):
                self._certificates(certificates)
            case Status():
                self.view = max(self.view, message.view)

    def _keep_chain(self, blocks: Sequence[bytes], final: Certificate | None) -> None:
        """Who wants to lead well enough to be believed must know what is final."""
        for block in map(Block.decode, blocks):
            self._certificates(forks.proofs_of(block))
            self.keep(block)
        if final is not None:
            self._certificates((final,))

    def _certificates(self, certificates: Sequence[Certificate]) -> None:
        for certificate in certificates:
            self._table.learn(certificate)
            self.view = max(self.view, certificate.view + 1)

    def keep(self, block: Block) -> None:
        hashed, header = block.hash, block.header
        self.blocks[hashed] = block
        state = self._states.get(header.parent)
        if state is None or hashed in self._states:
            return
        try:
            self._states[hashed] = self._executor.execute(state, block.leaves, header.time_ms)
            self._heights[hashed] = (header.height, header.view)
        except (Refused, InvalidInput):
            return

    def _answer(self, member: int, message: Message) -> list[Send]:
        match message:
            case FetchBlock() if self._manner == "withholds":
                return []
            case FetchBlock(block) if block in self.blocks:
                return [Send((member,), Body(self.blocks[block]))]
            case Status(asks=True):
                status = replace(message, asks=False, yours=(), height=0, finalized_view=0)
                return [Send((member,), status), *self._ask(member, message)]
            case Status():
                return self._ask(member, message)
        return []

    def _ask(self, member: int, told: Status) -> list[Send]:
        """For final blocks that it lacks."""
        known = max(height for height, _ in self._heights.values())
        behind = bool(self._manner) and told.height > known
        return [Send((member,), FetchChain(known + 1))] if behind else []

    def _vote_for_everything(self, message: Message) -> list[Send]:
        seen: set[tuple[int, bytes]] = set()
        match message:
            case Proposal(vote, _):
                seen = {(vote.view, vote.block)}
            case Votes(votes):
                seen = {(vote.view, vote.block) for vote in votes if vote.block != ZERO_HASH}
                seen |= {(vote.view, ZERO_HASH) for vote in votes if vote.block == ZERO_HASH}
        sends = []
        for view, block in sorted(seen):
            kinds = (NULLIFY,) if block == ZERO_HASH else (NOTARIZE, FINALIZE, NULLIFY)
            if self._manner in SCHEMES and self.epoch.leader(view) != self.member:
                kinds = (NOTARIZE, NULLIFY)  # what others lead to is final without its help only
            votes = [self.sign(k, view, block) for k in kinds if self.random.random() < 0.7]
            for vote in votes:
                certificate = self._table.count(vote)
                to = self._some()
                if certificate is not None and self.random.random() < 0.5:
                    sends.append(Send(to, Certificates((certificate,))))
                sends.append(Send(to, Votes((vote,))))
        return sends

    def _lead(self, clock_ms: int) -> list[Send]:
        """Blocks for a view that it leads, each to some members."""
        sends: list[Send] = []
        for view in (self.view, self.view + 1):
            if self.epoch.leader(view) != self.member:
                continue
            if self._manner in SCHEMES:
                sends += self._plot(view, clock_ms)
                continue
            if self._led.get(view, 0) >= 3 or self.random.random() < 0.5:
                continue
            self._led[view] = self._led.get(view, 0) + 1
            if self._manner:
                led = LEADING[self._manner](self, view, clock_ms)
                self.met[f"leader: {self._manner.replace('_', ' ')}"] += bool(led)
                sends += led
                continue
            misstates = self.random.random() < 0.3
            block = (self.misstated if misstates else self._make_up)(view, clock_ms)
            if block is not None:
                self.met["leader: makes up"] += 1
                self.keep(block)
                vote = self.sign(NOTARIZE, view, block.hash)
                self._table.count(vote)
                to = self.others if misstates else self._some()
                sends.append(Send(to, Proposal(vote, block)))
        return sends

    def _plot(self, view: int, clock_ms: int) -> list[Send]:
        """Its scheme for a view that it leads, said again and again: who hears it before it enters
        the view, or when more is final, does not take it."""
        said = self._led.get(view, 0)
        if said >= MOST_SAID:
            return []
        if view not in self._plots:
            plot = SCHEMES[self._manner](self, view, clock_ms)
            if not plot:
                return []
            self._plots = {view: plot}
            self.met[f"leader: {self._manner.replace('_', ' ')}"] += 1
        self._led[view] = said + 1
        return self._plots[view]

    def _make_up(self, view: int, clock_ms: int) -> Block | None:
        """A block on any state it knows, justified as well as it can or wants."""
        below = [(h, v, hashed) for hashed, (h, v) in self._heights.items() if v < view]
        _, parent_view, parent = self.random.choice(sorted(below)[-6:])
        if self.random.random() < 0.3:
            forged = self._forge_parent(view - 1, clock_ms)
            if forged is not None:
                parent = forged
                parent_view = self._heights[forged][1]
        state = self._states[parent]
        time_ms = max(state.time_ms + 1, clock_ms + self.random.choice((0, 0, 0, 9_000, 60_000)))
        text = f"lie{self.random.randint(0, 10**9)} claim:c{self.random.randint(0, 4)}"
        built = self._executor.build(state, [self.entry(text)], time_ms)
        why = self._justify(view, parent, parent_view)
        return self._block(view, parent, built, why, time_ms)

    def misstated(self, view: int, clock_ms: int) -> Block | None:
        """A block that is right in all but one thing: what its header says comes of it."""
        block = self.sound(view, clock_ms)
        if block is None:
            return None
        header = block.header
        lies = ({"size": header.size + 1}, {"root": ZERO_HASH}, {"state": ZERO_HASH})
        return replace(block, header=replace(header, **self.random.choice(lies)))

    def sound(self, view: int, clock_ms: int, parent: bytes | None = None) -> Block | None:
        """A block to which nobody can object, on a proven parent or the newest such."""
        parent = parent or next(iter(self.proven_parents(view)), None)
        if parent is None:
            return None
        parent_view = self._heights[parent][1]
        state = self._states[parent]
        time_ms = max(state.time_ms + 1, clock_ms)
        text = f"misstated{self.random.randint(0, 10**9)}"
        built = self._executor.build(state, [self.entry(text)], time_ms)
        first = max(parent_view + 1, view - KEPT_VIEWS)  # a view may be another liar's 2^63
        skips = [self._table.nullification(gap) for gap in range(first, view)]
        certificate = self._certified(parent_view) if parent_view else None
        why = Justification(certificate, tuple(skip for skip in skips if skip is not None))
        return self._block(view, parent, built, why, time_ms)

    def entry(self, text: str) -> bytes:
        """What it writes into the blocks that it makes up."""
        return write_leaf(text)

    def _certified(self, view: int) -> Certificate | None:
        return self._table.notarization(view) or self._table.finalization(view)

    def state_before(self, block: Block) -> Any:
        """The state that a block which it made stands on."""
        return self._states[block.header.parent]

    def root_after(self, block: Block, leaves: Sequence[bytes]) -> bytes:
        """Of a block which it made, with these leaves instead."""
        root: bytes = self._executor.root_after(self.state_before(block), leaves)
        return root

    def older_certificate(self, view: int) -> Certificate | None:
        """A notarization of a view below this one."""
        found = (
            self._table.notarization(below) for below in range(view - 1, max(0, view - 50), -1)
        )
        return next((each for each in found if each is not None), None)

    def _block(
        self, view: int, parent: bytes, built: Any, why: Justification, time_ms: int
    ) -> Block:
        """The block of what was built on a parent."""
        height, parent_view = self._heights[parent]
        header = Header(
            net=self.genesis.net_bytes,
            epoch=self.epoch.number,
            view=view,
            height=height + 1,
            parent=parent,
            parent_view=parent_view,
            skips=why.skips_digest,
            leaf_count=len(built.leaves),
            size=built.state.size,
            root=built.state.root,
            state=built.state.digest,
            time_ms=time_ms,
            proposer=self.member,
        )
        return Block(header, built.leaves, why)

    def proven_parents(self, view: int) -> list[bytes]:
        """Blocks on which a leader of this view may build, with proof of all of it; newest first,
        as the certificates that it holds of one view prove one block."""
        proven, lowest = [], self._lowest_parent(view)
        for hashed, (_, below) in sorted(self._heights.items(), key=lambda item: -item[1][1]):
            certificate = self._certified(below) if below else None
            certain = not below or (certificate is not None and certificate.block == hashed)
            if lowest <= below < view and certain:
                proven.append(hashed)
        return proven

    def certified_parents(self, view: int) -> list[bytes]:
        """Blocks below a view that are certified, newest first, views between them or not."""
        return [hashed for hashed in self._below(view) if self._is_certain(hashed)]

    def unproven_parents(self, view: int) -> list[bytes]:
        """Blocks below a view that are not certified as far as it knows, newest first; the views
        between are proven to be over."""
        lowest, below = self._lowest_parent(view), self._below(view)
        open_to = [hashed for hashed in below if self._heights[hashed][1] >= lowest]
        return [hashed for hashed in open_to if not self._is_certain(hashed)]

    def _lowest_parent(self, view: int) -> int:
        """The lowest view on whose block a leader of this one may build."""
        lowest = view - 1
        while lowest > 0 and self._table.nullification(lowest):
            lowest -= 1
        return lowest

    def _below(self, view: int) -> list[bytes]:
        newest = sorted(self._heights.items(), key=lambda item: (-item[1][1], item[0]))
        return [hashed for hashed, (_, below) in newest if view - KEPT_VIEWS < below < view]

    def _is_certain(self, hashed: bytes) -> bool:
        view = self._heights[hashed][1]
        certificate = self._certified(view) if view else None
        return not view or (certificate is not None and certificate.block == hashed)

    def _forge_parent(self, view: int, clock_ms: int) -> bytes | None:
        """A block of an earlier view, in the name of its leader, whose vote it does not have."""
        if view < 1:
            return None
        below = [(h, v, hashed) for hashed, (h, v) in self._heights.items() if v < view]
        height, parent_view, parent = self.random.choice(sorted(below)[-6:])
        state = self._states[parent]
        text = f"forged{self.random.randint(0, 10**9)}"
        built = self._executor.build(state, [self.entry(text)], state.time_ms + 1)
        why = self._justify(view, parent, parent_view)
        header = Header(
            net=self.genesis.net_bytes,
            epoch=self.epoch.number,
            view=view,
            height=height + 1,
            parent=parent,
            parent_view=parent_view,
            skips=why.skips_digest,
            leaf_count=len(built.leaves),
            size=built.state.size,
            root=built.state.root,
            state=built.state.digest,
            time_ms=state.time_ms + 1,
            proposer=self.epoch.leader(view),
        )
        block = Block(header, built.leaves, why)
        self.keep(block)
        return block.hash

    def _justify(self, view: int, parent: bytes, parent_view: int) -> Justification:
        certificate = self._table.notarization(parent_view) if parent_view else None
        if certificate is not None and certificate.block != parent and self.random.random() < 0.5:
            certificate = None
        first = max(parent_view + 1, view - KEPT_VIEWS)  # a view may be another liar's 2^63
        skips = [self._table.nullification(gap) for gap in range(first, view)]
        return Justification(certificate, tuple(skip for skip in skips if skip is not None))

    def sign(self, kind: Kind, view: int, block: bytes) -> Vote:
        named = ZERO_HASH if kind is NULLIFY else block
        return Vote.sign(self.epoch, self._key, self.member, kind, view, named)

    @property
    def others(self) -> tuple[int, ...]:
        return tuple(m for m in range(len(self.epoch.members)) if m != self.member)

    def _some(self) -> tuple[int, ...]:
        others = self.others
        if self.random.random() < 0.4:
            return others
        return tuple(sorted(self.random.sample(others, self.random.randint(1, len(others)))))


def liar_of(world: World, node: Node) -> Liar:
    """The one that runs at a node of a world."""
    manner, talk = world.faults.manner, talk_of(world, node)
    liar = Liar(world.consortium, node.member, world.random, manner, talk, world.met)
    liar.acts_left = world.faults.acts
    return liar


def talk_of(world: World, node: Node) -> Random | None:
    """The dice of what a liar says beside its votes; None: nothing."""
    return Random(f"talk {world.seed} {node.number}") if world.faults.talks else None
