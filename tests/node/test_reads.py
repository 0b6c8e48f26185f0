"""Reads of three real nodes: what each sees, and when."""

import asyncio

import pytest
from three_sites import SECONDS, Sites, record

from tilth_ledger.errors import Unavailable


async def test_after_a_barrier_a_node_has_all_that_was_final_anywhere_before(sites: Sites) -> None:
    a, b, c = (sites.running[name] for name in sorted(sites.running))
    async with asyncio.timeout(SECONDS):
        for number in range(1, 6):
            await record(a, number)
            assert await c.replication.barrier() >= number
            assert c.store.size >= number
        sizes = await asyncio.gather(*(node.replication.barrier() for node in (a, b, c) * 4))
    assert set(sizes) == {5}
    assert a.store.size == 5, "a barrier is no leaf"


async def test_without_readers_no_block_is_made(sites: Sites) -> None:
    a = sites.running["hospital-a"]
    await record(a, 1)
    before = a.replication.replica.height
    await a.feed.at_least(1)
    assert a.replication.replica.height == before


async def test_a_reader_is_told_when_its_node_stops(sites: Sites) -> None:
    for name in ("hospital-b", "hospital-c"):
        await sites.stop(name)
    node = sites.running["hospital-a"]
    waiting = asyncio.create_task(node.replication.barrier())
    await asyncio.sleep(0)
    await sites.stop("hospital-a")
    with pytest.raises(Unavailable):
        async with asyncio.timeout(SECONDS):
            await waiting
