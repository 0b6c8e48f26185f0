"""The life of tasks on real nodes: cancel, retry, approval, revocation, what persists from one task
to the next, and what is removed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hospital_code
import pytest
from field import Field

from tilth.plan import MEAN, Plan
from tilth.run import Run
from tilth_ledger.errors import InvalidInput, Refused
from tilth_node.scrubbing import scrub


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("field")) as field:
        yield field


def row(field: Field, key: str) -> dict[str, Any]:
    found = field.net.rows.get(key)
    assert found is not None
    return found


def report(field: Field, key: str) -> dict[str, Any]:
    """What a task reported."""
    digest = row(field, f"task/{key}")["report"]["digest"]
    found: dict[str, Any] = json.loads(b"".join(field.net.transport.get_blob(digest)))
    return found


def digests(field: Field, run: Run, kind: str) -> list[str]:
    keys = [task.key for task in run.tasks() if task.kind == kind]
    return [row(field, f"model/{key}/model")["digest"] for key in keys]


def blob(field: Field, site: int, digest: str) -> Path:
    return field.nodes.sites[site].folder / "vault" / digest[:2] / digest


def becomes(condition: Any) -> bool:
    """Whether something that nobody announces becomes true; it fails when it does not."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if condition():
            return True
    return False


@pytest.mark.rule("L3")
def test_a_canceled_training_is_really_stopped(field: Field) -> None:
    run = field.submit(field.one_training(hospital_code.Hangs, site=1))
    trained = field.task(run, "train")
    field.until(f"task/{trained}", lambda task: task["state"] == "doing")
    run.cancel()
    # The node does one task at a time: another one can only end when the first was stopped.
    after = field.wait(field.submit(field.one_training(hospital_code.Mean, site=1)))
    assert after.outcome().ok
    assert field.net.tasks.one(trained).state == "canceled"


@pytest.mark.rule("L4")
def test_a_retry_is_another_attempt(field: Field) -> None:
    run = field.wait(field.submit(field.one_training(hospital_code.Exits, site=2)))
    trained = field.task(run, "train")
    run.retry()
    field.until(f"task/{trained}", lambda task: task["state"] == "failed" and task["attempt"] == 2)
    assert set(field.rows(f"tried/{trained}/")) == {
        f"tried/{trained}/000001",
        f"tried/{trained}/000002",
    }


def test_a_local_folder_goes_from_one_task_of_a_site_to_its_next(field: Field) -> None:
    run = field.wait(field.submit(field.averaging(rounds=3, code=hospital_code.Visits)))
    assert run.outcome().ok, run.logs()
    trained = [task for task in run.tasks() if task.kind == "train"]
    for site in ("hospital-a", "hospital-b", "hospital-c"):
        reports = [report(field, task.key) for task in trained if task.worker == site]
        assert [each["scalars"]["visits"] for each in reports] == [1, 2, 3]
    receipts = [row(field, f"task/{task.key}")["receipt"] for task in trained]
    assert all("local_out" in receipt for receipt in receipts)
    assert sum("local_in" in receipt for receipt in receipts) == 6
    site = field.nodes.sites[0].folder
    assert any((site / "code").iterdir())
    assert any((site / "sets").iterdir())
    assert scrub(site).damages == [], "what tasks left and read is as it was written"


@pytest.mark.rule("L5")
def test_local_folders_go_with_their_plan(field: Field) -> None:
    run = field.wait(field.submit(field.averaging(code=hospital_code.Visits)))
    for site in field.nodes.sites:
        folder = site.folder / "local" / run.key.replace("/", "+")
        assert becomes(lambda folder=folder: not folder.exists())


@pytest.mark.rule("L6")
def test_transient_models_are_removed_and_the_final_one_stays(field: Field) -> None:
    run = field.wait(field.submit(field.averaging(rounds=2, code=hospital_code.Noisy)))
    for digest in digests(field, run, "train"):
        assert becomes(lambda d=digest: not any(blob(field, i, d).exists() for i in range(3)))
    first, last = digests(field, run, "aggregate")
    assert becomes(lambda: not any(blob(field, i, first).exists() for i in range(3)))
    assert blob(field, 1, last).exists()


