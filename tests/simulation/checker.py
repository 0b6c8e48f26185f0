"""The invariants, checked after every step of every node (ledger/README.md).

The checker sees everything: what leaves a node, what a node makes final, over all crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from number_ledger import NumberExecutor, Numbers, write_leaf
from places import is_member

from tilth_ledger import forks
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, Vote
from tilth_ledger.effects import Effects
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Name, conflict
from tilth_ledger.genesis import Genesis
from tilth_ledger.journal_records import (
    Accused,
    Held,
    OwnVote,
    Promised,
    Proven,
    decode_record,
)
from tilth_ledger.leaf import leaf_id
from tilth_ledger.messages import (
    Accusation,
    Barrier,
    Certificates,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Proposal,
    Status,
    Votes,
)
from tilth_ledger.votes import KEPT_VIEWS

MOST_JOURNAL_BYTES = 4 << 20
OF_FOLLOWERS = (Accusation, Barrier, Gossip, Status, FetchBlock, FetchChain)


View = tuple[int, int]  # epoch, view


class Violation(AssertionError):
    """An invariant does not hold."""


class Checker:
    """What all honest members together may and may not do."""

    def __init__(
        self,
        genesis: Genesis,
        honest: frozenset[int],
        fragile: frozenset[int] = frozenset(),
        *,
        strict: bool = False,
    ) -> None:
        """`honest` holds members and followers alike; `fragile` those of them whose disks forget:
        what they sign is as good as a traitor's, what they hold is not."""
        self.genesis = genesis
        self.epochs = [Epoch.first(genesis)]  # as the final chain gives them
        self.honest = honest
        self.chain: list[Block] = []  # by height, from 1
        self.state = Numbers()  # after the chain, executed here
        self.hashes: list[bytes] = [genesis.net_bytes]
        self.ids: dict[str, int] = {}
        # By (epoch, view): votes of two epochs never meet.
        self.final_views: dict[View, bytes] = {}
        self.nullified: set[View] = set()
        self.notarized: dict[View, bytes] = {}
        self.certified_final: dict[View, bytes] = {}
        self.signed: dict[tuple[int, int, int], dict[tuple[int, bytes], Vote]] = {}
        self.acknowledged: dict[str, int] = {}
        self.told = 0  # leaves that anybody was told of: the newest, and all before it
        self.reads: dict[bytes, int] = {}  # how many that were when they were asked
        self.executor = NumberExecutor(genesis)
        self.accused: set[Name] = set()  # pairs that an honest node saw
        self.fragile = fragile
        self.roots: dict[int, bytes] = {}  # by size, of final blocks
        self.cosigned: dict[int, int] = {}  # size of the newest head that a member signed
        self.seen: dict[int, int] = {}  # largest size that a node's clients read
        self.by = -1  # whose step it is: its own votes of it have not left yet
        self.strict = strict  # looks into every journal as well
        self.written: dict[int, set[object]] = {}  # blocks, proofs, votes on a member's disk

    def released(self, member: int, message: Message, epoch: Epoch) -> None:
        """A message left a node that is in this epoch."""
        self.by = member
        follows = not is_member(epoch, member)
        if member not in self.honest:
            if not follows:  # what a follower makes up proves nothing
                self._heard_of_liar(message)
            return
        if follows and epoch.number == 0 and not isinstance(message, OF_FOLLOWERS):
            raise Violation(f"follower {member} says {type(message).__name__}")
        match message:
            case Votes(votes):
                for vote in votes:
                    self._released_vote(member, vote)
            case Proposal(vote, block):
                self._released_vote(member, vote)
                for certificate in forks.proofs_of(block):
                    self._certificate(certificate)
            case Certificates(certificates):
                for certificate in certificates:
                    self._certificate(certificate)
            case Status():
                if message.height >= len(self.hashes):
                    raise Violation(f"member {member} claims height {message.height}")

    def _heard_of_liar(self, message: Message) -> None:
        """What a traitor says counts as far as its signatures hold: others may act on it."""
        match message:
            case Votes(votes):
                self._heard_votes(votes)
            case Proposal(vote, block):
                self._heard_votes((vote,))
                self._heard_certificates(forks.proofs_of(block))
            case Certificates(certificates):
                self._heard_certificates(certificates)

    def _heard_votes(self, votes: Sequence[Vote]) -> None:
        for vote in votes:
            if self._number(vote.epoch, vote.member) in self.honest:
                with suppress(InvalidInput):
                    vote.verify(self.epochs[vote.epoch])
                    self._vote(vote)

    def _heard_certificates(self, certificates: Sequence[Certificate]) -> None:
        for certificate in certificates:
            with suppress(InvalidInput, IndexError):
                certificate.verify(self.epochs[certificate.epoch])
                self._certificate(certificate)

    def _released_vote(self, member: int, vote: Vote) -> None:
        """F1, F2, F3: what a vote promises was on the disk before it left."""
        self._vote(vote)
        written = self.written.get(member)
        if written is None or member in self.fragile or not self._is_open(vote):
            return
        if (vote.kind, vote.epoch, vote.view, vote.block) not in written:
            raise Violation(f"member {member} sent a {vote.kind.name} vote before it was durable")

    def _is_open(self, vote: Vote) -> bool:
        """Whether a vote is of a view above what is final: below, the store's transaction says
        more than a journal."""
        tip = self.chain[-1].header if self.chain else None
        return tip is None or (vote.epoch, vote.view) > (tip.epoch, tip.view)

    def durable(self, member: int, effects: Effects, epoch: Epoch) -> None:
        """A node wrote its journal."""
        if member not in self.honest:
            return
        if is_member(epoch, member):
            if self.strict:
                self._written(member, effects.compact or effects.persist)
            return
        for body in (*effects.persist, *(effects.compact or ())):
            if not isinstance(decode_record(body), Accused | Promised):
                raise Violation(f"follower {member} keeps a journal of votes")

    def found(self, member: int, bodies: Sequence[bytes]) -> None:
        """A member starts from what is in its journal, also what a failed write left there."""
        if self.strict and member in self.honest:
            self.written[member] = set()
            self._written(member, bodies)

    def _written(self, member: int, bodies: Sequence[bytes]) -> None:
        """F1, F2: a block is on the disk before, or with, a vote for it; the proof that it is
        notarized before a vote to finalize it."""
        written = self.written.setdefault(member, set())
        votes = []
        for record in map(decode_record, bodies):
            match record:
                case Held(block):
                    written.add(block.hash)
                case Proven(proof):
                    written.add((proof.epoch, proof.view, proof.block))
                case OwnVote(vote):
                    votes.append(vote)
        for vote in votes:
            named, where = vote.kind is not NULLIFY, (vote.epoch, vote.view, vote.block)
            if named and vote.block not in written:
                raise Violation(f"member {member} voted for a block that is not on its disk")
            if vote.kind is FINALIZE and where not in written:
                raise Violation(f"member {member} finalized without proof of notarization")
            written.add((vote.kind, *where))

    def finalized(self, member: int, effects: Effects, first_height: int) -> None:
        """A node applied final blocks."""
        self.by = member
        for offset, final in enumerate(effects.finalized):
            height = first_height + offset
            self._final_block(height, final.block)
        last = effects.finalized[-1]
        top = self._proven(last.block, last.void)
        if last.certificate.kind is not FINALIZE or last.certificate.block != top.hash:
            raise Violation("the last final block has no finality certificate of its own")
        self._certificate(last.certificate)

    def _proven(self, block: Block, void: tuple[Block, ...]) -> Block:
        """The block that a finality certificate must be of: above an epoch's end, a void one."""
        if void and self.epochs[block.header.epoch + 1].parent != block.hash:
            raise Violation("void blocks stand above a block that ends no epoch")
        for above in void:
            stated = (above.header.parent, above.header.epoch, above.leaves)
            if stated != (block.hash, block.header.epoch, ()):
                raise Violation("a void block is not an empty one of its epoch")
            block = above
        return block

    def memory(self, member: int, held: dict[str, int], view: int, journal: int) -> None:
        """What a node keeps is bounded: in memory, and in its journal."""
        if journal > MOST_JOURNAL_BYTES:
            raise Violation(f"member {member} has a journal of {journal} bytes at view {view}")
        if held["views"] > KEPT_VIEWS + 64:
            raise Violation(f"member {member} keeps {held['views']} views")
        if held["blocks"] > 64 + 2 * KEPT_VIEWS:
            raise Violation(f"member {member} keeps {held['blocks']} blocks at view {view}")

    def acknowledge(self, name: str, index: int) -> None:
        """A client was told that its leaf is final, and where it stands."""
        before = self.acknowledged.setdefault(name, index)
        if before != index or self.ids.get(name) != index:
            raise Violation(f"leaf {name} was acknowledged at {before}, stands at {index}")
        self.told = max(self.told, index + 1)

    def asked(self, nonce: bytes) -> None:
        """A reader asks for a barrier: all that any client was told must be in what it reads."""
        self.reads[nonce] = self.told

    def answered(self, member: int, block: Block) -> list[bytes]:
        """A node applied a block: the readers whose nonces it lists read its state."""
        answered = [n for n in block.justification.barriers if n in self.reads]
        for nonce in answered:
            if block.header.size < self.reads[nonce]:
                raise Violation(
                    f"member {member} reads at size {block.header.size} what was asked for"
                    f" when {self.reads[nonce]} leaves were acknowledged"
                )
        return answered

    def cosigns(self, member: int, size: int, root: bytes) -> None:
        """A cosignature left a node: of a final block's tree, and of more leaves than before. So
        all cosigned heads are of one history."""
        if self.roots.get(size) != root:
            raise Violation(f"member {member} cosigned size {size}, which no final block has")
        if size <= self.cosigned.get(member, -1) and member not in self.fragile:
            raise Violation(f"member {member} cosigned size {size} after {self.cosigned[member]}")
        self.cosigned[member] = size

    def read(self, member: int, state: Numbers) -> None:
        """A client reads what a node holds: a prefix of what is final, never less than before."""
        if state.size and self.roots.get(state.size) != state.root:
            raise Violation(f"member {member} shows a tree of size {state.size} that is not final")
        if state.size < self.seen.get(member, 0) and member not in self.fragile:
            raise Violation(f"what member {member} shows shrank to {state.size}")
        self.seen[member] = state.size

    def whole_chain(self, member: int, blocks: list[Block]) -> None:
        """A node's stored blocks are those of all, byte by byte."""
        for height, (stored, block) in enumerate(zip(blocks, self.chain, strict=True), 1):
            if stored.hash != self.hashes[height] or stored.leaves != block.leaves:
                raise Violation(f"member {member} stores other bytes at height {height}")

    def same_chain(self, member: int, blocks: list[Block]) -> None:
        """A node's stored chain, as it finds it at a restart."""
        for height, block in enumerate(blocks[-3:], len(blocks) - len(blocks[-3:]) + 1):
            if block.hash != self.hashes[height]:
                raise Violation(f"member {member} stores another block at height {height}")

    def finish(self, submitted: dict[str, str], state: Numbers) -> None:
        """All is healed and still: every leaf is final, or cannot be, and so is all evidence."""
        taken = state.taken
        if missing := self.accused - state.evidence:
            raise Violation(f"evidence was seen and is not recorded: {sorted(missing)[:3]}")
        honest = self.honest - self.fragile
        if unjust := {name for name in state.evidence if self._number(*name[::2]) in honest}:
            raise Violation(f"honest members stand accused: {sorted(unjust)[:3]}")
        for text, name in submitted.items():
            if name in self.ids or cannot_be(text, taken) or "epoch:" in text:
                continue
            raise Violation(f"leaf {text!r} is neither final nor refused")
        for name in self.acknowledged:
            if name not in self.ids:
                raise Violation(f"acknowledged leaf {name} is gone")

    def may_lie(self, name: Name) -> bool:
        """Whether evidence is against a traitor, or one whose disk forgets."""
        return self._number(*name[::2]) not in self.honest - self.fragile

    def _number(self, epoch: int, member: int) -> int:
        """The number of the organization that a member of an epoch is; -1 for what never was."""
        if epoch >= len(self.epochs) or member >= len(self.epochs[epoch].members):
            return -1
        return int(self.epochs[epoch].members[member].organization[1:])

    def _final_block(self, height: int, block: Block) -> None:
        if height < len(self.hashes):
            if block.hash != self.hashes[height]:
                raise Violation(f"two blocks are final at height {height}")
            return
        header = block.header
        if height != len(self.hashes) or header.height != height:
            raise Violation(f"final block leaves a gap at height {height}")
        if header.parent != self.hashes[-1]:
            raise Violation(f"final block at height {height} does not link")
        if header.epoch != self.epochs[-1].number:
            raise Violation(f"final block at height {height} is of epoch {header.epoch}")
        block.justification.verify(header, self.epochs[-1])
        self._check_outcome(block)
        self.hashes.append(block.hash)
        self.chain.append(block)
        self.final_views[header.epoch, header.view] = block.hash
        if self.roots.setdefault(header.size, header.root) != header.root:
            raise Violation(f"two final blocks of size {header.size} have different roots")
        for index, leaf in enumerate(block.leaves, header.size - header.leaf_count):
            name = leaf_id(leaf)
            if name in self.ids:
                raise Violation(f"leaf {name} is final twice")
            self.ids[name] = index
        self._check_view((header.epoch, header.view))
        if self.state.epoch != header.epoch:
            self._begin_epoch(block)

    def _begin_epoch(self, block: Block) -> None:
        header, net = block.header, self.genesis.net_bytes
        membership = self.executor.membership(self.state)
        if membership.number != header.epoch + 1:
            raise Violation(f"epoch {membership.number} follows epoch {header.epoch}")
        place = block.hash, header.view, header.height
        self.epochs.append(Epoch.starting(membership, net, *place))

    def _check_outcome(self, block: Block) -> None:
        """A final block's header states what comes of executing it."""
        header = block.header
        self.state = after = self.executor.execute(self.state, block.leaves, header.time_ms)
        stated = (header.size, header.root, header.state)
        if stated != (after.size, after.root, after.digest):
            raise Violation(f"final block at height {header.height} states what is not so")

    def _vote(self, vote: Vote) -> None:
        number = self._number(vote.epoch, vote.member)
        if number not in self.honest or number in self.fragile:
            return
        mine = self.signed.setdefault((number, vote.epoch, vote.view), {})
        key = (vote.kind, vote.block)
        if key in mine:
            return
        for other in mine.values():
            if conflict(other, vote):
                raise Violation(
                    f"member {number} signed {other.kind.name} and {vote.kind.name} of view"
                    f" {vote.view} that exclude each other"
                )
        mine[key] = vote

    def _certificate(self, certificate: Certificate) -> None:
        if certificate.epoch >= len(self.epochs):
            raise Violation(f"a certificate of epoch {certificate.epoch}, which never began")
        view, block = (certificate.epoch, certificate.view), certificate.block
        known = {NULLIFY: None, NOTARIZE: self.notarized, FINALIZE: self.certified_final}
        table = known[certificate.kind]
        if table is None:
            if view in self.nullified:
                return
            self.nullified.add(view)
        else:
            if table.get(view) == block:
                return
            if view in table:
                raise Violation(f"two {certificate.kind.name} certificates in view {view}")
            table[view] = block
        certificate.verify(self.epochs[certificate.epoch])
        for vote in certificate.votes():
            self._vote(vote)
        if certificate.kind is FINALIZE:
            self._check_notarized(certificate)
        self._check_view(view)

    def _check_notarized(self, final: Certificate) -> None:
        """What is final was notarized: enough members signed that, traitors or not."""
        said = (NOTARIZE, final.block)
        signers = 0
        for each in self.epochs[final.epoch].members:
            number = int(each.organization[1:])
            unseen = number not in self.honest - self.fragile or number == self.by
            signers += unseen or said in self.signed.get((number, final.epoch, final.view), {})
        if signers < self.epochs[final.epoch].q:
            raise Violation(f"view {final.view} has a finality certificate, no notarization")

    def _check_view(self, view: View) -> None:
        if view in self.certified_final and view in self.nullified:
            raise Violation(f"view {view} has a finality certificate and a nullification")
        final = self.certified_final.get(view) or self.final_views.get(view)
        notarized = self.notarized.get(view)
        if final is not None and notarized is not None and notarized != final:
            raise Violation(f"view {view} has a final block that is not its notarized one")


def cannot_be(text: str, taken: frozenset[str]) -> bool:
    for word in text.split():
        kind, _, what = word.partition(":")
        if kind == "bad" or (kind == "claim" and what in taken):
            return True
        if kind == "needs" and what not in taken:
            return True
    return False


def name_of(text: str) -> str:
    return leaf_id(write_leaf(text))
