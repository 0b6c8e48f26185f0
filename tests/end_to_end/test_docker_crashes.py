"""Node, engine, runner and task killed at every step of a task in a container: one plan per kind
of victim, one training per step; each training is killed once, and then the plan goes on.

The runner is the container's first process, the task the process of the user's code.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import hospital_code
import pytest
from engine import Engine
from field import Field
from holding import Holds
from network import audit

from tilth.assets import Objective
from tilth.plan import Plan
from tilth.run import Run

pytestmark = [pytest.mark.docker, pytest.mark.slow]
SITE, NAME = 1, "hospital-b"
STEPS = (
    "before start",
    "running",
    "output written",
    "collected",
    "receipt signed",
    "outbox",
    "committed",
)


class Sweep:
    """Three nodes on an engine, of which hospital-b works and can be held at any step."""

    def __init__(self, field: Field, engine: Engine, folder: Path) -> None:
        self.field, self.engine = field, engine
        self.holds = Holds(folder, [NAME])
        self.goal = self._objective()
        self.restart()

    def restart(self) -> None:
        """Start hospital-b, after ending it if it runs; it serves then, or stands already."""
        nodes = self.field.nodes
        if nodes.sites[SITE].process is not None:
            nodes.kill(SITE)
        process = nodes.launch(
            SITE, launcher=self.holds.launcher, environment=self.holds.environment
        )
        assert process.stdout is not None
        if self.holds.before_ready(NAME, process.stdout):
            return
        assert nodes.wait_ready(SITE), nodes.sites[SITE].log
        self.field.connect(SITE)

    def chain(self, points: Sequence[str], code: type = hospital_code.Mean) -> Iterator[None]:
        """Submit trainings at hospital-b, one after the other, and a certified test; yields each
        time that hospital-b stands at the next point, in the next of the trainings."""
        algo = self.field.algo(code)
        plan = Plan("chain")
        model = plan.init(algo, at="hospital-a")
        for _ in points:
            model = plan.train(algo, self.field.sites[SITE], model)
        plan.final(model)
        plan.test(algo, model, self.goal, self.goal.sets[0])
        keys = [f"hospital-a/{task.id}" for task in plan.tasks if task.kind == "train"]
        armed = list(zip(points, keys, strict=True))
        self.holds.arm(NAME, *armed.pop(0))
        self.run, self.trained = self.field.submit(plan), keys
        for _ in points:
            self.holds.wait(NAME)
            if armed:  # before this one is over: the next may be there at once
                self.holds.arm(NAME, *armed.pop(0))
            yield

    def completes(self) -> None:
        """The plan ends well, no result lost and none doubled, all three nodes agree, and their
        ledgers audit clean."""
        field = self.field
        run: Run = field.wait(field.net.plans.one(self.run.key))
        assert run.outcome().ok, run.outcome()
        counted, keys = field.results(), [task.key for task in run.tasks()]
        assert {key: counted[key] for key in keys} == dict.fromkeys(keys, 1)
        rows = [field.net.rows.get(f"task/{key}") or {} for key in keys]
        assert {(row["attempt"], row["receipt"]["grade"]) for row in rows} == {(1, "A")}
        models = {str(sorted(field.rows("model/", at=i).items())) for i in range(3)}
        boards = [net.leaderboard(net.objectives.find(self.goal.key)) for net in field.nets]
        assert (len(models), len({str(board) for board in boards})) == (1, 1)
        # Equal trainings give equal models: of those, the first result counts (T8).
        model = field.net.rows.get(f"model/{self.trained[-1]}/model") or {}
        task = field.net.rows.get(f"task/{self.trained[-1]}") or {}
        algo = field.net.rows.get(f"algo/{task['algo']}") or {}
        tested = (model["digest"], algo["name"])
        assert [(row.model, row.algo) for row in boards[0].rows].count(tested) == 1
        audit(field.nodes)
        while self.left_on_the_engine():  # removed beside the work
            pass

    def left_on_the_engine(self) -> list[str]:
        """Containers and volumes of hospital-b's steps."""
        mine = ("--filter", "label=org.tilth.kind=step", "--format")
        names = self.engine.docker("ps", "-a", *mine, "{{.Names}}").split()
        names += self.engine.docker("volume", "ls", *mine, "{{.Name}}").split()
        return [name for name in names if f"-{NAME}-" in name]

    def first_process(self, after: int = 0) -> int:
        """Host's number of pid 1 of the container that runs; of the one that comes after it."""
        words = ("docker", "inspect", "-f", "{{.State.Pid}}")
        while True:
            told = subprocess.run(  # one that has ended may go away meanwhile
                [*words, *self._running()], env=self.engine.environment, capture_output=True
            )
            if found := {int(word) for word in told.stdout.split()} - {0, after}:
                (number,) = found
                return number

    def _running(self) -> list[str]:
        label = ("--filter", "label=org.tilth.kind=step")
        names = self.engine.docker("ps", *label, "--format", "{{.Names}}").split()
        return [name for name in names if f"-{NAME}-" in name]

    def _objective(self) -> Objective:
        field = self.field
        goal = field.net.objectives.add(
            "at b", metric="accuracy", datasets=(field.sites[SITE],), combine="pooled"
        )
        field.nets[SITE].objectives.accept(field.nets[SITE].objectives.find(goal.key))
        return field.net.objectives.find(goal.key)


@pytest.fixture(scope="module")
def sweep(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("sweep")
    engine.start_if_ended()
    engine.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.address)
        with Field(folder) as field:
            yield Sweep(field, engine, folder / "holds")
    engine.start_if_ended()


def test_a_node_that_is_killed_at_every_step(sweep: Sweep) -> None:
    for _ in sweep.chain(STEPS):
        sweep.restart()
    sweep.completes()
    # What still ran, or had ended and not been removed, was adopted; the rest ran again.
    log = [line for line in sweep.field.nodes.sites[SITE].log.splitlines() if "adopted" in line]
    adopted = {
        step
        for step, task in zip(STEPS, sweep.trained, strict=True)
        if any(task in line for line in log)
    }
    assert {"running", "output written"} <= adopted <= {"running", "output written", "collected"}


def test_an_engine_that_is_killed_and_comes_back_at_every_step(sweep: Sweep) -> None:
    for _ in sweep.chain(STEPS):
        sweep.engine.kill()
        sweep.holds.release(NAME)
        sweep.engine.start()
    sweep.completes()


def test_a_runner_and_a_task_that_are_killed_while_it_runs_and_when_its_output_is_written(
    sweep: Sweep,
) -> None:
    victims = [(who, written) for who in ("runner", "task") for written in (False, True)]
    standing = sweep.chain(["running"] * len(victims), hospital_code.Lingers)
    for (who, written), _ in zip(victims, standing, strict=True):
        first = sweep.first_process()
        process = Path("/proc") / str(first)
        children = process / "task" / str(first) / "children"
        while not (of_first := children.read_text().split()):
            pass
        model = process / "root" / "task/out/model/model.h5"
        while written and not model.exists():
            pass
        os.kill(first if who == "runner" else int(of_first[0]), signal.SIGKILL)
        sweep.holds.release(NAME)
        again = sweep.first_process(after=first)
        (Path("/proc") / str(again) / "root/tmp/go").touch()
    sweep.completes()


def test_all_nodes_restart_one_after_the_other_under_a_running_plan(sweep: Sweep) -> None:
    field = sweep.field
    sweep.run = field.submit(field.averaging(rounds=2, seconds=1.0, goal=sweep.goal))
    for site in range(3):
        field.nodes.stop(site)
        field.restart(site)
    sweep.completes()
