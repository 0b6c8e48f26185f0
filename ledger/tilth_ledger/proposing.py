"""What there is to do: whether there is work, on which block a leader would build, and with which
leaves.

Invariants:
- A leader builds on the highest certified block that it executed, and only if it can prove every
  view above that one to be over.
- A leaf is refused by a final state only; on a block that is not final it waits.
- Evidence comes first in a block, and is work of its own.
- Without work nobody proposes, and no timer runs.

Left to others: when to propose, and what to vote (voting).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tilth_ledger.block_tree import Candidate
from tilth_ledger.blocks import NULLIFY, Block, Certificate, Header, Justification
from tilth_ledger.core import Core
from tilth_ledger.docket import MOST_IN_A_BLOCK
from tilth_ledger.errors import TilthError
from tilth_ledger.messages import Barrier, Gossip, Proposal

UNFINAL_BLOCKS = 16


def best_parent(core: Core) -> tuple[Candidate | None, Justification] | None:
    """The highest notarized block that I executed and hold all skip proofs above; the candidate is
    None when it is the final tip. None if I cannot prove a view to be over."""
    tip = core.tree.tip
    skips: list[Certificate] = []
    for view in range(core.view - 1, tip.view, -1):
        if (found := _notarized_in(core, view)) is not None:
            candidate, certificate = found
            return candidate, Justification(certificate, tuple(skips[::-1]))
        nullification = core.table.nullification(view)
        if nullification is None:
            return None
        skips.append(nullification)
    return None, Justification(tip.certificate, tuple(skips[::-1]))


def pending_ids(parent: Candidate | None) -> frozenset[str]:
    """Leaves that stand in a block that is not final yet."""
    return frozenset() if parent is None else parent.pending_ids


def pool_has_work(core: Core) -> bool:
    """Whether a leaf waits that no certified block holds."""
    if not len(core.pool):
        return False
    found = best_parent(core)
    parent = found[0] if found else None
    return not _is_closed(core, parent) and core.pool.has_work(pending_ids(parent))


def tip_due_ms(core: Core) -> int | None:
    """When a certified block that carries leaves and is not final becomes work: a Delta after its
    notarization, later when empty blocks stand on it already. None without such a block."""
    for certificate in core.table.notarized(core.tree.tip.view):
        candidate = core.tree.get(certificate.block)
        if candidate is not None and candidate.executed and not candidate.content:
            return None
        since = core.notarized_ms.get(certificate.view, core.now)
        wait = core.pace.delta_ms
        for _ in range(min(candidate.empties, 16) if candidate is not None else 0):
            wait = wait * 3 // 2
        return since + min(wait, 30_000)
    return None


def has_work(core: Core) -> bool:
    if core.is_halted:
        return False
    due = tip_due_ms(core)
    return (due is not None and core.now >= due) or pool_has_work(core) or _others_wait(core)


def _others_wait(core: Core) -> bool:
    """Whether there is evidence, or a reader's barrier, that no certified block carries."""
    if not len(core.docket) and not len(core.barriers):
        return False
    found = best_parent(core)
    parent = found[0] if found else None
    if _is_closed(core, parent):
        return False
    return bool(_evidence(core, parent) or _barriers(core, parent))


def _barriers(core: Core, parent: Candidate | None) -> tuple[bytes, ...]:
    """Nonces that a block on this parent must list."""
    return core.barriers.body(frozenset() if parent is None else parent.pending_barriers)


def _evidence(core: Core, parent: Candidate | None) -> list[bytes]:
    """Leaves of evidence that a block on this parent must record."""
    state = parent.state if parent is not None else core.tree.tip.state
    waiting = [each for each in core.docket if not core.executor.holds(state, each)]
    return [each.leaf(core.epoch.net.hex()) for each in waiting[:MOST_IN_A_BLOCK]]


def judge_pool(core: Core) -> None:
    """Drop what does not execute, so that nobody waits for a leader to propose it."""
    found = best_parent(core)
    if found is not None and len(core.pool) and not _is_closed(core, found[0]):
        leaves = _body(core, found[0])
        state = found[0].state if found[0] else core.tree.tip.state
        time_ms = max(core.clock, _time_of(core, found[0]) + 1)
        _take_refused(core, core.executor.build(state, leaves, time_ms).refused, found[0])


