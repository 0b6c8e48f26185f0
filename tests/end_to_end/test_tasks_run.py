"""Real tasks on three real nodes: from an init to certified scores, and the rights on them."""

from collections.abc import Iterator

import hospital_code
import pytest
from field import Field

from tilth_ledger.errors import Refused


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
        assert (task["receipt"]["labels"], task["receipt"]["data_check"]) == ("sealed", "content")


def test_a_receipt_names_all_that_went_in_and_out(field: Field) -> None:
    run = field.wait(field.submit(field.averaging()))
    task = field.net.rows.get(f"task/{field.task(run, 'train')}")
    assert task is not None
    receipt = task["receipt"]
    assert receipt["grade"] == "B"
    assert receipt["data_check"] == "metadata"
    assert receipt["inputs"].keys() == {"model"}
    assert receipt["codes"].keys() == {"code", "opener"}
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
