"""Learning what was missed, and repeating what may have been lost.

Final blocks are fetched in batches by height, each batch checked backward by hash from a finality
certificate and then executed forward; blocks that are not final yet are fetched one by one by hash.
Status, sent on every connection and on every retry, tells both sides who lacks what.

A batch of final blocks is of one epoch; its last block comes with the void blocks, if any, through
which it became final. So whoever was away goes through every epoch's end with proof of it.

Invariants:
- At most one fetch of final blocks is under way; a batch is bounded in blocks and bytes.
- An answer never asks for an answer: nothing here can echo.
- Nothing is repeated without a reason (`is_stuck`): an idle member is silent.

Left to others: what certificates and blocks mean (voting), when to repeat (pacemaker).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilth_ledger import branches, forks, voting
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, Vote, epoch_of
from tilth_ledger.branches import Question
from tilth_ledger.core import Core
from tilth_ledger.errors import InvalidInput
from tilth_ledger.messages import (
    Barrier,
    Body,
    Certificates,
    Chain,
    FetchBlock,
    FetchChain,
    Gossip,
    Proposal,
    Status,
    Votes,
)

BATCH_BLOCKS = 256
BATCH_BYTES = 1 << 20
MOST_CERTIFICATES = 128
MOST_VOTES = 128
MOST_WINDOW = 4_096
GOSSIP_LEAVES = 512
GOSSIP_BYTES = 256 << 10
MOST_MISSING = 16


@dataclass(slots=True)
class CatchUp:
    """What this member is waiting to be told."""

    asked: int | None = None  # the member asked for final blocks
    question: Question | None = None  # what it was asked to show: it says what is not mine
    claims: dict[int, int] = field(default_factory=dict)  # member -> height that it says it has
    missing: dict[bytes, int] = field(default_factory=dict)  # block -> how often asked
    window: list[bytes] = field(default_factory=list)  # hashes above the tip, not yet proven final


def status(core: Core, to: int, *, asks: bool) -> Status:
    tip = core.tree.tip
    return Status(
        epoch=core.epoch.number,
        view=core.view,
        unproven=_unproven(core),
        finalized_view=tip.view,
        height=tip.height,
        size=tip.state.size,
        root=tip.state.root,
        asks=asks,
        yours=core.table.latest(to),
    )


def greet(core: Core, party: int, *, asks: bool = False) -> None:
    """On every connection: where I stand; to a member also my votes that are not settled, and the
    leaves that wait: it may lead, and nobody else may have told it."""
    core.send((party,), status(core, party, asks=asks and party in core.connected))
    forks.tell(core, party)
    if party in core.connected:
        _repeat_votes(core, (party,))
        _repeat_leaves(core, (party,))
        core.tell_evidence((party,))
        _repeat_barriers(core, (party,))


def hear_status(core: Core, sync: CatchUp, member: int, told: Status) -> None:
    """Confirm my memory, give what the member lacks, ask for what I lack."""
    if forks.differs(core, told):
        ask_for_proof(core, sync, member, Question(told.height))
    if told.epoch != core.epoch.number:
        if told.epoch > core.epoch.number:
            sync.claims[member] = told.height
        elif told.asks:
            core.send((member,), status(core, member, asks=False))
        return
    for vote in told.yours:
        _compare_with_record(core, vote)
    core.confirm(member)
    behind = told.view < core.view or told.unproven < _unproven(core)
    if behind and not core.follows:
        _give_certificates(core, member, told)
    sync.claims[member] = told.height
    if told.asks:
        core.send((member,), status(core, member, asks=False))


def hear_other_epoch(core: Core, sync: CatchUp, party: int, epoch: int) -> None:
    """Votes and blocks of another epoch mean nothing in this one; but one of us is behind."""
    if epoch < core.epoch.number:
        core.send((party,), status(core, party, asks=False))
    elif party in core.connected:
        sync.claims[party] = max(sync.claims.get(party, 0), core.tree.tip.height + 1)


def ask_for_proof(core: Core, sync: CatchUp, member: int, question: Question | None) -> None:
    """A member says that its final block at a height is not mine: let it show that it is final."""
    if question is not None and sync.asked is None and not core.is_halted:
        sync.asked, sync.question = member, question
        core.send((member,), FetchChain(question.height))


def hear_old_certificates(
    core: Core, sync: CatchUp, member: int, certificates: Sequence[Certificate]
) -> None:
    """Certificates of epochs that are over may still show a fork."""
    for certificate in certificates:
        if certificate.epoch < core.epoch.number:
            ask_for_proof(core, sync, member, branches.examine(core, certificate))


def answer_old(core: Core, member: int, view: int) -> None:
    """A message for a view that is over is answered by what ended it, and by what ended mine."""
    if core.tree.tip.certificate is not None and view <= core.tree.tip.view:
        certificates = [core.tree.tip.certificate]
    else:
        certificates = core.table.ended(view)
    certificates += [c for c in core.table.ended(core.view - 1) if c not in certificates]
    if certificates:
        core.send((member,), Certificates(tuple(certificates)))


def give_block(core: Core, member: int, hashed: bytes) -> None:
    """Hand on a block that is not final; to one who asks for a final one, say where I stand."""
    candidate = core.tree.get(hashed)
    if candidate is not None:
        core.send((member,), Body(candidate.block))
    else:
        core.send((member,), status(core, member, asks=False))


def give_chain(core: Core, member: int, height: int) -> None:
    """Final blocks of one epoch from a height on, up to the last one that has a certificate."""
    blocks: list[bytes] = []
    size = 0
    # No number that a peer made up reaches the archive.
    for at in range(height, min(height + BATCH_BLOCKS, core.tree.tip.height + 1)):
        block = core.archive.block(at)
        if block is None or size >= BATCH_BYTES:
            break
        if blocks and epoch_of(block) != epoch_of(blocks[0]):
            break
        blocks.append(block)
        size += len(block)
    for end in range(len(blocks), 0, -1):
        certificate = core.archive.certificate(height + end - 1)
        if certificate is not None:
            final = Certificate.decode(certificate)
            void = core.archive.void(height + end - 1)
            core.send((member,), Chain((*blocks[:end], *void), final))
            return
    core.send((member,), Chain(tuple(blocks), None))


def ask_chain(core: Core, sync: CatchUp) -> None:
    """Ask one who says that it has them for the final blocks that I lack. One who does not answer,
    or has nothing, is not believed again before it says more."""
    if sync.asked is not None or core.lacks_rules:
        return
    height = core.tree.tip.height
    elsewhere = sorted(core.linked - core.connected) if core.follows else ()
    for member in (*sorted(core.connected, key=lambda m: (m - core.me) % 256), *elsewhere):
        if sync.claims.get(member, 0) > height:
            sync.asked = member
            core.send((member,), FetchChain(height + 1 + len(sync.window)))
            return


def lose_peer(sync: CatchUp, member: int) -> None:
    """A connection is gone, and with it any answer."""
    sync.claims.pop(member, None)
    if sync.asked == member:
        sync.asked = sync.question = None
        sync.window = []


def take_body(core: Core, sync: CatchUp, block: Block) -> None:
    """Take a block that I asked for."""
    hashed = block.hash
    if hashed not in sync.missing:
        return
    voting.check_justification(core, block)
    _learn_justification(core, block)
    core.tree.add(block, hashed)  # it stays missing, and counted, if it proves to be garbled


def take_chain(core: Core, sync: CatchUp, member: int, chain: Chain) -> None:
    """Take a batch of final blocks. Raises `InvalidInput` if it proves nothing."""
    if sync.asked != member:
        return
    question, sync.asked, sync.question = sync.question, None, None
    if question is not None:
        ask_for_proof(core, sync, member, branches.answer(core, question, chain))
        return
    claim = sync.claims.pop(member, 0)
    tip = core.tree.tip
    # An answer may come from before the epoch ended here: its blocks of then are void.
    current = [data for data in chain.blocks if epoch_of(data) >= core.epoch.number]
    blocks = [Block.decode(data) for data in current]
    blocks = [block for block in blocks if block.header.height > tip.height + len(sync.window)]
    if not blocks:
        return
    hashes = [block.hash for block in blocks]
    branches.check_links(blocks, hashes)
    if chain.certificate is not None:
        try:
            _check_final(core, chain.certificate, hashes[-1])
        except InvalidInput:
            if not _parted(core, sync, blocks[0]):
                raise
            # Perhaps in an epoch that is over, so that the members are others: ask below.
            ask_for_proof(core, sync, member, Question(tip.height))
            return
    _check_stands_on(core, sync, blocks, chain.certificate)
    if core.is_halted:
        return
    for block, hashed in zip(blocks, hashes, strict=True):
        voting.check_justification(core, block)
        core.tree.add(block, hashed)
        if chain.certificate is None:
            _learn_justification(core, block)
        else:
            _witness_justification(core, block)
    if chain.certificate is None:
        sync.window += hashes if len(sync.window) < MOST_WINDOW else []
    else:
        sync.window = []
        if core.table.learn(chain.certificate):
            core.certified(chain.certificate, formed=False)
    voting.drive(core)
    if not core.garbled.isdisjoint(hashes):
        sync.window = []
        raise InvalidInput(
            "final blocks hold other leaves than their headers state",
            found=f"heights {blocks[0].header.height} to {blocks[-1].header.height}",
            expected="leaves that give each header's root",
        )
    sync.claims[member] = claim


def _parted(core: Core, sync: CatchUp, first: Block) -> bool:
    """Whether final blocks that follow my tip by their height do not stand on it."""
    tip, header = core.tree.tip, first.header
    follows = not sync.window and header.height == tip.height + 1 and tip.height > 0
    return follows and (header.parent != tip.hash or header.epoch != core.epoch.number)


def look_for_missing(core: Core, sync: CatchUp) -> None:
    """Ask for final blocks, and for blocks that are certified or proposed and whose bodies or
    ancestors I lack."""
    if core.is_halted:
        sync.asked, sync.question, sync.missing = None, None, {}
        return
    ask_chain(core, sync)
    needed: set[bytes] = set()
    for certificate in core.table.notarized(core.tree.tip.view):
        _need(core, needed, certificate.block, certificate)
    proposed = core.proposals.get(core.view)
    if proposed is not None:
        _need(core, needed, proposed, None)
    sync.missing = {block: sync.missing.get(block, 0) for block in sorted(needed)}
    for block, attempts in sync.missing.items():
        if attempts == 0 and core.connected:
            sync.missing[block] = 1
            _ask_block(core, block, 0)


def is_stuck(core: Core, sync: CatchUp) -> bool:
    """Whether something is awaited that an answer may bring: blocks, or what the others hold of
    me."""
    if core.is_halted:
        return False
    waiting = sync.asked is not None or bool(sync.missing) or _final_unapplied(core)
    unconfirmed = not core.is_confirmed and bool(core.connected)
    return waiting or unconfirmed


def retry(core: Core, sync: CatchUp) -> None:
    """Say again all that may have been lost."""
    core.alarm_blank()
    core.barriers.lapse(core.me)
    for member in core.others:
        core.send((member,), status(core, member, asks=True))
    _repeat_votes(core, core.others)
    proposed = core.tree.get(core.proposals.get(core.view, b""))
    vote = core.ballot.vote(core.view, NOTARIZE)
    if core.leads and proposed is not None and vote is not None:
        core.send(core.others, Proposal(vote, proposed.block))
    entry = core.table.ended(core.view - 1) or (
        [core.tree.tip.certificate] if core.tree.tip.certificate else []
    )
    if entry and not core.follows:
        core.send(core.others, Certificates(tuple(entry)))
    _repeat_leaves(core, core.others)
    core.tell_evidence(core.others)
    _repeat_barriers(core, core.others)
    for block in sync.missing:
        sync.missing[block] += 1
        _ask_block(core, block, sync.missing[block])
    _ask_again(core, sync)


def _ask_again(core: Core, sync: CatchUp) -> None:
    """Whoever was asked for final blocks did not answer: ask the next."""
    if sync.asked is not None:
        lose_peer(sync, sync.asked)
    elif core.connected and _final_unapplied(core):
        here = sorted(core.connected)
        sync.claims[here[core.pace.attempt % len(here)]] = core.tree.tip.height + 1
    ask_chain(core, sync)


def _final_unapplied(core: Core) -> bool:
    """Whether a finality certificate is known of a block that I cannot apply yet."""
    return next(core.table.finalizations(core.tree.tip.view), None) is not None


def _repeat_votes(core: Core, to: tuple[int, ...]) -> None:
    votes = core.ballot.above(core.tree.tip.view, MOST_VOTES)
    if votes and not core.is_halted:
        core.send(to, Votes(votes))


def _compare_with_record(core: Core, vote: Vote) -> None:
    """A vote of mine that I do not remember means that my record is a restored backup, or that
    another instance of me runs: never vote again with this key."""
    settled = max(core.tree.tip.view, core.promised.view)
    if vote.member != core.me or vote.view <= settled or core.forgotten is not None:
        return
    if core.ballot.vote(vote.view, vote.kind) == vote:
        return
    vote.verify(core.epoch)
    core.remember_forgotten(vote)


def _repeat_leaves(core: Core, to: tuple[int, ...]) -> None:
    if leaves := core.pool.oldest(GOSSIP_LEAVES, GOSSIP_BYTES):
        core.send(to, Gossip(tuple(leaves)))


def _repeat_barriers(core: Core, to: tuple[int, ...]) -> None:
    if nonces := core.barriers.of(core.me):
        core.send(to, Barrier(nonces))


def _unproven(core: Core) -> int:
    """The lowest view above the final tip that I cannot prove to be over."""
    view = core.tree.tip.view + 1
    while view < core.view and core.table.ended(view):
        view += 1
    return view


def _give_certificates(core: Core, member: int, told: Status) -> None:
    """The oldest that it lacks, and the newest that I have."""
    given: list[Certificate] = []
    for view in range(max(told.unproven, core.tree.tip.view), core.view):
        if len(given) >= MOST_CERTIFICATES:
            break
        given += core.table.ended(view)
    newest = core.table.ended(core.view - 1)
    given += [certificate for certificate in newest if certificate not in given]
    if given:
        core.send((member,), Certificates(tuple(given)))


def _learn_justification(core: Core, block: Block) -> None:
    for certificate in forks.proofs_of(block):
        if core.table.learn(certificate):
            core.certified(certificate, formed=False)


def _witness_justification(core: Core, block: Block) -> None:
    """Proofs that a final block needs no more may still speak against a member."""
    for certificate in forks.proofs_of(block):
        core.table.witness(certificate)


def _check_final(core: Core, certificate: Certificate, last: bytes) -> None:
    if certificate.kind is not FINALIZE or certificate.block != last:
        raise InvalidInput("certificate does not make the last block final")
    core.table.verify(certificate)


def _check_stands_on(
    core: Core, sync: CatchUp, blocks: list[Block], certificate: Certificate | None
) -> None:
    """The batch must continue what I have; if it is proven final and does not, there is a fork."""
    first = blocks[0]
    below = sync.window[-1] if sync.window else core.tree.tip.hash
    height = core.tree.tip.height + len(sync.window) + 1
    if first.header.height != height:
        raise InvalidInput("final blocks leave a gap", found=first.header.height, expected=height)
    if first.header.parent == below:
        return
    if certificate is not None and not sync.window:
        forks.compare(core, blocks, certificate)
        if core.is_halted:
            return
    sync.window = []
    raise InvalidInput("final blocks do not stand on what this node holds")


def _need(core: Core, needed: set[bytes], block: bytes, certificate: Certificate | None) -> None:
    if len(needed) >= MOST_MISSING or (certificate is not None and certificate.kind is NULLIFY):
        return
    lacking = core.tree.missing_below(block)
    if lacking is not None:
        needed.add(lacking)


def _ask_block(core: Core, block: bytes, attempt: int) -> None:
    """Ask one member at a time: those whose votes say that they hold it come first."""
    signers = {
        member
        for certificate in core.table.notarized(core.tree.tip.view)
        if certificate.block == block
        for member in certificate.members
    }
    order = sorted(core.connected, key=lambda m: (m not in signers, (m + block[0]) % 256))
    if order:
        core.send((order[attempt % len(order)],), FetchBlock(block))
