"""The ways in which a liar leads: each a kind of its own, so that no seed meets one by chance only.

A manner makes the messages of one view that the liar leads, out of what the liar knows. It stays
within what a real one can do: it signs with its own key only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from number_ledger import write_leaf

from tilth_ledger.blocks import NOTARIZE, Block, Justification
from tilth_ledger.effects import Send
from tilth_ledger.messages import Proposal, Votes

if TYPE_CHECKING:
    from liar import Liar

FAR_MS = 3_600_000


def equivocates(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """Two sound blocks, one for either half of the others."""
    shown = halves(liar)
    blocks = [liar.sound(view, clock_ms) for _ in shown]
    return [proposal(liar, to, block) for to, block in zip(shown, blocks, strict=True) if block]


def withholds(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A sound block that at most one member is shown; the others hear of it only. It is not handed
    on to who asks (`Liar.hands_on`)."""
    block = liar.sound(view, clock_ms)
    if block is None:
        return []
    shown = liar.random.choice(liar.others)
    vote = liar.sign(NOTARIZE, view, block.hash)
    rest = tuple(member for member in liar.others if member != shown)
    sends = [Send(rest, Votes((vote,)))] if rest else []
    if liar.random.random() < 0.7:
        sends.append(proposal(liar, (shown,), block))
    return sends


def builds_on_old(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A block on the oldest certified block that it can justify, or on the newest with an older
    certificate, or without the last of its skip proofs."""
    parents = liar.proven_parents(view)
    if not parents:
        return []
    block = liar.sound(view, clock_ms, parents[-1])
    if block is None:
        return []
    if len(parents) == 1:
        block = _badly_justified(liar, block)
    return [proposal(liar, liar.others, block)]


def misstates(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A block with another size, root or state than comes of it."""
    block = liar.misstated(view, clock_ms)
    return [] if block is None else [proposal(liar, liar.others, block)]


def writes_junk(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A block of leaves that are no leaves, whose root is theirs."""
    block = liar.sound(view, clock_ms)
    if block is None:
        return []
    random = liar.random
    leaves = tuple(random.randbytes(random.randint(0, 40)) for _ in range(random.randint(1, 4)))
    root = liar.root_after(block, leaves)
    size = block.header.size - block.header.leaf_count + len(leaves)
    header = replace(block.header, leaf_count=len(leaves), size=size, root=root)
    return [proposal(liar, liar.others, replace(block, header=header, leaves=leaves))]


def garbles(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A good block, and its header with other leaves for one member."""
    block = liar.sound(view, clock_ms)
    if block is None:
        return []
    victim = liar.random.choice(liar.others)
    rest = tuple(member for member in liar.others if member != victim)
    vote = liar.sign(NOTARIZE, view, block.hash)
    other = replace(block, leaves=(write_leaf("garbage"),))
    return [proposal(liar, rest, block), Send((victim,), Proposal(vote, other))]


def misdates(liar: Liar, view: int, clock_ms: int) -> list[Send]:
    """A block whose time is an hour ahead, or not after its parent's."""
    block = liar.sound(view, clock_ms)
    if block is None:
        return []
    before = liar.state_before(block).time_ms
    time_ms = liar.random.choice((clock_ms + FAR_MS, before, max(0, before - 1)))
    block = replace(block, header=replace(block.header, time_ms=time_ms))
    return [proposal(liar, liar.others, block)]


MANNERS: dict[str, Callable[[Liar, int, int], list[Send]]] = {
    each.__name__: each
    for each in (
        equivocates,
        withholds,
        builds_on_old,
        misstates,
        writes_junk,
        garbles,
        misdates,
    )
}


def proposal(liar: Liar, to: tuple[int, ...], block: Block) -> Send:
    liar.keep(block)
    return Send(to, Proposal(liar.sign(NOTARIZE, block.header.view, block.hash), block))


def halves(liar: Liar) -> tuple[tuple[int, ...], tuple[int, ...]]:
    mixed = liar.random.sample(liar.others, len(liar.others))
    middle = (len(mixed) + 1) // 2
    # With one other member it is that one who is told two things.
    return tuple(mixed[:middle]), tuple(mixed[middle:] or mixed)


def _badly_justified(liar: Liar, block: Block) -> Block:
    """With an older certificate for the parent's, or one skip proof less, or proofs of others."""
    why, header = block.justification, block.header
    older = liar.older_certificate(header.parent_view)
    choices = [Justification(older, why.skips)] if older is not None else []
    choices += [Justification(why.parent, why.skips[:-1])] if why.skips else []
    choices += [Justification(None, why.skips)] if why.parent is not None else []
    if not choices:
        return replace(block, header=replace(header, parent_view=header.parent_view + 1))
    why = liar.random.choice(choices)
    return replace(block, header=replace(header, skips=why.skips_digest), justification=why)
