"""Metrics of scores and probabilities: ROC AUC (binary, one-vs-rest) and log loss.

Statistics of the AUC are the counts of positives and negatives at each distinct score: they pool
exactly over the parts of one node. They are as large as the data and show every score, so they
never go on the ledger: over several nodes an AUC combines by count or by site only.

One-vs-rest is the plain mean over all columns (scikit-learn: multi_class="ovr", average="macro").
Log loss clips probabilities at the precision of a 64-bit float, as scikit-learn does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth_metrics import intervals, means
from tilth_metrics.errors import BadRows, Undefined
from tilth_metrics.metric import Interval, Metric, Statistics
from tilth_metrics.rows import (
    as_binary,
    as_labels,
    as_numbers,
    as_probabilities,
    as_table,
    columns_of,
    same_length,
)


def auc_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Positives and negatives per distinct score; y_pred is the score of class 1."""
    truth, scores = as_binary(y_true, "y_true"), as_numbers(y_pred, "y_pred")
    same_length(truth, scores)
    return {"classes": [_counts(truth == 1, scores)]}


def ovr_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """The same for each column of a table of scores against all other columns."""
    table = as_table(y_pred, "y_pred")
    truth = as_labels(y_true, "y_true")
    same_length(truth, table)
    codes = columns_of(truth, table.shape[1])
    return {"classes": [_counts(codes == k, table[:, k]) for k in range(table.shape[1])]}


def _counts(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Statistics:
    distinct, codes = np.unique(scores, return_inverse=True)
    return {
        "scores": distinct.tolist(),
        "positives": np.bincount(codes[positive], minlength=len(distinct)).tolist(),
        "negatives": np.bincount(codes[~positive], minlength=len(distinct)).tolist(),
    }


def auc_combine(parts: Sequence[Statistics]) -> Statistics:
    """Adds the counts of equal scores."""
    if len({len(part["classes"]) for part in parts}) != 1:
        raise BadRows(
            "Parts have different numbers of classes.",
            found=", ".join(str(len(part["classes"])) for part in parts),
            expected="the same columns of scores in every part",
        )
    return {"classes": [_merge(same) for same in zip(*(p["classes"] for p in parts), strict=True)]}


def _merge(parts: Sequence[Statistics]) -> Statistics:
    scores = np.concatenate([np.asarray(part["scores"], dtype=np.float64) for part in parts])
    distinct, codes = np.unique(scores, return_inverse=True)
    merged: Statistics = {"scores": distinct.tolist()}
    for side in ("positives", "negatives"):
        total = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(total, codes, np.concatenate([np.asarray(p[side], np.int64) for p in parts]))
        merged[side] = total.tolist()
    return merged


def auc(stats: Statistics) -> float:
    """Mean over the classes of the share of pairs ranked right; a tie counts one half."""
    return math.fsum(value for value, _, _ in _per_class(stats)) / len(stats["classes"])


def _per_class(stats: Statistics) -> list[tuple[float, int, int]]:
    return [_one_auc(counts, index) for index, counts in enumerate(stats["classes"])]


def _one_auc(counts: Statistics, index: int) -> tuple[float, int, int]:
    positives = np.asarray(counts["positives"], dtype=np.int64)
    negatives = np.asarray(counts["negatives"], dtype=np.int64)
    above, below = int(positives.sum()), int(negatives.sum())
    if not above or not below:
        raise Undefined(
            "ROC AUC has no value when one class is missing from the truth.",
            found=f"{above} rows of the positive class (column {index}), {below} others",
            expected="at least one row of each",
            remedy="use a test set that holds all classes",
        )
    won = 2 * (np.cumsum(negatives) - negatives) + negatives  # twice, so that ties stay integers
    return int(positives @ won) / (2 * above * below), above, below


def auc_interval(stats: Statistics) -> Interval:
    """Newcombe's score interval per class.

    The mean over classes takes the mean of the distances: the classes share rows, and the standard
    deviation of a mean is at most the mean of the standard deviations, so this errs wide.
    """
    value, parts = auc(stats), _per_class(stats)
    bounds = [intervals.auc_score(*part) for part in parts]
    below = math.fsum(part[0] - low for part, (low, _) in zip(parts, bounds, strict=True))
    above = math.fsum(high - part[0] for part, (_, high) in zip(parts, bounds, strict=True))
    return max(0.0, value - below / len(parts)), min(1.0, value + above / len(parts))


def auc_count(stats: Statistics) -> int:
    """Rows scored."""
    first = stats["classes"][0]
    return int(sum(first["positives"]) + sum(first["negatives"]))


def log_loss_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Moments of -ln(probability given to the true class)."""
    table = as_probabilities(y_pred, "y_pred")
    truth = as_labels(y_true, "y_true")
    same_length(truth, table)
    codes = columns_of(truth, table.shape[1])
    smallest = np.finfo(np.float64).eps
    given = np.clip(table[np.arange(len(codes)), codes], smallest, 1 - smallest)
    return means.moments(-np.log(given))


def _auc_metric(name: str, title: str, statistics: Any, predictions: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        direction="maximize",
        predictions=predictions,
        statistics=statistics,
        combine=auc_combine,
        reduce=auc,
        interval=auc_interval,
        interval_method="score interval (Newcombe 2006, method 5)",
        count=auc_count,
        pools=False,
        per_sample=False,
    )


METRICS = (
    _auc_metric("roc_auc", "ROC AUC of class 1", auc_statistics, "the score of class 1 per row"),
    _auc_metric(
        "roc_auc_ovr",
        "ROC AUC, one class against the rest, macro average",
        ovr_statistics,
        "one score per row and class",
    ),
    means.mean_metric(
        "log_loss",
        "log loss, in nats",
        log_loss_statistics,
        predictions="probabilities per row and class, or of class 1",
    ),
)
