"""Reading rows: turns what an opener and an algo gave into checked arrays.

Invariants: what is returned has the promised shape, at least one row, no NaN and no infinity, and
labels are plain Python integers or text. Every refusal says what was found and what to do.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilth_metrics.errors import BadRows

# A row of probabilities may miss 1 by rounding of 32-bit arithmetic, not by more.
SUM_TOLERANCE = 1e-5


def as_labels(values: Any, name: str) -> NDArray[Any]:
    """A vector of int64 or text labels; booleans and floats without fraction become integers."""
    array = _vector(values, name)
    if array.dtype.kind in "SO":
        array = _text(array, name)
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind in "bui":
        return _fits(array, name).astype(np.int64)
    numbers = _finite(array, name)
    if not np.array_equal(numbers, np.trunc(numbers)):
        raise BadRows(
            f"{name} holds fractions where classes are needed.",
            found=f"{numbers[numbers != np.trunc(numbers)][0]}",
            expected="one integer or text label per row",
            remedy="predict classes (for instance scores.argmax(axis=1)), or choose a metric of "
            "scores such as roc_auc or log_loss, or of numbers such as mae",
        )
    return _fits(numbers, name).astype(np.int64)


def as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """A vector of finite 64-bit floats."""
    return _finite(_vector(values, name), name)


def as_table(values: Any, name: str) -> NDArray[np.float64]:
    """A finite table of at least two columns: one score per row and class."""
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] < 2:
        raise BadRows(
            f"{name} has the wrong shape.",
            found=f"shape {array.shape}",
            expected="(rows, classes) with one column per class 0, 1, 2, ...",
            remedy="return the table of scores or probabilities, not the chosen class",
        )
    _not_empty(array, name)
    return _finite(array, name)


def as_probabilities(values: Any, name: str) -> NDArray[np.float64]:
    """A table of probabilities whose rows sum to 1; a vector p stands for columns (1 - p, p)."""
    array = np.asarray(values)
    if array.ndim == 1:
        ones = as_numbers(array, name)
        table = np.column_stack([1 - ones, ones])
    else:
        table = as_table(array, name)
    if table.min() < 0 or table.max() > 1:
        raise BadRows(
            f"{name} holds numbers that are no probabilities.",
            found=f"values from {table.min():g} to {table.max():g}",
            expected="values from 0 to 1",
            remedy="apply a softmax (or a sigmoid) before returning them",
        )
    sums = table.sum(axis=1)
    if np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise BadRows(
            f"Rows of {name} do not sum to 1.",
            found=f"a row that sums to {sums[np.abs(sums - 1).argmax()]:g}",
            expected="1 in every row",
            remedy="divide each row by its sum",
        )
    return table


def same_length(truth: NDArray[Any], predicted: NDArray[Any]) -> None:
    """Refuses truth and predictions of different numbers of rows."""
    if len(truth) != len(predicted):
        raise BadRows(
            "Truth and predictions have different lengths.",
            found=f"{len(truth)} true rows, {len(predicted)} predicted rows",
            expected="one prediction per row, in the order of the data",
            remedy="check that predict returns a value for every row it is given",
        )


def columns_of(truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Labels as column numbers of a table of `classes` columns."""
    if truth.dtype.kind == "U" or truth.min() < 0 or truth.max() >= classes:
        seen = sorted(set(truth.tolist()), key=str)[:10]
        raise BadRows(
            "The classes do not match the columns of the scores.",
            found=f"classes {seen} for {classes} columns",
            expected=f"classes 0 to {classes - 1}, the numbers of the columns",
            remedy="encode the targets as 0, 1, 2, ... in the opener",
        )
    return truth.astype(np.int64)


def as_binary(values: Any, name: str) -> NDArray[np.int64]:
    """A vector of 0 and 1, where 1 is the positive class."""
    labels = as_labels(values, name)
    if labels.dtype.kind == "U" or labels.min() < 0 or labels.max() > 1:
        seen = sorted(set(labels.tolist()), key=str)[:10]
        raise BadRows(
            f"{name} is not binary.",
            found=f"classes {seen}",
            expected="0 and 1, where 1 is the positive class",
            remedy="encode the positive class as 1, or choose the metric for many classes "
            "(f1, roc_auc_ovr)",
        )
    return labels.astype(np.int64)


def _vector(values: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as ragged:
        raise BadRows(
            f"{name} is ragged.", found=str(ragged), expected="one value per row"
        ) from ragged
    if array.ndim != 1:
        raise BadRows(
            f"{name} has the wrong shape.",
            found=f"shape {array.shape}",
            expected="one value per row: shape (rows,)",
            remedy="use .ravel() for a single column, .argmax(axis=1) for scores per class",
        )
    _not_empty(array, name)
    return array


def _not_empty(array: NDArray[Any], name: str) -> None:
    if len(array) == 0:
        raise BadRows(
            f"{name} is empty.",
            found="0 rows",
            expected="at least one row",
            remedy="check the sample set and what the opener reads from it",
        )


def _text(array: NDArray[Any], name: str) -> NDArray[Any]:
    values = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.tolist()]
    if all(isinstance(v, str) for v in values):
        return np.asarray(values, dtype=np.str_)
    if any(isinstance(v, str) for v in values) or not all(
        isinstance(v, int | float) for v in values
    ):
        kinds = sorted({type(v).__name__ for v in values})
        raise BadRows(
            f"{name} mixes kinds of values.",
            found=", ".join(kinds),
            expected="all numbers, or all text",
            remedy="convert the labels to one kind in the opener",
        )
    return np.asarray(values)


def _finite(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    if array.dtype.kind not in "buif":
        raise BadRows(
            f"{name} does not hold numbers.",
            found=f"values of kind {array.dtype}",
            expected="real numbers",
            remedy="convert them to float in the opener or in predict",
        )
    numbers = array.astype(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        first = np.argwhere(bad)[0].tolist()
        raise BadRows(
            f"{name} holds values that are not numbers.",
            found=f"{int(bad.sum())} NaN or infinite, the first at row {first[0]}",
            expected="finite numbers",
            remedy="look for a division by zero or a training that diverged (lower the rate)",
        )
    return numbers


def _fits(array: NDArray[Any], name: str) -> NDArray[Any]:
    limit = 2**53  # labels travel as JSON integers
    if array.dtype.kind != "b" and (array.max() > limit or array.min() < -limit):
        raise BadRows(
            f"{name} holds labels too large for JSON.",
            found=f"{array.max()}",
            expected=f"integers within {-limit} and {limit}",
            remedy="use text labels",
        )
    return array
