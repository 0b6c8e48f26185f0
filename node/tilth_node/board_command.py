"""`tilth node board`: boards as a folder's ledger has them, without a node: of a consortium that a
rebase left, of a copy, of an organization that was removed."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tilth_ledger.rows import Rows


def register(verbs: Any) -> None:
    """Add the verb to `tilth node`."""
    words = "leaderboards as a folder's ledger has them, read without a node"
    parser = verbs.add_parser("board", help=words, description=words)
    parser.add_argument("folder", type=Path, help="of a node, or before/NET in it")
    parser.add_argument("objective", nargs="?", help="its name or key (default: list them)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_board)


def _board(arguments: argparse.Namespace) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_node.folder import Folder
    from tilth_node.storage.ledger_store import peeking
    from tilth_node.storage.stored_rows import StoredRows

    database = Folder(arguments.folder).database
    if not database.exists():
        raise InvalidInput(
            f"{arguments.folder} holds no ledger",
            found="no ledger.db",
            expected="the folder of a node, or before/NET in one that a rebase moved",
            remedy="Check the path.",
        )
    with peeking(database) as reader:
        facts, lines = _told(StoredRows(reader), arguments.objective)
    sys.stdout.write((json.dumps(facts) if arguments.json else "\n".join(lines)) + "\n")
    return 0


def _told(rows: Rows, named: str | None) -> tuple[dict[str, Any], list[str]]:
    found = {key.removeprefix("objective/"): row for key, row in rows.scan("objective/")}
    if named is None:
        lines = [f"{row['name']:40} {key}" for key, row in found.items()]
        names = [{"key": key, "name": row["name"]} for key, row in found.items()]
        return {"objectives": names}, lines or ["no objective was defined"]
    return _rows_of(rows, _one(found, named))


def _one(found: dict[str, Any], named: str) -> str:
    from tilth_ledger.errors import InvalidInput

    fitting = [key for key, row in found.items() if named in (key, row["name"])]
    if len(fitting) == 1:
        return fitting[0]
    raise InvalidInput(
        "no objective has this name" if not fitting else "several objectives have this name",
        found=named,
        expected=", ".join(fitting or [row["name"] for row in found.values()][:20]) or "none is",
        remedy="Name one by its key: tilth node board FOLDER lists them.",
    )


def _rows_of(rows: Rows, objective: str) -> tuple[dict[str, Any], list[str]]:
    from tilth_ledger import leaderboard

    board = leaderboard.board(rows, objective)
    made = [
        {
            "rank": row.rank,
            "plan": (rows.get(f"plan/{row.plan}") or {}).get("name", row.plan),
            "organization": row.plan.partition("/")[0],
            "value": row.value,
            "count": row.count,
            "index": row.certified[0],
            "notes": list(row.notes),
        }
        for row in board.rows
    ]
    lines = [f"objective {objective}, revision {board.revision}"]
    lines += [
        f"{each['rank']!s:>4}  {each['value']:12} {each['organization']:20} {each['plan']}"
        f"  (entry {each['index']}{''.join(f'; {note}' for note in each['notes'])})"
        for each in made
    ]
    facts = {"objective": objective, "revision": board.revision, "rows": made}
    return facts, lines if made else [*lines, "no certified result"]
