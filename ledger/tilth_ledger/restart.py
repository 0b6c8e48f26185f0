"""From what a crash left to a member that goes on: the final tip, and the journal's records.

Invariants:
- Every own vote of the journal is remembered, counted again and sent again: a vote counted nowhere
  stalls everybody.
- The view only moves forward: a certificate that ended a view was in the journal before any vote of
  the next one.
- Records of an epoch that is over are void; those of one that the store does not reach yet are kept
  until it does.
- A member whose journal is empty beside a ledger that is not (a new disk and a snapshot), is gone,
  or was damaged at its end can't know what it signed: it votes when all others have shown what they
  hold of it, or with another key.
- A store that holds less than was promised lost data: no vote until the loss is repaired from
  peers (F8).

Left to others: reading files (node), asking the others what they hold (catch_up).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilth_ledger import forks
from tilth_ledger.block_tree import Tip
from tilth_ledger.blocks import NOTARIZE, NULLIFY, Block, Certificate, Header, Vote, vote_bytes
from tilth_ledger.core import Core
from tilth_ledger.effects import Executor
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.journal_records import (
    FRAME_BYTES,
    Accused,
    Blank,
    Forgotten,
    Forked,
    Held,
    OwnVote,
    Promised,
    Proven,
    Record,
    decode_record,
)
from tilth_ledger.keys import SigningKey


@dataclass(frozen=True, slots=True)
class Restored:
    """What the shell read from its disk.

    `state` is the executor's state of the final tip, or of genesis; `block` and `certificate` are
    the tip's (None at genesis); `journal` are the bodies that `read_journal` returned. `start` is
    the header of the block that ended the epoch before (None in the first epoch). `doubtful`: the
    journal's end was damaged, or the journal is gone although the store is not.
    """

    state: Any
    block: Block | None = None
    certificate: Certificate | None = None
    journal: Sequence[bytes] = ()
    start: Header | None = None
    doubtful: bool = False


def epoch_of(genesis: Genesis, executor: Executor, restored: Restored) -> Epoch:
    """The epoch in force as the store holds it."""
    if restored.start is None:
        return Epoch.first(genesis)
    membership, start = executor.membership(restored.state), restored.start
    net = genesis.net_bytes
    return Epoch.starting(membership, net, start.hash, start.view, start.height)


def tip_of(epoch: Epoch, restored: Restored) -> Tip:
    """The final tip as the store holds it."""
    if restored.block is None:
        return Tip(
            epoch.parent, epoch.parent_view, epoch.parent_height, 0, restored.state, None, None
        )
    header = restored.block.header
    tip = Tip(
        header.hash,
        header.view,
        header.height,
        header.time_ms,
        restored.state,
        restored.certificate,
        restored.block,
    )
    return tip.without_certificate() if tip.hash == epoch.parent else tip


def restore(core: Core, bodies: Sequence[bytes], *, doubtful: bool = False) -> None:
    """Take the journal's records in, in the order in which they were written."""
    core.view = core.tree.tip.view + 1
    core.journal_bytes = sum(len(body) + FRAME_BYTES for body in bodies)
    core.seals = bool(bodies) and not core.follows
    resume(core, [decode_record(body) for body in bodies])
    if doubtful or (not bodies and core.tree.tip.height > 0):
        core.begin_blank()
    if core.tree.tip.height < core.promised.height:
        core.alarm(
            "repair",
            f"the ledger (ledger.db) holds {core.tree.tip.height} blocks, and"
            f" {core.promised.height} were promised: it lost data. This node does not vote until it"
            " has them again from others. Look at the disk; where there are no others, restore"
            " ledger.db from a copy",
        )


def resume(core: Core, records: Sequence[Record]) -> None:
    """Go on with what these records say."""
    for record in records:
        epoch = _epoch_of(record, core)
        if epoch > core.epoch.number:
            core.later.append(record)
        elif epoch == core.epoch.number:
            _take(core, record)
    while not core.lacks_rules and core.tree.execute_ready():
        pass
    core.pace.nullified = sum(
        core.table.nullification(view) is not None
        for view in range(core.tree.tip.view + 1, core.view)
    )
    core.pace.start(core.now, core.view)


def _epoch_of(record: Record, core: Core) -> int:
    """The epoch that a record belongs to; the current one for what stays."""
    match record:
        case OwnVote(vote):
            return vote.epoch
        case Held(block):
            return block.header.epoch
        case Proven(certificate):
            return certificate.epoch
        case Forgotten(vote) if core.signer is not None:
            # It binds the key that signed it, for as long as this member has that key.
            return core.epoch.number if _signed(core, core.signer, vote) else vote.epoch
        case _:
            return core.epoch.number


def _signed(core: Core, signer: SigningKey, vote: Vote) -> bool:
    text = vote_bytes(core.epoch.net, vote.kind, vote.epoch, vote.view, vote.block)
    try:
        signer.public.verify(vote.signature, text)
    except InvalidInput:
        return False
    return True


def _take(core: Core, record: Record) -> None:
    match record:
        case Promised():
            core.promised = record
        case Forgotten():
            core.forgotten = record
            core.alarm_forgotten()
        case Blank(blank):
            core.blank = blank
        case Forked():
            core.forked = record
            forks.alarm(core)
        case Accused(evidence):
            if core.docket.has_room(evidence) and not core.is_settled(evidence):
                core.docket.add(evidence)
                core.alarm_evidence(evidence)
        case Held(block):
            candidate = core.tree.add(block)
            if candidate is not None:
                candidate.journaled = True
        case Proven(certificate):
            _take_certificate(core, certificate)
        case OwnVote(vote):
            if vote.view > core.tree.tip.view:
                core.ballot.record(vote)
                _take_own_certificate(core, core.table.count(vote))
                if vote.kind is NOTARIZE and core.epoch.leader(vote.view) == core.me:
                    core.proposals[vote.view] = vote.block


def _take_certificate(core: Core, certificate: Certificate) -> None:
    if certificate.view > core.tree.tip.view and core.table.learn(certificate):
        _take_own_certificate(core, certificate)


def _take_own_certificate(core: Core, certificate: Certificate | None) -> None:
    if certificate is None:
        return
    if certificate.kind is not NULLIFY:
        core.notarized_ms.setdefault(certificate.view, core.now)
    core.view = max(core.view, certificate.view + 1)