@pytest.mark.rule("L6")
def test_a_model_with_the_bytes_of_one_that_is_over_stays(field: Field) -> None:
    """Every round of this plan makes the very models of the round before."""
    run = field.wait(field.submit(field.averaging(rounds=8)))
    assert run.outcome().ok, run.outcome()
    assert len(set(digests(field, run, "aggregate"))) == 1


def test_a_small_blob_goes_to_every_node_with_the_right(field: Field) -> None:
    algo = field.algo(hospital_code.NeverRun)
    assert becomes(lambda: blob(field, 1, algo.archive).exists())
    assert becomes(lambda: blob(field, 2, algo.archive).exists())


def test_a_blob_whose_bytes_changed_on_disk_is_fetched_again_before_a_task(field: Field) -> None:
    algo = field.algo(hospital_code.Mean)
    stored = blob(field, 1, algo.archive)
    assert becomes(stored.exists)
    data = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(data[:40] + bytes((data[40] ^ 1,)) + data[41:])
    run = field.wait(field.submit(field.one_training(hospital_code.Mean, site=1)))
    assert run.outcome().ok, run.logs()
    assert stored.read_bytes() == data
    assert (stored.parent.parent / "damaged" / stored.name).exists()


@pytest.mark.rule("P4")
def test_a_right_that_is_taken_back_binds_in_a_running_plan(field: Field) -> None:
    mine = field.nets[2].datasets.mine("rows")
    plan = field.averaging(rounds=2)
    field.nodes.kill(1)  # so the first round does not end before the right does
    run = field.submit(plan)
    trained = field.task(run, "train", "hospital-c")
    field.until(f"task/{trained}", lambda task: task["state"] == "done")
    field.nets[2].datasets.grant(mine, train=["hospital-c"])
    field.restart(1)
    try:
        field.wait(run)
        last = [t for t in run.tasks() if t.kind == "train" and t.worker == "hospital-c"][-1]
        task = row(field, f"task/{last.key}")
        assert (task["state"], task["reason"]) == ("failed", "rights")
    finally:
        field.nets[2].datasets.grant(mine, train=["hospital-a"])


@pytest.mark.rule("R7")
def test_a_round_goes_on_without_a_site_that_takes_too_long(field: Field) -> None:
    algo = field.algo(hospital_code.Mean)
    plan = Plan("impatient")
    start = plan.init(algo, at="hospital-a")
    seconds = {"hospital-a": 0, "hospital-b": 0, "hospital-c": 300}
    trained = [
        plan.train(algo, site, start, parameters={"seconds": seconds[site.owner]})
        for site in field.sites
    ]
    plan.final(plan.aggregate(MEAN, trained, at="hospital-b", at_least=2))

    def impatient(task: dict[str, Any]) -> None:
        if task["kind"] == "aggregate":
            task["need"]["within_ms"] = 500

    run = field.submit(plan, impatient)
    mixed = field.task(run, "aggregate")
    field.until(f"task/{mixed}", lambda task: task["state"] == "done")
    assert row(field, f"task/{mixed}")["skipped"] == ["hospital-c"]
    run.cancel()


