"""Cosigning in a node: it signs heads of the tree after finality, and gathers what others sign.

- Nothing is signed but the tree of a block that is final here, and only after its root was made
  again from the leaves' bytes as the disk returns them. Bytes that give another root stop the node.
- A signature is durable before it leaves (F5); sizes grow.
- A signature that comes is verified before it is stored. One on another root than this ledger's is
  kept as proof, told to the operator, and never answered with a signature.
- One timer at most, set while an unsigned tip waits for quiet: an idle ledger is silent.

Leaves to others: which heads (tilth_ledger.cosigning), links (peers), serving (http, bundle).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Protocol

from tilth_ledger import cosigning
from tilth_ledger.blocks import Block
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import OUTSIDE, CosignKeys, Head, Schedule, SignersOf
from tilth_ledger.epochs import Signer, Signers
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import EPOCH_END, leaf_type
from tilth_ledger.merkle import Frontier
from tilth_ledger.messages import Cosignatures, Signed
from tilth_ledger.notes import COSIGNATURE, MLDSA_COSIGNATURE, VerifierKey
from tilth_node.clock import Clock
from tilth_node.errors import StorageFailed
from tilth_node.logs import logger
from tilth_node.publishing import Publisher
from tilth_node.reading_back import ReadBack
from tilth_node.storage.cosignatures import CosignatureStore, Held
from tilth_node.storage.ledger_store import LedgerStore

QUIET_DELTAS = 2  # how long nothing must become final before the tip is signed
LEAST_QUIET_SECONDS = 0.1
FEW_SECONDS = 1.0  # to wait for signatures while fewer than k members are connected
MAX_EARLY = 256  # messages on heads that are not final here yet, one for each organization


class Links(Protocol):
    """What cosigning needs of the connections (tilth_node.rpc.peers)."""

    @property
    def links(self) -> Mapping[str, object]:
        """The connected organizations."""

    def send(self, organization: str, messages: Sequence[bytes]) -> None:
        """Send messages; without a link they are lost."""


class Cosigning:
    """One node's part in cosigning, and what it knows of the others'."""

    def __init__(
        self,
        genesis: Genesis,
        organization: str,
        keys: CosignKeys,
        signers_of: SignersOf,
        ledger: LedgerStore,
        store: CosignatureStore,
        peers: Links,
        clock: Clock,
    ) -> None:
        self.origin = origin_of(genesis.name, genesis.net)
        self.store = store
        self.publisher = Publisher(self.origin, organization, self.signers_of, store)
        self.refused = 0  # signatures that did not verify
        self._me = organization
        self._keys = [keys]  # newest first; an epoch's end is signed with those before it
        self._signers_of = signers_of
        self._signers: dict[int, Signers] = {}  # of epochs that were looked up: they never change
        self._ledger = ledger
        self._peers = peers
        self._clock = clock
        self._log = logger("cosigning")
        self._schedule = Schedule(store.newest[0])
        self._read_back = ReadBack(ledger)
        self._early: dict[str, Cosignatures] = {}
        self._work = asyncio.Event()
        self._failed: StorageFailed | None = None
        store.on_failure = self._fail
        self._grown = asyncio.Event()  # set, and replaced, when a signature is stored
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_seconds = max(LEAST_QUIET_SECONDS, QUIET_DELTAS * genesis.delta_ms / 1000)
        tip = ledger.tip()
        if tip is not None:
            self._schedule.final(tip.header)

    # -- what others use

    @property
    def on_alarm(self) -> Callable[[str, str], None]:
        """Whom the operator's alarms are told."""
        return self.publisher.on_alarm

    @on_alarm.setter
    def on_alarm(self, told: Callable[[str, str], None]) -> None:
        self.publisher.on_alarm = told

    def use(self, keys: CosignKeys) -> None:
        """An epoch began: these are the keys that the ledger lists for this node now."""
        self._keys = [keys, *self._keys[:1]]

    def signers_of(self, epoch: int) -> Signers | None:
        """Who signs heads in an epoch; None if it is not known here."""
        found = self._signers.get(epoch) or self._signers_of(epoch)
        if found is not None:
            self._signers[epoch] = found
        return found

    def complete(self, held: Held, kind: int = COSIGNATURE) -> bool:
        """Whether k members of its epoch cosigned a head, with keys of this type too."""
        signers = self.signers_of(held.head.epoch)
        least = min(held.cosigned, held.count(kind))
        return signers is not None and least >= signers.k

    def newest_complete(self, above: int = 0, kind: int = COSIGNATURE) -> Held | None:
        """The newest head of more than `above` leaves that is complete."""
        for size, epoch, count in self.store.counts(kind):
            if size <= above:
                return None
            signers = self.signers_of(epoch)
            if signers is None or count < signers.k:
                continue
            held = self.store.held(size)
            if held is not None and self.complete(held, kind):
                return held
        return None

    def newest_witnessed(self, above: int) -> Held | None:
        """The newest complete head of more than `above` leaves that somebody outside cosigned."""
        found: list[Held] = []
        for kind in (COSIGNATURE | OUTSIDE, MLDSA_COSIGNATURE | OUTSIDE):
            for size in takewhile(above.__lt__, (each[0] for each in self.store.counts(kind))):
                held = self.store.held(size)
                if held is not None and self.complete(held):
                    found.append(held)
                    break
        return max(found, key=lambda held: held.head.size, default=None)

    async def grown(self) -> None:
        """Until another signature is stored."""
        await self._grown.wait()

    def add_outside(self, head: Head, lines: Mapping[VerifierKey, bytes]) -> None:
        """Keep verified lines of witnesses outside the consortium, durably."""
        signers = self.signers_of(head.epoch)
        if signers is None or self.store.held(head.size) is None:
            return  # a newer head replaced it meanwhile
        found = {(str(key), key.type | OUTSIDE): data for key, data in lines.items()}
        self.store.add(head, found, agreed=self._is_agreed(head), k=signers.k)
        self._have_grown()

    async def gather(self, above: int, seconds: float) -> Held | None:
        """The newest complete head of more than `above` leaves, asking for one if there is none;
        None when the members did not answer in time."""
        loop = asyncio.get_running_loop()
        if not self._enough_connected():
            seconds = min(seconds, FEW_SECONDS)
        until, asked = loop.time() + seconds, False
        while (held := self.newest_complete(above)) is None:
            grown = self._grown
            if not asked:
                asked = True
                self._demand()
            try:
                async with asyncio.timeout_at(until):
                    await grown.wait()
            except TimeoutError:
                return None
        return held

    def _enough_connected(self) -> bool:
        """Whether k members of the epoch in force could sign at once."""
        tip = self._schedule.tip
        signers = None if tip is None else self.signers_of(tip.epoch)
        near = {self._me, *self._peers.links}
        return signers is None or signers.k <= sum(
            member.organization in near for member in signers.members
        )

    # -- events, on the loop's thread

    def final(self, blocks: Sequence[Block]) -> None:
        """Blocks became final, durably."""
        for block in blocks:
            ends = bool(block.leaves) and leaf_type(block.leaves[-1]) == EPOCH_END
            self._schedule.final(block.header, ends_epoch=ends)
        self._work.set()
        self._arm()

    def received(self, organization: str, message: Cosignatures) -> None:
        """What a peer's node sent."""
        tip = self._schedule.tip
        if tip is None or message.size > tip.size:
            if len(self._early) < MAX_EARLY or organization in self._early:
                self._early[organization] = message
            return
        try:
            self._receive(organization, message)
        except Unavailable:
            pass  # of a tree whose leaves are not here yet: it can't be judged, and is not needed
        except InvalidInput as error:
            self.refused += 1
            self._log.warning("cosignatures refused", peer=organization, error=str(error))

    def connected(self, organization: str) -> None:
        """A link stands (again): tell what I hold of the newest heads."""
        newest = next(self.store.newest_first(1), None)
        complete = self.newest_complete()
        for held in {each.head.size: each for each in (complete, newest) if each}.values():
            self._peers.send(organization, [self._message(held, asks=True).encode()])

    # -- the part's life

    async def run(self) -> None:
        """Sign what is due until cancelled; an error that must stop the process is raised."""
        for organization, size, _ in self.store.conflicts():
            self._tell_split_view(organization, size)
        try:
            self._arm()
            while True:
                await self._work.wait()
                self._work.clear()
                if self._failed is not None:
                    raise self._failed
                await self._sign_due()
                self._receive_early()
        finally:
            self._disarm()

    def _fail(self, failed: StorageFailed) -> None:
        """A write failed on a peer's or a reader's account, who can do nothing: `run` raises it."""
        self._failed = failed
        self._work.set()

    def close(self) -> None:
        self.store.close()

    # -- signing

    async def _sign_due(self) -> None:
        due = self._schedule.take()
        if due and self._ledger.history is not None:
            return  # it began with a snapshot: before all leaves are here nothing can be read back
        for head in due:
            signers = self.signers_of(head.epoch)
            place = None if signers is None else signers.place(self._me)
            if signers is None or place is None:
                continue
            keys = self._keys_of(signers.members[place])
            if keys is None:
                continue  # of an epoch that listed other keys of mine
            await self._read_back.check(head, self.store.newest)
            self._sign(head, signers, place, keys)
        if self._schedule.quiet:
            self._disarm()

    def _keys_of(self, member: Signer) -> CosignKeys | None:
        """The keys of mine that an epoch lists."""
        return next((keys for keys in self._keys if keys.of(member)), None)

    def _sign(self, head: Head, signers: Signers, place: int, keys: CosignKeys) -> None:
        member, now = signers.members[place], self._clock.wall_ms() // 1000
        signed = cosigning.sign(head, self.origin, place, member, keys, now)
        if self._read_back.weighty:
            signed += cosigning.sign_mldsa(head, self.origin, place, member, keys, now)
            self._read_back.weighty = False
        self._keep_own(head, signed)
        self._schedule.newest = head.size
        self._tell(head.size)
        self._have_grown()

    def _keep_own(self, head: Head, signed: Sequence[Signed]) -> None:
        """Make signatures of mine durable: before that, none leaves."""
        mine = {(self._me, each.type): each.signature for each in signed}
        self.store.sign(head, mine, agreed=self._is_agreed(head))

    def _is_agreed(self, head: Head) -> bool:
        header = self._ledger.header_of_size(head.size)
        if header is not None and cosigning.is_agreed(header):
            return True
        last = self._ledger.leaves(head.size - 1, 1)
        return bool(last) and leaf_type(last[0]) == EPOCH_END

    # -- gathering

    def _receive(self, organization: str, message: Cosignatures) -> None:
        if (missing := self._ledger.history) is not None and message.size <= missing[1]:
            return  # of a part of the ledger that is not here yet
        signers = self.signers_of(message.epoch)
        if signers is None:
            raise InvalidInput("cosignatures of an unknown epoch", found=message.epoch)
        head = Head(message.size, message.root, message.epoch)
        if head.root != Frontier.read(head.size, self._ledger.node).root():
            self._conflicting(message, head, signers)
            return
        header = self._ledger.header_of_size(head.size)
        if header is None or header.epoch != head.epoch:
            raise InvalidInput("cosignatures of no final block", found=f"size {head.size}")
        held = self.store.held(head.size)
        known = {} if held is None else held.signatures
        new: dict[tuple[str, int], bytes] = {}
        for signed in message.signatures:
            self._take(signed, head, signers, known, new)
        if new and (held is not None or self._is_wanted(head)):
            # Each member has its own on disk before it tells them, and tells them again to who
            # connects: a sync for each would be two of three that a head costs.
            agreed = self._is_agreed(head)
            self.store.add(head, new, agreed=agreed, k=signers.k, synced=False)
            self._have_grown()
        if new:
            self._schedule.want(head)
            self._work.set()
        self._add_mldsa(head, signers, {*known, *new})
        if message.asks:
            self._answer(organization, head.size)

    def _take(
        self,
        signed: Signed,
        head: Head,
        signers: Signers,
        known: cosigning.Signatures,
        new: dict[tuple[str, int], bytes],
    ) -> None:
        if signed.member < len(signers.members):
            name = signers.members[signed.member].organization
            if (name, signed.type) in known:
                return
        member = cosigning.verify(signed, head, self.origin, signers)
        new[member.organization, signed.type] = signed.signature

    def _is_wanted(self, head: Head) -> bool:
        """Whether a head may still serve: else a liar could fill the disk with old ones."""
        complete = self.newest_complete()
        return complete is None or head.size > complete.head.size or self._is_agreed(head)

    def _add_mldsa(self, head: Head, signers: Signers, present: set[tuple[str, int]]) -> None:
        """Others signed my newest head with ML-DSA-44 too: so do I."""
        place = signers.place(self._me)
        if place is None or self.store.newest != (head.size, head.root):
            return
        others = any(kind == MLDSA_COSIGNATURE for _, kind in present)
        if not others or (self._me, MLDSA_COSIGNATURE) in present:
            return
        member, now = signers.members[place], self._clock.wall_ms() // 1000
        keys = self._keys_of(member)
        if keys is None:
            return
        signed = cosigning.sign_mldsa(head, self.origin, place, member, keys, now)
        if signed:
            self._keep_own(head, signed)
            self._tell(head.size)

    def _conflicting(self, message: Cosignatures, head: Head, signers: Signers) -> None:
        """Somebody shows signatures on another history: those that verify are proof."""
        for signed in message.signatures:
            member = cosigning.verify(signed, head, self.origin, signers)
            self.store.add_conflict(member.organization, head.size, message.encode())
            self._tell_split_view(member.organization, head.size)

    def _tell_split_view(self, organization: str, size: int) -> None:
        self._log.error("split view", member=organization, size=size)
        words = f"{organization} signed another root of size {size} than this ledger's"
        self.on_alarm("split view", f"{words}: its signature is kept in cosignatures.db")

    def _receive_early(self) -> None:
        tip = self._schedule.tip
        ripe = {k: m for k, m in self._early.items() if tip is not None and m.size <= tip.size}
        for organization, message in ripe.items():
            del self._early[organization]
            self.received(organization, message)

    # -- telling

    def _demand(self) -> None:
        self._schedule.rest()
        self._work.set()
        newest = next(self.store.newest_first(1), None)
        if newest is not None:
            for name in self._peers.links:
                self._peers.send(name, [self._message(newest, asks=True).encode()])

    def _tell(self, size: int) -> None:
        held = self.store.held(size)
        if held is not None:
            data = self._message(held, asks=False).encode()
            for name in self._peers.links:
                self._peers.send(name, [data])

    def _answer(self, organization: str, size: int) -> None:
        held = self.store.held(size)
        if held is not None:
            self._peers.send(organization, [self._message(held, asks=False).encode()])

    def _message(self, held: Held, *, asks: bool) -> Cosignatures:
        signers = self.signers_of(held.head.epoch)
        places = {} if signers is None else _places(signers)
        signed = tuple(
            Signed(places[name], kind, data)
            for (name, kind), data in held.signatures.items()
            if name in places
        )
        head = held.head
        return Cosignatures(asks, head.epoch, head.size, head.root, signed)

    # -- quiet

    def _have_grown(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _arm(self) -> None:
        if self._timer is None and not self._schedule.quiet:
            tip = self._schedule.tip
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._quiet_seconds, self._rested, tip)

    def _rested(self, tip: Head | None) -> None:
        self._timer = None
        if tip == self._schedule.tip:
            self._schedule.rest()
            self._work.set()
        else:
            self._arm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _places(signers: Signers) -> dict[str, int]:
    return {each.organization: place for place, each in enumerate(signers.members)}
