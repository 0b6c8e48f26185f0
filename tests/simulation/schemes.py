"""What a liar does where it hopes that a rule of voting is missing: each scheme comes to nothing
against members that keep the rules, and ends in a fork, or in a block that should not be, against
members that lack one of them (test_mutants).

Like a manner of leading, a scheme makes the messages of one view that the liar leads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from manners import halves, proposal

from tilth_ledger.blocks import NOTARIZE, Block, Justification
from tilth_ledger.effects import Send
from tilth_ledger.messages import Body, Proposal

if TYPE_CHECKING:
    from liar import Liar

FEW = 6


def stands_on_unproven(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """Against a missing "parent certificate": a block on one that nobody certified, be it an honest
    leader's or made up in its name."""
    parents = [
        *liar.unproven_parents(view)[:FEW],
        _in_the_name_of_its_leader(liar, view - 1, clock_ms),
    ]
    parent = liar.random.choice(parents)
    block = None if parent is None else liar.sound(view, clock_ms, parent)
    if parent is None or block is None:
        return []
    shown = proposal(liar, liar.others, _without_parent(block, liar))
    return [shown, Send(liar.others, Body(liar.blocks[parent]))]


def leaves_proofs_out(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """Against a missing "skip proof": a block on an older one than the newest, as if the views
    between had brought nothing."""
    parents = liar.certified_parents(view)
    if not parents:
        return []
    block = liar.sound(view, clock_ms, liar.random.choice(parents[:FEW]))
    return [] if block is None else [proposal(liar, liar.others, _without_skips(block))]


def insists(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """Against a missing "one notarize per view": two blocks, each for half of the others; and the
    other one of them for whoever crashes and comes back (`Liar.greet`)."""
    shown = halves(liar)
    blocks = [liar.sound(view, clock_ms) for _ in shown]
    sends = []
    for to, block, other in zip(shown, blocks, blocks[::-1], strict=True):
        if block is None or other is None:
            return []
        sends.append(proposal(liar, to, block))
        said = Proposal(liar.sign(NOTARIZE, view, other.hash), other)
        liar.kept_back.update((member, (view, said)) for member in to)
    return sends


SCHEMES: dict[str, Callable[[Liar, int, int], list[Send]]] = {
    each.__name__: each for each in (stands_on_unproven, leaves_proofs_out, insists)
}


def _in_the_name_of_its_leader(liar: Liar, view: int, clock_ms: int) -> bytes | None:
    """A block that a leader never made."""
    block = liar.sound(view, clock_ms) if view else None
    if block is None:
        return None
    block = replace(block, header=replace(block.header, proposer=liar.epoch.leader(view)))
    liar.keep(block)
    return block.hash


def _without_parent(block: Block, liar: Liar) -> Block:
    """Without a certificate of its parent, or with one of another block."""
    other = liar.older_certificate(block.header.parent_view)
    certificate = liar.random.choice((None, other))
    return replace(block, justification=replace(block.justification, parent=certificate))


def _without_skips(block: Block) -> Block:
    why = Justification(block.justification.parent, ())
    header = replace(block.header, skips=why.skips_digest)
    return replace(block, header=header, justification=why)
