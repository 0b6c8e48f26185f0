"""The leaderboard of an objective: a pure function of rows (B1 to B4).

A row is one model (its digest, with the algo that predicts) on all test sets of one revision.

Invariants:
- Rows are certified results; the first of (revision, model, set) counts (B2, T8). Until every set
  of the revision is in, a row is partial and has no rank (T5).
- Ranks follow the objective's direction; equal scores share a rank; among equals the order is that
  of the ledger (B2). All comparisons are exact.
- The default board shows final models; of the others the best of each plan appears, saying of
  how many it is the best (B3).
- A row of a member that stands accused by evidence says so first.
- `size` gives the board as it was when the ledger had so many leaves.

Left to others: names and tables (the SDK), proof bundles (B5, `bundle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tilth_ledger.combine import combine, write
from tilth_ledger.errors import InvalidInput
from tilth_ledger.intervals import interval
from tilth_ledger.rows import Row, Rows


@dataclass(frozen=True, slots=True)
class SetScore:
    """A row's result on one test set."""

    set: str
    dataset: str
    value: str
    count: int
    index: int  # of the certified result's leaf
    grade: str

    @property
    def owner(self) -> str:
        return self.dataset.partition("/")[0]


@dataclass(frozen=True, slots=True)
class BoardRow:
    rank: int | None  # none while a set is missing, or where the metric is not defined
    value: str
    count: int
    interval: tuple[str, str] | None
    plan: str
    organization: str
    model: str  # digest
    model_task: str
    algo: str  # key
    final: bool
    attempts: int  # of the organization, at this revision
    per_set: tuple[SetScore, ...]
    certified: tuple[int, ...]  # indexes of the certified results, the first first
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """Rows in order: ranked ones first. Views of it are boards too."""

    objective: str
    revision: int
    rows: tuple[BoardRow, ...]

    def top(self, k: int) -> Board:
        """Rows of rank 1 to k: ties may make it more than k rows."""
        return replace(self, rows=tuple(r for r in self.rows if r.rank and r.rank <= k))

    def page(self, limit: int, after: int | None = None) -> tuple[Board, int | None]:
        """At most `limit` rows after the one whose first certified index is `after`, and the
        cursor of the next page (None: there is none)."""
        start = 0
        if after is not None:
            start = 1 + next((i for i, r in enumerate(self.rows) if r.certified[0] == after), -1)
        rows = self.rows[start : start + limit]
        more = start + limit < len(self.rows)
        return replace(self, rows=rows), rows[-1].certified[0] if more and rows else None

    def where(self, **facts: str) -> Board:
        """Rows whose fields (plan, algo, organization, model) have these values."""
        kept = (r for r in self.rows if all(getattr(r, n) == v for n, v in facts.items()))
        return replace(self, rows=tuple(kept))

    def best_by(self, field: str) -> Board:
        """The first row of each algo, plan or organization."""
        seen: dict[str, BoardRow] = {}
        for row in self.rows:
            seen.setdefault(str(getattr(row, field)), row)
        return replace(self, rows=tuple(seen.values()))


def board(
    rows: Rows,
    objective: str,
    revision: int | None = None,
    finals_only: bool = True,
    size: int | None = None,
) -> Board:
    """The board of one revision (default: the newest). `InvalidInput` if there is none."""
    facts, number, sets = _revision(rows, objective, revision, size)
    prefix = f"{objective}/{number:06d}/"
    results = _results(rows, prefix, size)
    attempts = _attempts(rows, prefix, size)
    models = _by_model(results)
    made = [_row(facts, sets, found, attempts, rows, size) for found in models.values()]
    reruns = _reruns(results)
    made = [replace(row, notes=row.notes + _rerun_note(row, reruns)) for row in made]
    accused = _accused(rows, size)
    made = [replace(row, notes=(*_banners(row, accused), *row.notes)) for row in made]
    ordered = _ordered(facts, made)
    shown = ordered if not finals_only else [row for row in ordered if row.final]
    return Board(objective, number, tuple(_ranked(_best_of(shown))))


