"""Work ahead of a block is done when the loop has nothing better to do, and only then."""

import asyncio

from tilth_ledger.effects import Received, Submitted, Tick
from tilth_ledger.messages import FetchBlock, Gossip
from tilth_node.ahead import AT_ONCE, Ahead


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_submitted_and_gossiped_entries_are_verified_in_their_order() -> None:
    done: list[bytes] = []
    ahead = Ahead(done.append, lambda: False)
    ahead.add([Submitted(b"1"), Tick(), Received(1, Gossip((b"2", b"3")))])
    ahead.add([Received(1, FetchBlock(bytes(32))), Submitted(b"4")])
    await turns(3)
    assert done == [b"1", b"2", b"3", b"4"]


async def test_a_few_at_a_time_so_that_what_comes_waits_for_little() -> None:
    done: list[bytes] = []
    ahead = Ahead(done.append, lambda: False)
    ahead.add([Received(1, Gossip(tuple(b"%d" % i for i in range(3 * AT_ONCE))))])
    assert done == []
    await turns(1)
    assert len(done) == AT_ONCE
    await turns(3)
    assert len(done) == 3 * AT_ONCE


async def test_nothing_is_verified_while_events_wait() -> None:
    done: list[bytes] = []
    waits = True
    ahead = Ahead(done.append, lambda: waits)
    ahead.add([Submitted(b"1")])
    await turns(5)
    assert done == []
    waits = False
    await turns(2)
    assert done == [b"1"]
