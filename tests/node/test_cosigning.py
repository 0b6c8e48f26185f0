"""Members cosign what is final, durably, in order, and nothing else; heads gather k signatures."""

import asyncio
import json
import random
import sqlite3
from contextlib import asynccontextmanager

import pytest
from cosigning_net import (
    GENESIS,
    KEYS,
    LONG,
    NAMES,
    ORIGIN,
    RESULT,
    SIGNERS,
    History,
    Net,
    entry,
)

from tilth_ledger import cosigning
from tilth_ledger.checkpoints import Checkpoint
from tilth_ledger.cosigning import Head
from tilth_ledger.errors import Fatal
from tilth_ledger.messages import Cosignatures, Signed, decode_message
from tilth_ledger.notes import MLDSA_COSIGNATURE, Note
from tilth_ledger.policies import Policy
from tilth_node.errors import StorageFailed
from tilth_node.proving import Prover
from tilth_node.storage.cosignatures import KEPT_QUIET_HEADS, CosignatureStore


@asynccontextmanager
async def alone(folder):
    """One member without connections, whose part is not running yet."""
    made = Net(folder)
    made.away = set(made.nodes)
    yield made["north"]
    for node in made.nodes.values():
        await node.stop()


@pytest.mark.rule("F5")
async def test_a_quiet_tip_is_cosigned_by_all_and_then_there_is_silence(net):
    history = History().grow(3)
    net.follow(history)

    for name in ("north", "east"):
        held = await net[name].cosigned()
        assert (held.head.size, held.head.root) == (3, history.frontier.root())
    note = net["east"].part.publisher.checkpoint(held)
    assert Policy.parse(net["east"].part.publisher.policy(0)).check(note) == Checkpoint(
        ORIGIN, 3, history.frontier.root()
    )
    assert len(Note.decode(note).lines) == 4  # one log line
    assert net["east"].store.newest == (0, b"")  # a follower signs nothing
    for name in NAMES:
        assert len({bytes(data) for data in net[name].sent}) == 1  # one message each, ever
        assert net[name].part._timer is None


async def test_the_publishers_own_log_line_stands_in_its_checkpoint(net):
    net.follow(History().grow(1))
    held = await net["west"].cosigned()

    line = Note.decode(net["west"].part.publisher.checkpoint(held)).lines[0]
    assert (line.name, line.key_id) == (
        ORIGIN,
        cosigning.verifier_key(ORIGIN, SIGNERS["west"], 1).id,
    )


async def test_a_block_that_crosses_256_leaves_is_cosigned_at_once(net):
    history = History().grow(255).grow(2).grow(1)
    net.follow(history)

    held = await net["south"].cosigned()
    assert held.head.size in (257, 258)
    assert net["south"].store.held(257).cosigned == 3


async def test_a_member_that_was_away_cosigns_in_order_when_it_is_back(net):
    net.away = {"west"}
    history = History().grow(300).grow(300).grow(5)
    net.follow(history, "north", "south", "east")
    await net["north"].cosigned(above=600, by=2)
    assert net["north"].part.newest_complete() is None

    net.away = set()
    for one in NAMES:
        for other in NAMES:
            if "west" in (one, other) and one != other:
                net[one].part.connected(other)
    net["west"].follow(history)
    held = await net["north"].cosigned(above=600)
    assert held.head.size == 605
    assert net["north"].store.held(300).cosigned == 3
    signed = [decode_message(data) for data in net["west"].sent]
    mine = [m.size for m in signed if any(s.member == 2 for s in m.signatures)]
    assert sorted(mine) == mine


async def test_asking_gathers_a_head_above_everyones_last(net):
    history = History().grow(2)
    for node in net.nodes.values():
        node.part._quiet_seconds = 10 * LONG
    net.follow(history)
    held = await net["north"].part.gather(1, LONG)

    assert held.head.size == 2
    assert await net["north"].part.gather(2, 0.01) is None  # there is nothing above the tip


async def test_without_k_members_asking_ends_in_time(net):
    net.away = {"west", "south"}
    net.follow(History().grow(2), "north")

    assert await net["north"].part.gather(0, 0.05) is None
    assert net["north"].store.held(2).cosigned == 1


