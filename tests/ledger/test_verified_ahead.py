"""Signatures that are verified before their block comes: what that spares, and what it cannot."""

import pytest
from rules_world import World, named_key

from tilth_ledger.execution import UNVERIFIED_LEAVES

MORE = UNVERIFIED_LEAVES + 8


@pytest.fixture
def world():
    return World()


def entries(world, count):
    """Entries that each add an identity."""
    made = []
    for n in range(count):
        add = {"op": "identity.add", "public": named_key(f"n{n}").public.hex, "roles": ["owner"]}
        made.append(world.entry("hospital-a", add, role="admin"))
    return made


def built(world, leaves):
    executor, parent = world.proposer
    return executor.build(parent, leaves, world.time_ms + 1)


def test_a_leader_leaves_what_it_has_not_verified_for_the_next_block(world):
    leaves = entries(world, MORE)

    body = built(world, leaves)

    assert list(body.leaves) == leaves[:UNVERIFIED_LEAVES]
    assert body.refused == ()


def test_what_is_verified_all_goes_into_one_block(world):
    leaves = entries(world, MORE)
    for leaf in leaves:
        world.proposer[0].verify_ahead(leaf)

    assert list(built(world, leaves).leaves) == leaves


def test_a_voter_executes_a_block_of_any_number_of_unverified_entries(world):
    leaves = entries(world, MORE)
    for leaf in leaves:
        world.proposer[0].verify_ahead(leaf)

    world.record(*leaves)

    assert world.state.size == len(world.leaves)


@pytest.mark.parametrize("place", [-1, -100, 10], ids=["signature", "author", "payload"])
def test_what_fails_ahead_fails_again_when_it_is_executed(world, place):
    leaf = bytearray(entries(world, 1)[0])
    leaf[place] ^= 1

    world.proposer[0].verify_ahead(bytes(leaf))

    [(_, error)] = built(world, [bytes(leaf)]).refused
    assert error.message


def test_an_author_who_is_not_known_yet_is_judged_with_the_block(world):
    key = named_key("newcomer")
    add = {"op": "identity.add", "public": key.public.hex, "roles": ["owner"]}
    first = world.entry("hospital-a", add, role="admin")
    second = world.entry("hospital-a", world.dataset_operation("hospital-a"), key=key)
    world.proposer[0].verify_ahead(second)

    assert list(built(world, [first, second]).leaves) == [first, second]
