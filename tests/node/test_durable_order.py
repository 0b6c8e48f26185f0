"""Nothing leaves a node before what it promises is durable: three real nodes in one process.

The journal, the store, the connections and the feed are the product's; subclasses at the border
note when each was done. What a message promises is read from its bytes, against the records that a
sync has covered by then.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from network import free_port

from tilth_ledger.blocks import FINALIZE, NOTARIZE, Block, Certificate, Vote
from tilth_ledger.journal_records import Held, OwnVote, Promised, Proven, decode_record
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.messages import Proposal, Status, Votes, decode_message
from tilth_node import assemble, config, founding, keystore
from tilth_node.clock import Clock
from tilth_node.feed import Feed
from tilth_node.node import Node
from tilth_node.rpc.peers import Peers
from tilth_node.storage.journal import JournalFile
from tilth_node.storage.ledger_store import Changes, LedgerStore

SECONDS = 100  # what never comes fails then
PROMISES = {
    "F1: the block of a proposal",
    "F1-F3: the record of NOTARIZE",
    "F1-F3: the record of FINALIZE",
    "the block of NOTARIZE",
    "the block of FINALIZE",
    "F2: its notarization",
    "F4: the height told",
    "F8: what is promised is stored",
    "F9: one sync for a turn",
}


@dataclass
class Notes:
    """What one node has made durable, and what it sent that was not."""

    member: int = -1
    votes: set[Vote] = field(default_factory=set)
    blocks: set[bytes] = field(default_factory=set)
    proven: set[tuple[int, bytes]] = field(default_factory=set)
    height: int = 0
    final_view: int = 0
    turns: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def synced(self, bodies: Sequence[bytes]) -> None:
        for body in bodies:
            match decode_record(body):
                case OwnVote(vote):
                    self.votes.add(vote)
                case Held(block):
                    self.blocks.add(block.hash)
                case Proven(certificate):
                    self.proven.add((certificate.view, certificate.block))

    def sent(self, data: bytes) -> None:
        match decode_message(data):
            case Votes(votes):
                for vote in votes:
                    self._vote(vote)
            case Proposal(vote, block):
                self.expect("F1: the block of a proposal", block.hash in self.blocks)
                self._vote(vote)
            case Status() as told:
                self.expect("F4: the height told", told.height <= self.height)

    def _vote(self, vote: Vote) -> None:
        if vote.member != self.member or vote.view <= self.final_view:
            return  # what is final is in the store
        kind = vote.kind.name
        self.expect(f"F1-F3: the record of {kind}", vote in self.votes)
        if vote.kind in (NOTARIZE, FINALIZE):
            self.expect(f"the block of {kind}", vote.block in self.blocks)
        if vote.kind is FINALIZE:
            self.expect("F2: its notarization", (vote.view, vote.block) in self.proven)

    def expect(self, what: str, durable: bool) -> None:
        self.checked.add(what)
        if not durable:
            self.broken.append(what)


class Border:
    """The product's classes, noting for the node that is being built."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.notes: list[Notes] = []
        self.syncs = 0
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        border = self

        class NotedStore(LedgerStore):
            def __init__(self, file: Path) -> None:
                super().__init__(file)
                self.notes = border.notes[-1]

            def apply(
                self,
                blocks: Iterable[tuple[Block, Changes]],
                certificate: Certificate,
                void: Sequence[Block] = (),
            ) -> None:
                super().apply(blocks, certificate, void)
                self.notes.height = self.tip_height
                self.notes.final_view = certificate.view
                self.notes.turns.append("applied")

            @property
            def tip_height(self) -> int:
                tip = self.tip()
                return 0 if tip is None else tip.header.height

        class NotedJournal(JournalFile):
            def __init__(self, folder: Path) -> None:
                super().__init__(folder)
                self.notes = Notes(len(border.notes))
                border.notes.append(self.notes)

            def append(self, bodies: Sequence[bytes]) -> None:
                before = border.syncs
                super().append(bodies)
                self.notes.expect("F9: one sync for a turn", border.syncs - before == bool(bodies))
                self.notes.synced(bodies)

            def note(self, body: bytes) -> None:
                promised = decode_record(body)
                assert isinstance(promised, Promised)
                applied = promised.height <= self.notes.height
                self.notes.expect("F8: what is promised is stored", applied)
                super().note(body)

        class NotedPeers(Peers):
            def send(
                self, organization: str, messages: Sequence[bytes], *, later: bool = False
            ) -> None:
                notes = border.notes[ord(self.me.organization[-1]) - ord("a")]
                for data in messages:
                    notes.sent(data)
                super().send(organization, messages, later=later)

        class NotedFeed(Feed):
            def __init__(self, store: NotedStore) -> None:
                super().__init__(store)
                self.notes = store.notes

            def publish(self, size: int, batches: Sequence[Mapping[str, bytes | None]]) -> None:
                self.notes.turns.append("told")
                super().publish(size, batches)

        for kind in (NotedStore, NotedJournal, NotedPeers, NotedFeed):
            patch.setattr(assemble, kind.__base__.__name__, kind)

    def _counted(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def counted(descriptor: int) -> None:
            sync(descriptor)
            self.syncs += 1

        return counted


@pytest.fixture
async def nodes(tmp_path: Path, border: Border) -> AsyncIterator[list[Node]]:
    """Three members, running in this process."""
    folders = [tmp_path / f"hospital-{letter}" for letter in "abc"]
    for folder in folders:
        site = founding.Site(folder.name, folder.name, peer_port=free_port())
        founding.init(folder, site, Clock())
    members = [folder / "member.json" for folder in folders]
    genesis = founding.new_network("three", members, [], q=None, k=None)
    (tmp_path / "genesis.json").write_bytes(genesis.bytes)
    async with AsyncExitStack() as stack:
        made = []
        for folder in folders:
            founding.join(folder, tmp_path / "genesis.json")
            node = assemble.build(config.load(folder))
            await node.start()
            stack.push_async_callback(node.stop)
            made.append(node)
        yield made


@pytest.fixture
def border(monkeypatch: pytest.MonkeyPatch) -> Border:
    return Border(monkeypatch)


def entry(node: Node, number: int) -> bytes:
    public = SigningKey.from_seed(number.to_bytes(32)).public.hex
    operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
    admin = keystore.load_admin(node.folder.keys)
    organization = node.organization
    nonce = number.to_bytes(16).hex()
    return write_entry(node.genesis.net, organization, admin, nonce, [operation]).encode()


@pytest.mark.rule("F1")
async def test_no_message_leaves_before_what_it_promises_is_durable(
    nodes: list[Node], border: Border
) -> None:
    async with asyncio.timeout(SECONDS):
        for number in range(30):
            node = nodes[number % 3]
            receipt = await node.replication.submit(entry(node, number))
            assert receipt.size <= node.store.size
        await asyncio.gather(*(node.feed.at_least(30) for node in nodes))
    for notes in border.notes:
        assert notes.broken == []
        assert notes.checked >= PROMISES
        assert notes.turns[::2] == ["applied"] * (len(notes.turns) // 2)
        assert notes.turns[1::2] == ["told"] * (len(notes.turns) // 2)
