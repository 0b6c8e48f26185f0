"""A machine's clock that leaps while a plan runs: far ahead, far back, and right again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from field import Field
from holding import Holds
from network import same_ledger
from wrong_clock import WrongClock

pytestmark = pytest.mark.slow
SITE, NAME = 1, "hospital-b"


@pytest.fixture
def clock(tmp_path: Path) -> WrongClock:
    return WrongClock(tmp_path / "offset")


@pytest.fixture
def holds(tmp_path: Path) -> Holds:
    return Holds(tmp_path / "holds", [NAME])


@pytest.fixture
def field(tmp_path: Path, clock: WrongClock, holds: Holds) -> Iterator[Field]:
    with Field(tmp_path) as field:
        field.nodes.stop(SITE)
        environment = {**clock.environment, **holds.environment}
        field.nodes.launch(SITE, launcher=holds.launcher, environment=environment)
        assert field.nodes.wait_ready(SITE), field.nodes.sites[SITE].log
        field.connect(SITE)
        yield field


def test_a_clock_that_leaps_ahead_and_back_under_a_running_plan(
    field: Field, clock: WrongClock, holds: Holds
) -> None:
    plan = field.averaging(rounds=3, seconds=0.5, goal=(goal := field.objective()))
    mine = [task for task in plan.tasks if task.kind == "train" and task.worker == NAME]
    rounds = [f"hospital-a/{task.id}" for task in mine]
    holds.arm(NAME, "receipt signed", rounds[0])
    run = field.submit(plan)
    waiting = field.nodes.sites[SITE].folder / "run" / "waiting.json"
    # Ahead by more than a plan lives: what the node has to say waits, and nothing is thrown away.
    holds.wait(NAME)
    clock.set("+400d")
    holds.release(NAME)
    while "clock" not in json.loads(waiting.read_bytes()).get(rounds[0], ""):
        pass
    clock.set("+0")
    # Back: the other members go on, and this node with them.
    field.until(f"task/{rounds[1]}", lambda row: row["state"] == "doing")
    clock.set("-400d")
    field.until(f"task/{rounds[1]}", lambda row: row["state"] == "done")
    clock.set("+0")
    run = field.wait(field.net.plans.one(run.key))
    assert run.outcome().ok, run.outcome()
    counted = field.results()
    keys = [task.key for task in run.tasks()]
    assert {key: counted[key] for key in keys} == dict.fromkeys(keys, 1)
    boards = [net.leaderboard(net.objectives.find(goal.key)) for net in field.nets]
    assert [row.plan for row in boards[0].rows] == [run.key]
    assert len({str(board) for board in boards}) == 1
    same_ledger(field.nodes, range(3))
