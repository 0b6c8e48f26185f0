"""Real tasks on three real nodes: from an init to certified scores, and the rights on them."""

from collections.abc import Iterator
from typing import Any

import hospital_code
import pytest
from field import Field

from tilth.plan import Model, Plan
from tilth_ledger import archive
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import InvalidInput, Refused


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("field")) as field:
        yield field


def test_a_plan_completes_and_its_final_model_is_certified_everywhere(field: Field) -> None:
    goal = field.objective()
    run = field.wait(field.submit(field.averaging(rounds=2, goal=goal)))
    assert run.outcome().ok, f"{run.outcome()}\n{run.logs()}"
    certified = field.rows(f"certified/{goal.key}/")
    assert len(certified) == 3
    for task in (field.net.rows.get(f"task/{t.key}") for t in run.tasks() if t.kind == "test"):
        assert task is not None
        assert float(task["score"]["value"]) > 0.9
        assert task["receipt"] == receipt_of_a_test(field, task)


def receipt_of_a_test(field: Field, task: dict[str, Any]) -> dict[str, Any]:
    """What the receipt of a test must say, by the ledger's rows; what was measured as it is."""

    def row(key: str) -> dict[str, Any]:
        return dict(field.net.rows.get(key) or {})

    def environment(owner: dict[str, Any]) -> str:
        return str(row(f"environment/{owner['environment']}")["digest"])

    algo, goal = row(f"algo/{task['algo']}"), row(f"objective/{task['objective']}")
    dataset = row(f"dataset/{task['data']['dataset']}")
    (edge,) = task["inputs"]
    stated = task["receipt"]
    assert stated["started_ms"] <= stated["ended_ms"]
    assert stated["usage"]["wall_ms"] > 0
    measured = ("mode", "predictions", "log", "report", "usage", "started_ms", "ended_ms")
    return {
        "grade": "B",
        "labels": "sealed",
        "runtime": "sandbox",
        "exit": 0,
        "data_check": "content",
        "set": row(f"sampleset/{task['data']['set']}")["digest"],
        "inputs": {edge["name"]: row(f"model/{edge['task']}/{edge['output']}")["digest"]},
        "codes": {
            "code": algo["archive"],
            "opener": dataset["opener"],
            "metric": goal["metric_digest"],
        },
        "environments": {
            "features": environment(dataset),
            "predict": environment(algo),
            "score": environment(dataset),  # where built-in metrics run
        },
        **{name: stated[name] for name in measured if name in stated},
    }


@pytest.mark.rule("D2")
def test_kept_features_that_changed_are_exported_anew_before_a_certified_test(
    field: Field,
) -> None:
    """Somebody with access to the node's disk empties what predictions are made from."""
    goal = field.objective()
    scores = []
    for tests in (3, 6):
        run = field.wait(field.submit(field.averaging(goal=goal)))
        assert run.outcome().ok, f"{run.outcome()}\n{run.logs()}"
        certified = field.rows(f"certified/{goal.key}/").values()
        assert len(certified) == tests
        scores.append({(row["set"], row["score"]["value"]) for row in certified})
        trees = [*field.folder.rglob("features/*/features")]
        assert len(trees) >= 3
        for file in (each for tree in trees for each in tree.rglob("*") if each.is_file()):
            file.chmod(0o644)
            file.write_bytes(b"")
    assert scores[0] == scores[1]


def test_a_receipt_names_all_that_went_in_and_out(field: Field) -> None:
    run = field.wait(field.submit(field.averaging()))
    task = field.net.rows.get(f"task/{field.task(run, 'train')}")
    assert task is not None
    receipt = task["receipt"]
    assert receipt["grade"] == "B"
    assert receipt["data_check"] == "metadata"
    assert receipt["inputs"].keys() == {"model"}
    assert receipt["codes"].keys() == {"code", "opener"}
    assert receipt["environments"].keys() == {"train"}
    assert receipt["usage"]["wall_ms"] > 0
    assert "count" not in task["report"]


def test_a_mean_weighs_by_rows_that_never_stand_on_the_ledger(field: Field) -> None:
    run = field.wait(field.submit(field.averaging()))
    mean = field.net.rows.get(f"task/{field.task(run, 'aggregate')}")
    assert mean is not None
    assert mean["report"]["count"] == 120


@pytest.mark.rule("P6")
def test_a_node_without_the_right_is_refused_the_model(field: Field) -> None:
    run = field.wait(field.submit(field.one_training(hospital_code.Mean, site=1)))
    trained = field.task(run, "train")
    model = field.net.rows.get(f"model/{trained}/model")
    assert model is not None
    with pytest.raises(Refused) as refused:
        list(field.nets[2].transport.get_blob(model["digest"]))
    assert refused.value.rule == "P6"


@pytest.mark.rule("P6")
def test_predictions_are_for_the_data_s_owner_unless_the_dataset_exports(field: Field) -> None:
    algo = field.algo(hospital_code.Mean)
    digests = []
    for site in field.sites[:2]:
        plan = Plan(f"predict at {site.owner}")
        model = plan.init(algo, at="hospital-a")
        plan.predict(algo, model, site, label="test")
        run = field.wait(field.submit(plan))
        assert run.outcome().ok, run.logs()
        task = field.net.rows.get(f"task/{field.task(run, 'predict')}") or {}
        digests.append(task["receipt"]["predictions"])
    packed = b"".join(field.net.transport.get_blob(digests[0]))
    assert len(archive.read(packed)) == 3  # one file for each sample
    assert b"".join(field.nets[1].transport.get_blob(digests[1]))
    with pytest.raises(Refused):
        list(field.net.transport.get_blob(digests[1]))


@pytest.mark.rule("P6")
def test_who_names_a_blob_without_having_it_gets_it_into_no_task(field: Field) -> None:
    """Digests are public: hospital-a imports hospital-b's predictions as a model of its own."""
    algo = field.algo(hospital_code.Mean)
    plan = Plan("predict at hospital-b")
    plan.predict(algo, plan.init(algo, at="hospital-a"), field.sites[1], label="test")
    run = field.wait(field.submit(plan))
    made = field.net.rows.get(f"task/{field.task(run, 'predict')}") or {}
    stolen = {
        "op": "model.import",
        "key": field.net.new_key(),
        "digest": made["receipt"]["predictions"],
        "size": 4_096,
        "format": "archive",
        "origin": "found it",
    }
    field.net.record(stolen)
    theft = Plan("theft")
    theft.train(field.algo(hospital_code.Copies), field.sites[1], Model(stolen["key"]))
    run = field.wait(field.submit(theft))
    task = field.net.rows.get(f"task/{field.task(run, 'train')}") or {}
    assert (task["state"], task.get("reason")) == ("failed", "rights"), run.logs()


def test_bytes_without_their_digest_are_not_stored(field: Field) -> None:
    with pytest.raises(InvalidInput, match="do not have its digest"):
        field.net.transport.put_blob(sha256_hex(b"one thing"), b"another th")


def test_a_blob_that_nothing_names_is_served_to_nobody(field: Field) -> None:
    digest = sha256_hex(b"orphan")
    field.net.transport.put_blob(digest, b"orphan")
    with pytest.raises(Refused) as refused:
        list(field.net.transport.get_blob(digest))
    assert refused.value.rule == "P6"


def test_a_stranger_s_blobs_are_not_stored(field: Field) -> None:
    key = field.nets[1].profile.signing_key()
    with pytest.raises(Refused, match="its own organization only"):
        field.nodes.transport(0, key).put_blob(sha256_hex(b"x"), b"x")
