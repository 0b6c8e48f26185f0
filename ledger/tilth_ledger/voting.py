"""The protocol's moves: propose, notarize, finalize, nullify, and making blocks final (V1 to V5).

Each function looks at the core and makes at most what the rules allow now; it returns whether it
changed anything. `drive` repeats them until nothing changes, so that one step carries a member as
far as its knowledge allows: a voter's notarize and finalize, and all certificates between, are
one record in the journal and one message.

Left to others: how knowledge arrives (replica), repeating what was lost (catch_up).
"""

from __future__ import annotations

from collections.abc import Callable

from tilth_ledger import forks, proposing
from tilth_ledger.block_tree import Candidate
from tilth_ledger.blocks import (
    FINALIZE,
    MAX_SKIPS,
    NOTARIZE,
    NULLIFY,
    Block,
    Certificate,
)
from tilth_ledger.core import Core
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.messages import Proposal

MOST_AHEAD_MS = 10_000
MOST_BEHIND_MS = 600_000  # else a leader could record today what expired while nothing happened


def drive(core: Core) -> None:
    """Do all that can be done."""
    while not core.is_halted and not core.ended:
        for move in MOVES:
            if move(core):
                break
        else:
            return


def consider(core: Core, proposal: Proposal) -> None:
    """Take in a leader's proposal (V1, but for executing it). Raises `InvalidInput` when it is not
    the leader's; a bad proposal that the leader signed makes its view invalid (V3)."""
    header, vote = proposal.block.header, proposal.vote
    if header.view <= core.tree.tip.view:
        return
    hashed = header.hash
    _check_leader(core, proposal, hashed)
    try:
        check_justification(core, proposal.block)
    except InvalidInput as error:
        if header.view == core.view:
            core.invalid.add(header.view)
        raise InvalidInput(
            "the leader's proposal is not justified", found=f"view {header.view}: {error}"
        ) from None
    why = proposal.block.justification
    for certificate in (*why.skips, *((why.parent,) if why.parent else ())):
        if core.table.learn(certificate):
            core.certified(certificate, formed=False)
    core.certified(core.table.count(vote), formed=True)
    first = header.view == core.view and core.proposals.setdefault(header.view, hashed) == hashed
    if first or core.table.is_certified(header.view, hashed):
        core.tree.add(proposal.block, hashed)


def check_justification(core: Core, block: Block) -> None:
    """Raise `InvalidInput` unless parent and skipped views are proven."""
    header, why = block.header, block.justification
    if header.net != core.epoch.net or header.epoch != core.epoch.number:
        raise InvalidInput("block is of another ledger or epoch", found=header.net.hex()[:16])
    if header.proposer != core.epoch.leader(header.view):
        raise InvalidInput("block is not of its view's leader", found=f"member {header.proposer}")
    if not core.rules.parent_is_certified(header, why, core.epoch):
        raise InvalidInput("block does not certify its parent", found=header.parent.hex()[:16])
    if not core.rules.gaps_are_skipped(header, why):
        raise InvalidInput(
            "block does not prove every view that it skips",
            found=[skip.view for skip in why.skips[:8]],
            expected=f"views {header.parent_view + 1} to {header.view - 1}",
        )
    if header.parent_view >= header.view or why.skips_digest != header.skips:
        raise InvalidInput("block's header does not bind its skip proofs")
    for certificate in (*why.skips, *((why.parent,) if why.parent else ())):
        core.table.verify(certificate)


def is_hopeless(core: Core) -> bool:
    """Whether this view's leader proposed what I cannot accept, or gave the view up itself."""
    leader = core.epoch.leader(core.view)
    return core.view in core.invalid or core.table.voted(core.view, NULLIFY, leader) is not None


def _execute(core: Core) -> bool:
    if core.lacks_rules or not core.tree.execute_ready():
        return False
    for hashed in core.tree.drop_garbled():
        core.garbled.add(hashed)
        if core.proposals.get(core.view) == hashed:
            core.invalid.add(core.view)
    return True


def _compare_late(core: Core) -> bool:
    """A finality certificate that came late must be of my final chain."""
    late, core.late = core.late, []
    for certificate in late:
        forks.examine(core, certificate)
    return bool(late)


def _finalize_blocks(core: Core) -> bool:
    """V5: q finalize votes make a block and its ancestors final."""
    for certificate in core.table.finalizations(core.tree.tip.view):
        path = core.tree.path_to(certificate.block)
        if path:
            core.finalize(path, certificate)
            return True
        _check_diverged(core, certificate)
    return False


def _vote_finalize(core: Core) -> bool:
    """V2: finalize what q members notarized, once I executed it (F2)."""
    if not core.may_vote:
        return False
    changed = False
    for certificate in list(core.table.notarized(core.tree.tip.view)):
        candidate = core.tree.get(certificate.block)
        if candidate is not None and candidate.failure:
            _report_divergence(core, candidate)
        elif candidate is not None and candidate.executed and _may_finalize(core, certificate):
            core.hold(candidate)
            core.cast(FINALIZE, certificate.view, certificate.block)
            changed = True
    return changed