@pytest.mark.rule("P5")
def test_a_dataset_that_demands_approval_waits_for_its_owner_s_word(field: Field) -> None:
    place = field.folder / "data" / "hospital-b" / "guarded"
    field.write_samples(place, "train", seed=11)
    owner = field.nets[1]
    guarded = owner.datasets.add(
        "guarded", opener=field.folder / "opener", train=place / "train", approval="required"
    )
    owner.datasets.grant(guarded, train=["hospital-a"])
    guarded = field.net.datasets.one(name="guarded")
    algo = field.algo(hospital_code.Mean)
    runs = []
    for name in ("approved", "denied"):
        plan = Plan(name)
        plan.train(algo, guarded, plan.init(algo, at="hospital-a"))
        runs.append(field.submit(plan))
        trained = field.task(runs[-1], "train")
        field.until(f"task/{trained}", lambda task: task.get("wait") == "approval")
    owner.approvals.give(plan=runs[0].key)
    owner.approvals.deny(plan=runs[1].key)
    states = [field.net.tasks.one(field.task(field.wait(run), "train")) for run in runs]
    assert [task.state for task in states] == ["done", "failed"]
    assert row(field, f"task/{states[1].key}")["reason"] == "denied"


def test_declared_target_files_are_not_there_for_predict(field: Field) -> None:
    place = field.folder / "data" / "hospital-a" / "declared"
    field.write_samples(place, "train", seed=21)
    field.write_samples(place, "test", seed=22)
    declared = field.net.datasets.add(
        "declared",
        opener=field.folder / "opener",
        train=place / "train",
        test=place / "test",
        targets=["y.npy"],
    )
    goal = field.net.objectives.add("declared", metric="accuracy", datasets=[declared])
    field.net.objectives.accept(goal)
    goal = field.net.objectives.find(goal.key)
    states = []
    for code in (hospital_code.Mean, hospital_code.LooksForLabels):
        algo = field.algo(code)
        plan = Plan(code.__name__)
        model = plan.train(algo, declared, plan.init(algo, at="hospital-a"))
        plan.final(model)
        plan.test(algo, model, goal, goal.sets[0])
        run = field.wait(field.submit(plan))
        states.append(field.net.tasks.one(field.task(run, "test")))
    assert [task.state for task in states] == ["done", "failed"], run.logs()
    assert states[0].receipt["labels"] == "sealed"
    assert "no labels anywhere" in run.logs()


@pytest.mark.rule("D2")
def test_data_that_changed_on_disk_fail_the_task(field: Field) -> None:
    place = field.folder / "data" / "hospital-a" / "changing"
    field.write_samples(place, "train", seed=31)
    changing = field.net.datasets.add(
        "changing", opener=field.folder / "opener", train=place / "train", in_place=True
    )
    algo = field.algo(hospital_code.Mean)
    for expected in ("done", "failed"):
        plan = Plan(expected)
        plan.train(algo, changing, plan.init(algo, at="hospital-a"))
        run = field.wait(field.submit(plan))
        assert field.net.tasks.one(field.task(run, "train")).state == expected
        (place / "train" / "sample-0" / "y.npy").write_bytes(b"something else")
    assert row(field, f"task/{field.task(run, 'train')}")["reason"] == "data"
    assert "is not what was registered" in run.logs()


@pytest.mark.rule("D4")
def test_the_same_bytes_as_train_and_test_are_refused_in_words(field: Field) -> None:
    place = field.folder / "data" / "hospital-a" / "twice"
    field.write_samples(place, "train", seed=41)
    field.write_samples(place, "test", seed=41, sizes=(1, 1, 38))
    with pytest.raises(Refused, match="holds the same bytes") as refused:
        field.net.datasets.add(
            "twice",
            opener=field.folder / "opener",
            train=place / "train",
            test=place / "test",
        )
    assert refused.value.rule == "D4"


def test_data_outside_the_data_root_are_refused(field: Field, tmp_path: Path) -> None:
    field.write_samples(tmp_path, "train", seed=51)
    with pytest.raises(InvalidInput, match="not under a data root"):
        field.net.datasets.add("outside", opener=field.folder / "opener", train=tmp_path / "train")


def test_nobody_brings_data_to_another_organization_s_node(field: Field) -> None:
    theirs = field.nets[1].datasets.mine("rows")
    place = str(field.folder / "data" / "hospital-a" / "train")
    with pytest.raises(Refused, match="datasets of their own organization only"):
        list(field.net.transport.import_data(theirs.key, "train", place, in_place=False))
