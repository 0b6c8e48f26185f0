"""Plans whose tasks run in containers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine
from field import Field

from tilth.run import Run

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def field(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    """Three nodes on the test's engine: `auto` finds it by DOCKER_HOST, with its image of tasks."""
    engine.start_if_ended()
    engine.clear()
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    with Field(tmp_path) as made:
        yield made
    engine.start_if_ended()


def completes(field: Field, run: Run) -> None:
    """The plan ends well, each task with one result, the same on all three nodes."""
    run = field.wait(field.net.plans.one(run.key))
    outcome = run.outcome()
    assert outcome.ok, outcome
    counted = field.results()
    keys = [task.key for task in run.tasks()]
    assert {key: counted[key] for key in keys} == dict.fromkeys(keys, 1)
    models = {str(sorted(field.rows("model/", at=i).items())) for i in range(3)}
    assert len(models) == 1
    grades = {(field.net.rows.get(f"task/{key}") or {})["receipt"]["grade"] for key in keys}
    assert grades == {"A"}


def test_a_plan_runs_in_containers_and_its_receipts_name_image_and_grade(field: Field) -> None:
    goal = field.objective()
    run = field.submit(field.averaging(goal=goal))
    completes(field, run)
    receipt = (field.net.rows.get(f"task/{field.task(run, 'train')}") or {})["receipt"]
    assert (receipt["runtime"], receipt["mode"]) == ("docker", "strict")
    assert receipt["images"]["train"].startswith("sha256:")
    boards = [net.leaderboard(net.objectives.find(goal.key)) for net in field.nets]
    assert [row.plan for row in boards[0].rows] == [run.key]
    assert len({str(board) for board in boards}) == 1
