"""The shell around the replica: events in, effects out, in the order that the core prescribes.

All events of one loop turn are one step: then the journal with one sync, then the finality
transaction, then messages, answers and news of rows (F1 to F5, F9).

- Nothing leaves before what it promises is durable; a block that became final is applied before the
  next step.
- A timer is one `call_at`; nothing here polls or sleeps.
- Any error of the journal or the store ends `run`, and with it the process.

Leaves to others: every decision (tilth_ledger.replica), bytes on disk (storage), connections
(peers).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from tilth_ledger import forks
from tilth_ledger.effects import (
    Asked,
    Effects,
    Event,
    Finalized,
    PeerConnected,
    PeerGone,
    Received,
    Send,
    Start,
    Submitted,
    Tick,
)
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, PeerFault, Refused, TilthError, Unavailable
from tilth_ledger.execution import AlreadyRecorded, Executor, State
from tilth_ledger.faults import Faults
from tilth_ledger.genesis import Genesis
from tilth_ledger.messages import Cosignatures, Status, decode_message
from tilth_ledger.replica import Replica
from tilth_node import membership
from tilth_node.ahead import Ahead
from tilth_node.clock import Clock
from tilth_node.feed import Feed
from tilth_node.logs import logger
from tilth_node.readers import Readers
from tilth_node.rpc.peers import Peers
from tilth_node.storage.journal import JournalFile
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.submissions import Outcome, Receipt, Submission, standing_still

SLICES = 4  # of room for the store, after each finality: more would be felt in its next sync
BUSY = "busy"  # the replica's word for a pool that is full: no rule forbids the entry

# Alarms that the next epoch cures, or raises again.
OF_AN_EPOCH = ("keys", "rules", "unlisted", "amnesia", "memory")
PASSING = frozenset(("peer", "clock"))  # alarms about others that nobody has to act on


class Replication:
    """Runs one replica."""

    def __init__(
        self,
        genesis: Genesis,
        replica: Replica,
        executor: Executor,
        state: State,
        journal: JournalFile,
        store: LedgerStore,
        peers: Peers,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self.replica = replica
        self.on_notice: Callable[[], None] = lambda: None
        self._wire = Faults()
        self._refused = 0
        self._alarms: dict[str, str] = {}
        self.told: dict[str, int] = {}  # the size that each peer told when it last said
        self._executor = executor
        self._state = state  # after the last final block
        self._delta_ms = genesis.delta_ms
        self._number(replica.epoch)
        self.on_epoch: Callable[[Epoch], None] = lambda epoch: None
        self._journal = journal
        self._store = store
        self._peers = peers
        self._feed = feed
        self._clock = clock
        self._log = logger("replication")
        self._events: list[Event] = []
        self._ahead = Ahead(executor.verify_ahead, lambda: bool(self._events))
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[str, list[tuple[Submission, int]]] = {}
        # For who cosigns what became final; called when it is durable.
        self.on_final: Callable[[Sequence[Finalized]], None] = lambda finalized: None
        self.on_cosignatures: Callable[[str, Cosignatures], None] = lambda name, message: None
        self.on_link: Callable[[str], None] = lambda name: None
        self.on_height: Callable[[str, int, int], None] = lambda name, height, own: None
        self.on_unlisted: Callable[[str, int, int], None] = lambda name, height, own: None
        self._grown = 0  # the store: so many slices of room it may want
        self._held = ""  # why the replica stands still
        self._readers = Readers(lambda nonce: self._put(Asked(nonce)), clock.random)
        peers.on_messages = self._received
        peers.on_up = self._connected
        peers.on_down = self._gone

    # -- what others use

    async def run(self) -> None:
        """Serve events until cancelled, or until an error that must stop the process."""
        self._put(Start())
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                self._turn()
                while self._grown and not self._events:
                    self._grown = self._grown - 1 if self._store.make_room() else 0
                    await asyncio.sleep(0)  # whatever came is heard first
        finally:
            self._end()

    async def submit(self, leaf: bytes) -> Receipt:
        """Hand an entry to the ledger; returns when it is final.

        Raises InvalidInput or Refused; the same bytes may be submitted again, and get the same
        receipt.
        """
        [outcome] = await self.submit_all((leaf,))
        if isinstance(outcome, TilthError):
            raise outcome
        return outcome

    async def submit_all(self, leaves: Sequence[bytes]) -> list[Outcome]:
        """Hand entries to the ledger, in this order; returns when each is final or refused."""
        submission = Submission([None] * len(leaves))
        names: list[str] = []
        try:
            for place, leaf in enumerate(leaves):
                names += await self._begin(submission, place, leaf)
            if submission.open:
                await submission.done
        finally:
            for name in names:
                self._forget(name, submission)
        return [outcome for outcome in submission.outcomes if outcome is not None]

    async def barrier(self) -> int:
        """Wait for a final block that was made after this call, so that what is read here next is
        no older than anything that was final anywhere before; the ledger's size then. Raises
        Unavailable when the node stops, Refused after a fork."""
        if self.replica.halted:
            raise forks.refusal()
        return await self._readers.barrier()

    @property
    def root(self) -> bytes:
        """The tree's root at the size that reads show."""
        return self._state.root

    async def _begin(self, submission: Submission, place: int, leaf: bytes) -> tuple[str, ...]:
        """Hand over one entry; its name if it now waits, else its outcome is known."""
        if self._held:
            submission.outcomes[place] = standing_still(self._held)
            return ()
        try:
            name = self._executor.admit(leaf)
            membership.check(leaf, self._executor, self._store)
            if (row := self._store.rows.get(f"entry/{name}")) is not None:
                submission.outcomes[place] = self._receipt(name, row["index"])
                return ()
            await self._judge(leaf)
        except AlreadyRecorded as recorded:
            submission.outcomes[place] = self._receipt(recorded.entry, recorded.index)
            return ()
        except (InvalidInput, Refused) as error:
            submission.outcomes[place] = error
            return ()
        submission.open += 1
        self._waiting.setdefault(name, []).append((submission, place))
        self._put(Submitted(leaf))
        return (name,)

    async def _judge(self, leaf: bytes) -> None:
        """Refuse at once what the replica would refuse after a leader's time.

        Beside entries that wait here it may be their consequence, so the replica decides. Else it
        may be one of an entry that is final at another node and still on its way to this one.
        """
        news = self._feed.news()
        while not self._waiting:
            now = max(self._clock.wall_ms(), self._state.time_ms + 1)
            try:
                self._executor.check(self._state, leaf, now)
            except AlreadyRecorded:
                raise
            except Refused:
                if not await news.within(self._grace_seconds):
                    raise
            else:
                return

    @property
    def time_ms(self) -> int:
        """Ledger time: that of the last final block. No wrong clock of this machine moves it."""
        return self._state.time_ms

    @property
    def pending(self) -> int:
        """How many entries clients of this node wait for."""
        return len(self._waiting)

    @property
    def alarm(self) -> str:
        """What an operator must know, in words; empty when all is well."""
        if self.replica.votes:
            for kind in ("repair", "memory"):
                self._alarms.pop(kind, None)  # the others gave back what was lost
        return "; ".join(self._alarms.values())

    @property
    def halted(self) -> str:
        """Why the ledger neither grows nor is voted on here, and what to do; reads go on."""
        return self._alarms.get("fork", "") if self.replica.halted else ""

    @property
    def faults(self) -> dict[str, dict[str, int]]:
        """What was refused or ignored since the start, by organization and reason."""
        merged: dict[str, dict[str, int]] = {}
        for counts in (self._wire.counts, self.replica.faults):
            for organization, reasons in counts.items():
                merged.setdefault(organization, {}).update(reasons)
        return merged

    def raise_alarm(self, kind: str, words: str) -> None:
        """Raise an alarm, or with empty words end it."""
        if words:
            self._alarms[kind] = words
        elif self._alarms.pop(kind, None) is None:
            return
        self.on_notice()

    def hold(self, words: str) -> None:
        """Stand still: what a snapshot will hold need not be decided again."""
        self._held = words
        self._events.clear()
        self._set_timer(None)
        self.raise_alarm("snapshot", words)
        for name in list(self._waiting):
            self._settle(name, standing_still(words))

    def release(self) -> None:
        """Go on; whoever is connected says again where it stands."""
        self._held = ""
        self.raise_alarm("snapshot", "")
        self._peers.hang_up()

    def note_fault(self, organization: str, reason: str) -> None:
        """Count what a peer did wrong outside of the replica's messages."""
        self._wire.count(organization, reason)
        self.on_notice()

    # -- epochs

    def _number(self, epoch: Epoch) -> None:
        """Parties are numbered as the replica does it in this epoch."""
        self._organizations = [each.organization for each in epoch.everyone()]
        self._parties = {name: party for party, name in enumerate(self._organizations)}
        alone = len(epoch.members) == 1 and not self.replica.follows
        self._grace_seconds = 0 if alone else self._delta_ms / 3000

    def _begin_epoch(self, epoch: Epoch) -> None:
        """A new epoch: other members, other numbers, other certificates of TLS."""
        old = self._organizations
        self._number(epoch)
        self._events = [each for event in self._events if (each := self._renumbered(event, old))]
        for kind in OF_AN_EPOCH:
            self._alarms.pop(kind, None)
        self._readers.again()
        self._log.info("epoch", number=epoch.number, members=len(epoch.members), q=epoch.q)
        self.on_epoch(epoch)
        for name in self._peers.links:
            if name in self._parties and name not in old:
                self._connected(name)

    def _renumbered(self, event: Event, old: Sequence[str]) -> Event | None:
        if not isinstance(event, Received | PeerConnected | PeerGone):
            return event
        party = self._parties.get(old[event.member])
        return None if party is None else replace(event, member=party)

    # -- events

    def _put(self, event: Event) -> None:
        self._events.append(event)
        self._work.set()

    def _received(self, organization: str, messages: Sequence[bytes]) -> None:
        party = self._parties.get(organization)
        if party is None:
            self._hear_unlisted(organization, messages)
            return
        for data in messages:
            try:
                message = decode_message(data)
            except InvalidInput as error:
                self._wire.count(organization, f"bytes: {error.message}")
                self.on_notice()
                raise PeerFault(f"{organization} sent no message", found=str(error)) from error
            if isinstance(message, Status):
                self.told[organization] = message.size
                self.on_height(organization, message.height, self.replica.height)
            if message is None:
                self._wire.count(organization, "bytes: unknown kind of message")
                self.on_notice()
            elif isinstance(message, Cosignatures):
                self.on_cosignatures(organization, message)  # decides nothing: no event
            elif not self._held:
                self._put(Received(party, message))

    def _hear_unlisted(self, organization: str, messages: Sequence[bytes]) -> None:
        """This node lags behind the epoch that lists the sender, or it was removed. Where nobody
        else is left who could lead through all epochs between, a snapshot does."""
        self._wire.count(organization, "bytes: of an organization that is not listed")
        if not self._parties.keys().isdisjoint(self._peers.links):
            return
        for data in messages:
            with suppress(InvalidInput):
                if isinstance(message := decode_message(data), Status):
                    self.on_unlisted(organization, message.height, self.replica.height)

    def _connected(self, organization: str) -> None:
        self.raise_alarm(f"instance {organization}", "")
        if (party := self._parties.get(organization)) is not None:
            self._put(PeerConnected(party))
        self.on_link(organization)

    def _gone(self, organization: str) -> None:
        if (party := self._parties.get(organization)) is not None:
            self._put(PeerGone(party))

    # -- effects

    def _turn(self) -> None:
        if self._held:
            return
        events, self._events = self._events, []
        now, clock = self._clock.monotonic_ms(), self._clock.wall_ms()
        self._carry_out(self.replica.step(now, clock, events))
        self._ahead.add(events)
        if self.replica.refused != self._refused:
            self._refused = self.replica.refused
            self.on_notice()

    def _carry_out(self, effects: Effects) -> None:
        """The order that the replica prescribes; an error in the first three stops the process."""
        self._journal.append(effects.persist)
        # A crash here leaves votes that nobody has seen: the restart counts and sends them.
        if effects.finalized:
            blocks = [(each.block, each.state) for each in effects.finalized]
            last = effects.finalized[-1]
            self._store.apply(blocks, last.certificate, last.void)
            self._grown = SLICES
            self._state = last.state
        # A crash here leaves a journal that promises less than the store holds.
        self._journal.promise(effects.promise, effects.compact)
        # A crash here leaves entries that are final and unanswered: a client sends them again and
        # gets their receipt.
        # Who waits here hears first: messages leave in the next turn of the loop then.
        self._send(effects.send, later=bool(effects.finalized and self._waiting))
        self._answer(effects)
        self._set_timer(effects.timer_ms)
        if effects.epoch is not None:
            self._begin_epoch(effects.epoch)
        if effects.halt is not None:
            raise effects.halt

    def _send(self, sends: Sequence[Send], *, later: bool) -> None:
        outgoing: dict[int, list[bytes]] = {}
        for send in sends:
            data = send.message.encode()
            for party in send.to:
                outgoing.setdefault(party, []).append(data)
        for party, messages in outgoing.items():
            self._peers.send(self._organizations[party], messages, later=later)

    def _answer(self, effects: Effects) -> None:
        for final in effects.finalized:
            for name, index in final.state.entries.items() if self._waiting else ():
                self._settle(name, Receipt(name, index, final.state.size))
            self._readers.final(final.block.justification.barriers, self._state.size)
        if self.replica.halted:
            self._readers.fail(forks.refusal())
        for name, refusal in effects.refused:
            if isinstance(refusal, AlreadyRecorded):
                self._settle(name, self._receipt(name, refusal.index))
            elif isinstance(refusal, Refused) and refusal.rule == BUSY:
                self._settle(name, Unavailable(refusal.message, remedy=refusal.remedy))
            else:
                self._settle(name, refusal)
        for alarm in effects.alarms:
            if alarm.kind in PASSING:
                self._log.warning("notice", kind=alarm.kind, message=alarm.message)
            else:
                self.raise_alarm(alarm.kind, alarm.message)
                self._log.error("alarm", kind=alarm.kind, message=alarm.message)
        if effects.finalized:
            self._feed.publish(self._state.size, [each.state.changes for each in effects.finalized])
            self.on_final(effects.finalized)

    def _receipt(self, name: str, index: int) -> Outcome:
        """The same whenever it is asked for (A2); Unavailable while the past is missing."""
        try:
            return Receipt(name, index, self._store.size_with(index))
        except Unavailable as error:
            return error

    def _settle(self, name: str, outcome: Outcome) -> None:
        for submission, place in self._waiting.pop(name, ()):
            submission.settle(place, outcome)

    def _forget(self, name: str, submission: Submission) -> None:
        """Its caller waits no more."""
        if (answers := self._waiting.pop(name, None)) is not None:
            others = [each for each in answers if each[0] is not submission]
            if others:
                self._waiting[name] = others

    def _set_timer(self, at_ms: int | None) -> None:
        if self._timer is not None:
            if at_ms is not None and self._timer.when() == at_ms / 1000:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if at_ms is None else loop.call_at(at_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._put(Tick())

    def _end(self) -> None:
        self._set_timer(None)
        remedy = "submit the same bytes again when it runs, or to another node"
        stopped = Unavailable("this node stops", remedy=remedy)
        self._readers.fail(stopped)
        for name in list(self._waiting):
            self._settle(name, stopped)
