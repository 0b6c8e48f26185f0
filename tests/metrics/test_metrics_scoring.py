"""perf.json has the promised form, and bad rows get an answer that says what to do."""

import subprocess
import sys

import numpy as np
import pytest

import tilth_metrics
from tilth_metrics import BadRows, MetricError, Undefined


def test_a_score_holds_value_count_interval_and_poolable_statistics():
    perf = tilth_metrics.score("accuracy", [0, 1, 1], [0, 1, 0])

    assert set(perf) == {"all", "count", "interval", "statistics"}
    assert perf["all"] == 2 / 3
    assert perf["count"] == 3
    assert perf["statistics"] == {"labels": [0, 1], "matrix": [[1, 0], [1, 1]]}


def test_named_values_are_further_metrics_of_the_same_rows():
    perf = tilth_metrics.score("accuracy", [0, 1, 1], [0, 1, 0], also=["f1", "kappa"])

    assert perf["f1"] == tilth_metrics.score("f1", [0, 1, 1], [0, 1, 0])["all"]
    assert perf["kappa"] == tilth_metrics.score("kappa", [0, 1, 1], [0, 1, 0])["all"]


def test_values_per_sample_come_only_when_asked_for():
    perf = tilth_metrics.score(
        "accuracy", [0, 1, 1], [0, 1, 0], samples=[("one", 1), ("none", 0), ("two", 2)]
    )

    assert perf["samples"] == {"one": 1.0, "two": 0.5}


def test_samples_must_add_up_to_the_rows():
    with pytest.raises(BadRows, match="2 rows in samples, 3 rows"):
        tilth_metrics.score("accuracy", [0, 1, 1], [0, 1, 0], samples=[("one", 2)])


def test_statistics_that_show_scores_or_outgrow_a_leaf_stay_at_home():
    assert "statistics" not in tilth_metrics.score("roc_auc", [0, 1], [0.1, 0.9])
    many = np.arange(500)
    assert "statistics" not in tilth_metrics.score("accuracy", many, many)


@pytest.mark.parametrize(
    ("metric", "truth", "predicted", "words"),
    [
        ("accuracy", [0, 1], [0], "2 true rows, 1 predicted rows"),
        ("accuracy", [], [], "0 rows"),
        ("accuracy", [0, 1], [[0.1, 0.9], [0.9, 0.1]], "argmax"),
        ("accuracy", [0, 1], [0.2, 0.8], "fractions where classes are needed"),
        ("accuracy", [0, 1], [0.0, float("nan")], "NaN or infinite"),
        ("accuracy", [0, 1], ["0", "1"], "different kinds of labels"),
        ("accuracy", [0, 1], [1, None], "mixes kinds of values"),
        ("accuracy", [[0], [1, 2]], [0, 1], "ragged"),
        ("accuracy", [0, 2**60], [0, 1], "too large for JSON"),
        ("f1_binary", [0, 1], [0, 2], "not binary"),
        ("roc_auc", [0, 1], [0.5, float("inf")], "NaN or infinite, the first at row 1"),
        ("roc_auc_ovr", [0, 5], [[0.5, 0.5], [0.1, 0.9]], "do not match the columns"),
        ("roc_auc_ovr", [0, 1], [0.5, 0.5], "wrong shape"),
        ("log_loss", [0, 1], [[2.0, -1.0], [0.5, 0.5]], "no probabilities"),
        ("log_loss", [0, 1], [[0.5, 0.4], [0.5, 0.5]], "do not sum to 1"),
        ("mae", [0, 1], ["a", "b"], "does not hold numbers"),
        ("rmse", [float("nan"), 1], [0, 1], "y_true holds values that are not numbers"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_with_a_remedy(metric, truth, predicted, words):
    with pytest.raises(BadRows, match=words):
        tilth_metrics.score(metric, truth, predicted)


def test_a_value_that_overflows_is_no_score():
    with pytest.raises(Undefined, match="finite"), np.errstate(over="ignore", invalid="ignore"):
        tilth_metrics.score("rmse", [1e300, 0], [-1e300, 0])


def test_an_unknown_metric_is_refused_with_the_names_that_exist():
    with pytest.raises(MetricError, match="balanced_accuracy") as caught:
        tilth_metrics.get("acuracy")

    assert caught.value.found == "'acuracy'"


def test_knowing_the_names_of_metrics_does_not_cost_numpy():
    code = "import sys, tilth_metrics; tilth_metrics.names(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
