"""Algorithms that misbehave: the task fails with the right reason, the node goes on, and the log is
read only by those with the right."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hospital_code
import pytest
from field import Field

from tilth.plan import Plan
from tilth.run import Run
from tilth_ledger.errors import Refused


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("field")) as field:
        yield field


def limited(seconds: int) -> Any:
    """Gives trainings a time limit."""

    def change(task: dict[str, Any]) -> None:
        if task["kind"] == "train":
            task["limits"] = {"seconds": seconds}

    return change


def train(field: Field, code: type[Any], seconds: int = 60) -> tuple[Run, dict[str, Any]]:
    """Train with an algorithm at hospital-b; the run and the training's row."""
    run = field.wait(field.submit(field.one_training(code, site=1), limited(seconds)))
    return run, field.net.rows.get(f"task/{field.task(run, 'train')}") or {}


@pytest.mark.parametrize(
    ("code", "reason", "log"),
    [
        (hospital_code.Exits, "exit", "about to leave with 3"),
        (hospital_code.Raises, "exit", "ValueError: a secret of the log"),
        (hospital_code.EatsMemory, "out_of_memory", ""),
        (hospital_code.WritesNoModel, "missing_output", ""),
        (hospital_code.WritesManyFiles, "too_large", "a model of several files"),
        (hospital_code.LeavesAFolderAsReport, "wrong_shape", "report.json is a folder"),
        (hospital_code.OpensASocket, "exit", "Error"),
        (hospital_code.ReadsPasswd, "exit", "/etc/passwd"),
    ],
)
def test_a_training_that_misbehaves_fails_with_its_reason(
    field: Field, code: type[Any], reason: str, log: str
) -> None:
    run, task = train(field, code)
    assert (task["state"], task["reason"]) == ("failed", reason), run.logs()
    assert log in run.logs()
    assert "secret" not in str(field.rows("task/"))


def test_a_training_that_hangs_is_ended_at_its_time_limit(field: Field) -> None:
    _, task = train(field, hospital_code.Hangs, seconds=2)
    assert (task["state"], task["reason"]) == ("failed", "time")


def test_a_log_of_a_gigabyte_is_cut_and_harms_nobody(field: Field) -> None:
    run, task = train(field, hospital_code.LogsForEver)
    assert task["state"] == "done", run.logs()
    log = b"".join(field.nets[1].transport.get_blob(task["receipt"]["log"]))
    assert 1_000 < len(log) <= (1 << 20) + 1_000


@pytest.mark.rule("P6")
def test_a_log_is_read_by_the_data_s_owner_and_the_plan_s_owner_only(field: Field) -> None:
    run, _ = train(field, hospital_code.Raises)
    key = field.task(run, "train")
    for reader in (field.nets[0], field.nets[1]):
        assert "a secret of the log" in reader.tasks.log(key)
    with pytest.raises(Refused) as refused:
        field.nets[2].tasks.log(key)
    assert refused.value.rule == "P6"


def test_predict_finds_no_labels_however_it_looks(field: Field) -> None:
    goal = field.objective()
    plan = field.averaging(goal=goal, code=hospital_code.LooksForLabels)
    plan.on_failure = "continue"
    run = field.wait(field.submit(plan))
    tests = [task for task in run.tasks() if task.kind == "test"]
    assert {task.state for task in tests} == {"failed"}
    assert "no labels anywhere" in run.logs()
    assert field.rows(f"certified/{goal.key}/") == {}


@pytest.mark.rule("B2")
def test_a_score_that_is_not_a_number_fails_the_test_and_never_ranks(field: Field) -> None:
    goal = field.objective_with("never_a_number")
    plan = field.averaging(goal=goal)
    plan.on_failure = "continue"
    run = field.wait(field.submit(plan))
    reasons = {
        (field.net.rows.get(f"task/{task.key}") or {}).get("reason")
        for task in run.tasks()
        if task.kind == "test"
    }
    assert reasons == {"score"}, run.logs()
    assert field.rows(f"certified/{goal.key}/") == {}


def test_tasks_whose_code_nobody_serves_keep_no_node_from_working(field: Field) -> None:
    """An init needs no right of its worker: anybody could fill the node's places for ever."""
    known = field.net.rows.get(f"algo/{field.algo(hospital_code.Mean).key}") or {}
    algo = {
        "op": "algo.add",
        "key": field.net.new_key(),
        "name": "nowhere",
        "archive": "ab" * 32,
        **{name: known[name] for name in ("manifest", "environment")},
    }
    field.net.record(algo)
    plans = []
    for _ in range(3):
        plan = Plan("nothing to run")
        plan.init(replace(field.algo(hospital_code.Mean), key=algo["key"]), at="hospital-b")
        plans.append(field.submit(plan))
    for ghost in plans:
        key = field.task(ghost, "init")
        field.until(f"task/{key}", lambda row: row["state"] == "doing")
    _, task = train(field, hospital_code.Mean)
    assert task["state"] == "done"
    for ghost in plans:
        ghost.cancel()


def test_the_node_works_on_after_all_this(field: Field) -> None:
    _, task = train(field, hospital_code.Mean)
    assert task["state"] == "done"
