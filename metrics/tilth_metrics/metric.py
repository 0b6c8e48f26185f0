"""What a metric is: statistics per part, a combine, a reduce, an interval.

Invariants:
- reduce(combine([statistics(part) for part in parts])) is the metric of all rows together, so a
  metric streams over parts of any size;
- statistics are plain JSON; where `pools` is true they are integers only, so that every node of a
  consortium pools them to the very same value;
- a value is finite or an error: NaN and infinity never leave this package.

How scores of several nodes combine on the ledger (by_count, by_site, pooled) is decided in
tilth_ledger.combine, in decimals; `rules` says which of those mean something for a metric.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Statistics = dict[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `statistics` takes (y_true, y_pred); the rest takes what statistics gave."""

    name: str
    title: str
    direction: str  # "maximize" or "minimize"
    predictions: str  # what y_pred holds, in words a reader understands
    statistics: Callable[[Any, Any], Statistics]
    combine: Callable[[Sequence[Statistics]], Statistics]
    reduce: Callable[[Statistics], float]
    interval: Callable[[Statistics], Interval]
    interval_method: str
    count: Callable[[Statistics], int]
    pools: bool  # statistics are bounded integers and may go on the ledger
    per_sample: bool  # the metric of one sample's rows is meaningful

    @property
    def rules(self) -> tuple[str, ...]:
        """The combine rules of an objective (rule T5) that this metric supports."""
        return ("pooled", "by_count", "by_site") if self.pools else ("by_count", "by_site")
