"""Beyond the bound: what a fork leaves in the hands of those who were honest."""

from __future__ import annotations

import pytest
from checker import Violation
from fork_world import ForkWorld

from tilth_ledger import forks

SEEDS = (2, 5, 6, 8, 9, 13, 14, 20)  # half of them fork


@pytest.fixture(scope="module")
def worlds() -> list[ForkWorld]:
    made = [ForkWorld(seed) for seed in SEEDS]
    for world in made:
        world.run()  # raises when a fork is not noticed, or blames an honest member
    return made


@pytest.mark.rule("V5")
def test_members_that_a_fork_left_apart_have_halted_and_accuse_a_traitor(
    worlds: list[ForkWorld],
) -> None:
    assert sum(world.apart > 0 for world in worlds) >= 3, "too few forks to have tried anything"


def test_what_was_signed_names_enough_traitors_and_nobody_else(worlds: list[ForkWorld]) -> None:
    for world in worlds:
        named = world.checker.traitors()
        assert not named & world.checker.honest
        if world.checker.forked:
            assert len(named) >= 2 * world.faults.q - world.faults.n


def test_a_world_that_does_not_fork_ends_as_every_world_does(worlds: list[ForkWorld]) -> None:
    assert not all(world.checker.forked for world in worlds)


@pytest.mark.rule("V5")
def test_members_that_do_not_look_for_forks_are_noticed(
    worlds: list[ForkWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = next(world.seed for world in worlds if world.apart)
    monkeypatch.setattr(forks, "halt", lambda *_: None)
    with pytest.raises(Violation):
        ForkWorld(apart).run()
