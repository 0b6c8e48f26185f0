"""Nodes that are killed while they work: the plan goes on, and no task ever has two results."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hospital_code
import pytest
from field import Field
from network import audit

from tilth.plan import Plan
from tilth.run import Run
from tilth_ledger.errors import TilthError

LAUNCHER = (sys.executable, str(Path(__file__).with_name("crashing.py")))


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with Field(tmp_path) as field:
        yield field


def completes(field: Field, run: Run) -> None:
    """The plan ends well, with one result for each of its tasks, on ledgers that audit clean."""
    field.wait(field.net.plans.one(run.key))
    outcome = field.net.plans.one(run.key).outcome()
    assert outcome.ok, outcome
    counted = field.results()
    tasks = {task.key: task for task in run.tasks()}
    assert {key: counted[key] for key in tasks} == dict.fromkeys(tasks, 1)
    audit(field.nodes)


def is_doing(row: object) -> bool:
    return isinstance(row, dict) and row["state"] == "doing"


def test_a_node_killed_in_the_middle_of_a_training(field: Field) -> None:
    run = field.submit(field.averaging(seconds=1.5))
    trained = field.task(run, "train", "hospital-b")
    field.until(f"task/{trained}", is_doing)
    field.nodes.kill(1)
    field.restart(1)
    completes(field, run)
    assert (field.net.rows.get(f"task/{trained}") or {})["attempt"] == 1


def test_a_node_killed_in_the_middle_of_a_blob_transfer(field: Field) -> None:
    run = field.submit(field.one_training(hospital_code.Large, site=2))
    left = arriving(field, 2)
    field.nodes.kill(2)
    assert 0 < size_of(left) < hospital_code.LARGE_BYTES
    field.restart(2)
    completes(field, run)


def test_a_holder_killed_in_the_middle_of_a_blob_transfer_is_waited_for(field: Field) -> None:
    algo = field.algo(hospital_code.Large)
    plan = Plan("large")
    plan.train(algo, field.sites[2], plan.init(algo, at="hospital-b"))
    run = field.submit(plan)
    trained = field.task(run, "train")
    arriving(field, 2)
    field.nodes.kill(1)
    field.until(f"task/{trained}", is_doing)
    waiting = field.nodes.sites[2].folder / "run" / "waiting.json"
    while trained not in (words := json.loads(waiting.read_bytes())):
        pass
    assert "hospital-b" in words[trained]
    field.restart(1)
    completes(field, run)


def arriving(field: Field, site: int) -> Path:
    """Wait until a large blob begins to arrive at a site."""
    folder = field.nodes.sites[site].folder / "vault" / "partial"
    while True:
        for path in folder.iterdir():
            if size_of(path) > 1 << 20:
                return path


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("state", ["doing", "done"])
def test_a_node_killed_right_after_a_commit(field: Field, state: str) -> None:
    run = field.submit(field.averaging(rounds=2))
    trained = field.task(run, "train", "hospital-c")
    field.until(f"task/{trained}", lambda row: row["state"] == state)
    field.nodes.kill(2)
    field.restart(2)
    completes(field, run)


def test_the_person_s_own_node_may_die_too(field: Field) -> None:
    run = field.submit(field.averaging(rounds=2))
    field.until(f"task/{field.task(run, 'init')}", lambda row: row["state"] == "done", at=1)
    field.nodes.kill(0)
    field.restart(0)
    completes(field, field.net.plans.one(run.key))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_survives_a_kill_at_many_durable_steps(when: str, tmp_path: Path) -> None:
    with Field(tmp_path, members=1) as field:
        field.objective()
        died, step = True, 0
        while died:
            step += 3
            field.nodes.kill(0)
            plan, died = a_plan_under_a_kill(field, {"CRASH_AT": str(step), "CRASH_WHEN": when})
            field.restart(0)
            if plan is not None and field.net.rows.get(f"plan/{plan}") is not None:
                completes(field, field.net.plans.one(plan))
        assert step > 20


def a_plan_under_a_kill(field: Field, environment: dict[str, str]) -> tuple[str | None, bool]:
    """Run a node that dies at a durable step, and a plan on it: its key, and whether it died."""
    process = field.nodes.launch(0, launcher=LAUNCHER, environment=environment)
    if not field.nodes.wait_ready(0):
        return None, True
    field.connect(0)
    keys: list[str] = []
    over = threading.Event()

    def follow() -> None:
        with contextlib.suppress(TilthError, ValueError):  # the node, or its connection, is gone
            plan = field.one_plan_with_a_test()
            keys.append(f"hospital-a/{plan.id}")
            field.wait(field.submit(plan))
        over.set()

    def bury() -> None:
        process.wait()
        over.set()

    for each in (follow, bury):
        threading.Thread(target=each, daemon=True).start()
    over.wait()
    died = process.poll() is not None
    field.nodes.kill(0)
    return (keys or [None])[0], died
