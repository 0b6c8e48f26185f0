"""The validation curve of a plan: one point for each rank that was tested on train samples.

Never certified (rule T2): it says how training goes, on rows that were held out of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tilth.assets import TaskStatus
from tilth.tables import table

PLACES = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Point:
    """One tested rank: the mean over sites, weighted by rows."""

    round: str
    value: float
    count: int
    per_site: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in the order of training; prints as a table."""

    points: tuple[Point, ...]

    @property
    def values(self) -> list[float]:
        return [point.value for point in self.points]

    def __str__(self) -> str:
        sites = sorted({site for point in self.points for site in point.per_site})
        rows = [
            (p.round, f"{p.value:.4f}", p.count, *(_cell(p.per_site.get(site)) for site in sites))
            for p in self.points
        ]
        # The last newline keeps print(curve, board) readable.
        return table(("validation", "mean", "rows", *sites), rows) + "\n"


def curve_of(tasks: Iterable[TaskStatus]) -> Curve:
    """The curve of the finished, uncertified tests among `tasks`."""
    ranks: dict[int, list[TaskStatus]] = {}
    for task in tasks:
        if task.kind == "test" and task.state == "done" and task.score and not task.certified:
            ranks.setdefault(task.rank, []).append(task)
    return Curve(tuple(_point(ranks[rank]) for rank in sorted(ranks)))


def _point(tests: list[TaskStatus]) -> Point:
    scores = [(test.worker, test.score or {}) for test in tests]
    count = sum(score["count"] for _, score in scores)
    total = sum((Decimal(score["value"]) * score["count"] for _, score in scores), Decimal(0))
    return Point(
        round=tests[0].tag or f"rank {tests[0].rank}",
        value=float((total / count).quantize(PLACES)),
        count=count,
        per_site={worker: float(score["value"]) for worker, score in scores},
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
