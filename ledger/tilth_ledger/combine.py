"""Rule T5: one score of several test sets, exactly.

Arithmetic is on integers and `fractions.Fraction`; a result is written with six digits after the
point, rounded half to even. The confusion matrix has the truth in its rows.

    by_count   mean of the sets' values, weighted by rows scored
    by_site    plain mean of the sets' values
    pooled     the metric of the summed confusion matrices

Invariants:
- No binary float, no division before the end: the same digits on every machine.
- Labels of several sites are aligned by value, whatever their order or absence at one site.

Sources: accuracy, balanced accuracy, macro F1 as in scikit-learn's user guide (labels that occur
neither as truth nor as prediction are left out); Cohen 1960 for kappa.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

DIGITS = 6
Score = Mapping[str, Any]
Cell = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Confusion:
    """A confusion matrix by label: (truth, prediction) -> count."""

    cells: Mapping[Cell, int]

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> Confusion:
        labels = [_label(label) for label in statistics["labels"]]
        rows = statistics["matrix"]
        return cls(
            {
                (truth, guess): count
                for truth, row in zip(labels, rows, strict=True)
                for guess, count in zip(labels, row, strict=True)
                if count
            }
        )

    def plus(self, other: Confusion) -> Confusion:
        total = dict(self.cells)
        for cell, count in other.cells.items():
            total[cell] = total.get(cell, 0) + count
        return Confusion(total)

    @property
    def total(self) -> int:
        return sum(self.cells.values())

    def margin(self, axis: int) -> dict[str, int]:
        """Counts by truth (axis 0) or by prediction (axis 1)."""
        sums: dict[str, int] = {}
        for cell, count in self.cells.items():
            sums[cell[axis]] = sums.get(cell[axis], 0) + count
        return sums

    def right(self, label: str) -> int:
        return self.cells.get((label, label), 0)


def _label(label: int | str) -> str:
    """The integer 1 and the text "1" are two labels."""
    return f"{type(label).__name__}:{label}"


def accuracy(confusion: Confusion) -> Fraction:
    right = sum(count for (truth, guess), count in confusion.cells.items() if truth == guess)
    return Fraction(right, confusion.total)


def balanced_accuracy(confusion: Confusion) -> Fraction:
    truths = confusion.margin(0)
    return _mean([Fraction(confusion.right(label), n) for label, n in truths.items()])


def f1(confusion: Confusion) -> Fraction:
    truths, guesses = confusion.margin(0), confusion.margin(1)
    labels = sorted({*truths, *guesses})
    return _mean(
        [
            Fraction(2 * confusion.right(label), truths.get(label, 0) + guesses.get(label, 0))
            for label in labels
        ]
    )


def kappa(confusion: Confusion) -> Fraction | None:
    """None when chance alone explains everything (one label only)."""
    truths, guesses = confusion.margin(0), confusion.margin(1)
    by_chance = sum(n * guesses.get(label, 0) for label, n in truths.items())
    chance = Fraction(by_chance, confusion.total**2)
    return None if chance == 1 else (accuracy(confusion) - chance) / (1 - chance)


METRICS: Mapping[str, Callable[[Confusion], Fraction | None]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "kappa": kappa,
}


def combine(rule: str, metric: str, scores: Sequence[Score]) -> Fraction | None:
    """The score over all sets; None where it is not defined."""
    if rule == "pooled":
        return _pooled(metric, scores)
    weights = [score["count"] if rule == "by_count" else 1 for score in scores]
    values = [Fraction(score["value"]) for score in scores]
    return sum(
        (value * weight for value, weight in zip(values, weights, strict=True)), Fraction()
    ) / sum(weights)


def _pooled(metric: str, scores: Sequence[Score]) -> Fraction | None:
    total = Confusion({})
    for score in scores:
        total = total.plus(Confusion.of(score["statistics"]))
    return METRICS[metric](total)


def check_statistics(metric: str, score: Score) -> str | None:
    """What is expected of a pooled score's statistics, if something is wrong with them."""
    statistics = score.get("statistics")
    if statistics is None:
        return "statistics with labels and a confusion matrix"
    labels, rows = statistics["labels"], statistics["matrix"]
    distinct = {_label(label) for label in labels}
    if len(distinct) != len(labels) or {len(row) for row in [rows, *rows]} != {len(labels)}:
        return "distinct labels, and a square matrix with a row and a column for each"
    confusion = Confusion.of(statistics)
    if confusion.total != score["count"]:
        return f"a matrix whose sum is the count, {score['count']}"
    value = METRICS[metric](confusion)
    if value is None:
        return None
    # A worker computes in binary floating point: its last digits may differ.
    if abs(value - Fraction(score["value"])) > Fraction(1, 10**DIGITS):
        return f"value {write(value)}, the {metric} of its matrix"
    return None


def write(value: Fraction) -> str:
    """A decimal with six digits after the point, rounded half to even."""
    scaled = round(value * 10**DIGITS)
    digits = f"{abs(scaled):0{DIGITS + 1}d}"
    return f"{'-' if scaled < 0 else ''}{digits[:-DIGITS]}.{digits[-DIGITS:]}"


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)
