"""Which rows of a leaderboard stand at a size, and the one hash that commits to them (B6).

Every voter recomputes this: it follows from rows alone, and changes only with the rules' version.
`leaderboard`, which people read, may show more and word it otherwise; ranks and values agree.

Invariants:
- A row stands when it is final and ranked on the default board, and of its algo, datasets and test
  sets none was withdrawn or retired before that size. Ranks are the board's: a row that does not
  stand leaves its rank empty.
- What happened at or after the size changes nothing, so any node can make the rows of a recorded
  board again, also years later.
- Work is bounded before it is done.

Left to others: who has a board recorded, and when (rules_boards); the proof of a row (bundle).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tilth_ledger import canonical, limits
from tilth_ledger.combine import combine, write
from tilth_ledger.errors import Refused
from tilth_ledger.merkle import Frontier, inclusion_proof, leaf_hash
from tilth_ledger.rows import Row, Rows


@dataclass(frozen=True, slots=True)
class Standing:
    """The standing rows of one revision at a size, best first, each in canonical JSON."""

    rows: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """Of the tree over the rows' bytes, in their order (RFC 6962)."""
        return self._tree()[0].root()

    def path(self, place: int) -> list[bytes]:
        """That the row at `place` is under the root: hashes from the row upwards."""
        _, nodes = self._tree()
        return inclusion_proof(place, len(self.rows), lambda level, index: nodes[level, index])

    def place(self, certified: Iterable[int]) -> int | None:
        """Where the row of these certified results stands; None when it does not."""
        wanted = sorted(certified)
        found = (canonical.loads(row)["certified"] for row in self.rows)
        return next((at for at, each in enumerate(found) if each == wanted), None)

    def _tree(self) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
        frontier = Frontier()
        nodes: dict[tuple[int, int], bytes] = {}
        for row in self.rows:
            frontier, new = frontier.append(leaf_hash(row))
            nodes |= {(level, index): hashed for level, index, hashed in new}
        return frontier, nodes


def standing(rows: Rows, objective: str, revision: int, size: int) -> Standing:
    """The rows of a revision that stood when the ledger had `size` leaves.

    Raises `Refused` when the board is too large to be recorded.
    """
    facts = rows.get(f"objective/{objective}") or {}
    prefix = f"{objective}/{revision:06d}"
    sets = (rows.get(f"revision/{prefix}") or {"sets": []})["sets"]
    found = _models(rows, facts, f"certified/{prefix}/", size)
    whole = [each for each in found if len(each) == len(sets) and any(r["final"] for r in each)]
    return Standing(
        tuple(
            canonical.dumps(_row(rows, rank, value, results, size))
            for rank, value, results in _ranked(facts, whole)
            if not _is_gone(rows, results, size)
        )
    )


def _models(rows: Rows, facts: Row, prefix: str, size: int) -> list[list[Row]]:
    """The counting results of each model (T8), by their place on the ledger."""
    results: list[Row] = []
    cells = 0
    for count, (_, row) in enumerate(rows.scan(prefix), 1):
        if facts["combine"] == "pooled":
            cells += len(row["score"]["statistics"]["labels"]) ** 2
        if count > limits.BOARD_RESULTS or cells > limits.BOARD_CELLS:
            _refuse_size(count, cells)
        if row["index"] < size and "again" not in row:
            results.append(row)
    models: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(results, key=lambda row: int(row["index"])):
        models.setdefault((row["model"], row["algo"]), []).append(row)
    return list(models.values())


def _refuse_size(results: int, cells: int) -> None:
    raise Refused(
        "B6",
        "this leaderboard is too large to be recorded",
        found=f"more than {results - 1} certified results, {cells} cells of matrices",
        expected=f"at most {limits.BOARD_RESULTS} results, and {limits.BOARD_CELLS} cells",
        remedy="Begin a new revision of the objective: `tilth objective revise`.",
    )


def _ranked(facts: Row, models: Iterable[list[Row]]) -> Iterator[tuple[int, str, list[Row]]]:
    """(rank, value, results), best first: competition ranks, equals by their place (B2)."""
    metric = facts.get("metric", {}).get("builtin", "")
    values = [
        (combine(facts["combine"], metric, [r["score"] for r in results]), results)
        for results in models
    ]
    written = [(write(value), results) for value, results in values if value is not None]
    sign = -1 if facts.get("direction") == "maximize" else 1
    written.sort(key=lambda each: (sign * Fraction(each[0]), each[1][0]["index"]))
    rank, previous = 0, ""
    for position, (value, results) in enumerate(written, 1):
        rank, previous = (rank if value == previous else position), value
        yield rank, value, results


def _row(rows: Rows, rank: int, value: str, results: Sequence[Row], size: int) -> Row:
    """What the board commits to of one row."""
    first = results[0]
    owners = {result["dataset"].partition("/")[0] for result in results}
    return {
        "rank": rank,
        "value": value,
        "count": sum(result["score"]["count"] for result in results),
        "organization": first["organization"],
        "plan": first["plan"],
        "model": first["model"],
        "model_task": first["model_task"],
        "algo": first["algo"],
        "algo_key": first["algo_key"],
        "certified": [result["index"] for result in results],
        "accused": [
            name
            for name in sorted({first["organization"], *owners})
            if any(row["index"] < size for _, row in rows.scan(f"evidence/{name}/"))
        ],
    }


def _is_gone(rows: Rows, results: Iterable[Row], size: int) -> bool:
    """Whether something behind a row was withdrawn or retired before that size (A4, D5)."""
    for result in results:
        ends = (
            (rows.get(f"algo/{result['algo_key']}") or {}).get("withdrawn"),
            (rows.get(f"dataset/{result['dataset']}") or {}).get("withdrawn"),
            (rows.get(f"sampleset/{result['set']}") or {}).get("retired"),
        )
        if any(end is not None and end < size for end in ends):
            return True
    return False
