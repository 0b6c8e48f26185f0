"""A node that is far behind begins anew with a snapshot: final rows instead of all that led there.

- It is taken up when a peer says that it is more than `after` blocks ahead, and soon proves it.
  Meanwhile the replica stands still; a snapshot that is whole makes the node start again on it, in
  place.
- What a peer offers is proven before a row is taken. Rows come in parts, in the order of keys; one
  that breaks off is gone on with, also from another peer, and after a kill of this process. When
  all are here they give the digest of a certified header or are thrown away. A peer that lied is
  counted, and never asked again; where several gave rows that do not add up, nobody can be named,
  and each is asked for all of them. When nobody is left, blocks are fetched one by one as before.
- One that gives others is asked again after some seconds: that is no fault of it.
- One who gives too little in a time is left for another, who goes on: whoever left the node waiting
  least often is asked first. What a peer says of its moment is believed as far as it proved it.
- Memory: a part. Disk: the rows, in a draft.
- Serving: a few at once (giving_places), part by part as the ledger grows, by a node that holds the
  whole ledger; no read outlasts a part.

Form of an ask (`snapshot`): a `Place`. Of the answer: frames; the offer of the newest block, then
parts from that place on, the first one of the same moment. After some of them the taker asks again.

Leaves to others: proofs (tilth_ledger.snapshots, snapshot_rows), files (storage.snapshot_file),
votes: a node that lost its memory is silent until the others showed theirs (tilth_ledger.restart).
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from tilth_ledger.epochs import epoch_key, newest
from tilth_ledger.errors import Fatal, InvalidInput, TilthError, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.snapshot_rows import MAX_PART_BYTES, Change, Part, Place, Taken
from tilth_ledger.snapshots import MAX_OFFER_BYTES, Milestone, Offer
from tilth_node.folder import Folder
from tilth_node.giving_places import GivingPlaces
from tilth_node.logs import logger
from tilth_node.rpc.frames import framed, frames
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.past_blocks import milestone_of
from tilth_node.storage.snapshot_file import SnapshotFile, bounds_of, discard

METHOD = "snapshot"
TRIES = 3  # of one peer that breaks off without having given anything
BUSY_TRIES, BUSY_SECONDS = 60, 5.0  # of one that gives others, and between two of them
BUSY = "this node gives a snapshot to others already"
OFFER_SECONDS = 10.0
PACE_BYTES, PACE_SECONDS = 16 << 20, 60.0  # of rows that must come in each time, or the end
PART_ROWS = 256
ANSWER_PARTS = 256  # with rows, beside what changed; so each few seconds prove a newer block
SERVED = 2  # at once
SLACK_ROWS, SLACK_BYTES = (
    65_536,
    64 << 20,
)  # beside twice what was offered, for what comes meanwhile
FLOOR_BYTES = 256 << 20  # of disk that stay free

Handler = Callable[[str, bytes], AsyncIterator[bytes]]


class Peers(Protocol):
    """What this module needs of the node's connections."""

    @property
    def links(self) -> Mapping[str, object]: ...

    def request(
        self, organization: str, method: str, body: bytes
    ) -> AsyncGenerator[bytes, None]: ...

    def serve(self, method: str, handler: Handler) -> None: ...


@dataclass(slots=True)
class Visit:
    """All asks of one peer, until the snapshot is whole or the peer is left."""

    organization: str
    pace: asyncio.Timeout
    row_bytes: int  # what was here when the time began that runs now
    stated: int = 0  # the latest moment that the peer spoke of

    def check(self, offer: Offer) -> None:
        """Raise InvalidInput when a moment that was stated does not exist yet."""
        size = offer.tip.block.header.size
        if self.stated > size:
            raise InvalidInput("parts of a moment to come", found=self.stated, expected=size)

    def came(self, taken: Taken) -> None:
        """So much is here: only more than ever gives more time, not what changes again."""
        if taken.row_bytes - self.row_bytes >= PACE_BYTES:
            self.row_bytes = taken.row_bytes
            self.pace.reschedule(asyncio.get_running_loop().time() + PACE_SECONDS)


