"""Reads of three real nodes: what each sees, and when."""

import asyncio

import pytest
from three_sites import SECONDS, Sites, asked, record

from tilth.banner import NodeWarning
from tilth.transport import Seen, Transport
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


async def test_a_read_says_of_which_checkpoint_it_was(sites: Sites) -> None:
    a = sites.running["hospital-a"]
    await record(a, 1)

    def read(client: Transport) -> list[Seen | None]:
        client.get_row("organization/hospital-a")
        local = client.seen
        client.get_row("organization/hospital-a", linearizable=True)
        return [local, client.seen]

    local, fresh = await asked(a, read)
    assert local == fresh == Seen(1, a.replication.root.hex())


async def test_an_answer_of_a_sound_ledger_carries_no_warning(
    sites: Sites, recwarn: pytest.WarningsRecorder
) -> None:
    assert await asked(sites.running["hospital-a"], lambda client: client.get_row("none")) is None
    assert not [each for each in recwarn if issubclass(each.category, NodeWarning)]


async def test_a_watch_goes_on_over_a_restart_and_tells_nothing_twice(sites: Sites) -> None:
    a = sites.running["hospital-a"]
    for number in (1, 2):
        await record(a, number)

    def first(client: Transport) -> tuple[int, int]:
        parts = []
        for part in client.watch(["identity/"]):
            parts.append(part)
            if part.live:
                return part.size, sum(len(each.rows) for each in parts)
        raise AssertionError("a watch does not end")

    size, told = await asked(a, first)
    await sites.stop("hospital-a")
    a = await sites.start("hospital-a")
    await record(a, 3)

    def more(client: Transport) -> list[str]:
        keys: list[str] = []
        for part in client.watch(["identity/"], since=size):
            keys += [key for key, _ in part.rows]
            if part.live and part.size > size:
                return keys
        raise AssertionError("a watch does not end")

    again = await asked(a, more)
    assert told > len(again) == 1
