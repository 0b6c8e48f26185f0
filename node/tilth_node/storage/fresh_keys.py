"""Keys of rows that are not in the file's index yet, in memory: found at once, and in order.

- New keys come as sorted runs; runs of about the same length are made one, so that there are few,
  and no addition costs more than a merge of two.
- `batch` is the run that is being merged into the index, from its front; what is in it is of the
  time when it was begun.
- A key that went stays in its run, and one that came again is in two: what `ids` lacks is not
  there, and equal neighbours are one.

Leaves to others: which keys, and writing them (row_tables).
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence


class FreshKeys:
    """The number of each row whose key is fresh."""

    def __init__(
        self, batch: Iterable[tuple[str, int]] = (), others: Iterable[tuple[str, int]] = ()
    ) -> None:
        self.ids = dict(batch)
        self._batch = sorted(self.ids)
        self._merged = 0  # so many of the batch are in the index
        self._runs: list[list[str]] = []
        self.add(others)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, pairs: Iterable[tuple[str, int]]) -> None:
        """Keys that are not here."""
        added = dict(pairs)
        if not added:
            return
        self.ids |= added
        self._runs.append(sorted(added))
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] += last
            self._runs[-1].sort()  # two sorted runs: a merge

    def remove(self, keys: Iterable[str]) -> None:
        """Keys that went, if they are here."""
        for key in keys:
            self.ids.pop(key, None)

    def begin(self) -> None:
        """Begin a batch of all that are fresh now."""
        keys = self._batch[self._merged :]
        for run in self._runs:
            keys += run
        keys.sort()
        self._batch, self._merged, self._runs = keys, 0, []

    def front(self, count: int, last: int) -> list[tuple[str, int]]:
        """The next so many keys of the batch, and their numbers: those up to `last`, for a key that
        went and came again is of the next batch."""
        found: list[tuple[str, int]] = []
        before = ""
        for key in _slice(self._batch, self._merged, len(self._batch)):
            if len(found) == count:
                break
            number = self.ids.get(key)
            if number is not None and number <= last and key != before:
                found.append((key, number))
            before = key
        return found

    def merged(self, pairs: Sequence[tuple[str, int]]) -> None:
        """These, of the batch's front, are in the index now."""
        self.remove(key for key, _ in pairs)
        if pairs:
            self._merged = bisect_right(self._batch, pairs[-1][0], self._merged)

    def scan(self, low: str, high: str) -> Iterator[str]:
        """Keys from `low` to `high`, in order."""
        runs = [_between(run, low, high) for run in self._runs]
        runs.append(_between(self._batch, low, high, self._merged))
        before = ""
        for key in heapq.merge(*runs):
            if key != before and key in self.ids:
                yield key
            before = key


def _between(run: list[str], low: str, high: str, start: int = 0) -> Iterator[str]:
    return _slice(run, bisect_left(run, low, start), bisect_right(run, high, start))


def _slice(run: list[str], start: int, stop: int) -> Iterator[str]:
    return map(run.__getitem__, range(start, stop))  # neither copied nor walked through from 0