class Joining:
    """Both sides of snapshots, of one node."""

    def __init__(
        self, genesis: Genesis, store: LedgerStore, folder: Folder, peers: Peers, after: int
    ) -> None:
        self._genesis, self._store, self._folder = genesis, store, folder
        self._peers, self._after = peers, after
        self._log = logger("joining")
        self._told: dict[str, int] = {}  # the height that each peer says it has
        self._tries: dict[str, int] = {}
        self._left = Counter[str]()  # how often each broke off or was too slow
        self._work = asyncio.Event()
        self._busy = Counter[str]()  # how often each in a row had no place
        self._rests: dict[str, float] = {}  # until when each is not asked, by the loop's clock
        self._places = GivingPlaces(SERVED)
        self._draft: SnapshotFile | None = None
        self._alone = False  # rows of several peers did not add up
        self._least = 0  # more blocks than these are worth a snapshot
        self.joins = False
        self.damaged = False
        self.busy_seconds = BUSY_SECONDS
        self.ready = asyncio.Event()  # a snapshot waits for the next start
        # Set by who builds the node: the replica stands still (why), or goes on.
        self.hold: Callable[[str], None] = lambda words: None
        self.release: Callable[[], None] = lambda: None
        self.on_fault: Callable[[str, str], None] = lambda organization, reason: None
        peers.serve(METHOD, self.serve)

    # -- taking

    def told(self, organization: str, height: int, own: int) -> None:
        """A peer says how high its ledger is; this node's is `own` high."""
        self._begin(organization, height, own, self._after)

    def told_by_unlisted(self, organization: str, height: int, own: int) -> None:
        """One that this node's ledger does not list says so, and no other is connected: nothing but
        a snapshot leads to where it is listed."""
        self._begin(organization, height, own, 0)

    def begin_anew(self, words: str) -> None:
        """This node's file is damaged, as these words say: stand still until another node gave all
        rows, however high it is."""
        self.damaged = self.joins = True
        self._least = -1  # one as high as this will do
        self.hold(f"{words} This node takes no entries and does not vote; it asks for a snapshot")
        self._work.set()

    def _begin(self, organization: str, height: int, own: int, after: int) -> None:
        self._told[organization] = height
        if self.damaged:
            self._work.set()
            return
        if not self.joins and max(self._told.values()) - own <= after:
            discard(self._folder.joining)  # what an earlier try left: blocks did it
        if self.joins or height - own <= after or not self._may_ask(organization):
            return
        self.joins, self._least = True, after
        self.hold(
            f"this node is {height - own} blocks behind: it fetches a snapshot, and takes entries"
            " when it has it"
        )
        self._work.set()

    async def run(self) -> None:
        """Join when that is due, until cancelled. Raises StorageFailed when the disk fails."""
        while True:
            await self._work.wait()
            self._work.clear()
            if await self._join():
                self.ready.set()
            elif not self.damaged:
                self.joins = False
                self.release()

    async def _join(self) -> bool:
        draft = SnapshotFile(self._folder.joining, self._folder.snapshot, self._genesis.net_bytes)
        self._draft = draft
        try:
            while (organization := self._next()) is not None:
                if organization in self._rests:  # as do all others who may be asked
                    await self._rested(organization)
                if await self._take(organization, draft):
                    return True
            return False
        finally:
            self._draft = None
            draft.close()

    @property
    def rows(self) -> int:
        """How many rows of a snapshot have come; 0 when none is on its way."""
        return 0 if self._draft is None else self._draft.taken.rows

    async def _take(self, organization: str, draft: SnapshotFile) -> bool:
        """All that one peer gives; whether the snapshot is whole."""
        before = draft.taken
        try:
            await self._fetch(organization, draft)
        except Fatal:
            raise
        except InvalidInput as error:
            if organization in draft.givers:
                draft.clear()  # what else it gave is worth as little
            self._tries[organization] = TRIES
            self.on_fault(organization, f"snapshot: {error.message}")
            self._log.error("snapshot refused", peer=organization, error=str(error))
        except _NoPlace:
            self._rest(organization)
        except TilthError as error:
            tries = 0 if draft.taken.rows > before.rows else self._tries.get(organization, 0)
            self._tries[organization] = tries + 1
            self._left[organization] += 1
            self._log.warning("snapshot broke off", peer=organization, error=str(error))
        else:
            return True
        return False

    def _rest(self, organization: str) -> None:
        """It gives others: that is no fault, but it may last for ever."""
        self._busy[organization] += 1
        if self._busy[organization] > BUSY_TRIES:
            self._tries[organization] = TRIES
        self._rests[organization] = asyncio.get_running_loop().time() + self.busy_seconds

    async def _rested(self, organization: str) -> None:
        """Wait until a busy one may be asked again."""
        passed = asyncio.Event()
        at = self._rests.pop(organization, 0.0)
        timer = asyncio.get_running_loop().call_at(at, passed.set)
        try:
            await passed.wait()
        finally:
            timer.cancel()

    def _next(self) -> str | None:
        """Whom to ask: of those that stand and were not busy lately, the highest that were left
        least often."""
        standing = [name for name in self._peers.links if self._may_ask(name)]
        needed = self._height + (not self.damaged)
        ahead = [name for name in standing if self._told.get(name, 0) >= needed]
        rests = self._rests
        return max(
            ahead,
            key=lambda n: (-rests.get(n, 0.0), -self._left[n], self._told[n], n),
            default=None,
        )

    def _may_ask(self, organization: str) -> bool:
        return self._tries.get(organization, 0) < TRIES

    @property
    def _height(self) -> int:
        tip = self._store.tip()
        return 0 if tip is None else tip.header.height

    async def _fetch(self, organization: str, draft: SnapshotFile) -> None:
        """Go on with the snapshot at one peer, up to the file that waits for the next start."""
        if self._alone and draft.givers - {organization}:
            draft.clear()
        offer = await self._visit(organization, draft)
        header = offer.tip.block.header
        try:
            draft.taken.check(header.state)
        except InvalidInput:
            if draft.givers == {organization}:
                raise
            self._alone = True
            found = ", ".join(sorted(draft.givers))
            draft.clear()
            raise Unavailable(
                "rows of several nodes do not add up: each is asked for all of them", found=found
            ) from None
        draft.finish(offer)
        self._log.info(
            "snapshot", peers=sorted(draft.givers), height=header.height, rows=draft.taken.rows
        )

    async def _visit(self, organization: str, draft: SnapshotFile) -> Offer:
        """Ask one peer again and again, each time for what is missing yet, until nothing is."""
        try:
            async with asyncio.timeout(PACE_SECONDS) as pace:
                visit = Visit(organization, pace, draft.taken.row_bytes)
                while (offer := await self._round(visit, draft)) is None:
                    pass
                return offer
        except TimeoutError:
            raise Unavailable(
                "the snapshot comes too slowly",
                found=f"{draft.taken.row_bytes} bytes in all",
                expected=f"{PACE_BYTES} more in {PACE_SECONDS:g} s, or the end",
            ) from None

    async def _round(self, visit: Visit, draft: SnapshotFile) -> Offer | None:
        """Take the parts of one answer; the offer if it is of the moment of the last part."""
        organization, number = visit.organization, 0
        answer = self._peers.request(organization, METHOD, draft.taken.place.encode())
        async with aclosing(answer):
            parts = frames(answer, [MAX_OFFER_BYTES, MAX_PART_BYTES])
            offer = await self._offered(parts)
            self._busy[organization] = 0
            visit.check(offer)
            size = offer.tip.block.header.size
            async for data in parts:
                number += 1
                part = Part.decode(data)
                visit.stated = max(visit.stated, part.size)
                if number == 1:
                    visit.check(offer)
                taken = draft.taken.after(part, draft.value_of).within(size)
                _check_bounds(offer, taken)
                draft.write(part, taken, organization)
                visit.came(taken)
                if part.ended:
                    return offer if number == 1 and part.size == size else None
        if not number:
            raise Unavailable("the snapshot broke off", found="after the offer")
        return None

    async def _offered(self, parts: AsyncIterator[bytes]) -> Offer:
        """What a peer offers, checked. The replica stands still on that peer's word alone: so it
        must come soon, and be of a ledger that is proven to be far ahead."""
        try:
            async with asyncio.timeout(OFFER_SECONDS):
                first = await anext(parts, None)
        except Unavailable as error:
            raise (_NoPlace(BUSY) if error.message == BUSY else error) from error
        except TimeoutError:
            raise Unavailable("no offer comes", found=f"{OFFER_SECONDS:g} s of silence") from None
        if first is None:
            raise InvalidInput("a snapshot without an offer")
        offer = Offer.decode(first)
        self._check(offer)
        ahead = offer.tip.block.header.height - self._height
        if ahead <= self._least:
            raise Unavailable(
                "the offered snapshot is of no ledger that is far ahead",
                found=f"{ahead} blocks",
                expected=f"more than {self._least}",
            )
        return offer

    def _check(self, offer: Offer) -> None:
        offer.check(self._genesis)
        height = offer.tip.block.header.height
        if height < self._height + (not self.damaged):
            raise InvalidInput("a snapshot that is older than this ledger", found=height)
        free = shutil.disk_usage(self._folder.path).free - FLOOR_BYTES
        if offer.row_bytes > free:
            raise Unavailable(
                "the offered snapshot may not fit on this disk",
                found=f"{offer.row_bytes} bytes",
                expected=f"at most {free}",
                remedy="make room, then start the node again",
            )

    # -- giving

    async def serve(self, organization: str, body: bytes) -> AsyncIterator[bytes]:
        """The newest final block, and all rows from a place on."""
        place = Place.decode(body)
        lacks = self.joins or self._store.history is not None or place.size > self._store.size
        mine = None if lacks else self._places.take(organization, _now_ms())
        if mine is None:
            words = "this node lacks blocks itself: it gives no snapshot" if lacks else BUSY
            raise Unavailable(words, remedy="ask another one, or later")
        try:
            offer, parts = self._offer(), self._parts(place)
            first = next(parts)  # of the same moment: nothing is written between
            yield framed(offer)
            yield framed(first.encode())
            await asyncio.sleep(0)  # votes come first
            while self._places.goes_on(mine, _now_ms()) and (part := next(parts, None)):
                yield framed(part.encode())
                await asyncio.sleep(0)
        finally:
            self._places.leave(mine, _now_ms())

    def _offer(self) -> bytes:
        tip = self._store.tip()
        if tip is None:
            raise Unavailable("nothing is final yet")
        ends = [self._ended(number) for number in range(1, newest(self._store.rows)[0] + 1)]
        below = [each for each in ends if each.block.header.height < tip.header.height]
        last = milestone_of(self._store, tip.header.height)
        if last is None:
            raise Fatal("the ledger's last block cannot be read", found=tip.header.height)
        return Offer((*below, last), *bounds_of(self._store.path)).encode()

    def _parts(self, place: Place) -> Iterator[Part]:
        """Rows from a place on, each part of the moment when it is asked for."""
        store, anew = self._store, False
        for _ in range(ANSWER_PARTS):
            now, keys = store.size, self._changed(place)
            if keys is None:
                place, anew, keys = Place(), True, []
            while len(keys) > PART_ROWS:
                # Their taker stays at the older size until it has them all.
                some, keys = keys[:PART_ROWS], keys[PART_ROWS:]
                yield Part(place.size, self._values(some), ())
            rows = tuple(store.rows.scan_bytes("", place.key, PART_ROWS))
            ended = len(rows) < PART_ROWS
            yield Part(now, self._values(keys), rows, ended, anew)
            if ended:
                return
            place, anew = Place(now, rows[-1][0]), False

    def _changed(self, place: Place) -> list[str] | None:
        """Keys up to a place of rows that changed since; None when that is not known any more."""
        if not place.key:
            return []
        touched = self._store.touched_after(place.size)
        if touched is None:
            return None
        keys = {key for some in touched for key in some if key <= place.key}
        return sorted(keys) if self._store.touched_after(place.size) is not None else None

    def _values(self, keys: list[str]) -> tuple[Change, ...]:
        return tuple((key, self._store.rows.get_bytes(key)) for key in keys)

    def _ended(self, epoch: int) -> Milestone:
        """The block that ended the epoch before this one."""
        row = self._store.rows.get(epoch_key(epoch)) or {}
        height = self._store.height_with(int(row["index"]))
        found = milestone_of(self._store, height)
        if found is None:
            raise Fatal("no certificate ends an epoch of this ledger", found=epoch)
        return found


class _NoPlace(Unavailable):
    """The node that was asked gives others."""


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


def _check_bounds(offer: Offer, taken: Taken) -> None:
    """Raise InvalidInput when much more comes than was offered."""
    rows, size = 2 * offer.rows + SLACK_ROWS, 2 * offer.row_bytes + SLACK_BYTES
    if taken.rows > rows or taken.row_bytes > size:
        raise InvalidInput("more rows come than were offered", found=taken.rows, expected=rows)
