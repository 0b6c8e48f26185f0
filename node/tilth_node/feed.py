"""News of rows: whoever subscribes sees a snapshot, then every change as it becomes final.

- Snapshot and changes join without a gap or an overlap: both happen on the loop's thread.
- A batch is all that became final together; a reader that falls too far behind is cut off, in
  words.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from tilth_ledger.errors import Unavailable
from tilth_node.storage.ledger_store import LedgerStore

MAX_WAITING = 10_000
SNAPSHOT_ROWS = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows by key with their canonical bytes, None when deleted. `live`: not of the snapshot."""

    size: int
    rows: Mapping[str, bytes | None]
    live: bool


@dataclass(slots=True)
class _Reader:
    prefixes: tuple[str, ...]
    waiting: asyncio.Queue[Changes | None] = field(default_factory=asyncio.Queue)

    def tell(self, changes: Changes) -> None:
        """Queue a batch; None ends the queue of one who does not read."""
        if self.waiting.qsize() < MAX_WAITING:
            self.waiting.put_nowait(changes)
        elif self.waiting.qsize() == MAX_WAITING:
            self.waiting.put_nowait(None)


class Feed:
    """All subscriptions of a node, and those who wait for a size."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._readers: list[_Reader] = []
        self.grown = asyncio.Event()  # set, and replaced, when the ledger grows

    def publish(self, size: int, batches: Sequence[Mapping[str, bytes | None]]) -> None:
        """Tell what has become final; called when it can be read."""
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()
        merged = {key: value for batch in batches for key, value in batch.items()}
        for reader in self._readers:
            rows = {key: merged[key] for key in merged if key.startswith(reader.prefixes)}
            if rows:
                reader.tell(Changes(size, rows, live=True))

    async def subscribe(
        self, prefixes: Sequence[str], *, snapshot: bool = True
    ) -> AsyncIterator[Changes]:
        """Rows under the prefixes as they stand, an empty live batch, then every change."""
        reader = _Reader(_covering(prefixes))
        self._readers.append(reader)
        try:
            for changes in self._snapshot(reader.prefixes) if snapshot else ():
                yield changes
            yield Changes(self._store.size, {}, live=True)
            while (news := await reader.waiting.get()) is not None:
                yield news
            raise Unavailable(
                "the reader is too slow for the news",
                found=f"{MAX_WAITING} batches waiting",
                remedy="subscribe again, and read faster or fewer prefixes",
            )
        finally:
            self._readers.remove(reader)

    def news(self) -> "News":
        """A watch of the ledger from now on."""
        return News(self)

    @property
    def size(self) -> int:
        """How many leaves are final here."""
        return self._store.size

    async def at_least(self, size: int) -> None:
        """Wait until so many leaves are final."""
        while self._store.size < size:
            await self.grown.wait()

    def _snapshot(self, prefixes: Sequence[str]) -> list[Changes]:
        size = self._store.size
        rows: dict[str, bytes] = {}
        for prefix in prefixes:
            rows.update(self._store.rows.scan_bytes(prefix))
        keys = list(rows)
        parts = [keys[at : at + SNAPSHOT_ROWS] for at in range(0, len(keys), SNAPSHOT_ROWS)]
        return [Changes(size, {key: rows[key] for key in part}, live=False) for part in parts]


def _covering(prefixes: Sequence[str]) -> tuple[str, ...]:
    """Without those that another one covers: each row is read once, however it was asked for."""
    wanted = tuple(dict.fromkeys(prefixes))
    return tuple(
        each
        for each in wanted
        if not any(each.startswith(other) for other in wanted if other != each)
    )


class News:
    """Waits for growth of the ledger, all waits together for a limited time."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._until: float | None = None

    async def within(self, seconds: float) -> bool:
        """Whether the ledger grew before `seconds` from the first wait were over."""
        loop = asyncio.get_running_loop()
        if self._until is None:
            self._until = loop.time() + seconds
        try:
            async with asyncio.timeout_at(self._until):
                await self._feed.grown.wait()
        except TimeoutError:
            return False
        return True
