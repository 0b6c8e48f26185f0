"""Metrics of classes: accuracy, balanced accuracy, F1 (macro, binary), Cohen's kappa.

All share one kind of statistics, the confusion matrix: {"labels": [...], "matrix": [[...]]}, where
rows are the truth and columns the prediction, labels are sorted and the counts are integers. They
pool exactly: the matrix of all rows is the sum of the matrices of the parts.

Conventions, as scikit-learn's: balanced accuracy averages over the classes that occur in the
truth; a class of F1 that is never right has F1 0; macro F1 averages over the classes that occur in
truth or prediction. Kappa is undefined when truth and prediction are one single class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth_metrics import intervals
from tilth_metrics.errors import BadRows, Undefined
from tilth_metrics.metric import Interval, Metric, Statistics
from tilth_metrics.rows import as_binary, as_labels, same_length

Matrix = NDArray[np.int64]


def statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Confusion matrix over the labels that occur in either vector."""
    truth, predicted = as_labels(y_true, "y_true"), as_labels(y_pred, "y_pred")
    same_length(truth, predicted)
    if (truth.dtype.kind == "U") != (predicted.dtype.kind == "U"):
        raise BadRows(
            "Truth and predictions use different kinds of labels.",
            found=f"{_kind(truth)} as truth, {_kind(predicted)} as predictions",
            expected="the same labels in both",
            remedy="predict the labels that the opener gives as targets",
        )
    labels, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    return _count(labels.tolist(), codes[: len(truth)], codes[len(truth) :])


