"""Metrics of numbers: mean absolute error, root mean squared error, R squared.

R squared follows scikit-learn: of a constant target it is 1 when every row is met exactly, else 0;
of a single row it is undefined. Over several nodes RMSE and R squared combine by count or by site,
which is a mean of the nodes' values and not the value of all rows; a score says which was used.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth_metrics import intervals, means
from tilth_metrics.errors import Undefined
from tilth_metrics.metric import Interval, Metric, Statistics
from tilth_metrics.rows import as_numbers, same_length


def _pair(y_true: Any, y_pred: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth, predicted = as_numbers(y_true, "y_true"), as_numbers(y_pred, "y_pred")
    same_length(truth, predicted)
    return truth, predicted


def absolute_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Moments of |truth - prediction|."""
    truth, predicted = _pair(y_true, y_pred)
    return means.moments(np.abs(truth - predicted))


def squared_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Moments of (truth - prediction) squared."""
    truth, predicted = _pair(y_true, y_pred)
    return means.moments((truth - predicted) ** 2)


def rmse(stats: Statistics) -> float:
    """Square root of the mean squared error, in the unit of the target."""
    return math.sqrt(stats["mean"])


def rmse_interval(stats: Statistics) -> Interval:
    """Square roots of the ends of the mean's interval."""
    low, high = means.mean_interval(stats)
    return math.sqrt(low), math.sqrt(high)


def r2_statistics(y_true: Any, y_pred: Any) -> Statistics:
    """Sums over d = y - mean(y) and u = (y - prediction) squared, as far as the variance needs."""
    truth, predicted = _pair(y_true, y_pred)
    # A constant column has exactly its own value as mean; summing it could miss by one bit.
    mean = float(truth[0]) if (truth == truth[0]).all() else float(truth.mean())
    d, u = truth - mean, (truth - predicted) ** 2
    return {
        "count": len(truth),
        "mean": mean,
        "d2": float((d**2).sum()),
        "d3": float((d**3).sum()),
        "d4": float((d**4).sum()),
        "u": float(u.sum()),
        "uu": float((u**2).sum()),
        "ud": float((u * d).sum()),
        "udd": float((u * d**2).sum()),
    }


def r2_combine(parts: Sequence[Statistics]) -> Statistics:
    """Moves every part's sums to the common mean, then adds them."""
    total = means.count_of(parts)
    means_seen = {part["mean"] for part in parts}
    mean = math.fsum(part["count"] * part["mean"] for part in parts) / total
    mean = means_seen.pop() if len(means_seen) == 1 else mean
    moved = [_move(part, part["mean"] - mean) for part in parts]
    sums = {name: math.fsum(part[name] for part in moved) for name in moved[0]}
    return {"count": total, "mean": mean, **sums}


def _move(part: Statistics, by: float) -> Statistics:
    n, d2, d3, d4 = part["count"], part["d2"], part["d3"], part["d4"]
    u, ud, udd = part["u"], part["ud"], part["udd"]
    return {
        "d2": d2 + n * by**2,
        "d3": d3 + 3 * by * d2 + n * by**3,
        "d4": d4 + 4 * by * d3 + 6 * by**2 * d2 + n * by**4,
        "u": u,
        "uu": part["uu"],
        "ud": ud + by * u,
        "udd": udd + 2 * by * ud + by**2 * u,
    }


def r2(stats: Statistics) -> float:
    """1 - (squared error) / (squared distance to the mean)."""
    if stats["count"] < 2:
        raise Undefined(
            "R squared has no value on a single row.",
            found="1 row",
            expected="at least 2",
            remedy="use mae or rmse, or a larger test set",
        )
    if stats["d2"] == 0:
        return 1.0 if stats["u"] == 0 else 0.0
    return 1 - float(stats["u"]) / float(stats["d2"])


def r2_interval(stats: Statistics) -> Interval:
    """Delta method: a row moves R squared by -(u - (1 - R2) d squared) / variance of y."""
    value = r2(stats)
    if stats["d2"] == 0:
        return value, value
    rest = 1 - value
    squares = stats["uu"] - 2 * rest * stats["udd"] + rest**2 * stats["d4"]
    variance = squares / stats["count"] / (stats["d2"] / stats["count"]) ** 2
    low, high = intervals.normal(value, variance, stats["count"])
    return low, min(1.0, high)


METRICS = (
    means.mean_metric(
        "mae", "mean absolute error", absolute_statistics, predictions="one number per row"
    ),
    means.mean_metric(
        "rmse",
        "root mean squared error",
        squared_statistics,
        predictions="one number per row",
        reduce=rmse,
        interval=rmse_interval,
        method="normal approximation of the mean squared error",
    ),
    Metric(
        name="r2",
        title="R squared",
        direction="maximize",
        predictions="one number per row",
        statistics=r2_statistics,
        combine=r2_combine,
        reduce=r2,
        interval=r2_interval,
        interval_method="delta method",
        count=means.count,
        pools=False,
        per_sample=False,
    ),
)