def _may_finalize(core: Core, certificate: Certificate) -> bool:
    view, block = certificate.view, certificate.block
    if certificate.kind is not NOTARIZE or core.ballot.vote(view, FINALIZE) is not None:
        return False
    if core.table.finalization(view) is not None:
        return False
    unnullified = core.rules.finalizes_unnullified(core.ballot, view)
    return unnullified and core.rules.finalizes_what_it_notarized(core.ballot, view, block)


def _vote_notarize(core: Core) -> bool:
    """V1: notarize the leader's block, once per view."""
    hashed = core.proposals.get(core.view)
    candidate = core.tree.get(hashed) if hashed else None
    if candidate is None or not core.may_vote or core.view in core.invalid:
        return False
    ahead = candidate.block.header.time_ms - core.clock
    if candidate.failure or not -MOST_BEHIND_MS <= ahead <= MOST_AHEAD_MS:
        if not candidate.failure:
            name = core.epoch.members[candidate.block.header.proposer].organization
            off = f"{abs(ahead)} ms {'ahead of' if ahead > 0 else 'behind'} this node's clock"
            core.alarm("clock", f"{name}'s proposal is {off}")
        core.invalid.add(core.view)
        return True
    if not candidate.executed or core.ballot.block(core.view, NOTARIZE) == candidate.hash:
        return False
    if not core.rules.notarizes_once(core.ballot, core.view, candidate.hash):
        return False
    core.hold(candidate)
    core.cast(NOTARIZE, core.view, candidate.hash)
    return True


def _propose(core: Core) -> bool:
    """The leader proposes at once when there is work."""
    if not core.leads or not core.may_vote or core.ballot.vote(core.view, NOTARIZE) is not None:
        return False
    if core.view in core.proposals or not proposing.has_work(core):
        return False
    found = proposing.best_parent(core)
    if found is None:
        return False
    parent, why = found
    before = core.pool.version
    block, state = proposing.build(core, parent, why)
    empty = not block.leaves and not block.justification.barriers
    if empty and not proposing.tip_is_due(core):
        return core.pool.version != before
    hashed = block.hash
    candidate = core.tree.put_built(block, hashed, state)
    core.proposals[core.view] = hashed
    core.hold(candidate)
    others, view = core.others, core.view
    vote = core.cast(NOTARIZE, view, hashed)
    core.out.votes.remove(vote)
    core.send(others, Proposal(vote, block))
    return True


def _nullify(core: Core) -> bool:
    """V3: give the view up on timeout, invalid proposal, or when its leader does."""
    view = core.view
    if not core.may_vote or core.ballot.vote(view, NULLIFY) is not None:
        return False
    if not core.rules.nullifies_unfinalized(core.ballot, view) or not _gives_up(core):
        return False
    if view - _last_certified(core) > MAX_SKIPS:
        return False  # the next block could not prove so many views: wait for this one's leader
    core.cast(NULLIFY, view)
    return True


MOVES: tuple[Callable[[Core], bool], ...] = (
    _compare_late,
    _execute,
    _finalize_blocks,
    _vote_finalize,
    _vote_notarize,
    _propose,
    _nullify,
)


def _gives_up(core: Core) -> bool:
    if is_hopeless(core):
        return core.now >= core.pace.haste_ms()
    if not _is_late(core):
        return False
    proposing.judge_pool(core)
    return proposing.has_work(core)


def _last_certified(core: Core) -> int:
    newest = next(core.table.notarized(core.tree.tip.view), None)
    return core.tree.tip.view if newest is None else newest.view


def _is_late(core: Core) -> bool:
    advance = core.pace.advance_ms()
    if advance is None or not proposing.has_work(core):
        return False
    leader = core.pace.leader_ms(core.epoch.leader(core.view))
    waits = core.ballot.vote(core.view, NOTARIZE) is None
    return core.now >= advance or (waits and leader is not None and core.now >= leader)


def _check_leader(core: Core, proposal: Proposal, hashed: bytes) -> None:
    header, vote = proposal.block.header, proposal.vote
    leader = core.epoch.leader(header.view)
    stated = (vote.kind, vote.view, vote.block, vote.member)
    if stated != (NOTARIZE, header.view, hashed, leader):
        raise InvalidInput(
            "proposal is not its leader's", found=f"a vote of member {vote.member}", expected=leader
        )
    if core.table.voted(header.view, NOTARIZE, leader) != vote:
        vote.verify(core.epoch)


def _report_divergence(core: Core, candidate: Candidate) -> None:
    """The members notarized what I find wrong: not final yet, but nothing to be silent about."""
    if not candidate.reported:
        candidate.reported = True
        core.alarm("diverged", f"cannot execute the notarized block: {candidate.failure}")


def _check_diverged(core: Core, certificate: Certificate) -> None:
    """A final block that I cannot execute: my state machine is not the others'."""
    if line := core.tree.beside_tip(certificate.block):
        forks.compare(core, line, certificate)
        return
    candidate = core.tree.get(certificate.block)
    if candidate is not None and candidate.failure:
        core.halt(
            Fatal(
                "this node cannot execute a block that the members made final",
                found=candidate.failure,
                expected="the outcome that its header states",
                remedy="Its ledger.db may be damaged: tilth node scrub FOLDER says so. Else compare"
                " versions of the software with the other members.",
            )
        )
