"""Replicas over the real state machine: entries signed by identities, refused by rules."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from number_ledger import consortium, holding

from tilth_ledger.blocks import NOTARIZE, Block, Certificate, Header, Justification, Vote
from tilth_ledger.effects import (
    Effects,
    Event,
    PeerConnected,
    Received,
    Start,
    Submitted,
)
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import TilthError
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import Leaf, write_entry
from tilth_ledger.messages import Proposal, Votes, decode_message
from tilth_ledger.replica import Replica, Restored
from tilth_ledger.rows import MemoryRows

NOW_MS = 1_700_000_000_000


class Store:
    """A node's final blocks and rows, applied as a store does."""

    def __init__(self, genesis: Genesis) -> None:
        self.rows = MemoryRows()
        self.executor = Executor(genesis, self.rows)
        self.state = self.executor.genesis_state()
        self.rows.apply(self.state.changes)
        self.executor.settle(self.state)
        self.blocks: list[Block] = []
        self.certificates: dict[int, bytes] = {}

    def block(self, height: int) -> bytes | None:
        return self.blocks[height - 1].encode() if 1 <= height <= len(self.blocks) else None

    def certificate(self, height: int) -> bytes | None:
        return self.certificates.get(height)

    def apply(self, effects: Effects) -> None:
        for final in effects.finalized:
            self.blocks.append(final.block)
            self.rows.apply(final.state.changes)
            self.state = final.state
            self.certificates[len(self.blocks)] = final.certificate.encode()


@dataclass
class Member:
    store: Store
    replica: Replica
    refused: list[tuple[str, TilthError]]


class Trio:
    """Three members over encoded messages, with real signatures."""

    def __init__(self) -> None:
        made = consortium(3, cheap=False)
        self.genesis, self.now = made.genesis, 0
        self.members = []
        for index, key in enumerate(made.keys):
            store = Store(self.genesis)
            restored = Restored(store.state)
            replica = Replica(
                self.genesis, f"m{index}", holding(key), store.executor, store, restored
            )
            self.members.append(Member(store, replica, []))
        self._wire: deque[tuple[int, int, bytes]] = deque()
        for index in range(3):
            self.step(index, Start(), *(PeerConnected(o) for o in range(3) if o != index))
        self.settle()

    def step(self, index: int, *events: Event) -> Effects:
        member = self.members[index]
        self.now += 1
        effects = member.replica.step(self.now, NOW_MS + self.now, events)
        member.store.apply(effects)
        member.refused += effects.refused
        for send in effects.send:
            data = send.message.encode()
            self._wire.extend((index, to, data) for to in send.to)
        return effects

    def settle(self) -> None:
        while self._wire:
            sender, to, data = self._wire.popleft()
            message = decode_message(data)
            assert message is not None
            self.step(to, Received(sender, message))

    def submit(self, index: int, *leaves: Leaf) -> None:
        self.step(index, *(Submitted(leaf.encode()) for leaf in leaves))
        self.settle()


def key_of(index: int, purpose: str) -> SigningKey:
    return SigningKey.from_seed(sha256(b"simulated %d" % index).digest()).derive(purpose)


def admin_of(index: int) -> SigningKey:
    return key_of(index, "admin")


def add_identity(trio: Trio, index: int, number: int) -> Leaf:
    key = SigningKey.from_seed(bytes([number]) * 32)
    operation = {"op": "identity.add", "public": key.public.hex, "roles": ["scientist"]}
    nonce = f"{number:032x}"
    return write_entry(trio.genesis.net, f"m{index}", admin_of(index), nonce, [operation])


def test_entries_become_rows_at_every_member() -> None:
    trio = Trio()
    for number in range(1, 7):
        trio.submit(number % 3, add_identity(trio, number % 3, number))
    stores = [member.store for member in trio.members]
    assert [store.state.size for store in stores] == [6, 6, 6]
    assert len({store.state.digest for store in stores}) == 1
    key = SigningKey.from_seed(bytes([3]) * 32)
    assert stores[2].rows.get(f"identity/{key.key_id}") is not None