def binary_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Confusion matrix over the labels 0 and 1, also when only one of them occurs."""
    truth, predicted = as_binary(y_true, "y_true"), as_binary(y_pred, "y_pred")
    same_length(truth, predicted)
    return _count([0, 1], truth, predicted)


def _kind(labels: NDArray[Any]) -> str:
    return "text" if labels.dtype.kind == "U" else "integers"


def _count(labels: list[Any], truth: NDArray[Any], predicted: NDArray[Any]) -> Statistics:
    size = len(labels)
    cells = np.bincount(truth * size + predicted, minlength=size * size)
    return {"labels": labels, "matrix": cells.reshape(size, size).tolist()}


def combine(parts: Sequence[Statistics]) -> Statistics:
    """Sum of confusion matrices over the union of their labels."""
    every = {label for part in parts for label in part["labels"]}
    if len({isinstance(label, str) for label in every}) > 1:
        raise BadRows(
            "Parts use different kinds of labels.",
            found="integers in one part, text in another",
            expected="the same labels everywhere",
        )
    labels = sorted(every)
    place = {label: index for index, label in enumerate(labels)}
    total = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for part in parts:
        where = [place[label] for label in part["labels"]]
        total[np.ix_(where, where)] += _matrix(part)
    return {"labels": labels, "matrix": total.tolist()}


def _matrix(stats: Statistics) -> Matrix:
    size = len(stats["labels"])
    matrix = np.asarray(stats["matrix"], dtype=np.int64)
    if matrix.shape != (size, size) or matrix.min(initial=0) < 0 or matrix.sum() == 0:
        raise BadRows(
            "This is no confusion matrix.",
            found=f"shape {matrix.shape}, sum {matrix.sum()}",
            expected=f"({size}, {size}) counts of at least one row",
        )
    return matrix


def count(stats: Statistics) -> int:
    """Rows scored."""
    return int(_matrix(stats).sum())


def accuracy(stats: Statistics) -> float:
    """Share of rows whose prediction is the truth."""
    matrix = _matrix(stats)
    return int(np.trace(matrix)) / int(matrix.sum())


def accuracy_interval(stats: Statistics) -> Interval:
    """Wilson."""
    matrix = _matrix(stats)
    return intervals.wilson(int(np.trace(matrix)), int(matrix.sum()))


def balanced_accuracy(stats: Statistics) -> float:
    """Mean recall over the classes that occur in the truth."""
    recalls = [right / rows for right, rows in _recalls(stats)]
    return float(np.mean(recalls))


def balanced_accuracy_interval(stats: Statistics) -> Interval:
    """Wilson per class, joined by Mover: rows of different classes are independent."""
    parts = [(right / rows, intervals.wilson(right, rows)) for right, rows in _recalls(stats)]
    return intervals.mover_mean(parts)


def _recalls(stats: Statistics) -> list[tuple[int, int]]:
    matrix = _matrix(stats)
    rows = matrix.sum(axis=1)
    return [(int(matrix[i, i]), int(rows[i])) for i in range(len(rows)) if rows[i]]


def f1_macro(stats: Statistics) -> float:
    """Unweighted mean of the F1 of each class that occurs in truth or prediction."""
    matrix = _matrix(stats)
    seen = matrix.sum(axis=0) + matrix.sum(axis=1)
    return float(np.mean(2 * np.diag(matrix)[seen > 0] / seen[seen > 0]))


def f1_macro_interval(stats: Statistics) -> Interval:
    """Delta method on the multinomial: Takahashi et al., Applied Intelligence 52 (2022)."""
    matrix = _matrix(stats)
    seen = matrix.sum(axis=0) + matrix.sum(axis=1)
    live = np.maximum(seen, 1)
    per_class = 2 * np.diag(matrix) / live
    # dF_k/dp_ij = (2 [i = j = k] - F_k ([i = k] + [j = k])) n / seen_k
    slope = -(per_class / live)[:, None] - (per_class / live)[None, :] + np.diag(2 / live)
    slope = slope * matrix.sum() / int((seen > 0).sum())
    return _delta(matrix, slope, f1_macro(stats), low=0.0)


def f1_binary(stats: Statistics) -> float:
    """F1 of class 1; 0 when class 1 occurs neither in truth nor prediction."""
    true_positives, involved = _jaccard(stats)
    return 2 * true_positives / (involved + true_positives) if involved else 0.0


def f1_binary_interval(stats: Statistics) -> Interval:
    """Wilson on the Jaccard index J, a proportion; F1 = 2J / (1 + J) grows with it."""
    true_positives, involved = _jaccard(stats)
    low, high = intervals.wilson(true_positives, involved) if involved else (0.0, 1.0)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _jaccard(stats: Statistics) -> tuple[int, int]:
    matrix = _matrix(stats)
    return int(matrix[1, 1]), int(matrix.sum() - matrix[0, 0])


def kappa(stats: Statistics) -> float:
    """Agreement beyond chance: (observed - expected) / (1 - expected)."""
    matrix = _matrix(stats)
    total = int(matrix.sum())
    expected = int(matrix.sum(axis=0) @ matrix.sum(axis=1))
    if expected == total * total:
        raise Undefined(
            "Cohen's kappa has no value when truth and prediction are one single class.",
            found=f"{total} rows, all of one class and predicted so",
            expected="at least two classes",
            remedy="use accuracy, or a test set that holds more classes",
        )
    return (total * int(np.trace(matrix)) - expected) / (total * total - expected)


def kappa_interval(stats: Statistics) -> Interval:
    """Large-sample variance of Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969)."""
    matrix = _matrix(stats)
    value = kappa(stats)
    share = matrix / matrix.sum()
    truth, predicted = share.sum(axis=1), share.sum(axis=0)
    chance = float(truth @ predicted)
    # dkappa/dp_ij = ([i = j] - (1 - kappa) (predicted_i + truth_j)) / (1 - chance)
    outer = predicted[:, None] + truth[None, :]
    slope = (np.eye(len(truth)) - (1 - value) * outer) / (1 - chance)
    return _delta(matrix, slope, value, low=-1.0)


def _delta(matrix: Matrix, slope: NDArray[Any], value: float, low: float) -> Interval:
    """Normal interval with the variance of a smooth function of multinomial shares.

    A perfect matrix estimates its own variance as 0; there the lower end is that of accuracy, by
    Wilson, since such a matrix says nothing about where errors would fall.
    """
    if np.trace(matrix) == matrix.sum():
        return intervals.wilson(int(matrix.sum()), int(matrix.sum()))
    share = matrix / matrix.sum()
    variance = float((slope**2 * share).sum() - (slope * share).sum() ** 2)
    bounds = intervals.normal(value, variance, int(matrix.sum()))
    return max(low, bounds[0]), min(1.0, bounds[1])


def _metric(name: str, title: str, reduce: Any, interval: Any, method: str, **other: Any) -> Metric:
    return Metric(
        name=name,
        title=title,
        direction="maximize",
        predictions=other.get("predictions", "one class per row"),
        statistics=other.get("statistics", statistics),
        combine=combine,
        reduce=reduce,
        interval=interval,
        interval_method=method,
        count=count,
        pools=True,
        per_sample=name == "accuracy",
    )


METRICS = (
    _metric("accuracy", "accuracy", accuracy, accuracy_interval, "Wilson"),
    _metric(
        "balanced_accuracy",
        "balanced accuracy",
        balanced_accuracy,
        balanced_accuracy_interval,
        "Wilson per class, joined by Mover (Zou and Donner 2008)",
    ),
    _metric(
        "f1", "F1, macro average", f1_macro, f1_macro_interval, "delta method (Takahashi 2022)"
    ),
    _metric(
        "f1_binary",
        "F1 of class 1",
        f1_binary,
        f1_binary_interval,
        "Wilson on the Jaccard index",
        statistics=binary_statistics,
        predictions="0 or 1 per row",
    ),
    _metric("kappa", "Cohen's kappa", kappa, kappa_interval, "Fleiss, Cohen and Everitt 1969"),
)
