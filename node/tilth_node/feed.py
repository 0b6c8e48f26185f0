"""News of rows: whoever subscribes sees a snapshot, then every change as it becomes final.

- Snapshot and changes join without a gap: rows are read in pages, and what changes behind the last
  page is told again. No page holds the loop for long.
- Whoever was told all up to a size goes on from there, also over a restart of the node.
- A batch is all that became final together; a reader that falls too far behind is cut off, in
  words.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tilth_ledger.errors import Unavailable
from tilth_node.storage.ledger_store import LedgerStore

MAX_WAITING = 10_000
SNAPSHOT_ROWS = 200  # a millisecond of the loop


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows by key with their canonical bytes, None when deleted. `live`: all of them were told
    before that had changed up to here. `reset`: they begin anew, whatever was told earlier."""

    size: int
    rows: Mapping[str, bytes | None]
    live: bool
    reset: bool = False


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

    def told(self) -> list[Changes]:
        """What waits now."""
        waiting: list[Changes] = []
        while not self.waiting.empty():
            waiting.append(_in_time(self.waiting.get_nowait()))
        return waiting


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
        if not self._readers:
            return
        merged = {key: value for batch in batches for key, value in batch.items()}
        for reader in self._readers:
            rows = {key: merged[key] for key in merged if key.startswith(reader.prefixes)}
            if rows:
                reader.tell(Changes(size, rows, live=True))

    async def subscribe(
        self, prefixes: Sequence[str], *, snapshot: bool = True, since: int | None = None
    ) -> AsyncIterator[Changes]:
        """Rows under the prefixes as they stand, an empty live batch, then every change.

        With `since`, a size up to which the reader has been told all: instead of all rows only
        those that changed after it, unless it is too long ago (`reset` says so).
        """
        reader = _Reader(_covering(prefixes))
        if since is not None:
            await self.at_least(since)
        self._readers.append(reader)
        try:
            if since is not None:
                async for changes in self._since(reader, since):
                    yield changes
            elif snapshot:
                async for changes in self._snapshot(reader, reset=False):
                    yield changes
            # The mark's size must have nothing of it still waiting: a reader resumes behind it.
            while batch := reader.told():
                for changes in batch:
                    yield replace(changes, live=False)
            yield Changes(self._store.size, {}, live=True)
            while True:
                yield _in_time(await reader.waiting.get())
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

    async def _snapshot(self, reader: _Reader, *, reset: bool) -> AsyncIterator[Changes]:
        """All rows, page by page in the order of keys, each as it stands when its page is read.

        What changes meanwhile in a page that was told is told again; what lies ahead is read when
        its page comes. So nothing is missed, and no read holds the loop or the database for long.
        """
        for place, prefix in enumerate(reader.prefixes):
            after, more = "", True
            while more:
                behind = (*reader.prefixes[:place], prefix)
                for changes in self._behind(reader, behind, prefix, after):
                    yield replace(changes, reset=reset)
                page = dict(self._store.rows.scan_bytes(prefix, after, SNAPSHOT_ROWS))
                more = len(page) == SNAPSHOT_ROWS
                if page:
                    after = max(page)
                    yield Changes(self._store.size, page, live=False, reset=reset)
                    await asyncio.sleep(0)  # the loop goes on between two pages

    def _behind(
        self, reader: _Reader, behind: tuple[str, ...], prefix: str, after: str
    ) -> Iterator[Changes]:
        """What changed in rows that were told already."""
        for changes in reader.told():
            rows = {
                key: value
                for key, value in changes.rows.items()
                if key.startswith(behind) and not (key.startswith(prefix) and key > after)
            }
            if rows:
                yield Changes(changes.size, rows, live=False)

    async def _since(self, reader: _Reader, since: int) -> AsyncIterator[Changes]:
        """Rows that changed after a size, each once, as it stands now."""
        touched: set[str] = set()
        for keys in self._store.touched_after(since) or ():
            touched.update(key for key in keys if key.startswith(reader.prefixes))
            await asyncio.sleep(0)
        if self._store.touched_after(since) is None:  # also if it was forgotten meanwhile
            async for changes in self._snapshot(reader, reset=True):
                yield changes
            return
        # What became final since the subscription began is read below, or was touched after all.
        for changes in reader.told():
            touched.update(changes.rows)
        ahead = sorted(touched)
        for start in range(0, len(ahead), SNAPSHOT_ROWS):
            for changes in reader.told():
                unread = ahead[start]
                news = {k: v for k, v in changes.rows.items() if k < unread or k not in touched}
                if news:
                    yield Changes(changes.size, news, live=False)
            keys = ahead[start : start + SNAPSHOT_ROWS]
            rows = {key: self._store.rows.get_bytes(key) for key in keys}
            yield Changes(self._store.size, rows, live=False)
            await asyncio.sleep(0)


def _in_time(changes: Changes | None) -> Changes:
    """Raises Unavailable for one who fell behind."""
    if changes is None:
        raise Unavailable(
            "the reader is too slow for the news",
            found=f"{MAX_WAITING} batches waiting",
            remedy="subscribe again, and read faster or fewer prefixes",
        )
    return changes


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
