"""Leaderboards for people: what tilth_ledger.leaderboard computes, with names and as a table.

The ranking itself is not made here: it is a pure function of the ledger (rule B1), the same at
every reader.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from tilth.assets import Objective
from tilth.errors import InvalidInput
from tilth.rows import Remembered
from tilth.tables import table
from tilth_ledger import leaderboard
from tilth_ledger.rows import Rows

if TYPE_CHECKING:
    from tilth.client import Network

GROUPS = ("algo", "plan", "organization")
FILTERS = (*GROUPS, "model")
PAGE = 20  # rows, where only a cursor is given
PLACES = 4  # digits behind the point on screen; the board holds them all


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
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
            raise InvalidInput(
                "this row was not read from a node",
                expected="a row of net.leaderboard(...)",
                remedy="Read the leaderboard again, through a network.",
            )
        return self.net

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        names = (
            *("rank", "name", "algo", "organization", "value", "count", "interval", "per_site"),
            *("attempts", "notes", "plan", "model", "model_task", "index", "evidence"),
        )
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The ledger's board of one revision with names; prints as a table."""

    objective: Objective
    revision: int
    rows: tuple[LeaderboardRow, ...]
    size: int | None = None  # as of so many entries; none: now
    next: int | None = None  # the cursor of the next page, if there is one

    def row(self, rank: int) -> LeaderboardRow:
        """The first row of a rank. Raises InvalidInput when there is none."""
        for each in self.rows:
            if each.rank == rank:
                return each
        raise InvalidInput(
            f"nothing on this leaderboard has rank {rank}",
            found=f"{len(self.rows)} rows",
            expected="a rank that it shows",
            remedy=f"Look at it with: tilth leaderboard {self.objective.name!r}",
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
            + ("" if self.size is None else f", as of {self.size} entries")
        )
        notes: dict[str, list[str]] = {}
        for row in self.rows:
            for note in row.notes:
                notes.setdefault(note, []).append(row.name)
        remarks = [f"{', '.join(names)}: {note}" for note, names in notes.items()]
        if self.next is not None:
            remarks.append(f"there is more: --page {self.next}")
        return "\n".join([title, table(head, rows), *remarks])

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "objective": self.objective.key,
            "name": self.objective.name,
            "revision": self.revision,
            "size": self.size,
            "next": self.next,
            "rows": [row.as_dict() for row in self.rows],
        }


class View(TypedDict, total=False):
    """What of a board is shown, and in which order it is cut: where, best, top, page (rule B4)."""

    revision: int | None  # default: the current
    finals_only: bool  # default: only models that were marked final
    size: int | None  # certified results and attempts among so many entries (rule B1)
    where: Mapping[str, str]  # plan, algo (name or key), organization, model (digest): value
    best: str  # only the best row of each plan, algo or organization
    top: int | None  # rows of rank 1 to this
    limit: int | None  # rows on a page
    page: int | None  # `next` of the page before


def read_leaderboard(net: "Network", objective: Objective, view: View) -> Leaderboard:
    """The board of an objective, from the rows that the node serves."""
    rows = Remembered(net.rows)
    size = view.get("size")
    if size is not None:
        _check_size(net, size)
    found = leaderboard.board(
        rows,
        objective.key,
        revision=view.get("revision"),
        finals_only=view.get("finals_only", True),
        size=size,
    )
    found = found.where(**_filters(net, view.get("where", {})))
    if best := view.get("best"):
        found = found.best_by(_one_of(best, GROUPS, "a leaderboard is not grouped by this"))
    if top := view.get("top"):
        found = found.top(top)
    following = None
    if view.get("limit") is not None or view.get("page") is not None:
        found, following = found.page(view.get("limit") or PAGE, view.get("page"))
    made = tuple(_row(net, rows, each) for each in found.rows)
    return Leaderboard(objective, found.revision, made, size, following)


def read_curve(net: "Network", objective: Objective, plan: str) -> tuple[tuple[int, str], ...]:
    """(rank of the task that made the model, certified value), of a plan's models."""
    return leaderboard.curve(Remembered(net.rows), objective.key, plan)


def _filters(net: "Network", where: Mapping[str, str]) -> dict[str, str]:
    """Filters as the ledger's rows hold them: plans and algos by key."""
    found = {}
    for name, value in where.items():
        _one_of(name, FILTERS, "a leaderboard is not filtered by this")
        if name == "plan":
            value = net.plans.find(value).key
        elif name == "algo" and "/" not in value:
            value = net.algos.find(value).key
        found[name] = value
    return found


def _one_of(word: str, known: Sequence[str], message: str) -> str:
    if word not in known:
        raise InvalidInput(
            message,
            found=word,
            expected=", ".join(known),
            remedy="See: tilth leaderboard --help",
        )
    return word


def _check_size(net: "Network", size: int) -> None:
    standing = net.status()["size"]
    if not 0 <= size <= standing:
        raise InvalidInput(
            "the ledger has never been of this size",
            found=size,
            expected=f"0 to {standing} entries",
            remedy="See how many entries there are with: tilth status",
        )


def _row(net: "Network", rows: Rows, row: leaderboard.BoardRow) -> LeaderboardRow:
    plan = rows.get(f"plan/{row.plan}") or {}
    algo = rows.get(f"algo/{row.algo}") or {}
    first, *others = row.certified
    return LeaderboardRow(
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
