"""Bundles of rows over the world of the rules, as a node makes them: for tests of the verifier."""

from rules_world import named_key

from tilth_ledger import bundle
from tilth_ledger.blocks import FINALIZE, Certificate, Header, Justification, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.merkle import Frontier, leaf_hash


def finality(world, root):
    """A final header of the whole ledger, and the certificate of all members."""
    header = Header(
        net=world.genesis.net_bytes,
        epoch=0,
        view=9,
        height=9,
        parent=b"p" * 32,
        parent_view=8,
        skips=Justification(None).skips_digest,
        leaf_count=1,
        size=world.state.size,
        root=root,
        state=world.state.digest,
        time_ms=world.time_ms,
        proposer=0,
    )
    votes = [
        Vote.sign(
            Epoch.first(world.genesis), named_key(f"{name} vote"), place, FINALIZE, 9, header.hash
        )
        for place, name in enumerate(world.organizations)
    ]
    return header, Certificate.of(votes, len(votes))


def bundle_of(world, leaves, wanted, stood=None, forged=None):
    """A node's bundle; its store holds `leaves` and the true tree, or that of `forged` leaves which
    all members signed."""
    nodes, frontier = {}, Frontier()
    for leaf in forged or world.leaves:
        frontier, new = frontier.append(leaf_hash(leaf))
        nodes |= {(level, index): hashed for level, index, hashed in new}
    final = bundle.Finality(*finality(world, frontier.root()))
    return bundle.make(
        world.genesis,
        bundle.Proven(world.state.size, None, final, stood=stood),
        wanted,
        leaves.__getitem__,
        lambda level, index: nodes[level, index],
        world.rows,
    )