async def test_a_head_with_a_certified_result_is_signed_with_mldsa_too(net):
    history = History().grow(2)
    net.follow(history)
    assert MLDSA_COSIGNATURE not in {k for _, k in (await net["north"].cosigned()).signatures}

    history.grow(entry(9), RESULT)
    net.follow(history)
    await net["north"].cosigned(above=2)
    async with asyncio.timeout(LONG):
        while len(net["north"].store.held(4).signatures) < 9:
            await net["north"].part._grown.wait()
    note = net["north"].part.publisher.checkpoint(net["north"].store.held(4))
    assert len(Note.decode(note).lines) == 7
    assert Policy.parse(net["north"].part.publisher.policy(0)).check(note).size == 4


@pytest.mark.parametrize("size", [3, 2], ids=["at a block", "inside a block"])
async def test_another_history_is_never_cosigned_and_is_kept_as_proof(net, size):
    net.follow(History().grow(3))
    await net["north"].cosigned()
    forked = History(salt=1000).grow(size)
    head = Head(size, forked.frontier.root(), 0)
    signed = cosigning.sign(head, ORIGIN, 2, SIGNERS["west"], KEYS["west"].cosigning, 5)
    message = Cosignatures(True, 0, size, head.root, tuple(signed))
    before = len(net["north"].sent)
    net["north"].part.received("west", message)

    assert net["north"].alarms[0][0] == "split view"
    assert "west" in net["north"].alarms[0][1]
    assert net["north"].store.conflicts() == [("west", size, message.encode())]
    assert len(net["north"].sent) == before  # no answer, no signature
    assert net["north"].store.held(3).head.root != head.root
    await net["north"].stop()
    net["north"].alarms.clear()
    net["north"].open()
    net["north"].start()
    await asyncio.sleep(0)
    assert net["north"].alarms[0][0] == "split view"  # a restart forgets nothing
    forged = Cosignatures(True, 0, size, head.root, (Signed(0, 4, bytes(72)),))
    net["south"].part.received("west", forged)
    assert net["south"].alarms == []
    assert net["south"].part.refused == 1


@pytest.mark.parametrize(
    "wrong",
    [
        Cosignatures(False, 1, 3, bytes(32), ()),
        Cosignatures(False, 0, 2, History().grow(2).frontier.root(), ()),
        Cosignatures(False, 0, 3, History().grow(3).frontier.root(), (Signed(0, 4, bytes(72)),)),
        Cosignatures(False, 0, 3, History().grow(3).frontier.root(), (Signed(7, 4, bytes(72)),)),
        Cosignatures(False, 0, 3, History().grow(3).frontier.root(), (Signed(0, 6, bytes(2428)),)),
    ],
    ids=["epoch", "no block", "signature", "no member", "ML-DSA"],
)
async def test_what_is_wrong_is_counted_and_leaves_no_trace(tmp_path, wrong):
    async with alone(tmp_path) as node:
        node.follow(History().grow(3))
        node.part.received("south", wrong)

        assert node.part.refused == 1
        assert node.store.held(wrong.size) is None


async def test_signatures_on_heads_that_are_not_final_here_wait(net):
    history = History().grow(3)
    net.follow(history, "north", "south", "east")
    await net["north"].cosigned(by=2)
    assert net["west"].store.held(3) is None

    net["west"].follow(history)
    assert (await net["west"].cosigned()).head.size == 3


@pytest.mark.rule("F5")
async def test_a_signature_is_durable_before_it_leaves_and_sizes_never_shrink(tmp_path):
    async with alone(tmp_path) as node:
        history = History().grow(2)
        node.follow(history)
        seen = []
        node.send = lambda organization, messages: seen.append(
            CosignatureStore(node.folder / "cosignatures.db").newest
        )
        node.net.away = set()
        node.start()
        await node.cosigned(by=1)
        assert seen == [(2, history.frontier.root())] * 3
        await node.stop()

        node.open()  # the process was killed after that
        assert node.store.newest[0] == 2
        for size in (1, 2):
            with pytest.raises(Fatal):
                node.store.sign(Head(size, bytes(32), 0), {}, agreed=False)