def test_many_entries_of_one_turn_share_a_block() -> None:
    trio = Trio()
    leader = Epoch.first(trio.genesis).leader(1)
    trio.submit(leader, *(add_identity(trio, 0, number) for number in range(1, 41)))
    assert [len(member.store.blocks) for member in trio.members] == [1, 1, 1]
    assert trio.members[0].store.state.size == 40


def test_a_forbidden_entry_is_refused_with_its_rule_and_its_neighbours_pass() -> None:
    trio = Trio()
    leader = Epoch.first(trio.genesis).leader(1)
    good, again = add_identity(trio, 0, 1), add_identity(trio, 0, 2)
    stranger = SigningKey.from_seed(bytes([9]) * 32)
    operation = {"op": "identity.add", "public": stranger.public.hex, "roles": ["scientist"]}
    bad = write_entry(trio.genesis.net, "m0", stranger, "f" * 32, [operation])
    trio.submit(leader, good, bad, again)
    assert [member.store.state.size for member in trio.members] == [2, 2, 2]
    assert [(name, error.as_dict()["rule"]) for name, error in trio.members[leader].refused] == [
        (bad.id, "A1")
    ]


def led(trio: Trio, leader: int, leaves: tuple[bytes, ...], time_ms: int) -> Proposal:
    """What a leader proposes on the final tip: these leaves, whatever they are, well voted for."""
    store = trio.members[leader].store
    parent, built = store.blocks[-1].header, store.executor.build(store.state, leaves[:1], time_ms)
    view = trio.members[leader].replica.view
    why = Justification(Certificate.decode(store.certificates[len(store.blocks)]))
    header = Header(
        net=trio.genesis.net_bytes,
        epoch=0,
        view=view,
        height=parent.height + 1,
        parent=parent.hash,
        parent_view=parent.view,
        skips=why.skips_digest,
        leaf_count=len(leaves),
        size=parent.size + len(leaves),
        root=store.executor.root_after(store.state, leaves),
        state=built.state.digest,
        time_ms=time_ms,
        proposer=leader,
    )
    block, key = Block(header, leaves, why), key_of(leader, "vote")
    epoch = Epoch.first(trio.genesis)
    return Proposal(Vote.sign(epoch, key, leader, NOTARIZE, view, block.hash), block)


@pytest.mark.rule("B6")
def test_a_leader_that_forges_a_recorded_board_gets_no_vote() -> None:
    """B6: the members that do not lead recompute the board, and vote for no other."""
    trio = Trio()
    organizer = SigningKey.from_seed(bytes([7]) * 32)
    made = {"op": "identity.add", "public": organizer.public.hex, "roles": ["organizer"]}
    trio.submit(0, write_entry(trio.genesis.net, "m0", admin_of(0), "a" * 32, [made]))
    key = "m0/" + "b" * 32
    goal = {"op": "objective.add", "key": key, "name": "goal", "metric": {"builtin": "accuracy"}}
    goal |= {"direction": "maximize", "combine": "by_count"}
    trio.submit(0, write_entry(trio.genesis.net, "m0", organizer, "b" * 32, [goal]))
    ask = {"op": "leaderboard.record", "objective": key}
    entry = write_entry(trio.genesis.net, "m0", organizer, "c" * 32, [ask]).encode()

    leader = Epoch.first(trio.genesis).leader(trio.members[0].replica.view)
    store, now = trio.members[leader].store, NOW_MS + trio.now
    honest = store.executor.build(store.state, [entry], now).leaves
    board = Leaf.decode(honest[1])
    forged = replace(board, payload=board.payload.replace(b'"count":0', b'"count":9'))
    assert forged != board
    honestly = led(trio, leader, honest, now)
    forgery = led(trio, leader, (entry, forged.encode()), now)
    others = sorted({0, 1, 2} - {leader})
    # One voter is shown the forgery, the other what follows from the entry.
    assert not votes_for(trio.step(others[0], Received(leader, forgery)), forgery)
    assert votes_for(trio.step(others[1], Received(leader, honestly)), honestly)


def votes_for(effects: Effects, proposal: Proposal) -> bool:
    """Whether a member voted for a proposed block."""
    sent = [v for s in effects.send if isinstance(s.message, Votes) for v in s.message.votes]
    return any(v.kind is NOTARIZE and v.block == proposal.block.hash for v in sent)
