"""Data as an algorithm sees them: lazy, cut to the task's selection.

Invariants
- Nothing is read before it is asked for; `X` and `y` are read once.
- `X[i]` and `y[i]` are the same row, and so are the rows of batches.
- `Features`, which predict gets, has no `y`: the labels are not in its isolation at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tilth.algorithm import rows
from tilth.algorithm.errors import WrongShape
from tilth.algorithm.opener import Opener
from tilth.algorithm.selection import needs_labels, rows_of


class Batch(NamedTuple):
    """Some rows."""

    X: Any
    y: Any


class Data:
    """The samples of a training: `.X`, `.y`, `.folders`, `.batches(n)`."""

    def __init__(
        self, opener: Opener, folders: Sequence[Path], selection: Mapping[str, Any] | None = None
    ) -> None:
        self.folders = list(folders)
        self._opener = opener
        self._selection = dict(selection or {})

    @cached_property
    def X(self) -> Any:  # noqa: N802  the name users know
        """The features of all chosen rows."""
        everything = self._opener.get_X(self.folders)
        if not self._selection:
            return everything
        labels = self._all_y if needs_labels(self._selection) else None
        return rows.take(everything, rows_of(self._selection, rows.count(everything), labels))

    @cached_property
    def y(self) -> Any:
        """The targets of all chosen rows."""
        if not self._selection:
            return self._all_y
        return rows.take(self._all_y, self._chosen)

    @cached_property
    def _all_y(self) -> Any:
        return self._opener.get_y(self.folders)

    @cached_property
    def _chosen(self) -> Any:
        return rows_of(self._selection, rows.count(self._all_y), self._all_y)

    @property
    def count(self) -> int:
        """How many rows there are; reads what is cheapest of what was not read yet."""
        if "X" in self.__dict__:
            return rows.count(self.X)
        return rows.count(self.y)

    def batches(self, n: int) -> Iterator[Batch]:
        """Batches of `n` rows (the last may be smaller), reading one sample at a time."""
        wanted = set(self._chosen.tolist()) if self._selection else None
        waiting: list[Batch] = []
        held, position = 0, 0
        for folder in self.folders:
            part = Batch(self._opener.get_X([folder]), self._opener.get_y([folder]))
            size = rows.count(part.y)
            if wanted is not None:
                index = [i for i in range(size) if position + i in wanted]
                part = Batch(rows.take(part.X, index), rows.take(part.y, index))
            position += size
            waiting.append(part)
            held += rows.count(part.y)
            while held >= n:
                whole = _joined(waiting)
                yield Batch(rows.take(whole.X, range(n)), rows.take(whole.y, range(n)))
                held -= n
                rest = range(n, n + held)
                waiting = [Batch(rows.take(whole.X, rest), rows.take(whole.y, rest))]
        if held:
            yield _joined(waiting)


class Features:
    """What may be predicted from: `.X`, `.folders`, `.batches(n)`; one prediction per row."""

    def __init__(self, opener: Opener, folders: Sequence[Path], exported: bool) -> None:
        self.folders = list(folders)
        self._opener = opener
        self._exported = exported

    @cached_property
    def _parts(self) -> list[Any]:
        """Read sample by sample: predictions are written back sample by sample."""
        if self._exported:
            return [self._opener.get_features(folder) for folder in self.folders]
        return [self._opener.get_X([folder]) for folder in self.folders]

    @cached_property
    def X(self) -> Any:  # noqa: N802
        """The features of all rows."""
        return rows.join(self._parts)

    @property
    def counts(self) -> list[int]:
        """The rows of each sample, in the order of `folders`."""
        return [rows.count(part) for part in self._parts]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self.counts)

    def batches(self, n: int) -> Iterator[Any]:
        """The features in batches of `n` rows."""
        for start in range(0, self.count, n):
            yield rows.take(self.X, range(start, min(start + n, self.count)))

    def split(self, predictions: Any) -> list[Any]:
        """Predictions of all rows, cut into those of each sample; raises WrongShape."""
        found = rows.count(predictions)
        read = "_parts" in self.__dict__
        counts = self.counts if read or found != len(self.folders) else [1] * found
        if found != sum(counts):
            raise WrongShape(
                "predictions do not match the rows",
                found=f"{found} predictions",
                expected=f"{sum(counts)}, one per row",
                remedy="Return one prediction for each row, in their order.",
            )
        ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        return [
            rows.take(predictions, range(end - size, end))
            for end, size in zip(ends, counts, strict=True)
        ]


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(rows.join([p.X for p in parts]), rows.join([p.y for p in parts]))
