"""Which rows of a sample set a task uses: the same rows on every machine, for ever.

Forms (`selection` of a task's data):
    {"kind": "fraction", "fraction": "0.2", "seed": 0}
    {"kind": "fold", "index": 0, "of": 5, "by": "index" | "stratified", "seed": 0}
    {"kind": "first", "count": 100}
each with an optional "complement": true, which gives all other rows.

Invariants
- A function of the row count, the selection and, for a stratified fold, the labels; the order of
  rows is kept. No generator of a library is used, whose stream may change with its version: rows
  are ordered by splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
  2014) of seed and row number.
- The folds of one k are disjoint and together are all rows.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tilth.algorithm.errors import WrongShape


def rows_of(selection: Mapping[str, Any], count: int, labels: Any = None) -> Any:
    """The indices (int64, ascending) of the chosen rows among `count`.

    `labels`: one per row, needed by a stratified fold. Raises WrongShape for a form or a fold that
    does not exist, and where nothing would be left.
    """
    import numpy as np

    everything = np.arange(count)
    if not selection:
        return everything
    chosen = np.zeros(count, dtype=bool)
    match selection["kind"]:
        case "fraction":
            part = Decimal(selection["fraction"]) * count
            size = int(part.to_integral_value(ROUND_HALF_UP))
            chosen[_shuffled(everything, selection.get("seed", 0))[:size]] = True
        case "first":
            chosen[: selection["count"]] = True
        case "fold":
            chosen = _fold_of_rows(selection, everything, labels) == selection["index"]
        case other:
            raise WrongShape(
                "a selection that does not exist",
                found=other,
                remedy="Use fraction, fold or first, as tilth.algorithm.selection describes them.",
            )
    if selection.get("complement"):
        chosen = ~chosen
    if not chosen.any():
        raise WrongShape(
            "the selection leaves no rows",
            found=f"{selection} of {count} rows",
            remedy="Take a larger part, or a set with more rows.",
        )
    return everything[chosen]


def cut(chosen: Any, sizes: Sequence[int]) -> list[Any]:
    """The chosen rows of each of several parts, counted from the part's own beginning."""
    import numpy as np

    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [part - (end - size) for part, end, size in zip(parts, ends, sizes, strict=True)]


def needs_labels(selection: Mapping[str, Any]) -> bool:
    """Whether `rows_of` asks for labels."""
    return selection.get("by") == "stratified"


def _fold_of_rows(selection: Mapping[str, Any], everything: Any, labels: Any) -> Any:
    """The fold of each row: rows in shuffled order are dealt like cards, class by class."""
    import numpy as np

    if selection.get("by", "index") == "group":
        raise WrongShape("folds by group are not possible here", remedy="choose index folds")
    order = _shuffled(everything, selection["seed"]) if "seed" in selection else everything
    if needs_labels(selection):
        # Stable: within a class the shuffled order stays, and dealing runs on over the classes.
        order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    folds = np.empty(len(everything), dtype=np.int64)
    folds[order] = np.arange(len(everything)) % selection["of"]
    return folds


def _shuffled(rows: Any, seed: int) -> Any:
    """The rows in the order of splitmix64(seed + (row + 1) * gamma)."""
    import numpy as np

    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        z = np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + (rows.astype(np.uint64) + np.uint64(1)) * gamma
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return rows[np.argsort(z, kind="stable")]