@pytest.mark.rule("F5")
@pytest.mark.parametrize("table", ["leaves", "nodes"])
async def test_a_changed_byte_on_disk_stops_the_node_instead_of_being_cosigned(tmp_path, table):
    async with alone(tmp_path) as node:
        node.follow(History().grow(7))
        with sqlite3.connect(node.folder / "ledger.db") as disk:
            column = {"leaves": "leaf", "nodes": "hash"}[table]
            disk.execute(
                f"UPDATE {table} SET {column} = CAST(substr({column}, 1, 20) || x'00'"
                f" || substr({column}, 22) AS BLOB) WHERE position = 6"
            )
        node.part._schedule.rest()
        node.start()

        with pytest.raises(StorageFailed, match="tilth node scrub"):
            await node.task
        assert node.store.newest == (0, b"")
        assert node.sent == []


async def test_a_ledger_restored_from_an_old_copy_signs_nothing_below_its_newest_head(tmp_path):
    async with alone(tmp_path) as node:
        history = History().grow(2).grow(2).grow(2)
        node.store.sign(Head(4, History().grow(4).frontier.root(), 0), {}, agreed=False)
        await node.stop()
        node.open()
        node.follow(history, 1)
        node.start()
        node.part._schedule.rest()
        assert node.part._schedule.take() == []
        node.follow(history)
        assert (await node.cosigned(by=1)).head.size == 6


async def test_a_newest_head_of_another_history_stops_the_node(tmp_path):
    async with alone(tmp_path) as node:
        node.store.sign(Head(2, History(5).grow(2).frontier.root(), 0), {}, agreed=False)
        await node.stop()
        node.open()
        node.follow(History().grow(6))
        node.part._schedule.rest()
        node.start()

        with pytest.raises(StorageFailed):
            await node.task


async def test_a_node_that_began_with_a_snapshot_signs_nothing_before_it_has_all_leaves(tmp_path):
    async with alone(tmp_path) as node:
        history = History().grow(2).grow(2)
        node.follow(history)
        with sqlite3.connect(node.folder / "ledger.db") as disk:
            disk.execute("DELETE FROM leaves WHERE position < 2")
            disk.execute("INSERT INTO history (height, size) VALUES (2, 2)")
        node.part._schedule.rest()
        await node.part._sign_due()
        node.part.received("south", Cosignatures(True, 0, 2, bytes(32), ()))
        assert node.store.newest == (0, b"")
        assert node.alarms == []

        with sqlite3.connect(node.folder / "ledger.db") as disk:
            disk.execute("DELETE FROM history")
            leaves = [(at, leaf) for at, leaf in enumerate(history.blocks[0][0].leaves)]
            disk.executemany("INSERT INTO leaves (position, leaf) VALUES (?, ?)", leaves)
        node.part._schedule.rest()
        await node.part._sign_due()
        assert node.store.newest[0] == 4


async def test_keys_that_the_ledger_does_not_list_sign_nothing(tmp_path):
    async with alone(tmp_path) as node:
        node.part._keys = [KEYS["east"].cosigning]
        node.follow(History().grow(2))
        node.part._schedule.rest()
        await node.part._sign_due()

        assert node.store.newest == (0, b"")


async def test_the_newest_complete_head_is_found_behind_any_number_of_others(tmp_path):
    async with alone(tmp_path) as node:
        root, all_of_them = bytes(32), {(name, 4): b"s" for name in NAMES}
        node.store.add(Head(256, root, 0), all_of_them, agreed=True, k=3)
        for size in range(512, 512 + 256 * 100, 256):
            node.store.add(Head(size, root, 0), {("south", 4): b"s"}, agreed=True, k=3)

        assert node.part.newest_complete().head.size == 256
        assert node.part.newest_complete(above=256) is None
        assert node.part.newest_complete(kind=6) is None


