"""News of rows: a snapshot and changes that join without a gap."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header, Justification
from tilth_ledger.errors import Unavailable
from tilth_ledger.merkle import NewNode
from tilth_node.feed import MAX_WAITING, SNAPSHOT_ROWS, Changes, Feed
from tilth_node.storage.ledger_store import LedgerStore

FINAL = Certificate(FINALIZE, 0, 1, b"b" * 32, 1, (0,), (bytes(64),))


@dataclass(frozen=True)
class Changed:
    """What a block left behind."""

    changes: Mapping[str, bytes | None]
    new_nodes: tuple[NewNode, ...] = ()
    accumulator: bytes = bytes(2048)


def header(size: int) -> Header:
    """Of a block that brings the ledger to this size."""
    hashes = {name: bytes(32) for name in ("net", "parent", "skips", "root", "state")}
    numbers = {"epoch": 0, "view": size, "parent_view": size - 1, "proposer": 0}
    return Header(height=size, size=size, leaf_count=1, time_ms=size, **hashes, **numbers)


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
    async with asyncio.timeout(100):
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
    store.rows.scan_bytes = lambda prefix, *page: read.append(prefix) or scan(prefix, *page)  # type: ignore
    one, other = await take(feed.subscribe(["b/", "a/", "a/1", "a/", "a/1"]), 2)
    assert [list(one.rows), list(other.rows)] == [["b/1"], ["a/1", "a/2"]]
    assert read == ["b/", "a/"]


def record(store: LedgerStore, feed: Feed, size: int, rows: dict[str, bytes | None]) -> None:
    """Rows change in a block of one leaf, and everybody is told."""
    block = Block(header(size), (b"leaf %d" % size,), Justification(None))
    store.apply([(block, Changed(rows))], FINAL)
    feed.publish(size, [rows])


async def test_a_change_in_rows_that_were_told_is_told_again_and_no_other(
    feed: Feed, store: LedgerStore
) -> None:
    store.seed({f"many/{i:06}": b"{}" for i in range(2 * SNAPSHOT_ROWS + 1)}, bytes(2048))
    news = feed.subscribe(["many/"])
    [part] = await take(news, 1)
    assert len(part.rows) == SNAPSHOT_ROWS
    record(store, feed, 1, {"many/000000": b'{"n":1}', "many/000999": None, "many/1": b"{}"})
    rest = await take(news, 4)
    assert rest[0].rows == {"many/000000": b'{"n":1}'}
    told = {key: value for part in rest for key, value in part.rows.items()}
    assert "many/000999" not in told
    assert told["many/1"] == b"{}"
    assert [each.live for each in rest] == [False, False, False, True]
    assert rest[-1].size == 1


async def test_no_page_of_a_snapshot_is_longer_than_its_bound_and_the_loop_goes_on_between(
    feed: Feed, store: LedgerStore
) -> None:
    store.seed({f"many/{i:06}": b"{}" for i in range(20 * SNAPSHOT_ROWS)}, bytes(2048))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    parts = await take(feed.subscribe(["many/"]), 21)
    beside.cancel()
    assert max(len(part.rows) for part in parts) == SNAPSHOT_ROWS
    assert turns >= 20


def convergent(rows: dict[str, bytes | None], parts: list[Changes]) -> dict[str, bytes | None]:
    for part in parts:
        rows.update(part.rows)
    return {key: value for key, value in rows.items() if value is not None}


async def until_live(news: AsyncIterator[Changes]) -> list[Changes]:
    parts: list[Changes] = []
    async with asyncio.timeout(100):
        while not parts or not parts[-1].live:
            parts.append(await anext(news))
    return parts


async def test_a_reader_goes_on_where_it_was_and_is_told_only_what_changed(
    feed: Feed, store: LedgerStore
) -> None:
    record(store, feed, 1, {"a/3": b"{}"})
    known: dict[str, bytes | None] = {}
    first = await until_live(feed.subscribe(["a/"]))
    known = convergent(known, first)
    since = first[-1].size
    record(store, feed, 2, {"a/1": None, "b/1": b"{}"})
    record(store, feed, 3, {"a/4": b"{}"})
    record(store, feed, 4, {"a/4": b'{"n":4}'})
    again = await until_live(Feed(store).subscribe(["a/"], since=since))  # after a restart
    assert [dict(part.rows) for part in again] == [{"a/1": None, "a/4": b'{"n":4}'}, {}]
    assert again[-1].size == 4
    assert not any(part.reset for part in again)
    assert convergent(dict(known), again) == dict(store.rows.scan_bytes("a/"))


async def test_a_reader_that_has_seen_all_is_told_nothing_again(
    feed: Feed, store: LedgerStore
) -> None:
    record(store, feed, 1, {"a/3": b"{}"})
    parts = await until_live(feed.subscribe(["a/"], since=1))
    assert [dict(part.rows) for part in parts] == [{}]


async def test_changes_while_a_reader_catches_up_are_neither_lost_nor_old(
    feed: Feed, store: LedgerStore
) -> None:
    record(store, feed, 1, {"a/1": b"{}"})
    many: dict[str, bytes | None] = {f"a/m{i:06}": b"{}" for i in range(2 * SNAPSHOT_ROWS)}
    record(store, feed, 2, many)
    news = feed.subscribe(["a/"], since=1)
    parts = await take(news, 1)
    record(store, feed, 3, {"a/m000000": b'{"n":3}', "a/m000999": b'{"n":3}', "a/new": b"{}"})
    parts += await until_live(news)
    known: dict[str, bytes | None] = dict(ROWS) | {"a/1": b"{}"}
    known = {key: value for key, value in known.items() if key.startswith("a/")}
    assert convergent(known, parts) == dict(store.rows.scan_bytes("a/"))
    assert parts[-1].size == 3


async def test_a_reader_of_long_ago_gets_all_rows_anew_and_is_told_so(
    feed: Feed, store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 2)
    for size in range(1, 20):
        record(store, feed, size, {f"a/n{size}": b"{}"})
    parts = await until_live(feed.subscribe(["a/"], since=1))
    assert parts[0].reset
    assert convergent({}, parts) == dict(store.rows.scan_bytes("a/"))
    recent = await until_live(feed.subscribe(["a/"], since=18))
    assert [dict(part.rows) for part in recent] == [{"a/n19": b"{}"}, {}]
    assert not recent[0].reset


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
