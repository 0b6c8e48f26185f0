"""News of rows: a snapshot and changes that join without a gap."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tilth_ledger.errors import Unavailable
from tilth_node.feed import MAX_WAITING, SNAPSHOT_ROWS, Changes, Feed
from tilth_node.storage.ledger_store import LedgerStore

ROWS = {"a/1": b'{"n":1}', "a/2": b'{"n":2}', "b/1": b'{"n":3}'}


@pytest.fixture
def store(tmp_path: Path) -> LedgerStore:
    store = LedgerStore(tmp_path / "ledger.db")
    store.seed(ROWS, bytes(2048))
    return store


@pytest.fixture
def feed(store: LedgerStore) -> Feed:
    return Feed(store)


async def take(news: AsyncIterator[Changes], count: int) -> list[Changes]:
    async with asyncio.timeout(5):
        return [await anext(news) for _ in range(count)]


async def test_first_the_rows_then_a_mark_then_every_change(feed: Feed) -> None:
    news = feed.subscribe(["a/"])
    snapshot, mark = await take(news, 2)
    assert (snapshot.rows, snapshot.live) == ({"a/1": ROWS["a/1"], "a/2": ROWS["a/2"]}, False)
    assert (mark.rows, mark.live) == ({}, True)
    feed.publish(1, [{"a/1": None, "b/1": b"{}"}])
    feed.publish(2, [{"b/2": b"{}"}])
    feed.publish(3, [{"a/3": b'{"n":4}'}, {"a/3": b'{"n":5}'}])
    first, second = await take(news, 2)
    assert (first.size, first.rows, first.live) == (1, {"a/1": None}, True)
    assert (second.size, second.rows) == (3, {"a/3": b'{"n":5}'})


async def test_without_a_snapshot_only_changes_come(feed: Feed) -> None:
    news = feed.subscribe(["a/"], snapshot=False)
    [mark] = await take(news, 1)
    assert (mark.rows, mark.live) == ({}, True)


async def test_a_row_that_is_asked_for_twice_is_read_once(feed: Feed, store: LedgerStore) -> None:
    read: list[str] = []
    scan = store.rows.scan_bytes
    store.rows.scan_bytes = lambda prefix: read.append(prefix) or scan(prefix)  # type: ignore
    [rows] = await take(feed.subscribe(["b/", "a/", "a/1", "a/", "a/1"]), 1)
    assert list(rows.rows) == ["b/1", "a/1", "a/2"]
    assert read == ["b/", "a/"]


async def test_a_change_during_the_snapshot_is_not_lost(feed: Feed, store: LedgerStore) -> None:
    store.seed({f"many/{i:06}": b"{}" for i in range(2 * SNAPSHOT_ROWS + 1)}, bytes(2048))
    news = feed.subscribe(["many/"])
    [part] = await take(news, 1)
    assert len(part.rows) == SNAPSHOT_ROWS
    feed.publish(1, [{"many/new": b"{}"}])
    rest = await take(news, 4)
    assert [(len(each.rows), each.live) for each in rest] == [
        (SNAPSHOT_ROWS, False),
        (1, False),
        (0, True),
        (1, True),
    ]


async def test_a_reader_that_falls_behind_is_cut_off_in_words(feed: Feed) -> None:
    news = feed.subscribe(["a/"])
    await take(news, 2)
    for size in range(MAX_WAITING + 2):
        feed.publish(size, [{"a/1": b"{}"}])
    await take(news, MAX_WAITING)
    with pytest.raises(Unavailable, match="too slow"):
        await take(news, 1)


async def test_whoever_has_gone_is_told_nothing_more(feed: Feed) -> None:
    news = feed.subscribe(["a/"])
    await take(news, 2)
    await news.aclose()  # type: ignore[attr-defined]
    feed.publish(1, [{"a/1": b"{}"}])
    with pytest.raises(StopAsyncIteration):
        await anext(news)


async def test_news_within_a_time_are_awaited_and_their_lack_is_told(feed: Feed) -> None:
    waiting = asyncio.create_task(feed.news().within(5))
    await asyncio.sleep(0)
    feed.publish(1, [{}])
    assert await waiting
    assert not await feed.news().within(0.001)
