"""The interval of a row's score over several test sets (rule B4).

    one set       the interval that its worker stated
    accuracy      Wilson's score interval of the proportion over all sets (Wilson 1927), 95 %
    other metrics the sets' intervals taken as independent: half-widths combined by the weights of
                  the combine rule (an approximation), cut to the metric's range

Invariants:
- Exact up to square roots, which are decimals of a stated precision: the same everywhere.
- Never outside the metric's range, and never without the value itself.

Left to others: the interval of one set (`tilth_metrics`, in the worker's isolation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from tilth_ledger.combine import write

PRECISE = Context(prec=34)
Z = Fraction("1.959964")  # 95 % of a normal distribution lie within

Range = tuple[Fraction | None, Fraction | None]
RANGES: Mapping[str, Range] = {
    "accuracy": (Fraction(0), Fraction(1)),
    "balanced_accuracy": (Fraction(0), Fraction(1)),
    "f1": (Fraction(0), Fraction(1)),
    "roc_auc": (Fraction(0), Fraction(1)),
    "kappa": (Fraction(-1), Fraction(1)),
    "r2": (None, Fraction(1)),
    "log_loss": (Fraction(0), None),
    "mae": (Fraction(0), None),
    "rmse": (Fraction(0), None),
}


def interval(
    rule: str, metric: str, scores: Sequence[Mapping[str, Any]], value: Fraction | None
) -> tuple[str, str] | None:
    """(low, high) as decimals; None where a set states none or the value is not defined."""
    if value is None or not all("interval" in score for score in scores):
        return None
    if len(scores) == 1:
        low, high = scores[0]["interval"]
        return str(low), str(high)
    if metric == "accuracy" and rule != "by_site":
        low, high = _wilson(value, sum(score["count"] for score in scores))
    else:
        low, high = _combined(rule, scores, value)
    floor, ceiling = RANGES.get(metric, (None, None))
    low = low if floor is None else max(low, floor)
    high = high if ceiling is None else min(high, ceiling)
    return write(low), write(high)


def _wilson(proportion: Fraction, count: int) -> tuple[Fraction, Fraction]:
    square = Z**2 / count
    centre = (proportion + square / 2) / (1 + square)
    spread = proportion * (1 - proportion) / count + square / (4 * count)
    half = Z * _root(spread) / (1 + square)
    return centre - half, centre + half


def _combined(
    rule: str, scores: Sequence[Mapping[str, Any]], value: Fraction
) -> tuple[Fraction, Fraction]:
    weights = [1 if rule == "by_site" else score["count"] for score in scores]
    halves = [(Fraction(s["interval"][1]) - Fraction(s["interval"][0])) / 2 for s in scores]
    square = sum(((w * h) ** 2 for w, h in zip(weights, halves, strict=True)), Fraction())
    half = _root(square) / sum(weights)
    return value - half, value + half


def _root(square: Fraction) -> Fraction:
    ratio = PRECISE.divide(Decimal(square.numerator), Decimal(square.denominator))
    return Fraction(PRECISE.sqrt(ratio))
