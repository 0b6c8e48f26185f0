"""What a step knows of itself: parameters, seed, inputs, and where it reports to.

Invariant: a report stays small however often `report` is called: a series that reaches
`MOST_POINTS` keeps every second point from then on.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_POINTS = 512
MOST_NAMES = 64


@dataclass(frozen=True, slots=True)
class Input:
    """Where one input model comes from; `count` is the rows it was trained on, if known."""

    name: str
    task: str
    organization: str
    rank: int
    count: int | None


@dataclass
class Series:
    """The values of one name, thinned as they grow."""

    values: list[float] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def add(self, value: float) -> None:
        if self.seen % self.stride == 0:
            self.values.append(value)
        self.seen += 1
        if len(self.values) >= MOST_POINTS:
            del self.values[1::2]
            self.stride *= 2


class Task:
    """The running step, as user code sees it."""

    def __init__(self, facts: Mapping[str, Any], parameters: Mapping[str, Any], root: Path) -> None:
        self.parameters = dict(parameters)
        self.seed: int = facts["seed"]
        self.kind: str = facts["kind"]
        self.key: str = facts["task"]
        self.plan: str = facts["plan"]
        self.rank: int = facts["rank"]
        self.organization: str = facts["organization"]
        self.local: Path = root / "local"
        self.inputs = tuple(
            Input(
                i["name"],
                i.get("task", ""),
                i.get("organization", ""),
                i.get("rank", 0),
                i.get("count", _count_beside(root, i["name"])),
            )
            for i in facts["inputs"]
        )
        self._series: dict[str, Series] = {}
        self._last: dict[str, float] = {}

    def report(self, **values: float) -> None:
        """Report named numbers: the last of each becomes a scalar, all of them a curve."""
        for name, value in values.items():
            if name in self._series or len(self._series) < MOST_NAMES:
                number = float(value)
                self._series.setdefault(name, Series()).add(number)
                self._last[name] = number

    def reported(self) -> dict[str, Any]:
        """The part of report.json that comes from user code."""
        if not self._series:
            return {}
        return {
            "scalars": {name: _plain(value) for name, value in self._last.items()},
            "series": {
                name: {"stride": s.stride, "values": [_plain(v) for v in s.values]}
                for name, s in self._series.items()
            },
        }


def _count_beside(root: Path, name: str) -> int | None:
    """The row count in the report that lies beside an input model, when this node may have it."""
    try:
        count = json.loads((root / "in" / f"{name}.report.json").read_bytes()).get("count")
    except (OSError, ValueError, AttributeError):
        return None
    return count if type(count) is int and count >= 0 else None


def _plain(value: float) -> float | str:
    """JSON has no NaN and no infinity: they travel as text."""
    return value if math.isfinite(value) else str(value)
