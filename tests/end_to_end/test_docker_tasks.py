"""Plans whose tasks run in containers, and what becomes of them when something dies."""

import os
import signal
import subprocess
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


def running_step(field: Field, engine: Engine, site: str) -> str:
    """Wait, with the engine's own events, until a container of a site's step has started."""
    words = ["docker", "events", "--since", "1h", "--filter", "event=start"]
    words += ["--filter", "label=org.tilth.kind=step", "--format", "{{.Actor.Attributes.name}}"]
    with subprocess.Popen(
        words, env=engine.environment, stdout=subprocess.PIPE, text=True
    ) as events:
        assert events.stdout is not None
        for line in events.stdout:
            name = line.strip()
            state = "docker", "inspect", "-f", "{{.State.Running}}", name
            told = subprocess.run(state, env=engine.environment, capture_output=True, text=True)
            if f"-{site}-" in name and told.stdout.strip() == "true":
                events.kill()
                return name
    raise AssertionError("no step started")


def train(field: Field) -> Run:
    """A plan whose training at hospital-b takes a while."""
    run = field.submit(field.averaging(seconds=4.0))
    key = field.task(run, "train", "hospital-b")
    field.until(f"task/{key}", lambda row: row["state"] == "doing")
    return run


def test_a_plan_runs_in_containers_and_its_receipts_name_image_and_grade(field: Field) -> None:
    goal = field.objective()
    run = field.submit(field.averaging(goal=goal))
    completes(field, run)
    receipt = (field.net.rows.get(f"task/{field.task(run, 'train')}") or {})["receipt"]
    assert (receipt["runtime"], receipt["mode"]) == ("docker", "strict")
    assert receipt["images"]["train"].startswith("sha256:")
    boards = {str(net.leaderboard(net.objectives.find(goal.key))) for net in field.nets}
    assert len(boards) == 1


def test_a_task_container_that_is_killed_runs_again(field: Field, engine: Engine) -> None:
    run = train(field)
    name = running_step(field, engine, "hospital-b")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name)
    os.kill(int(pid), signal.SIGKILL)
    completes(field, run)


def test_a_node_that_is_killed_while_its_container_runs(field: Field, engine: Engine) -> None:
    run = train(field)
    name = running_step(field, engine, "hospital-b")
    field.nodes.kill(1)
    field.restart(1)
    completes(field, run)
    assert name not in engine.docker("ps", "-a", "--format", "{{.Names}}").split()


def test_an_engine_that_is_killed_and_comes_back(field: Field, engine: Engine) -> None:
    run = train(field)
    running_step(field, engine, "hospital-b")
    engine.kill()
    engine.start()
    completes(field, run)


def test_all_nodes_restart_one_after_the_other_under_a_running_plan(field: Field) -> None:
    run = field.submit(field.averaging(rounds=2, seconds=1.0))
    for site in range(3):
        field.nodes.stop(site)
        field.restart(site)
    completes(field, run)