def build(core: Core, parent: Candidate | None, why: Justification) -> tuple[Block, object]:
    """A block on this parent, and the state after it."""
    tip = core.tree.tip
    state = parent.state if parent is not None else tip.state
    above = parent.block.header if parent is not None else None
    time_ms = max(core.clock, _time_of(core, parent) + 1)
    closed = _is_deep(parent, core) or _is_closed(core, parent)
    leaves = [] if closed else _body(core, parent)
    why = why if closed else replace(why, barriers=_barriers(core, parent))
    built = core.executor.build(state, leaves, time_ms)
    _take_refused(core, built.refused, parent)
    after = built.state
    header = Header(
        net=core.epoch.net,
        epoch=core.epoch.number,
        view=core.view,
        height=(above.height if above else tip.height) + 1,
        parent=parent.hash if parent else tip.hash,
        parent_view=above.view if above else tip.view,
        skips=why.skips_digest,
        leaf_count=len(built.leaves),
        size=after.size,
        root=after.root,
        state=after.digest,
        time_ms=time_ms,
        proposer=core.me,
    )
    return Block(header, tuple(built.leaves), why), after


def _body(core: Core, parent: Candidate | None) -> list[bytes]:
    limits = core.limits
    entries = core.pool.candidates(pending_ids(parent), limits.block_leaves, limits.block_bytes)
    return [*_evidence(core, parent), *entries] if len(core.docket) else entries


def _take_refused(
    core: Core, refused: Iterable[tuple[str, TilthError]], parent: Candidate | None
) -> None:
    """Drop leaves refused on the final state and tell their submitters; let others wait."""
    pairs = list(refused)
    if not pairs:
        return
    if parent is not None:
        core.pool.stall(name for name, _ in pairs)
        return
    core.out.refused += [pair for pair in pairs if core.pool.is_local(pair[0])]
    core.pool.drop(name for name, _ in pairs)


def _notarized_in(core: Core, view: int) -> tuple[Candidate, Certificate] | None:
    """An executed block that is certified in this view, with its certificate."""
    for certificate in core.table.ended(view):
        candidate = core.tree.get(certificate.block)
        if certificate.kind is not NULLIFY and candidate is not None and candidate.executed:
            return candidate, certificate
    return None


def _time_of(core: Core, parent: Candidate | None) -> int:
    return parent.block.header.time_ms if parent is not None else core.tree.tip.time_ms


def _is_deep(parent: Candidate | None, core: Core) -> bool:
    """Whether so much waits for finality that only empty blocks may follow."""
    return parent is not None and parent.block.header.height - core.tree.tip.height > UNFINAL_BLOCKS


def _is_closed(core: Core, parent: Candidate | None) -> bool:
    """Whether the epoch ends below: the next epoch's members decide on whatever waits."""
    return parent is not None and core.tree.ends_epoch(parent.state)


def tip_is_due(core: Core) -> bool:
    due = tip_due_ms(core)
    return due is not None and core.now >= due


def gossip(core: Core, leaves: list[bytes]) -> None:
    """Hand submitted leaves to everybody, but for those that my proposal of this step carries."""
    proposed = set(_proposed_leaves(core))
    rest = tuple(leaf for leaf in leaves if leaf not in proposed)
    if rest:
        core.send(core.others, Gossip(rest))


def ask(core: Core, nonces: list[bytes]) -> None:
    """Tell everybody of my readers' nonces, but for those that my proposal of this step lists."""
    proposals = [s.message for s in core.out.sends if isinstance(s.message, Proposal)]
    listed = {nonce for each in proposals for nonce in each.block.justification.barriers}
    if rest := tuple(nonce for nonce in nonces if nonce not in listed):
        core.send(core.others, Barrier(rest))


def _proposed_leaves(core: Core) -> list[bytes]:
    proposals = [s.message for s in core.out.sends if isinstance(s.message, Proposal)]
    return [leaf for proposal in proposals for leaf in proposal.block.leaves]
