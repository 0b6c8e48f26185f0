"""A fork: two final blocks that exclude each other. What a member does then: nothing more.

It neither votes nor applies nor takes entries in; it keeps both finality certificates durably,
tells everybody of them and of what they prove, and serves what it holds. People decide (rebase).

Invariants:
- A certificate halts only if its block is not on my final chain although it is final: it was
  verified, and my stored headers leave its view to another block, or to none.
- What my chain says of that view (a skip proof, or another block's certificate) shares 2q - n
  members with it at least, and each is accused.
- The record of the fork outlives every restart of the folder.

Left to others: verifying certificates (votes), showing the halt (the node), the way out (rebase).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header
from tilth_ledger.core import Core
from tilth_ledger.effects import Alarm, Finalized
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.evidence import between
from tilth_ledger.journal_records import Forked
from tilth_ledger.messages import Certificates, Status

MOST_STEPS_UP = 1_024

REMEDY = (
    "Stop nothing and delete nothing: reads go on. Compare with the other members which final block"
    " the consortium keeps, then begin anew from it: tilth ledger rebase --help"
)


def refusal() -> Refused:
    """What the submitter of an entry is told."""
    return Refused(
        "halted",
        "the ledger has forked: this node takes no entries",
        found="two final blocks that exclude each other",
        expected="one chain",
        remedy=REMEDY,
    )


def examine(core: Core, certificate: Certificate) -> None:
    """Compare a verified finality certificate of a view up to my final tip with my chain."""
    if certificate.kind is not FINALIZE or certificate.view > core.tree.tip.view:
        return
    if core.forked is not None or certificate.view < core.epoch.first_view:
        return
    block = _at_or_above(core, certificate.view)
    if block is None or block.hash == certificate.block:
        return
    mine = final_above(core, block.header.height)
    if mine is not None:
        said = _said_of(core, block, certificate.view)
        halt(core, mine, certificate, [(each, certificate) for each in (mine, *said)])


def compare(core: Core, blocks: Sequence[Block], certificate: Certificate) -> None:
    """Compare final blocks of another member with mine. They link, and the certificate, which was
    verified, is of the last one."""
    last = blocks[-1].header
    standing = header(core, last.height)
    if standing is not None and standing.hash == certificate.block:
        return
    mine = final_above(core, min(last.height, core.tree.tip.height))
    if mine is None or mine.epoch != certificate.epoch:
        return
    proofs = (proof for block in blocks for proof in proofs_of(block))
    halt(core, mine, certificate, [(mine, each) for each in (certificate, *proofs)])


def differs(core: Core, told: Status) -> bool:
    """Whether a member's final block is not mine of that height, as far as a Status tells."""
    standing = header(core, told.height) if told.height else None
    if standing is None:
        return False
    mine = standing.view, standing.size, standing.root
    return mine != (told.finalized_view, told.size, told.root)


def proofs_of(block: Block) -> tuple[Certificate, ...]:
    """The certificates that a block carries."""
    why = block.justification
    return (*why.skips, *((why.parent,) if why.parent else ()))


def halt(
    core: Core,
    mine: Certificate,
    theirs: Certificate,
    against: Iterable[tuple[Certificate, Certificate]] = (),
) -> None:
    """Keep both certificates and stop; whoever signed both of a pair in `against` is accused."""
    if core.forked is not None:
        return
    core.forked = Forked(mine, theirs)
    core.out.records.append(core.forked)
    alarm(core)
    if not core.follows:
        core.send(core.others, Certificates((mine, theirs)))
    waiting = [name for name in core.pool if core.pool.is_local(name)]
    core.out.refused += [(name, refusal()) for name in waiting]
    core.pool.drop(list(core.pool))
    for one, other in against:
        for evidence in between(one, other):
            core.accuse(evidence)


def alarm(core: Core) -> None:
    """Say what happened and what to run; again at every start."""
    if core.forked is None:
        return
    mine, theirs = core.forked.mine, core.forked.theirs
    core.out.alarms.append(
        Alarm(
            "fork",
            "THE LEDGER HAS FORKED: two blocks are final that exclude each other. This node holds"
            f" {mine.block.hex()[:16]} (view {mine.view}); {theirs.block.hex()[:16]} (view"
            f" {theirs.view}) is final elsewhere. It votes no more and takes no entries. {REMEDY}",
        )
    )


def tell(core: Core, party: int) -> None:
    """Both certificates, to one who may not know."""
    if core.forked is not None and not core.follows:
        core.send((party,), Certificates((core.forked.mine, core.forked.theirs)))


def _at_or_above(core: Core, view: int) -> Block | None:
    """My final block of a view, or the next one above it."""
    low, high = core.epoch.parent_height + 1, core.tree.tip.height
    while low < high:
        middle = (low + high) // 2
        found = header(core, middle)
        if found is None:
            return None
        low, high = (middle + 1, high) if found.view < view else (low, middle)
    return _block(core, low)


def header(core: Core, height: int) -> Header | None:
    """The header of my final block at a height."""
    fresh = _fresh(core, height)
    return core.archive.header(height) if fresh is None else fresh.block.header


def _fresh(core: Core, height: int) -> Finalized | None:
    """What became final in this step: the archive does not hold it yet."""
    fresh = core.out.finalized
    place = height - (core.tree.tip.height - len(fresh) + 1)
    return fresh[place] if 0 <= place < len(fresh) else None


def _block(core: Core, height: int) -> Block | None:
    if (fresh := _fresh(core, height)) is not None:
        return fresh.block
    data = core.archive.block(height)
    if data is None:
        return None
    try:
        block = Block.decode(data)
    except InvalidInput:
        return None
    return block if block.hash == _hash_at(core, height) else None


def _hash_at(core: Core, height: int) -> bytes:
    """The hash of my final block at a height, by what stands on it: damage to a disk in one
    place is no fork."""
    above = header(core, height + 1)
    return core.tree.tip.hash if above is None else above.parent


def final_above(core: Core, height: int) -> Certificate | None:
    """The finality certificate of my block at a height, or of the next one that has its own."""
    for at in range(height, min(core.tree.tip.height, height + MOST_STEPS_UP) + 1):
        if (fresh := _fresh(core, at)) is not None:
            return fresh.certificate
        if (data := core.archive.certificate(at)) is not None:
            return Certificate.decode(data)
    return core.tree.tip.certificate


def _said_of(core: Core, block: Block, view: int) -> list[Certificate]:
    """What my chain proves of a view: its block's certificates, or that it was skipped."""
    if block.header.view > view:
        return [skip for skip in block.justification.skips if skip.view == view]
    above = _block(core, block.header.height + 1)
    parent = None if above is None else above.justification.parent
    return [] if parent is None else [parent]