def history(rows: Rows, objective: str) -> tuple[int, ...]:
    """The revisions of an objective, newest first: each has a board of its own."""
    newest = (rows.get(f"objective/{objective}") or {}).get("revision", 0)
    return tuple(range(newest, 0, -1))


def curve(
    rows: Rows, objective: str, plan: str, revision: int | None = None
) -> tuple[tuple[int, str], ...]:
    """Certified values of a plan's models over the ranks of the tasks that made them."""
    facts, number, sets = _revision(rows, objective, revision, None)
    models = _by_model(_results(rows, f"{objective}/{number:06d}/", None))
    made = (_row(facts, sets, results, {}, rows, None) for results in models.values())
    whole = [row for row in made if row.plan == plan and not _is_partial(row)]
    points = [((rows.get(f"task/{r.model_task}") or {}).get("rank", 0), r.value) for r in whole]
    return tuple(sorted(points))


def _revision(
    rows: Rows, objective: str, revision: int | None, size: int | None
) -> tuple[Row, int, list[dict[str, Any]]]:
    """Of an objective, one of its revisions: the newest, or the newest at that size."""
    facts = rows.get(f"objective/{objective}")
    number = revision or (facts or {}).get("revision", 0)
    if revision is None and size is not None:
        older = (row for _, row in rows.scan(f"revision/{objective}/"))
        number = sum(row["index"] < size for row in older)
    found = rows.get(f"revision/{objective}/{number:06d}")
    if facts is None or found is None:
        raise InvalidInput(
            "there is no such leaderboard",
            found=f"objective {objective}, revision {number}",
            expected="a registered objective and one of its revisions",
            remedy="`tilth objective list` shows the objectives.",
        )
    return facts, number, found["sets"]


def _results(rows: Rows, prefix: str, size: int | None) -> list[Row]:
    """Certified results below a size, in the order of the ledger."""
    found = [row for _, row in rows.scan(f"certified/{prefix}")]
    below = [row for row in found if size is None or row["index"] < size]
    return sorted(below, key=lambda row: int(row["index"]))


