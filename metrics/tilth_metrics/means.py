"""Metrics that are a mean over rows: their statistics are moments of one number per row.

Statistics {"count", "mean", "m2"}: the number of rows, their mean, and the sum of squared distances
to it, joined by the update of Chan, Golub and LeVeque (1979), which does not lose digits. They are
floats: by count they combine over nodes to the same mean; they do not pool on the ledger.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth_metrics import intervals
from tilth_metrics.metric import Interval, Metric, Statistics


def moments(values: NDArray[np.float64]) -> Statistics:
    """Moments of one number per row."""
    mean = float(values.mean())
    return {"count": len(values), "mean": mean, "m2": float(((values - mean) ** 2).sum())}


def combine(parts: Sequence[Statistics]) -> Statistics:
    """Moments of all rows together."""
    total = count_of(parts)
    mean = math.fsum(part["count"] * part["mean"] for part in parts) / total
    shifts = [part["m2"] + part["count"] * (part["mean"] - mean) ** 2 for part in parts]
    return {"count": total, "mean": mean, "m2": math.fsum(shifts)}


def count_of(parts: Sequence[Statistics]) -> int:
    """Rows of all parts."""
    return sum(part["count"] for part in parts)


def count(stats: Statistics) -> int:
    """Rows scored."""
    return int(stats["count"])


def mean(stats: Statistics) -> float:
    """The mean over rows."""
    return float(stats["mean"])


def mean_interval(stats: Statistics) -> Interval:
    """Normal interval; a mean of losses is never negative."""
    variance = stats["m2"] / max(stats["count"] - 1, 1)
    low, high = intervals.normal(stats["mean"], variance, stats["count"])
    return max(0.0, low), high


def mean_metric(
    name: str,
    title: str,
    statistics: Callable[[Any, Any], Statistics],
    *,
    predictions: str,
    reduce: Callable[[Statistics], float] = mean,
    interval: Callable[[Statistics], Interval] = mean_interval,
    method: str = "normal approximation",
) -> Metric:
    """A loss that is a mean over rows, or a function of one."""
    return Metric(
        name=name,
        title=title,
        direction="minimize",
        predictions=predictions,
        statistics=statistics,
        combine=combine,
        reduce=reduce,
        interval=interval,
        interval_method=method,
        count=count,
        pools=False,
        per_sample=True,
    )
