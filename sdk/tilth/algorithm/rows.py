"""Rows in the forms openers may give: arrays, lists, data frames, dicts of these.

One place knows how to count, join and cut them.
"""

from collections.abc import Sequence
from typing import Any

from tilth.algorithm.errors import WrongShape


def count(rows: Any) -> int:
    """How many rows there are."""
    if isinstance(rows, dict):
        sizes = {name: len(part) for name, part in rows.items()}
        if len(set(sizes.values())) != 1:
            raise WrongShape(
                "the parts of the rows differ in length",
                found=sizes,
                remedy="Let the opener return the same number of rows in each part.",
            )
        return next(iter(sizes.values()))
    return len(rows)


def take(rows: Any, index: Any) -> Any:
    """The rows at these positions."""
    if isinstance(rows, dict):
        return {name: take(part, index) for name, part in rows.items()}
    if hasattr(rows, "iloc"):
        return rows.iloc[index]
    if isinstance(rows, (list, tuple)):
        return [rows[i] for i in index]
    return rows[index]


def join(parts: Sequence[Any]) -> Any:
    """The rows of all parts, one after another."""
    import numpy as np

    first = parts[0]
    if isinstance(first, dict):
        return {name: join([part[name] for part in parts]) for name in first}
    if isinstance(first, (list, tuple)):
        return [row for part in parts for row in part]
    if hasattr(first, "iloc"):
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return pd.concat(parts)
    return np.concatenate([np.asarray(part) for part in parts])
