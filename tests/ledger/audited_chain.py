"""A ledger with real blocks, votes and tree nodes over the world of the rules, for audits.

Every `record` of the world makes one block, as its members would: justified by the notarization of
its parent, by the leader of its view, with the finality certificate of two of three. `skip` leaves
views out, proven by nullifications.
"""

from dataclasses import replace

from rules_world import World, named_key

from tilth_ledger.audit import Audit, StoredBlock
from tilth_ledger.audit_rows import Stored
from tilth_ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Block,
    Certificate,
    Header,
    Justification,
    Vote,
)
from tilth_ledger.epochs import Epoch

VOTERS = (0, 2)


class Chain(World):
    """The world, and what a node stores of it."""

    def __init__(self, **choices):
        self.blocks, self.nodes, self.states, self.skip = [], [], [], 0
        self.epochs = []  # after genesis'
        self.vote_labels = {}  # of organizations that rotated
        super().__init__(**choices)

    def certificate(self, kind, view, block):
        votes, epoch = [], self.in_force()
        for member in VOTERS if epoch.number == 0 else range(epoch.q):
            name = epoch.members[member].organization
            labels = (f"{name} vote", self.vote_labels.get(name, ""))
            listed = epoch.members[member].keys.vote
            [key] = [key for key in map(named_key, labels) if key.public == listed]
            votes.append(Vote.sign(epoch, key, member, kind, view, block))
        return Certificate.of(votes, len(epoch.members))

    def in_force(self):
        return self.epochs[-1] if self.epochs else Epoch.first(self.genesis)

    def record(self, *leaves):
        built = super().record(*leaves)
        self.add_block(built.leaves, self.state, self.time_ms)
        return built

    def add_block(self, leaves, state, time_ms, /, **changed):
        """The next block, with fields of its header as given: voted for, whatever it says."""
        parent = self.blocks[-1][0] if self.blocks else None
        view = parent.header.view if parent else 0
        skips = [
            self.certificate(NULLIFY, v, bytes(32)) for v in range(view + 1, view + 1 + self.skip)
        ]
        epoch = self.in_force()
        starts = parent is None or parent.hash == epoch.parent
        proof = None if starts else self.certificate(NOTARIZE, view, parent.hash)
        why = Justification(proof, tuple(skips))
        new, self.skip = view + 1 + self.skip, 0
        header = Header(
            net=self.genesis.net_bytes,
            epoch=epoch.number,
            view=new,
            height=len(self.blocks) + 1,
            parent=parent.hash if parent else self.genesis.net_bytes,
            parent_view=view,
            skips=why.skips_digest,
            leaf_count=len(leaves),
            size=state.size,
            root=state.root,
            state=state.digest,
            time_ms=time_ms,
            proposer=epoch.leader(new),
        )
        header = replace(header, **changed)
        block = Block(header, tuple(leaves), why)
        self.blocks.append((block, self.certificate(FINALIZE, new, block.hash)))
        self.states.append(state)
        self.nodes.append(tuple(state.new_nodes))
        if state.epoch != epoch.number:
            membership = self.proposer[0].membership(state)
            place = header.hash, header.view, header.height
            self.epochs.append(Epoch.starting(membership, epoch.net, *place))

    def stored(self):
        """The blocks as a copy holds them."""
        return [
            StoredBlock(
                block.header.height,
                block.header.size,
                block.header.encode(),
                block.justification.encode(),
                block.leaves,
                certificate.encode(),
                nodes,
            )
            for (block, certificate), nodes in zip(self.blocks, self.nodes, strict=True)
        ]

    def beside(self, **changed):
        size = self.state.size
        count = 2 * size - size.bit_count()
        rows = sorted(self.rows.items())
        return replace(Stored(rows, self.state.accumulator, size, count), **changed)

    def audit(self, blocks=None, beside=None):
        auditor = Audit(self.genesis)
        for _ in auditor.follow(self.stored() if blocks is None else blocks):
            pass
        return auditor.finish(self.beside() if beside is None else beside)
