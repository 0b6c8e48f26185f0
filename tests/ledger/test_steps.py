"""From a task to its steps: every step sees its row of the table and nothing more."""

import json
from dataclasses import fields

import pytest

from tilth_ledger.errors import InvalidInput
from tilth_ledger.operations import FAILURE_REASONS
from tilth_ledger.steps import (
    EXIT_CODES,
    Kind,
    Reason,
    Source,
    StepLimits,
    format_of,
    steps_of,
)

ROWS = {
    "algo/u/a": {
        "name": "Softmax",
        "archive": "aa",
        "manifest": {"capabilities": ["train"]},
        "environment": "u/env",
    },
    "dataset/h/d": {
        "opener": "bb",
        "environment": "h/env",
        "targets": ["y.npy"],
        "limits": {"model_bytes": 1_000, "log_bytes": 2_000, "report_bytes": 3_000},
    },
    "dataset/h/exporting": {"opener": "bb", "environment": "h/env", "targets": []},
    "objective/g/o": {"metric": {"builtin": "accuracy"}},
    "objective/g/own": {"metric": {"archive": "cc", "environment": "g/env"}, "strict": True},
    "model/h/t0/model": {"digest": "dd", "format": "hdf5", "size": 9},
    "task/h/t0": {"worker": "h", "rank": 3, "report": {"count": 40}},
    "model/h/t1/model": {"digest": "ee", "format": "archive", "size": 9},
    "task/h/t1": {"worker": "i", "rank": 3},
}
INPUT = {"name": "model", "task": "h/t0", "output": "model"}


def a_task(kind, **facts):
    data = {"dataset": "h/d", "set": "h/s"} if kind not in ("init", "aggregate") else None
    return {
        "key": "h/t9",
        "kind": kind,
        "plan": "u/p",
        "worker": "h",
        "algo": "u/a",
        "inputs": [] if kind == "init" else [INPUT],
        "parameters": {"rate": "0.5"},
        "seed": 7,
        "rank": 4,
        **({"data": data} if data else {}),
        **facts,
    }


def steps(kind, **facts):
    return steps_of(a_task(kind, **facts), ROWS.get)


def paths(step):
    return {folder.path: folder.source for folder in step.folders}


def test_init_sees_only_its_code():
    (step,) = steps("init")

    assert paths(step) == {"code": Source.ARCHIVE}
    assert [o.path for o in step.outputs] == ["out/model", "report.json"]


def test_train_sees_data_opener_inputs_and_code():
    (step,) = steps("train")

    assert paths(step) == {
        "data": Source.SAMPLES,
        "opener": Source.ARCHIVE,
        "in/model": Source.MODEL,
        "code": Source.ARCHIVE,
        "local": Source.LOCAL,
    }
    assert [o.path for o in step.outputs] == ["out/model", "report.json", "local"]


def test_aggregate_sees_no_data():
    (step,) = steps("aggregate")

    assert paths(step) == {"in/model": Source.MODEL, "code": Source.ARCHIVE, "local": Source.LOCAL}


@pytest.mark.parametrize("dataset", ["h/d", "h/exporting"])
def test_predict_never_sees_the_data(dataset):
    data = {"dataset": dataset, "set": "h/s"}

    predict = next(s for s in steps("test", data=data, objective="g/o") if s.kind is Kind.PREDICT)

    assert "data" not in paths(predict)
    assert Source.SAMPLES not in paths(predict).values()
    assert "metric" not in paths(predict)


def test_declared_targets_are_left_out_of_what_predict_sees():
    predict, score = steps("test", objective="g/o")

    (features,) = [f for f in predict.folders if f.path == "features"]
    assert (features.source, features.without) == (Source.FEATURES, ("y.npy",))
    (data,) = [f for f in score.folders if f.path == "data"]
    assert (data.source, data.without) == (Source.SAMPLES, ())


def test_without_targets_a_step_that_sees_no_algo_exports_features():
    data = {"dataset": "h/exporting", "set": "h/s"}

    features, predict, score = steps("test", data=data, objective="g/o")

    assert paths(features) == {"data": Source.SAMPLES, "opener": Source.ARCHIVE}
    (folder,) = [f for f in predict.folders if f.path == "features"]
    assert (folder.source, folder.step) == (Source.STEP, "features")
    assert features.environment == "h/env"
    assert [s.task_json["features"] for s in (features, predict, score)] == ["exported"] * 3


def test_score_sees_no_algo_and_no_model():
    _, score = steps("test", objective="g/own")

    assert paths(score) == {
        "data": Source.SAMPLES,
        "opener": Source.ARCHIVE,
        "pred": Source.STEP,
        "metric": Source.ARCHIVE,
    }
    assert score.environment == "g/env"
    assert [o.path for o in score.outputs if o.required] == ["perf.json"]


