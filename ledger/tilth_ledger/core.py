"""What one replica holds in memory, and the few moves that everything else is made of: sign a vote,
learn a certificate, enter a view, make a block final.

`me` is the place among `epoch.everyone()`: members come first, the others follow without a vote.

Invariants:
- Every vote goes through `cast`, which records it in the journal of the same step: no vote is sent
  by any other way.
- A follower never signs, and journals nothing but evidence: what is not final it may forget.
- Evidence is in the journal of the step that saw it, before anybody is told, and stays there until
  it is recorded.
- `out` collects one step's outcome. A record of a view that became final in the same step is not
  written: the ledger store's transaction holds more (F4), and comes before anything is sent.

Left to others: deciding (voting, catch_up, restart), the order of effects (effects).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilth_ledger.ballot import Ballot, VoterRules
from tilth_ledger.barriers import Barriers
from tilth_ledger.block_tree import BlockTree, Candidate
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, ZERO_HASH, Certificate, Kind, Vote
from tilth_ledger.budget import Budget
from tilth_ledger.docket import Docket
from tilth_ledger.effects import Alarm, Archive, Effects, Executor, Finalized, Send
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import Fatal, TilthError
from tilth_ledger.evidence import Evidence
from tilth_ledger.faults import Faults
from tilth_ledger.forwarding import Owed
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
)
from tilth_ledger.keys import SigningKey
from tilth_ledger.limits import Limits
from tilth_ledger.messages import MAX_EVIDENCE, Accusation, Message, Votes
from tilth_ledger.pacemaker import Pacemaker
from tilth_ledger.pool import Pool
from tilth_ledger.votes import VoteTable

COMPACT_BYTES = 4 << 20


@dataclass(slots=True)
class Outbox:
    """The outcome of the step under way."""

    records: list[Record] = field(default_factory=list)
    finalized: list[Finalized] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    refused: list[tuple[str, TilthError]] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)


@dataclass(slots=True)
class Core:
    """One replica's memory."""

    epoch: Epoch
    me: int
    signer: SigningKey | None  # None: this node does not hold the key that the epoch lists
    executor: Executor
    archive: Archive
    rules: VoterRules
    limits: Limits
    tree: BlockTree
    table: VoteTable
    pace: Pacemaker
    ballot: Ballot = field(default_factory=Ballot)
    pool: Pool = field(default_factory=Pool)
    out: Outbox = field(default_factory=Outbox)
    now: int = 0
    clock: int = 0
    view: int = 1
    proposals: dict[int, bytes] = field(default_factory=dict)
    garbled: set[bytes] = field(
        default_factory=set
    )  # blocks that came with other leaves, this step
    invalid: set[int] = field(default_factory=set)
    notarized_ms: dict[int, int] = field(default_factory=dict)
    connected: set[int] = field(default_factory=set)  # members
    followers: set[int] = field(default_factory=set)  # those connected to me, a member
    linked: set[int] = field(default_factory=set)  # all of these, and followers to me, a follower
    served: set[int] = field(default_factory=set)  # followers that got blocks in this step
    faults: Faults = field(default_factory=Faults)
    budget: Budget = field(default_factory=Budget)
    confirmed: set[int] = field(default_factory=set)
    late: list[Certificate] = field(default_factory=list)  # of views up to the tip, to be compared
    blank: bool = False  # an empty or damaged journal: what I signed, only the others know
    forgotten: Forgotten | None = None
    forked: Forked | None = None
    docket: Docket = field(default_factory=Docket)
    barriers: Barriers = field(default_factory=Barriers)
    owed: Owed = field(default_factory=Owed)  # to members, of certificates
    promised: Promised = field(default_factory=lambda: Promised(0, 0, 0))
    seals: bool = False  # what was found at the start is whole: say so behind it
    halted: Fatal | None = None
    ended: bool = False  # the epoch, in this step
    later: list[Record] = field(default_factory=list)  # of epochs that my store does not reach
    journal_bytes: int = 0
    compacted_bytes: int = 0
    applied: bool = False  # since the step before: the store holds the tip

    @property
    def follows(self) -> bool:
        """Whether I have no vote at all."""
        return self.me >= len(self.epoch.members)

    @property
    def is_stranger(self) -> bool:
        """Whether the ledger does not list this organization, or not any more."""
        return self.me >= len(self.epoch.everyone())

    @property
    def others(self) -> tuple[int, ...]:
        """The members, but for me."""
        return tuple(m for m in range(len(self.epoch.members)) if m != self.me)

    @property
    def leads(self) -> bool:
        return self.epoch.leader(self.view) == self.me

    @property
    def may_vote(self) -> bool:
        """Not before q - 1 others showed what they hold of me, not with a store that lost data,
        and never after my record proved to be incomplete."""
        if self.follows or self.signer is None or self.lacks_rules or self.ended:
            return False
        if self.is_halted or self.forgotten is not None:
            return False
        return self.is_confirmed and self.tree.tip.height >= self.promised.height

    @property
    def is_halted(self) -> bool:
        """Whether nothing is decided here any more."""
        return self.halted is not None or self.forked is not None

    @property
    def lacks_rules(self) -> bool:
        """Whether the epoch follows rules that this release does not have."""
        return not self.executor.knows(self.epoch.rules_version)

    @property
    def is_confirmed(self) -> bool:
        """Whether enough others showed what they hold of me: all, when I may have lost it all."""
        needed = len(self.others) if self.blank else self.epoch.q - 1
        return self.follows or len(self.confirmed) >= needed

    def begin_blank(self) -> None:
        """Votes that I sent may be lost: a lost disk, a damaged journal, or a late first start."""
        if not self.follows and self.signer is not None and self.others:
            self.blank = True
            self.out.records.append(Blank(True))

    def alarm_blank(self) -> None:
        """Say what is awaited, when it does not come at once."""
        if self.blank:
            self.alarm(
                "memory",
                "this node's journal (journal/votes) was damaged at its end, or is empty although"
                " the ledger is not: it may have lost votes that it sent. It votes when every other"
                " member is connected and has shown what it holds; if one of them is gone for"
                " good, replace the key: tilth member rotate",
            )

    def confirm(self, member: int) -> None:
        """A member has shown what it holds of me."""
        self.confirmed.add(member)
        if self.blank and self.is_confirmed:
            self.blank = False
            self.out.records.append(Blank(False))

    def begin(self, now: int, clock: int) -> None:
        """A new step."""
        self.now, self.clock = now, clock
        self.out = Outbox()
        self.served.clear()
        self.garbled.clear()
        if self.applied:
            self.executor.settle(self.tree.tip.state)
            self.applied = False
        self.pace.elapse(now)

    def send(self, to: tuple[int, ...], message: Message) -> None:
        """Send to those of `to` that are connected; the others hear it when they connect."""
        here = tuple(p for p in to if p in self.linked)
        if here:
            self.out.sends.append(Send(here, message))

    def persist(self, record: Record) -> None:
        if not self.follows:
            self.out.records.append(record)

    def hold(self, candidate: Candidate) -> None:
        """Make a block durable, once."""
        if not candidate.journaled:
            candidate.journaled = True
            self.persist(Held(candidate.block))

    def cast(self, kind: Kind, view: int, block: bytes = ZERO_HASH) -> Vote:
        """Sign a vote, record it and count it; it is sent at the end of the step."""
        if self.signer is None:
            raise Fatal("a vote was asked of a node that does not hold its vote key")
        vote = Vote.sign(self.epoch, self.signer, self.me, kind, view, block)
        self.ballot.record(vote)
        self.persist(OwnVote(vote))
        self.out.votes.append(vote)
        self.certified(self.table.count(vote), formed=True)
        return vote

    def certified(self, certificate: Certificate | None, *, formed: bool) -> None:
        """A certificate that is new to me: keep it, forward it if I formed it, move on."""
        if certificate is None:
            return
        if formed:
            self.out.certificates.append(certificate)
        if certificate.view <= self.tree.tip.view:
            self.compare(certificate)
            return
        self.persist(Proven(certificate))
        if certificate.kind is NOTARIZE:
            self.notarized_ms.setdefault(certificate.view, self.now)
        if certificate.view >= self.view:
            self.pace.nullified += certificate.kind is NULLIFY
            self.enter(certificate.view + 1)

    def enter(self, view: int) -> None:
        self.view = view
        self.pace.enter(view, self.now)
        certified = [c.block for c in self.table.notarized(self.tree.tip.view)]
        self.tree.drop_unproven(view, certified)
        for past in [v for v in self.proposals if v < view]:
            del self.proposals[past]
        self.invalid = {v for v in self.invalid if v >= view}

    def finalize(self, path: list[Candidate], certificate: Certificate) -> None:
        """Make the blocks of a path from the tip final, up to one that ends the epoch: what stands
        above that one is void."""
        self.late += [c for c in self.table.finalizations(self.tree.tip.view) if c != certificate]
        after = [i for i, each in enumerate(path, 1) if self.tree.ends_epoch(each.state)]
        path, above = (path[: after[0]], path[after[0] :]) if after else (path, [])
        void = tuple(each.block for each in above)
        for candidate in path:
            proof = void if candidate is path[-1] else ()
            self.out.finalized.append(
                Finalized(candidate.block, candidate.state, certificate, proof)
            )
            self.pool.settle(candidate.ids)
            self.barriers.settle(candidate.block.justification.barriers)
        self.ended = bool(after)
        self.tree.finalize(path, certificate)
        tip = self.tree.tip
        self.docket.drop(self.is_settled)
        self.applied = True
        self.ballot.forget(tip.view)
        self.table.forget(tip.view, self.view)
        self.notarized_ms = {v: at for v, at in self.notarized_ms.items() if v > tip.view}
        self.pool.wake()
        self.pace.finality(self.now)

    def remember_forgotten(self, vote: Vote) -> None:
        """A vote of mine that my record does not hold: follow only, from now on."""
        self.forgotten = Forgotten(vote)
        self.persist(self.forgotten)
        self.alarm_forgotten()

    def alarm_forgotten(self) -> None:
        """Say what happened and what to run; again at every start."""
        if self.forgotten is None:
            return
        vote = self.forgotten.vote
        self.alarm(
            "amnesia",
            f"this node forgot a vote: another member holds its {vote.kind.name.lower()} vote of"
            f" view {vote.view}, and its journal does not. Its folder is an old copy, or a second"
            " node runs with its keys. It follows and does not vote. Stop any second node; then"
            " replace its vote key: tilth member rotate",
        )

    def collect_evidence(self) -> None:
        """Take what counting votes brought to light."""
        while self.table.evidence:
            self.accuse(self.table.evidence.pop(0))

    def compare(self, certificate: Certificate) -> None:
        """A verified certificate of a view up to my final tip: it may show a fork."""
        if not self.is_halted and certificate.kind is FINALIZE:
            self.late.append(certificate)

    def accuse(self, evidence: Evidence) -> bool:
        """Keep evidence, and tell everybody; whether it is new. Raises `InvalidInput` if it is
        none."""
        if not self.docket.has_room(evidence) or self.is_settled(evidence):
            return False
        self.executor.check_evidence(self.tree.tip.state, evidence)
        self.docket.add(evidence)
        self.out.records.append(Accused(evidence))
        self.out.evidence.append(evidence)
        self.alarm_evidence(evidence)
        return True

    def alarm_evidence(self, evidence: Evidence) -> None:
        epoch, _, member, _ = evidence.name
        present = epoch == self.epoch.number
        name = (
            self.epoch.members[member].organization if present else f"member {member} of {epoch=}"
        )
        message = (
            f"{name} signed two votes of view {evidence.first.view} that exclude each other"
            f" ({evidence.pair}). The pair goes on the ledger; ask {name} whether a restored copy"
            " of its node, or a second one, runs with its key"
        )
        self.out.alarms.append(Alarm("evidence", message, evidence))

    def is_settled(self, evidence: Evidence) -> bool:
        """Whether the final state holds this evidence."""
        return self.executor.holds(self.tree.tip.state, evidence)

    def tell_evidence(self, to: tuple[int, ...]) -> None:
        """Hand on all evidence that waits."""
        waiting = tuple(self.docket)
        for start in range(0, len(waiting), MAX_EVIDENCE):
            self.send(to, Accusation(waiting[start : start + MAX_EVIDENCE]))

    def halt(self, error: Fatal) -> None:
        self.halted = self.halted or error

    def alarm(self, kind: str, message: str) -> None:
        self.out.alarms.append(Alarm(kind, message))

    def fault(self, party: int, reason: str, what: str) -> None:
        """Count a fault of a peer, and tell the operator of it ever more rarely."""
        count = self.ignore(party, reason)
        if count.bit_count() == 1:
            self.alarm("peer", what if count == 1 else f"{what} (fault {count} of this kind)")

    def ignore(self, party: int, reason: str) -> int:
        """Count what an honest peer may say as well, but which changes nothing here."""
        return self.faults.count(self.epoch.everyone()[party].organization, reason)

    def end(self, timer_ms: int | None) -> Effects:
        """The step's outcome."""
        self.collect_evidence()
        self._post()
        persist, promise, compact = self._journal()
        return Effects(
            persist=persist,
            finalized=tuple(self.out.finalized),
            promise=promise,
            compact=compact,
            send=tuple(self.out.sends),
            refused=tuple(self.out.refused),
            alarms=tuple(self.out.alarms),
            timer_ms=timer_ms,
            halt=self.halted,
        )

    def records(self) -> list[Record]:
        """Everything that the journal must hold: what a compacted one consists of. As where records
        are appended, what a vote promises stands before it: a disk may lose the end."""
        tip = self.tree.tip
        records: list[Record] = list(self.later)
        records += [Accused(each) for each in self.docket]
        records += [each for each in (self.forgotten, self.forked) if each is not None]
        records += [Blank(True)] if self.blank else []
        records += [Held(candidate.block) for candidate in self.tree if candidate.journaled]
        records += [Proven(c) for c in self.table.certificates(tip.view)]
        records += [OwnVote(vote) for vote in self.ballot.votes.values()]
        return [*records, self.promised]

    def _post(self) -> None:
        """One message per kind for all that the step said to everybody."""
        if self.out.votes:
            self.send(self.others, Votes(tuple(self.out.votes)))
        for start in range(0, len(self.out.evidence), MAX_EVIDENCE):
            part = self.out.evidence[start : start + MAX_EVIDENCE]
            self.send(self.others, Accusation(tuple(part)))

    def _journal(self) -> tuple[tuple[bytes, ...], bytes | None, tuple[bytes, ...] | None]:
        """What to append with a sync; then, once the store holds what became final, a promise
        behind it; or instead of that, now and then, the whole journal anew."""
        tip = self.tree.tip
        records = [r for r in self.out.records if _view_of(r) > tip.view]
        if not records and self.out.finalized and not self.journal_bytes and not self.follows:
            records = [self.promised]  # one that catches up from the first block on has begun here
        bodies = tuple(record.encode() for record in records)
        self.journal_bytes += sum(len(body) + FRAME_BYTES for body in bodies)
        if not records and not self.seals and (self.follows or not self.out.finalized):
            return (), None, None
        self.seals = False
        if tip.height > self.promised.height:
            self.promised = Promised(tip.view, tip.height, tip.state.size)
        promise = self.promised.encode()
        self.journal_bytes += len(promise) + FRAME_BYTES
        if self.journal_bytes < max(COMPACT_BYTES, 2 * self.compacted_bytes):
            return bodies, promise, None
        compact = tuple(record.encode() for record in self.records())
        self.journal_bytes = sum(len(body) + FRAME_BYTES for body in compact)
        self.compacted_bytes = self.journal_bytes
        return bodies, None, compact


def _view_of(record: Record) -> int | float:
    """The view that a record belongs to; infinite for one that stays."""
    match record:
        case OwnVote(vote):
            return vote.view
        case Held(block):
            return block.header.view
        case Proven(certificate):
            return certificate.view
        case _:
            return float("inf")
