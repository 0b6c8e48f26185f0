"""The replica: one organization's copy of the ledger and its part in deciding it, as a pure state
machine.

A member votes; an organization without a vote follows (`following`), also one that the ledger does
not list yet. The replica reads no clock, file or socket and draws no random number. The node's
shell, the simulator and every test drive this same object, in this way:

    restored = Restored(state, block, certificate, journal=read_journal(data).bodies)
    replica = Replica(genesis, organization, keyring, executor, archive, restored)
    effects = replica.step(now_ms, clock_ms, [Start()])
    ... carry `effects` out, then for every turn of the loop with everything that came in:
    effects = replica.step(now_ms, clock_ms, events)

`now_ms` is monotonic, `clock_ms` the wall clock. `state` is `executor.load(...)` of the newest
final block in the store, or `executor.genesis_state()`; `block` and `certificate` are that block
and the finality certificate stored with it (None at genesis).

Carrying out one `Effects`, in this order; an error in 1 or 2 stops the process, never retried (F7):
 1. `compact` is not None: write these records to a new journal file (sequence 0), fsync, rename,
    fsync the directory (F6). Else `persist`: append `frame(persist, sequence)`, one fdatasync (F1,
    F2, F3, F9). A crash before this point: nothing was said, nothing is owed.
 2. `finalized`: leaves, tree nodes, row changes, blocks, and the certificate of the LAST block, in
    one transaction (F4). A crash before it: restart decides the same again from the journal.
 3. `send` to whom a connection stands (drop the rest: a new connection begins with a Status),
    answers to clients for `finalized` and `refused`, `alarms` to the operator. A crash between
    messages: retries and Status bring what was not sent.
 4. `timer_ms`: set the one timer to this time (None: clear it); when it comes, step with `Tick()`.
 5. `epoch` is not None: an epoch ended with the last block of `finalized`, and the next begins.
    Number the parties by it from now on, close connections to those that are none any more, and
    let those that are new connect (`PeerConnected`); for those that stand nothing is said again.
 6. `halt`: stop the process with this error.
Call `step` again only after 1 and 2 of the step before are done. The journal belongs to one replica
at a time.

Events: `Start` once; `PeerConnected(member)` and `PeerGone(member)` as connections come and go
(a connection that stands loses nothing: after any loss, close it and connect again);
`Received(member, message)` with what `decode_message` gave (skip None), from the party whom TLS
proved; `Submitted(leaf)` for each leaf of a client;
`Asked(nonce)` for readers who wait for a block made after they asked: its justification lists the
nonce (ask again only when the one before is final); `Tick`. Parties are numbered as in
`epoch.everyone()`. A leaf is final when it stands in a `finalized` block; `refused` names the
leaves of this node's clients that will not be. Neither may come: the client resubmits the same
bytes. Look for a leaf's row before submitting it: one that is final already is not reported again.

Left to others: rules of voting (ballot, voting), repetition (catch_up), what leaves mean
(execution).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilth_ledger import (
    catch_up,
    following,
    forks,
    forwarding,
    proposing,
    restart,
    succession,
    voting,
)
from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Vote
from tilth_ledger.effects import (
    Archive,
    Asked,
    Effects,
    Event,
    Executor,
    Keyring,
    PeerConnected,
    PeerGone,
    Received,
    Start,
    Submitted,
    Tick,
)
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import BadSignature
from tilth_ledger.leaf import leaf_id
from tilth_ledger.messages import (
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    FetchBlock,
    FetchChain,
    Gossip,
    Message,
    Proposal,
    Status,
    Votes,
)
from tilth_ledger.restart import Restored

__all__ = ["Replica", "Restored"]


class Replica:
    """One copy of the ledger; see the module's text for how to drive it."""

    def __init__(
        self,
        genesis: Genesis,
        organization: str,
        keyring: Keyring,
        executor: Executor,
        archive: Archive,
        restored: Restored,
        rules: VoterRules | None = None,
    ) -> None:
        epoch = restart.epoch_of(genesis, executor, restored)
        self._standing = succession.Standing(
            genesis, organization, keyring, executor, archive, rules or VoterRules()
        )
        self._core = self._standing.core(epoch, restart.tip_of(epoch, restored))
        self._begins = False
        self._sync = catch_up.CatchUp()
        self._journal, self._doubtful = tuple(restored.journal), restored.doubtful

    @property
    def epoch(self) -> Epoch:
        """Who votes, in which order; parties are numbered by it."""
        return self._core.epoch

    @property
    def view(self) -> int:
        return self._core.view

    @property
    def height(self) -> int:
        """Height of the newest final block."""
        return self._core.tree.tip.height

    @property
    def votes(self) -> bool:
        """Whether this node votes now: a member, and not one that is catching up."""
        return self._core.may_vote

    @property
    def follows(self) -> bool:
        """Whether this organization has no vote in the present epoch."""
        return self._core.follows

    @property
    def faults(self) -> Mapping[str, Mapping[str, int]]:
        """What was refused or ignored, by organization and reason, since the start."""
        return self._core.faults.counts

    @property
    def refused(self) -> int:
        """How many there are of them."""
        return self._core.faults.total

    @property
    def halted(self) -> bool:
        """Whether it decides nothing any more, after a fork."""
        return self._core.forked is not None

    @property
    def pending(self) -> int:
        """Leaves that wait."""
        return len(self._core.pool)

    @property
    def held(self) -> dict[str, int]:
        """How much is in memory: what a bound can be checked against."""
        core = self._core
        return {"views": len(core.table), "blocks": len(core.tree), "leaves": len(core.pool)}

    def step(self, now_ms: int, clock_ms: int, events: Sequence[Event]) -> Effects:
        """Take in all events of one turn and decide once."""
        core = self._core
        if core.halted is not None:
            return Effects(halt=core.halted)
        core.begin(now_ms, clock_ms)
        leaves: dict[str, bytes] = {}
        nonces = [event.nonce for event in events if isinstance(event, Asked)]
        # A connection may be quicker than the shell's first turn.
        for event in sorted(events, key=lambda event: not isinstance(event, Start)):
            self._take(event, leaves)
        self._begin_epoch()
        core.collect_evidence()
        core.pace.note_work(now_ms, work=proposing.has_work(core))
        voting.drive(core)
        core.collect_evidence()
        if not core.ended:
            self._retry_when_stuck()
        following.push(core)
        proposing.gossip(core, [leaf for name, leaf in leaves.items() if name in core.pool])
        proposing.ask(core, nonces)
        forwarding.forward(core)
        effects = core.end(self._timer())
        return self._succeed(effects) if core.ended and effects.halt is None else effects

    def _succeed(self, effects: Effects) -> Effects:
        """The epoch ended in this step; what is left of it is in its effects."""
        self._core = self._standing.successor(self._core)
        self._sync = catch_up.CatchUp()
        self._begins = True
        refused = effects.refused + succession.turn_away(self._core)
        epoch, now = self._core.epoch, self._core.now
        return replace(effects, refused=refused, epoch=epoch, timer_ms=now)

    def _begin_epoch(self) -> None:
        """In the first step of an epoch: tell all where I stand, ask the members where they do."""
        core = self._core
        if not self._begins:
            return
        self._begins = False
        succession.report(core)
        for party in sorted(core.connected | core.followers):
            catch_up.greet(core, party, asks=True)

    def _take(self, event: Event, leaves: dict[str, bytes]) -> None:
        core = self._core
        match event:
            case Start():
                restart.restore(core, self._journal, doubtful=self._doubtful)
                self._journal = ()
                succession.report(core)
            case PeerConnected(party) if self._is_follower(party):
                core.linked.add(party)
                following.connect(core, party)
            case PeerConnected(member):
                core.linked.add(member)
                core.connected.add(member)
                core.pace.connected(member)
                catch_up.greet(core, member)
            case PeerGone(party) if self._is_follower(party):
                core.linked.discard(party)
                core.followers.discard(party)
                catch_up.lose_peer(self._sync, party)
            case PeerGone(member):
                core.linked.discard(member)
                core.connected.discard(member)
                core.pace.gone(member, core.now)
                catch_up.lose_peer(self._sync, member)
            case Received(party, message):
                self._receive(party, message)
            case Submitted(leaf):
                self._submit(leaf, leaves)
            case Asked(nonce) if core.forked is None and not core.is_stranger:
                core.barriers.add(nonce, core.me)
            case Asked():
                pass
            case Tick():
                pass

    def _submit(self, leaf: bytes, leaves: dict[str, bytes]) -> None:
        core = self._core
        if core.forked is not None:
            core.out.refused.append((leaf_id(leaf), forks.refusal()))
            return
        if core.is_stranger:
            core.out.refused.append((leaf_id(leaf), succession.refusal()))
            return
        try:
            if (name := core.pool.add(leaf, local=True)) is not None:
                leaves[name] = leaf
        except Refused as refusal:
            core.out.refused.append((leaf_id(leaf), refusal))

    def _is_follower(self, party: int) -> bool:
        return party >= len(self._core.epoch.members)

    def _receive(self, party: int, message: Message) -> None:
        core, kind = self._core, type(message).__name__
        if core.budget.is_spent(party, kind, core.now):
            core.ignore(party, f"{kind}: after too many false signatures")
            return
        try:
            if (epoch := _other_epoch(message, core.epoch.number)) is not None:
                core.ignore(party, f"{kind}: of another epoch")
                if isinstance(message, Certificates):
                    old = message.certificates
                    catch_up.hear_old_certificates(core, self._sync, party, old)
                catch_up.hear_other_epoch(core, self._sync, party, epoch)
            elif following.takes_me_for_a_voter(core, party, message):
                core.ignore(party, f"{kind}: this node does not vote")
                following.hear_of_another_epoch(core, self._sync, party, message)
            elif self._is_follower(party):
                following.hear(core, self._sync, party, message)
            else:
                core.pace.heard(party)
                following.check(core, message)
                self._hear(party, message)
        except (InvalidInput, Refused) as error:
            if isinstance(error, BadSignature):
                core.budget.spend(party, kind, core.now)
            name = core.epoch.everyone()[party].organization
            core.fault(party, f"{kind}: {error.message}", f"{kind} of {name}: {error}")

    def _hear(self, member: int, message: Message) -> None:
        core, sync = self._core, self._sync
        match message:
            case Votes() | Proposal() | Gossip() | Barrier() | Body() | Chain() if core.is_halted:
                core.ignore(member, f"{type(message).__name__}: after the fork")
            case Votes(votes):
                for vote in votes:
                    self._hear_vote(member, vote)
            case Proposal(_, block) if block.header.view <= core.tree.tip.view:
                core.ignore(member, "Proposal: of a view that is over")
            case Proposal():
                voting.consider(core, message)
                voting.drive(core)
            case Certificates(certificates) if core.follows:
                following.compare(core, certificates)
            case Certificates(certificates):
                for certificate in certificates:
                    self._hear_certificate(member, certificate)
            case Gossip(leaves):
                for leaf in leaves:
                    if core.pool.add(leaf, local=False) is None:
                        core.ignore(member, "Gossip: known")
            case Status():
                if message.epoch != core.epoch.number:
                    core.ignore(member, "Status: of another epoch")
                catch_up.hear_status(core, sync, member, message)
            case FetchBlock(block):
                catch_up.give_block(core, member, block)
            case Body(block) if block.hash not in sync.missing:
                core.ignore(member, "Body: not asked for")
            case Body(block):
                catch_up.take_body(core, sync, block)
            case FetchChain(height):
                catch_up.give_chain(core, member, height)
            case Chain() if sync.asked != member:
                core.ignore(member, "Chain: not asked for")
            case Chain():
                catch_up.take_chain(core, sync, member, message)
            case Accusation(evidence):
                for each in evidence:
                    if not core.accuse(each):
                        core.ignore(member, "Accusation: known")
            case Barrier(nonces):
                for nonce in nonces:
                    if not core.barriers.add(nonce, member):
                        core.ignore(member, "Barrier: known")

    def _hear_vote(self, member: int, vote: Vote) -> None:
        core = self._core
        if vote.member != member or vote.epoch != core.epoch.number:
            raise InvalidInput("vote is not its sender's", found=f"member {vote.member}")
        if vote.view > core.view + 1:
            core.ignore(member, "Votes: of a later view")
            return
        repeated = core.table.was_heard(vote)
        if repeated:
            core.ignore(member, "Votes: repeated")
        forgotten = vote.view <= core.table.oldest(core.view)
        if vote.view < core.view and (repeated or forgotten):
            catch_up.answer_old(core, member, vote.view)
        if not forgotten:
            core.certified(core.table.admit(vote), formed=True)

    def _hear_certificate(self, member: int, certificate: Certificate) -> None:
        core = self._core
        if core.table.learn(certificate):
            core.certified(certificate, formed=False)
        else:
            core.ignore(member, "Certificates: known")
        if certificate.kind is FINALIZE and certificate.view > core.tree.tip.view:
            voting.drive(core)
            if certificate.view > core.tree.tip.view:
                self._sync.claims[member] = core.tree.tip.height + 1

    def _retry_when_stuck(self) -> None:
        core, sync = self._core, self._sync
        if core.lacks_rules:
            return
        catch_up.look_for_missing(core, sync)
        self._note_reasons()
        due = core.pace.retry_ms
        if due is None or core.now < due:
            return
        # What nobody would propose is no reason to speak: the state may have moved since.
        proposing.judge_pool(core)
        self._note_reasons()
        if core.pace.retry_ms is not None:
            catch_up.retry(core, sync)
            core.pace.retried(core.now)

    def _note_reasons(self) -> None:
        core = self._core
        work = proposing.has_work(core)
        core.pace.note_work(core.now, work=work)
        core.pace.note_stuck(core.now, stuck=work or catch_up.is_stuck(core, self._sync))

    def _timer(self) -> int | None:
        """The next time at which something changes without a message."""
        core = self._core
        if core.is_halted:
            return None
        times = [core.pace.retry_ms, proposing.tip_due_ms(core), core.owed.due_ms]
        if core.may_vote and core.ballot.vote(core.view, NULLIFY) is None:
            times.append(core.pace.advance_ms())
            if voting.is_hopeless(core):
                times.append(core.pace.haste_ms())
            if core.ballot.vote(core.view, NOTARIZE) is None:
                times.append(core.pace.leader_ms(core.epoch.leader(core.view)))
        ahead = [time for time in times if time is not None and time > core.now]
        return min(ahead) if ahead else None


def _other_epoch(message: Message, current: int) -> int | None:
    """The epoch of what a message says, if it is not the current one."""
    match message:
        case Votes(votes):
            epochs = {vote.epoch for vote in votes}
        case Certificates(certificates):
            epochs = {certificate.epoch for certificate in certificates}
        case Proposal(vote, _):
            epochs = {vote.epoch}
        case Body(block):
            epochs = {block.header.epoch}
        case _:
            return None
    return None if current in epochs or not epochs else max(epochs)
