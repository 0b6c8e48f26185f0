"""A node that is far behind begins anew with a snapshot: final rows instead of all that led there.

- It is taken up when a peer says that it is more than `after` blocks ahead. Meanwhile the replica
  stands still; a snapshot that is whole makes the node start again on it, in place.
- What a peer offers is proven before a row is taken, and the rows when the last one came: they give
  the digest of the certified header or are thrown away. A peer that lied is counted, and never
  asked again; another one is. When nobody is left, blocks are fetched one by one as before.
- Memory: a page. Disk: the rows, in a draft that a crash leaves and the next start removes.
- Serving: one snapshot at a time, of one moment, by a node that holds the whole ledger.

Form of an ask (`snapshot`): an empty body. Of the answer: frames; the offer, then pages of rows.

Leaves to others: proofs (tilth_ledger.snapshots), files (storage.snapshot_file), votes: a node that
lost its memory is silent until the others showed theirs (tilth_ledger.restart).
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from tilth_ledger.epochs import epoch_key, newest
from tilth_ledger.errors import Fatal, InvalidInput, TilthError, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.snapshots import (
    MAX_OFFER_BYTES,
    MAX_PAGE_BYTES,
    Intake,
    Milestone,
    Offer,
    write_rows,
)
from tilth_node.folder import Folder
from tilth_node.logs import logger
from tilth_node.rpc.frames import framed, frames
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.past_blocks import milestone_of
from tilth_node.storage.snapshot_file import SnapshotFile, bounds_of, rows_of

METHOD = "snapshot"
TRIES = 3  # of one peer that breaks off
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
        self._work = asyncio.Event()
        self._serving = False
        self.joins = False
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

    def _begin(self, organization: str, height: int, own: int, after: int) -> None:
        self._told[organization] = height
        if self.joins or height - own <= after or not self._may_ask(organization):
            return
        self.joins = True
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
            else:
                self.joins = False
                self.release()

    async def _join(self) -> bool:
        while (organization := self._next()) is not None:
            try:
                await self._fetch(organization)
            except Fatal:
                raise
            except InvalidInput as error:
                self._tries[organization] = TRIES
                self.on_fault(organization, f"snapshot: {error.message}")
                self._log.error("snapshot refused", peer=organization, error=str(error))
            except TilthError as error:
                self._tries[organization] = self._tries.get(organization, 0) + 1
                self._log.warning("no snapshot", peer=organization, error=str(error))
            else:
                return True
        return False

    def _next(self) -> str | None:
        """Whom to ask: the highest of those that stand."""
        standing = [name for name in self._peers.links if self._may_ask(name)]
        ahead = [name for name in standing if self._told.get(name, 0) > self._height]
        return max(ahead, key=lambda name: (self._told[name], name), default=None)

    def _may_ask(self, organization: str) -> bool:
        return self._tries.get(organization, 0) < TRIES

    @property
    def _height(self) -> int:
        tip = self._store.tip()
        return 0 if tip is None else tip.header.height

    async def _fetch(self, organization: str) -> None:
        """One snapshot from one peer, up to the file that waits for the next start."""
        file = SnapshotFile(self._folder.joining, self._folder.snapshot)
        try:
            answer = self._peers.request(organization, METHOD, b"")
            async with aclosing(answer):
                parts = frames(answer, [MAX_OFFER_BYTES, MAX_PAGE_BYTES])
                first = await anext(parts, None)
                if first is None:
                    raise InvalidInput("a snapshot without an offer")
                offer = Offer.decode(first)
                self._check(offer)
                intake = Intake(offer)
                async for page in parts:
                    file.add(intake.take(page))
            file.finish(offer, intake.finish())
        finally:
            file.close()
        header = offer.tip.block.header
        self._log.info("snapshot", peer=organization, height=header.height, rows=intake.rows)

    def _check(self, offer: Offer) -> None:
        offer.check(self._genesis)
        height = offer.tip.block.header.height
        if height <= self._height:
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
        """The newest final block and all rows after it."""
        if self._serving or self.joins or self._store.history is not None:
            raise Unavailable(
                "this node gives no snapshot now",
                found="it gives one already, or lacks blocks itself",
                remedy="ask another one, or later",
            )
        self._serving = True
        try:
            offer, pages = self._offer()
            yield framed(offer)
            for page in pages:
                yield framed(write_rows(page))
                await asyncio.sleep(0)  # votes come first
        finally:
            self._serving = False

    def _offer(self) -> tuple[bytes, Iterator[list[tuple[str, bytes]]]]:
        """Both are of one moment: nothing is written between."""
        path: Path = self._store.path
        tip = self._store.tip()
        if tip is None:
            raise Unavailable("nothing is final yet")
        ends = [self._ended(number) for number in range(1, newest(self._store.rows)[0] + 1)]
        below = [each for each in ends if each.block.header.height < tip.header.height]
        last = milestone_of(self._store, tip.header.height)
        if last is None:
            raise Fatal("the ledger's last block cannot be read", found=tip.header.height)
        return Offer((*below, last), *bounds_of(path)).encode(), rows_of(path, tip.header.size)

    def _ended(self, epoch: int) -> Milestone:
        """The block that ended the epoch before this one."""
        row = self._store.rows.get(epoch_key(epoch)) or {}
        height = self._store.height_with(int(row["index"]))
        found = milestone_of(self._store, height)
        if found is None:
            raise Fatal("no certificate ends an epoch of this ledger", found=epoch)
        return found
