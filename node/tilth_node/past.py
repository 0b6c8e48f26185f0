"""The past of a ledger that began with a snapshot, fetched from other nodes in the background, and
blocks that this node's disk lost.

- One stretch at a time is asked for, verified backwards from a header that is here, and written;
  the next start goes on where this one ended.
- A node whose past lies is left out from then on; one whose past does not come, until it connects
  again or some minutes have passed.

Form of an ask (`past`): height u64, big-endian: blocks right below it. Of the answer: one frame, a
`Stretch`.

Leaves to others: verifying (tilth_ledger.history), files (storage.past_blocks).
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from tilth_ledger.blocks import Header
from tilth_ledger.epochs import epoch_key
from tilth_ledger.errors import Fatal, InvalidInput, TilthError, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.history import MAX_STRETCH_BYTES, Past, Stretch
from tilth_ledger.merkle import NewNode
from tilth_ledger.snapshots import Voters
from tilth_node.joining import Peers
from tilth_node.logs import logger
from tilth_node.rpc.frames import framed, frames
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.past_blocks import put, stretch_below

METHOD = "past"
TRIES = 3
AGAIN_SECONDS = 300.0

_HEIGHT = struct.Struct(">Q")

Checked = list[tuple[Past, list[NewNode]]]


class PastBlocks:
    """Both sides of it, of one node."""

    def __init__(self, genesis: Genesis, store: LedgerStore, peers: Peers) -> None:
        self._genesis, self._store, self._peers = genesis, store, peers
        self._log = logger("past")
        self._tries: dict[str, int] = {}
        self._liars: set[str] = set()
        self.again_seconds = AGAIN_SECONDS
        self._news = asyncio.Event()
        self.on_fault: Callable[[str, str], None] = lambda organization, reason: None
        peers.serve(METHOD, self.serve)

    def connected(self, organization: str) -> None:
        """Somebody who may have it is there (again)."""
        if organization not in self._liars:
            self._tries.pop(organization, None)
            self._news.set()

    def _again(self) -> None:
        """Who had nothing to give may have it by now."""
        self._tries = dict.fromkeys(self._liars, TRIES)
        self._news.set()

    async def run(self) -> None:
        """Fetch what is missing, until cancelled. Raises StorageFailed when the disk fails."""
        while True:
            missing = self._store.history
            if missing is None:
                await self._news.wait()
                self._news.clear()
            elif not await self._extend(missing[0]):
                await self._news_or_later()

    async def _news_or_later(self) -> None:
        again = asyncio.get_running_loop().call_later(self.again_seconds, self._again)
        try:
            await self._news.wait()
        finally:
            again.cancel()
        self._news.clear()

    async def _extend(self, height: int) -> bool:
        checked = await self._from_anybody(height)
        if checked is not None:
            put(self._store, checked, extends=True)
            await asyncio.sleep(0)
        return checked is not None

    async def repair(self, height: int) -> bool:
        """Fetch the block at a height again, and what of the tree it completed; whether somebody
        had it."""
        checked = await self._from_anybody(height + 1)
        if checked is not None:
            put(self._store, checked[-1:], extends=False)
        return checked is not None

    async def _from_anybody(self, height: int) -> Checked | None:
        """Verified blocks that end below a height."""
        above = self._above(height)
        for organization in sorted(self._peers.links):
            if self._tries.get(organization, 0) >= TRIES:
                continue
            try:
                stretch = await self._ask(organization, height)
                checked = stretch.check(self._genesis.net_bytes, above, self._voters)
            except Fatal:
                raise
            except InvalidInput as error:
                self._tries[organization] = TRIES
                self._liars.add(organization)
                self.on_fault(organization, f"past: {error.message}")
                self._log.error("past refused", peer=organization, error=str(error))
            except TilthError as error:
                self._tries[organization] = self._tries.get(organization, 0) + 1
                self._log.info("no past", peer=organization, error=str(error))
            else:
                self._tries[organization] = 0
                return checked
        return None

    async def _ask(self, organization: str, height: int) -> Stretch:
        answer = self._peers.request(organization, METHOD, _HEIGHT.pack(height))
        async with aclosing(answer):
            async for frame in frames(answer, [MAX_STRETCH_BYTES]):
                return Stretch.decode(frame)
        raise InvalidInput("an answer without blocks")

    def _above(self, height: int) -> Header:
        """The header that the blocks below a height must stand under: of the block there, or of the
        next one that links to it."""
        header = self._store.header(height)
        if header is None:
            raise Fatal("the ledger lacks a block that it stands on", found=f"height {height}")
        return header

    def _voters(self, number: int) -> Voters | None:
        """Who voted in an epoch."""
        row = self._store.rows.get(epoch_key(number))
        return None if row is None else Voters.of(number, row, self._genesis.net_bytes)

    async def serve(self, organization: str, body: bytes) -> AsyncIterator[bytes]:
        """Blocks that end right below the height that was asked for."""
        if len(body) != _HEIGHT.size:
            raise InvalidInput("an ask for past blocks is 8 bytes", found=len(body))
        (height,) = _HEIGHT.unpack(body)
        stretch = stretch_below(self._store, height) if height < 1 << 62 else None
        if stretch is None:
            raise Unavailable("these blocks are not here", found=f"below height {height}")
        yield framed(stretch.encode())