def test_a_prediction_is_a_test_without_a_score():
    assert [s.kind for s in steps("predict")] == [Kind.PREDICT]


def test_a_builtin_aggregation_has_no_code_and_the_nodes_environment():
    (step,) = steps("aggregate", algo={"builtin": "mean"})

    assert "code" not in paths(step)
    assert step.environment == ""
    assert step.task_json["algo"] == {"builtin": "mean"}


def test_inputs_say_where_they_come_from():
    inputs = [INPUT, {"name": "other", "task": "h/t1", "output": "model"}]

    (step,) = steps("aggregate", inputs=inputs)

    assert step.task_json["inputs"] == [
        {
            "name": "model",
            "task": "h/t0",
            "organization": "h",
            "rank": 3,
            "format": "hdf5",
            "count": 40,
        },
        {"name": "other", "task": "h/t1", "organization": "i", "rank": 3, "format": "archive"},
    ]


def test_an_input_that_was_skipped_is_not_there():
    inputs = [INPUT, {"name": "failed", "task": "h/none", "output": "model", "on_failed": "skip"}]

    (step,) = steps("aggregate", inputs=inputs)

    assert [i["name"] for i in step.task_json["inputs"]] == ["model"]


def test_a_composite_makes_head_and_trunk():
    (step,) = steps("composite")

    assert [o.path for o in step.outputs if o.required] == ["out/head", "out/trunk"]


def test_limits_are_the_least_of_node_task_and_dataset():
    (step,) = steps("train", limits={"seconds": 60, "memory_bytes": 1 << 20, "processes": 2})

    assert step.limits.wall_ms == 60_000
    assert step.limits.memory_bytes == 1 << 20
    assert step.limits.processes == 2
    assert step.limits.output_bytes == 1_000
    assert step.limits.log_bytes == 2_000
    assert step.limits.report_bytes == 3_000


def test_nobody_gets_more_than_the_node_allows():
    small = StepLimits(wall_ms=5, memory_bytes=6, processes=1, output_bytes=7)

    (step,) = steps_of(a_task("train", limits={"seconds": 99_999}), ROWS.get, small)

    assert (step.limits.wall_ms, step.limits.memory_bytes, step.limits.output_bytes) == (5, 6, 7)


def test_train_and_predict_never_share_a_warm_runner():
    keys = [s.warm_key for s in (*steps("train"), *steps("test", objective="g/o"))]

    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "other",
    [{"plan": "u/other"}, {"data": {"dataset": "h/d", "set": "h/other"}}, {"algo": "u/b"}],
)
def test_another_plan_set_or_code_is_another_warm_key(other):
    rows = {**ROWS, "algo/u/b": {**ROWS["algo/u/a"], "archive": "ff"}}

    (one,) = steps_of(a_task("train"), rows.get)
    (two,) = steps_of(a_task("train", **other), rows.get)

    assert one.warm_key != two.warm_key


def test_the_next_round_of_a_plan_has_the_same_warm_key():
    (one,), (two,) = steps("train", key="h/t9", rank=4), steps("train", key="h/t10", rank=6, seed=8)

    assert one.warm_key == two.warm_key


def test_an_objective_may_demand_a_fresh_isolation():
    assert all(step.strict for step in steps("test", objective="g/own"))
    assert not any(step.strict for step in steps("test", objective="g/o"))


def test_task_json_is_plain_and_holds_no_path_or_address():
    for kind in ("init", "train", "aggregate", "test", "predict"):
        for step in steps(kind, objective="g/o"):
            text = json.dumps(step.task_json)
            assert "/tmp" not in text
            assert "://" not in text
            assert not isinstance(step.task_json["parameters"]["rate"], float)


def test_a_row_that_is_missing_is_named():
    with pytest.raises(InvalidInput, match="algo/u/none"):
        steps("train", algo="u/none")


def test_every_reason_may_stand_on_the_ledger():
    assert {str(reason) for reason in Reason} <= set(FAILURE_REASONS)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


def test_limits_say_their_units():
    units = ("_ms", "_bytes", "processes", "open_files", "output_files")

    assert [f.name for f in fields(StepLimits) if not f.name.endswith(units)] == []


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (["model.h5"], "hdf5"),
        (["model.safetensors"], "safetensors"),
        (["weights.bin"], "archive"),
        (["model.h5", "more"], "archive"),
        ([], "archive"),
    ],
)
def test_the_format_of_a_model(names, form):
    assert format_of(names) == form
