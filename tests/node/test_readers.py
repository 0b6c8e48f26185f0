"""Readers of a moment share one barrier, and never one that was drawn before they asked."""

import asyncio

import pytest

from tilth_ledger.errors import TooMany, Unavailable
from tilth_node.readers import Readers, Turns


class Asked:
    """What was handed to the replica."""

    def __init__(self) -> None:
        self.nonces: list[bytes] = []
        self.readers = Readers(self.nonces.append, self.draw)
        self.drawn = 0

    def draw(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size)


async def waiting(asked: Asked, count: int = 1) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(asked.readers.barrier()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_readers_that_come_while_a_nonce_is_on_its_way_share_the_next() -> None:
    asked = Asked()
    first = await waiting(asked)
    others = await waiting(asked, 3)
    assert len(asked.nonces) == 1
    asked.readers.final([asked.nonces[0]], 7)
    assert await first[0] == 7
    assert not any(task.done() for task in others)
    assert len(asked.nonces) == 2
    asked.readers.final([b"another", asked.nonces[1]], 9)
    assert await asyncio.gather(*others) == [9, 9, 9]


async def test_a_block_that_lists_others_nonces_answers_nobody_here() -> None:
    asked = Asked()
    [reader] = await waiting(asked)
    asked.readers.final([b"x" * 16], 3)
    await asyncio.sleep(0)
    assert not reader.done()
    reader.cancel()


async def test_a_reader_that_leaves_takes_nobody_with_it() -> None:
    asked = Asked()
    leaving, staying = await waiting(asked, 2)
    leaving.cancel()
    await asyncio.sleep(0)
    while not staying.done():
        asked.readers.final([asked.nonces[-1]], 5)
        await asyncio.sleep(0)
    assert staying.result() == 5


async def test_what_the_replica_forgot_is_asked_again() -> None:
    asked = Asked()
    [reader] = await waiting(asked)
    asked.readers.again()
    assert asked.nonces[0] == asked.nonces[1]
    asked.readers.final([asked.nonces[1]], 2)
    assert await reader == 2


async def test_readers_are_told_when_nobody_will_answer() -> None:
    asked = Asked()
    readers = await waiting(asked, 3)
    asked.readers.fail(Unavailable("this node stops"))
    for reader in readers:
        with pytest.raises(Unavailable):
            await reader


async def test_one_identity_has_its_share_of_reads_and_the_others_theirs() -> None:
    now = 0
    turns = Turns(2, lambda: now)
    for _ in range(120):  # a minute's at once
        turns.take("a")
    with pytest.raises(TooMany, match=r"linear_reads in node\.toml"):
        turns.take("a")
    turns.take("b")
    now = 500
    turns.take("a")
    with pytest.raises(TooMany):
        turns.take("a")
    now = 60_500
    for _ in range(120):
        turns.take("a")


def test_whom_nobody_remembers_any_more_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilth_node.readers.MOST_REMEMBERED", 1)
    turns = Turns(1, lambda: 0)
    for _ in range(60):
        turns.take("a")
    turns.take("b")
    turns.take("a")
