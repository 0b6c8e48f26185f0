"""Leaderboards for people: what tilth_ledger.leaderboard computes, with names and as a table.

The ranking itself is not made here: it is a pure function of the ledger (rule B1), the same at
every reader.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.assets import Objective
from tilth.errors import InvalidInput
from tilth.rows import Remembered
from tilth.tables import table
from tilth_ledger import leaderboard
from tilth_ledger.rows import Rows

if TYPE_CHECKING:
    from tilth.client import Network

PLACES = 4  # digits behind the point on screen; the board holds them all


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One model's certified result on all test sets of an objective's revision."""

    rank: int | None  # none while a test set is missing
    name: str  # of the plan
    algo: str
    organization: str
    value: str
    count: int
    interval: tuple[str, str] | None
    per_site: Mapping[str, str]
    attempts: int
    notes: tuple[str, ...]
    plan: str
    model: str
    index: int  # of the first certified result on the ledger
    evidence: tuple[int, ...] = ()  # of the others that make up this row
    model_task: str = ""  # that made the model
    net: "Network | None" = field(default=None, repr=False, compare=False)

    def export(self, file: str | Path) -> Path:
        """Writes this row as a proof bundle; returns the file, for `tilth.verify`."""
        return self._network().export(self, file)

    def download(self, folder: str | Path) -> Path:
        """Writes the model of this row into a new folder, if its data owners let you (P2)."""
        return self._network().models.download(self.model_task, folder)

    def _network(self) -> "Network":
        if self.net is None:
            raise InvalidInput("this row was not read from a node", expected="net.leaderboard(...)")
        return self.net

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        names = (
            *("rank", "name", "algo", "organization", "value", "count", "interval", "per_site"),
            *("attempts", "notes", "plan", "model", "model_task", "index", "evidence"),
        )
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard; prints as a table."""

    objective: Objective
    revision: int
    rows: tuple[BoardRow, ...]

    def row(self, rank: int) -> BoardRow:
        """The first row of a rank. Raises InvalidInput when there is none."""
        for each in self.rows:
            if each.rank == rank:
                return each
        raise InvalidInput(
            f"nothing on this board has rank {rank}",
            found=f"{len(self.rows)} rows",
            expected="a rank that the board shows",
            remedy=f"Look at it with: tilth board {self.objective.name!r}",
        )

    def __str__(self) -> str:
        sites = sorted({site for row in self.rows for site in row.per_site})
        head = ("rank", "plan", "algo", "by", "score", "interval", "rows", *sites, "attempts")
        rows = [
            (
                "-" if row.rank is None else row.rank,
                *(row.name, row.algo, row.organization, _short(row.value)),
                " - ".join(_short(edge) for edge in row.interval or ()),
                row.count,
                *(_short(row.per_site.get(site, "")) for site in sites),
                row.attempts,
            )
            for row in self.rows
        ]
        title = (
            f"{self.objective.name}: {self.objective.metric.get('builtin', 'own metric')}, "
            f"{self.objective.direction}, {self.objective.combine}, revision {self.revision}"
        )
        notes: dict[str, list[str]] = {}
        for row in self.rows:
            for note in row.notes:
                notes.setdefault(note, []).append(row.name)
        remarks = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
        return "\n".join([title, table(head, rows), *remarks])

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "objective": self.objective.key,
            "name": self.objective.name,
            "revision": self.revision,
            "rows": [row.as_dict() for row in self.rows],
        }


def read_board(
    net: "Network", objective: Objective, *, revision: int | None, finals_only: bool
) -> Board:
    """The board of an objective, from the rows that the node serves."""
    rows = Remembered(net.rows)
    found = leaderboard.board(rows, objective.key, revision=revision, finals_only=finals_only)
    made = tuple(_row(net, rows, each) for each in found.rows)
    return Board(objective, found.revision, made)


def _row(net: "Network", rows: Rows, row: leaderboard.BoardRow) -> BoardRow:
    plan = rows.get(f"plan/{row.plan}") or {}
    algo = rows.get(f"algo/{row.algo}") or {}
    first, *others = row.certified
    return BoardRow(
        rank=row.rank,
        name=plan.get("name", row.plan),
        algo=algo.get("name", row.algo),
        organization=row.plan.partition("/")[0],
        value=row.value,
        count=row.count,
        interval=row.interval,
        per_site=_per_site(row.per_set),
        attempts=row.attempts,
        notes=row.notes,
        plan=row.plan,
        model=row.model,
        model_task=row.model_task,
        index=first,
        evidence=tuple(others),
        net=net,
    )


def _per_site(scores: Iterable[leaderboard.SetScore]) -> dict[str, str]:
    """Values by the owner of the test set; a second set of an owner is named with its key."""
    values: dict[str, str] = {}
    for each in scores:
        values[each.owner if each.owner not in values else each.set] = each.value
    return values


def _short(value: str) -> str:
    """A decimal with few digits behind the point."""
    whole, point, digits = value.partition(".")
    return f"{whole}.{digits[:PLACES].ljust(PLACES, '0')}" if point else whole
