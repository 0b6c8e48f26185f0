"""Memory under floods: what one member sends in any amount is held within a bound."""

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from stage import Stage

from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY
from tilth_ledger.effects import Received
from tilth_ledger.messages import (
    Barrier,
    Body,
    Certificates,
    Chain,
    FetchBlock,
    Gossip,
    Message,
    Proposal,
    Votes,
)

HOSTILE = 3
STEPS = 400
MOST_GROWTH = 512 << 10


def far_votes(stage: Stage, number: int) -> Message:
    """Votes of views that are far ahead, each of another block."""
    view = 1_000 + 20 * number
    kinds = (NOTARIZE, FINALIZE)
    blocks = [number.to_bytes(32), bytes(31) + b"\x01"]
    votes = [stage.vote(HOSTILE, kind, view, block) for kind in kinds for block in blocks]
    return Votes((*votes, stage.vote(HOSTILE, NULLIFY, view)))


def near_votes(stage: Stage, number: int) -> Message:
    """Votes of the present view, each of another block: the first counts, the rest is evidence."""
    return Votes((stage.vote(HOSTILE, NOTARIZE, 1, number.to_bytes(32, "little")),))


def unasked_bodies(stage: Stage, number: int) -> Message:
    return Body(stage.block(1 + number)[0])


def unasked_chains(stage: Stage, number: int) -> Message:
    return Chain((stage.block(1 + number)[0].encode(),) * 50, None)


def far_proposals(stage: Stage, number: int) -> Message:
    """Proposals of views that it leads, far ahead."""
    view = 4 * (100 + number) + HOSTILE
    block = stage.block(view)[0]
    return Proposal(stage.vote(HOSTILE, NOTARIZE, view, block.hash), block)


def forged_certificates(stage: Stage, number: int) -> Message:
    good = stage.certificate(NULLIFY, 5 + number, bytes(32), members=(HOSTILE,))
    return Certificates((good,) * 20)


def questions(stage: Stage, number: int) -> Message:
    return FetchBlock(number.to_bytes(32))


def nonces(stage: Stage, number: int) -> Message:
    return Barrier(tuple(k.to_bytes(16) for k in range(100 * number, 100 * number + 100)))


def noise_entries(stage: Stage, number: int) -> Message:
    return Gossip(tuple(bytes((number % 256, k)) * 500 for k in range(100)))


FLOODS: tuple[Callable[[Stage, int], Message], ...] = (
    far_votes,
    near_votes,
    unasked_bodies,
    unasked_chains,
    far_proposals,
    forged_certificates,
    questions,
    nonces,
    noise_entries,
)


def growth(stage: Stage, messages: Iterator[Message]) -> int:
    """Bytes that are held after all of them and were not after the first half."""
    replica, half = stage.replicas[0], 0
    tracemalloc.start()
    try:
        for number, message in enumerate(messages):
            replica.step(stage.now, 1_700_000_000_000 + stage.now, [Received(HOSTILE, message)])
            if number == STEPS // 2:
                half = tracemalloc.get_traced_memory()[0]
        return tracemalloc.get_traced_memory()[0] - half
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_any_kind_is_held_within_a_bound(
    flood: Callable[[Stage, int], Message],
) -> None:
    stage = Stage(4, away=(HOSTILE,))
    messages = (flood(stage, number) for number in range(STEPS))
    assert growth(stage, messages) < MOST_GROWTH
