"""Another branch of the ledger, looked for below what two members say of themselves, across the
ends of epochs.

A member says that a block of it is final that is not mine. Whoever asks it for its final blocks at
that height learns whether that is so, if the members of their epoch are those of mine. Where the
branches parted in an earlier epoch they need not be: then the question is asked again further down,
in steps that double, until a certificate is met of members that my ledger lists, or blocks that are
mine.

Invariants:
- Only a certificate of members that my own ledger lists for its epoch halts me, and only when it
  makes a block final where my chain has another one, or none.
- Empty blocks above the end of an epoch conflict with nothing: through them that end became final.
- One question at a time; its steps end at the first block.

Left to others: what a halt is (forks), asking again after silence (catch_up).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilth_ledger import forks
from tilth_ledger.blocks import FINALIZE, Block, Certificate
from tilth_ledger.core import Core
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import Chain


@dataclass(frozen=True, slots=True)
class Question:
    """Which final block a member was asked to show, and how far down to ask next."""

    height: int
    step: int = 1

    def below(self) -> Question:
        """The next one; raises `InvalidInput` where there is nothing below."""
        if self.height <= 1:
            raise InvalidInput(
                "final blocks that nobody whom this ledger lists made final",
                expected="blocks of this ledger, or of a fork of it",
            )
        return Question(max(1, self.height - self.step), 2 * self.step)


def answer(core: Core, question: Question, chain: Chain) -> Question | None:
    """Take the blocks that a member showed; what to ask it next. Halts at a proof of a fork, raises
    `InvalidInput` for what proves nothing."""
    blocks = [Block.decode(data) for data in chain.blocks]
    if not blocks or chain.certificate is None or blocks[0].header.height != question.height:
        return None  # it has none there, or not any more
    hashes = [block.hash for block in blocks]
    check_links(blocks, hashes)
    if chain.certificate.kind is not FINALIZE or chain.certificate.block != hashes[-1]:
        raise InvalidInput("certificate does not make the last block final")
    place = next((i for i, each in enumerate(blocks) if _is_other(core, each, hashes[i])), None)
    if place is None or (place > 0 and _is_void(core, blocks[place])):
        return None
    epoch = _epoch(core, chain.certificate.epoch)
    if epoch is None:
        return question.below()
    try:
        chain.certificate.verify(epoch)
    except InvalidInput:
        if place > 0:
            raise
        return question.below()
    _halt(core, blocks[place:], chain.certificate)
    return None


def examine(core: Core, certificate: Certificate) -> Question | None:
    """Compare a finality certificate of an epoch that is over with my chain; what to ask its sender
    when only the block could tell. Raises `InvalidInput` for one that nobody signed."""
    if certificate.kind is not FINALIZE or core.is_halted:
        return None
    height = _first_from(core, certificate)
    if height is None:
        return None
    header = forks.header(core, height) if height <= core.tree.tip.height else None
    if header is None or header.epoch != certificate.epoch:
        return None if _was_void(core, certificate, height - 1) else Question(max(1, height - 1))
    if header.hash == certificate.block:
        return None
    epoch = _epoch(core, certificate.epoch)
    if epoch is None:
        return None
    certificate.verify(epoch)
    mine = forks.final_above(core, height)
    if mine is not None:
        forks.halt(core, mine, certificate, [(mine, certificate)])
    return None


def check_links(blocks: Sequence[Block], hashes: Sequence[bytes]) -> None:
    """Raise `InvalidInput` unless every block names the one before it."""
    for block, parent in zip(blocks[1:], hashes, strict=False):
        if block.header.parent != parent:
            raise InvalidInput(
                "final blocks do not link", found=f"a gap below height {block.header.height}"
            )


def _is_other(core: Core, block: Block, hashed: bytes) -> bool:
    mine = forks.header(core, block.header.height)
    return mine is not None and mine.hash != hashed


def _is_void(core: Core, block: Block) -> bool:
    """Whether a block stands on the end of an epoch of mine, in that epoch."""
    mine = forks.header(core, block.header.height)
    return mine is not None and mine.epoch > block.header.epoch


def _was_void(core: Core, certificate: Certificate, height: int) -> bool:
    """Whether a certificate is of an empty block above the end of an epoch that I hold, or of that
    end itself."""
    end = forks.header(core, height)
    hashes = {Block.decode(data).hash for data in core.archive.void(height)}
    return certificate.block in hashes | ({end.hash} if end is not None else set())


def _epoch(core: Core, number: int) -> Epoch | None:
    """An epoch as my ledger lists its members: enough to verify what they signed."""
    if number == core.epoch.number:
        return core.epoch
    voters = core.executor.voters(core.tree.tip.state, number)
    return None if voters is None else Epoch.starting(voters, core.epoch.net)


def _first_from(core: Core, certificate: Certificate) -> int | None:
    """The lowest height of my chain that is not below a certificate's view; one above my tip if
    all are. None where my headers do not reach back so far."""
    low, high = 1, core.tree.tip.height + 1
    wanted = (certificate.epoch, certificate.view)
    while low < high:
        middle = (low + high) // 2
        found = forks.header(core, middle)
        if found is None:
            return None
        low, high = (middle + 1, high) if (found.epoch, found.view) < wanted else (low, middle)
    return low


def _halt(core: Core, blocks: Sequence[Block], certificate: Certificate) -> None:
    """Whoever signed on both branches is named by what the first block that differs carries."""
    first = blocks[0].header.height
    mine = forks.final_above(core, min(first, core.tree.tip.height))
    if mine is None:
        return
    proofs = [proof for block in blocks for proof in forks.proofs_of(block)]
    against = [(mine, each) for each in (certificate, *proofs)]
    forks.halt(core, mine, certificate, against)