def _attempts(rows: Rows, prefix: str, size: int | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, row in rows.scan(f"attempt/{prefix}"):
        if size is None or row["index"] < size:
            counts[row["organization"]] = counts.get(row["organization"], 0) + 1
    return counts


def _by_model(results: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    models: dict[tuple[str, str], list[Row]] = {}
    for row in results:
        if "again" not in row:
            models.setdefault((row["model"], row["algo"]), []).append(row)
    return models


def _reruns(results: Iterable[Row]) -> dict[int, list[bool]]:
    """Of each first result (by index): whether its re-runs agree (T8)."""
    found: dict[int, list[bool]] = {}
    for row in results:
        if "again" in row:
            found.setdefault(row["again"]["first"], []).append(row["again"]["agrees"])
    return found


def _rerun_note(row: BoardRow, reruns: Mapping[int, list[bool]]) -> tuple[str, ...]:
    verdicts = [verdict for index in row.certified for verdict in reruns.get(index, ())]
    if not verdicts:
        return ()
    disagree = verdicts.count(False)
    return (
        f"{len(verdicts)} re-runs, {disagree} disagree"
        if disagree
        else f"{len(verdicts)} re-runs agree",
    )


def _row(
    objective: Row,
    sets: list[dict[str, Any]],
    results: list[Row],
    attempts: Mapping[str, int],
    rows: Rows,
    size: int | None,
) -> BoardRow:
    first = results[0]
    metric = objective["metric"].get("builtin", "")
    scores = [result["score"] for result in results]
    value = combine(objective["combine"], metric, scores)
    return BoardRow(
        rank=None,
        value=write(value) if value is not None else "",
        count=sum(score["count"] for score in scores),
        interval=interval(objective["combine"], metric, scores, value),
        plan=first["plan"],
        organization=first["organization"],
        model=first["model"],
        model_task=first["model_task"],
        algo=first["algo_key"],
        final=any(result["final"] for result in results),
        attempts=attempts.get(first["organization"], 0),
        per_set=tuple(_set_score(result) for result in results),
        certified=tuple(result["index"] for result in results),
        notes=tuple(_notes(sets, results, value, rows, size)),
    )


def _accused(rows: Rows, size: int | None) -> dict[str, list[Row]]:
    """Evidence on the ledger, by the member whose votes it shows."""
    found: dict[str, list[Row]] = {}
    for _, row in rows.scan("evidence/"):
        if size is None or row["index"] < size:
            found.setdefault(row["organization"], []).append(row)
    return found


def _banners(row: BoardRow, accused: Mapping[str, list[Row]]) -> Iterator[str]:
    """Whose word stands behind a row and signed votes that exclude each other: who submitted the
    model, and who scored it."""
    for name in sorted({row.organization, *(score.owner for score in row.per_set)} & {*accused}):
        first = min(each["index"] for each in accused[name])
        yield f"EVIDENCE: {name} signed votes that exclude each other (entry {first})"


def _set_score(result: Row) -> SetScore:
    score = result["score"]
    return SetScore(
        result["set"],
        result["dataset"],
        score["value"],
        score["count"],
        result["index"],
        result["grade"],
    )


def _notes(
    sets: list[dict[str, Any]],
    results: list[Row],
    value: Fraction | None,
    rows: Rows,
    size: int | None,
) -> Iterator[str]:
    """What a reader should know beside the score (B4, A4)."""
    first = results[0]
    if len(results) < len(sets):
        yield f"partial: {len(results)} of {len(sets)} test sets"
    elif value is None:
        yield "the metric is not defined on these results"
    owners = {result["dataset"].partition("/")[0] for result in results}
    if first["organization"] in owners:
        yield f"submitted by {first['organization']}, which owns test data"
    trained = sorted(owners & {*first["trained_by"]})
    if trained:
        yield f"trained at {', '.join(trained)}, which own test data"
    if first["imports"]:
        yield f"descends from imported models: {', '.join(first['imports'])}"
    named = {"algo": [first["algo_key"]], "dataset": [result["dataset"] for result in results]}
    for noun, keys in named.items():
        for key in keys:
            if _ended(rows.get(f"{noun}/{key}"), "withdrawn", size):
                yield f"the {noun} {key} was withdrawn"
    for result in results:
        if _ended(rows.get(f"sampleset/{result['set']}"), "retired", size):
            yield f"the test set {result['set']} is retired: a sample was withdrawn"


def _ended(row: Row | None, how: str, size: int | None) -> bool:
    """Whether an asset was withdrawn, or a set retired, before that size (None: until now)."""
    since = (row or {}).get(how)
    return since is not None and (size is None or since < size)


def _ordered(objective: Row, made: list[BoardRow]) -> list[BoardRow]:
    """Best first; partial rows last; among equals the order of the ledger."""
    sign = -1 if objective["direction"] == "maximize" else 1

    def place(row: BoardRow) -> tuple[bool, Fraction, int]:
        whole = not _is_partial(row)
        return not whole, sign * Fraction(row.value) if whole else Fraction(), row.certified[0]

    return sorted(made, key=place)


def _is_partial(row: BoardRow) -> bool:
    return row.value == "" or any(note.startswith("partial") for note in row.notes)


def _best_of(ordered: list[BoardRow]) -> Iterator[BoardRow]:
    """Finals, and of each plan's other models the best, saying of how many."""
    counts: dict[str, int] = {}
    for row in ordered:
        if not row.final:
            counts[row.plan] = counts.get(row.plan, 0) + 1
    shown: set[str] = set()
    for row in ordered:
        if row.final:
            yield row
        elif row.plan not in shown:
            shown.add(row.plan)
            yield replace(row, notes=(f"best of {counts[row.plan]}", *row.notes))


def _ranked(ordered: Iterable[BoardRow]) -> Iterator[BoardRow]:
    """Competition ranks: 1, 2, 2, 4."""
    rank, previous = 0, ""
    for position, row in enumerate(ordered, 1):
        if _is_partial(row):
            yield row
            continue
        if row.value != previous:
            rank, previous = position, row.value
        yield replace(row, rank=rank)