async def test_heads_of_quiet_moments_are_forgotten_and_agreed_ones_stay(tmp_path):
    async with alone(tmp_path) as node:
        root = bytes(32)
        node.store.add(Head(300, root, 0), {("south", 4): b"a"}, agreed=True, k=2)
        node.store.add(
            Head(301, root, 0), {("south", 4): b"a", ("west", 4): b"b"}, agreed=False, k=2
        )
        for size in range(302, 330):
            node.store.add(Head(size, root, 0), {("south", 4): b"c"}, agreed=False, k=2)
        sizes = [held.head.size for held in node.store.newest_first()]

        assert sizes == [*range(329, 329 - KEPT_QUIET_HEADS, -1), 301, 300]


async def test_a_certified_result_is_proven_on_a_head_that_holds_in_ten_years(net):
    history = History().grow(2).grow(entry(9), RESULT)
    net.follow(history)
    await net["north"].cosigned(above=3)
    for _ in range(KEPT_QUIET_HEADS + 3):
        history.grow(1)
        net.follow(history)
        size = history.frontier.size
        assert (await net["north"].part.gather(size - 1, LONG)).head.size == size
    prover = Prover(GENESIS, net["north"].ledger, net["north"].part)
    result, ordinary = [json.loads(await prover.bundle(index)) for index in (3, 0)]

    assert result["checkpoint"].split("\n")[1] == "4"
    assert len(Note.decode(result["checkpoint"].encode()).lines) == 7
    assert ordinary["checkpoint"].split("\n")[1] == str(size)


async def test_a_signature_that_the_disk_changed_is_not_published_and_comes_again(net):
    net.follow(History().grow(3))
    held = await net["north"].cosigned()
    with sqlite3.connect(net["north"].folder / "cosignatures.db") as disk:
        disk.execute(
            "UPDATE signatures SET signature = zeroblob(72)"
            " WHERE type = 4 AND organization = 'west'"
        )
    spoiled = net["north"].store.held(3)
    note = net["north"].part.publisher.checkpoint(spoiled)

    assert len(Note.decode(note).lines) == 3
    assert "cosignatures.db" in net["north"].alarms[0][1]
    net["west"].part.connected("north")
    again = await net["north"].cosigned()
    assert again.signatures == held.signatures
    assert len(Note.decode(net["north"].part.publisher.checkpoint(again)).lines) == 4


def signed_sizes(node, place):
    """The sizes whose cosignature by a member the node itself sent first, in order."""
    seen = []
    for data in node.sent:
        message = decode_message(data)
        mine = any((each.member, each.type) == (place, 4) for each in message.signatures)
        if mine and message.size not in seen:
            seen.append(message.size)
    return seen


async def shake(net, chance, history, node):
    """One thing that happens to one node."""
    match chance.randrange(6):
        case 0:
            history.grow(chance.choice((1, 2, 5, 100, 300)))
        case 1 | 2 if node.height < len(history.blocks):
            node.follow(history, chance.randint(node.height + 1, len(history.blocks)))
        case 3:
            net.away ^= {node.name}
        case 4:
            await node.stop()
            node.open()
            node.start()
        case 5:
            node.part._demand()
    for other in net.nodes.values():
        if other is not node and not net.cut(node, other) and chance.random() < 0.3:
            node.part.connected(other.name)
    for _ in range(chance.randrange(6)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(5))
async def test_all_cosigned_heads_are_of_one_history_whatever_happens(net, seed):
    chance, history = random.Random(seed), History().grow(1)
    for _ in range(60):
        await shake(net, chance, history, chance.choice(list(net.nodes.values())))
    net.away = set()
    history.grow(1)
    net.follow(history)
    for node in net.nodes.values():
        for other in node.links:
            node.part.connected(other)
        assert (await node.cosigned(above=history.frontier.size - 1)).cosigned == 3

    roots = {block.header.size: block.header.root for block, _ in history.blocks}
    for place, name in enumerate((*NAMES, "east")):
        for data in net[name].sent:
            message = decode_message(data)
            assert message.root == roots[message.size]
        assert net[name].store.conflicts() == []
        assert net[name].part.refused == 0
        assert net[name].alarms == []
        assert not net[name].task.done()  # a smaller size, or another root, would have ended it
        mine = signed_sizes(net[name], place)
        assert net[name].store.newest[0] == (max(mine) if name in NAMES else 0)
