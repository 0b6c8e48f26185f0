"""Leaderboards as the leaves of the final chain have them: a second, plain account of which rows
stood at which size, against which recorded boards, what nodes show, and bundles are held.

All scores of the script's rows agree on their sets, so a row's value is that of any of them.

Left to others: when it is asked (ruled_world).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from checker import Violation

from tilth_ledger import leaderboard
from tilth_ledger.errors import InvalidInput
from tilth_ledger.leaf import CERTIFIED_RESULT, ENTRY, LEADERBOARD, Leaf
from tilth_ledger.rows import Rows
from tilth_ledger.standing import standing


@dataclass(frozen=True, slots=True)
class Result:
    """A certified result, as its leaf says."""

    index: int
    revision: int
    model: str  # the task that made it
    test: str  # the task that scored it
    value: str
    parties: frozenset[str]  # whose word it is: who submitted, and who scored


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded board, as its leaf says."""

    index: int
    revision: int
    size: int
    count: int
    root: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a board."""

    rank: int
    value: Fraction
    certified: tuple[int, ...]
    accused: tuple[str, ...]
    withdrawn: bool


@dataclass(slots=True)
class Boards:
    """The account of one chain, of one objective."""

    objective: str
    results: list[Result] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    accused: dict[str, int] = field(default_factory=dict)  # organization: first index
    _sets: list[int] = field(default_factory=list)  # how many each revision has
    _algos: dict[str, str] = field(default_factory=dict)  # by task
    _withdrawn: dict[str, int] = field(default_factory=dict)  # algo: index

    def follow(self, leaves: Iterable[bytes], first: int) -> None:
        """The leaves of the next final block."""
        for index, data in enumerate(leaves, first):
            leaf = Leaf.decode(data)
            if leaf.type == ENTRY:
                for operation in json.loads(leaf.payload)["operations"]:
                    self._hear(operation, index)
            elif leaf.type == CERTIFIED_RESULT:
                self._certify(json.loads(leaf.payload)["predicate"], index)
            elif leaf.type == LEADERBOARD:
                self._record(json.loads(leaf.payload), index)

    def _hear(self, operation: Any, index: int) -> None:
        match operation["op"]:
            case "objective.add" | "objective.revise":
                self._sets.append(len(operation["sets"]))
            case "plan.tasks":
                self._algos |= {task["key"]: task["algo"] for task in operation["tasks"]}
            case "algo.withdraw":
                self._withdrawn[operation["key"]] = index

    def _certify(self, told: Any, index: int) -> None:
        parties = frozenset((told["organization"], told["dataset"].partition("/")[0]))
        made = (told["revision"], told["model_task"], told["task"], told["score"]["value"])
        self.results.append(Result(index, *made, parties))

    def _record(self, told: Any, index: int) -> None:
        board = Recorded(index, told["revision"], told["size"], told["count"], told["root"])
        lines = self.standing(board.revision, board.size)
        if (board.size, board.count) != (index - 1, len(lines)):
            raise Violation(f"the board recorded at {index} is not the one that stood")
        self.recorded.append(board)

    def lines(self, revision: int, size: int) -> list[Line]:
        """Whole rows at a size, best first, withdrawn ones too."""
        models: dict[str, list[Result]] = {}
        for result in self.results:
            if result.index < size and result.revision == revision:
                models.setdefault(result.model, []).append(result)
        whole = [rows for rows in models.values() if len(rows) == self._sets[revision - 1]]
        whole.sort(key=lambda rows: (-Fraction(rows[0].value), rows[0].index))
        return [self._line(rank, rows, size) for rank, rows in enumerate(whole, 1)]

    def standing(self, revision: int, size: int) -> list[Line]:
        return [line for line in self.lines(revision, size) if not line.withdrawn]

    def _line(self, rank: int, rows: list[Result], size: int) -> Line:
        parties = frozenset[str]().union(*(row.parties for row in rows))
        told = sorted(name for name in parties if self.accused.get(name, size) < size)
        gone = any(self._withdrawn.get(self._algos[row.test], size) < size for row in rows)
        certified = tuple(row.index for row in rows)
        return Line(rank, Fraction(rows[0].value), certified, tuple(told), gone)

    # What nodes make of it.

    def check_recorded(self, rows: Rows) -> None:
        """A node makes every recorded board again, and its root."""
        for board in self.recorded:
            made = standing(rows, self.objective, board.revision, board.size)
            found = [_standing_line(json.loads(row)) for row in made.rows]
            if found != self.standing(board.revision, board.size):
                raise Violation(f"at size {board.size} there stood {found} at a node")
            if made.root.hex() != board.root:
                raise Violation(f"the board of size {board.size} has another root at a node")

    def check_shown(self, rows: Rows, size: int) -> None:
        """What a node shows as of a size: the rows that were whole, those withdrawn marked so."""
        for revision in range(1, len(self._sets) + 1):
            try:
                board = leaderboard.board(rows, self.objective, revision, size=size)
            except InvalidInput:
                continue  # it has not come so far
            found = [_shown_line(row) for row in board.rows if row.rank is not None]
            if found != self.lines(revision, size):
                raise Violation(
                    f"a node shows as revision {revision} of size {size} {found}, and not"
                    f" {self.lines(revision, size)}"
                )

    def check_told(self, results: tuple[int, ...], told: str | None) -> None:
        """What a bundle of a row says of the newest board that was recorded of its revision."""
        revision = next(each.revision for each in self.results if each.index == results[0])
        newest = max((b.size for b in self.recorded if b.revision == revision), default=0)
        lines = self.standing(revision, newest)
        line = next((line for line in lines if line.certified == results), None)
        if line is None:
            if told is not None:
                raise Violation(f"a bundle says that a row stands which does not: {told}")
            return
        begins, ends = f"at size {newest} ", f"rank {line.rank}, one of {len(lines)} rows"
        if told is None or not (told.startswith(begins) and told.endswith(ends)):
            raise Violation(f"a bundle says of a row that it stood {told}, not {begins}{ends}")


def _standing_line(row: Any) -> Line:
    value, certified = Fraction(row["value"]), tuple(row["certified"])
    return Line(row["rank"], value, certified, tuple(row["accused"]), withdrawn=False)


def _shown_line(row: leaderboard.BoardRow) -> Line:
    accused = [note.split()[1] for note in row.notes if note.startswith("EVIDENCE: ")]
    gone = any(note.endswith("was withdrawn") for note in row.notes)
    assert row.rank is not None
    return Line(row.rank, Fraction(row.value), row.certified, tuple(accused), gone)
