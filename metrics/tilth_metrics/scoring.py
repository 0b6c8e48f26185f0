"""From rows to perf.json: the score of one step, in the form every metric follows.

Invariants: every number is finite; "statistics" stand there only when they are bounded integers
that nodes may pool; per-sample values stand there only when asked for and meaningful.
"""

import math
from collections.abc import Sequence
from typing import Any

from tilth_metrics.errors import BadRows, Undefined
from tilth_metrics.metric import Metric
from tilth_metrics.registry import get

# A confusion matrix of more classes would not fit a leaf of the ledger beside the rest.
MOST_POOLED_LABELS = 50


def score(
    metric: str | Metric,
    y_true: Any,
    y_pred: Any,
    *,
    samples: Sequence[tuple[str, int]] | None = None,
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of perf.json.

    Args:
        metric: a name of `names()`, or a Metric.
        y_true: truth, one value per row, as the opener gives it.
        y_pred: predictions in the same order; what they hold is the metric's `predictions`.
        samples: (sample key, number of its rows) in row order, to also get a value per sample.
        also: names of further metrics of the same rows, added as named values.

    Returns:
        {"all": value, "count": rows, "interval": [low, high]} and, where they apply, "statistics",
        "samples" and the named values.

    Raises:
        BadRows: wrong shapes, lengths, NaN. Undefined: the metric has no value on these rows.
    """
    chosen = get(metric) if isinstance(metric, str) else metric
    stats = chosen.statistics(y_true, y_pred)
    low, high = chosen.interval(stats)
    perf: dict[str, Any] = {
        "all": _finite(chosen.reduce(stats), chosen.name),
        "count": chosen.count(stats),
        "interval": [_finite(low, chosen.name), _finite(high, chosen.name)],
    }
    for name in also:
        other = get(name)
        perf[name] = _finite(other.reduce(other.statistics(y_true, y_pred)), name)
    if chosen.pools and len(stats["labels"]) <= MOST_POOLED_LABELS:
        perf["statistics"] = stats
    if samples is not None and chosen.per_sample:
        perf["samples"] = _per_sample(chosen, y_true, y_pred, samples)
    return perf


def _per_sample(
    metric: Metric, y_true: Any, y_pred: Any, samples: Sequence[tuple[str, int]]
) -> dict[str, float]:
    if sum(rows for _, rows in samples) != len(y_true):
        raise BadRows(
            "The samples do not add up to the rows.",
            found=f"{sum(rows for _, rows in samples)} rows in samples, {len(y_true)} rows",
            expected="(key, rows) of every sample, in row order",
        )
    values: dict[str, float] = {}
    start = 0
    for key, rows in samples:
        part = slice(start, start + rows)
        start += rows
        if rows:
            stats = metric.statistics(y_true[part], y_pred[part])
            values[key] = _finite(metric.reduce(stats), metric.name)
    return values


def _finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise Undefined(
            f"{name} came out as {value}.",
            expected="a finite number",
            remedy="look for values so large that their squares overflow",
        )
    return value
