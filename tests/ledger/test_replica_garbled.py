"""Blocks that come with other leaves than their headers state: no proof against anybody's rules.

A header binds its leaves by the tree's root, so whoever hands a block on can change them, and only
who executes it notices. That says nothing about this member: it asks for the block again.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from number_ledger import write_leaf
from stage import Stage

from tilth_ledger.block_tree import BlockTree
from tilth_ledger.blocks import FINALIZE, NOTARIZE, Block
from tilth_ledger.messages import Body, Chain, Message, Proposal, Votes

LEADER, VICTIM = 1, 3


def garbled(block: Block) -> Block:
    """The same header, and leaves that it does not state."""
    return replace(block, leaves=tuple(write_leaf("garbage") for _ in block.leaves))


def lead_with_another_body_for_one() -> Stage:
    """The leader of view 1 sends one member garbage under the header that all others vote for."""
    stage = Stage(4, away=[LEADER])
    block, _ = stage.block(1, ["sound"])
    vote = stage.vote(LEADER, NOTARIZE, 1, block.hash)
    for member in (0, 2):
        stage.play(LEADER, member, Proposal(vote, block))
    stage.play(LEADER, VICTIM, Proposal(vote, garbled(block)))
    stage.settle()
    for member in (0, 2, VICTIM):
        stage.play(LEADER, member, Votes((stage.vote(LEADER, FINALIZE, 1, block.hash),)))
    stage.settle()
    return stage


def test_a_leader_that_garbles_a_body_for_one_member_does_not_stop_it() -> None:
    stage = lead_with_another_body_for_one()
    assert not stage.halted
    assert [stage.texts(member) for member in (0, 2, VICTIM)] == [["sound"]] * 3


def test_who_kept_garbled_bodies_would_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockTree, "drop_garbled", lambda tree: [])
    assert VICTIM in lead_with_another_body_for_one().halted


def test_a_damaged_answer_is_refused_and_another_member_is_asked() -> None:
    stage = Stage(4)
    stage.isolate(VICTIM)
    for text in ("one", "two", "three"):
        stage.submit(0, text)
        stage.settle()
    damaged: list[Message] = []

    def damage(message: Message) -> Message:
        if damaged or not isinstance(message, Chain):
            return message
        damaged.append(message)
        blocks = [garbled(Block.decode(data)).encode() for data in message.blocks]
        return Chain(tuple(blocks), message.certificate)

    stage.passes = damage
    stage.mend()
    stage.submit(2, "four")
    stage.pass_ms(60_000)
    assert damaged
    assert not stage.halted
    assert stage.texts(VICTIM) == stage.texts(0) == ["one", "two", "three", "four"]


def test_a_member_that_has_nothing_but_garbage_is_not_asked_at_the_networks_speed() -> None:
    stage = Stage(2, q=2, away=[0])
    block, _ = stage.block(1, ["sound"])
    stage.play(0, 1, Proposal(stage.vote(0, NOTARIZE, 1, block.hash), garbled(block)))
    asked = len(stage.sent)
    for _ in range(50):
        stage.play(0, 1, Body(garbled(block)))
    assert len(stage.sent) < asked + 5
