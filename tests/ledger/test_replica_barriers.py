"""Linearizable reads: a final block that lists the reader's nonce, made when it is asked for."""

from __future__ import annotations

import pytest
from stage import Stage

from tilth_ledger.barriers import MOST_OF_ONE_PARTY, MOST_RETRIES, Barriers
from tilth_ledger.blocks import Block
from tilth_ledger.effects import Asked
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.messages import Barrier

NONCE, OTHER = b"n" * 16, b"o" * 16


def listed(stage: Stage, member: int) -> list[bytes]:
    blocks = stage.disks[member].archive.blocks
    return [nonce for block in blocks for nonce in block.justification.barriers]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_reader_gets_a_block_that_lists_its_nonce_without_a_timer(n: int) -> None:
    stage = Stage(n)
    stage.step(n - 1, [Asked(NONCE)])
    stage.settle()
    assert listed(stage, n - 1) == [NONCE]
    assert stage.texts(n - 1) == []
    stage.pass_ms(60_000)
    assert stage.is_silent()
    assert stage.heights() == [1] * n


def test_without_a_reader_there_is_no_empty_block() -> None:
    stage = Stage(3)
    stage.submit(0, "a")
    stage.pass_ms(60_000)
    assert stage.heights() == [1, 1, 1]
    assert listed(stage, 0) == []


def test_the_block_of_a_reader_stands_on_all_that_was_final_before_it_asked() -> None:
    stage = Stage(3)
    stage.cut(0, 2)
    stage.submit(0, "a")  # final at 0 and 1
    stage.settle()
    stage.step(2, [Asked(NONCE)])
    stage.pass_ms(5_000)
    assert listed(stage, 2) == [NONCE]
    assert stage.texts(2) == ["a"]


def test_readers_and_entries_of_one_moment_share_a_block() -> None:
    stage = Stage(3)
    leader = stage.epoch.leader(1)
    stage.submit(leader, "a")
    stage.drop_messages()
    for member in range(3):
        stage.step(member, [Asked(bytes([member]) * 16)])
    stage.pass_ms(5_000)
    assert sorted(listed(stage, 0)) == [bytes([member]) * 16 for member in range(3)]
    assert stage.heights()[0] <= 3


def test_a_reader_without_a_quorum_gets_no_answer_and_gets_one_later() -> None:
    stage = Stage(3)
    stage.crash(0)
    stage.crash(1)
    stage.step(2, [Asked(NONCE)])
    stage.pass_ms(30_000)
    assert listed(stage, 2) == []
    stage.restart(0)
    stage.pass_ms(30_000)
    assert listed(stage, 2) == [NONCE]


def test_a_follower_reads_so_too() -> None:
    stage = Stage(3, followers=1)
    stage.step(3, [Asked(NONCE)])
    stage.settle()
    assert listed(stage, 3) == [NONCE]


def test_a_nonce_is_listed_once_however_often_it_is_told() -> None:
    stage = Stage(4, away=[3])
    stage.step(0, [Asked(NONCE)])
    stage.settle()
    for member in range(3):
        stage.play(3, member, Barrier((NONCE,)))
    stage.pass_ms(10_000)
    assert listed(stage, 0) == [NONCE]


def test_one_node_fills_its_own_share_only() -> None:
    stage = Stage(4, away=[2, 3])
    stage.play(3, 0, Barrier(tuple(bytes([n]) * 16 for n in range(200))))
    assert len(stage.replicas[0]._core.barriers) == MOST_OF_ONE_PARTY
    stage.play(2, 0, Barrier((OTHER,)))
    assert len(stage.replicas[0]._core.barriers) == MOST_OF_ONE_PARTY + 1


def test_a_nonce_that_its_asker_tells_one_member_only_does_not_keep_it_talking() -> None:
    """A liar's: the others have nothing to do, so no view ends, and nothing lists it ever."""
    stage = Stage(4, away=[3])
    stage.play(3, 0, Barrier((NONCE,)))
    stage.pass_ms(10 * 60_000)
    assert stage.is_silent()
    assert stage.heights()[0] == 0


def test_a_reader_that_waits_for_long_is_not_forgotten() -> None:
    stage = Stage(3)
    stage.crash(0)
    stage.crash(1)
    stage.step(2, [Asked(NONCE)])
    stage.pass_ms(20 * 60_000)
    assert listed(stage, 2) == []
    stage.restart(0)
    stage.pass_ms(60_000)
    assert listed(stage, 2) == [NONCE]


def test_a_nonce_that_is_told_again_and_again_is_kept() -> None:
    barriers = Barriers()
    barriers.add(NONCE, 1)
    barriers.add(OTHER, 0)
    for _ in range(3 * MOST_RETRIES):
        barriers.lapse(me=0)
        assert not barriers.add(NONCE, 1)
    for _ in range(MOST_RETRIES):
        assert NONCE in barriers.body(())
        barriers.lapse(me=0)
    assert barriers.body(()) == (OTHER,)


def test_what_is_no_nonce_is_refused() -> None:
    barriers = Barriers()
    with pytest.raises(InvalidInput):
        barriers.add(b"short", 0)
    for number in range(MOST_OF_ONE_PARTY):
        assert barriers.add(bytes([number]) * 16, 0)
    with pytest.raises(Refused):
        barriers.add(NONCE, 0)


def test_the_header_binds_the_nonces() -> None:
    stage = Stage(1)
    stage.step(0, [Asked(NONCE)])
    [block] = stage.disks[0].archive.blocks
    data = block.encode()
    assert Block.decode(data) == block
    forged = Block.decode(data.replace(NONCE, OTHER))
    assert forged.hash == block.hash
    block.justification.verify(block.header, stage.epoch)
    with pytest.raises(InvalidInput, match="not those that the header binds"):
        forged.justification.verify(forged.header, stage.epoch)
