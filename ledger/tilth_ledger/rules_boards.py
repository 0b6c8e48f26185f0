"""Recorded leaderboards: that rows stood at a size, which their inclusion alone cannot prove (B6).

A recorded board is a system leaf: revision, size, count and root of the standing rows. It follows
from the entry that asks for it, so every voter writes the same bytes or does not vote.

Invariants:
- It is as of the size before the entry that asks; anybody who may act may ask, for the rows are
  everybody's.
- At least a second of ledger time lies between two of them, whatever boards they are of: so one
  stands in a block, and voters are never busy with little else.

Left to others: which rows stand (standing).
"""

from __future__ import annotations

from tilth_ledger import limits
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.leaf import LEADERBOARD
from tilth_ledger.rules_objectives import revision_key
from tilth_ledger.standing import standing

NEWEST = "boards/newest"  # row: when the last board was recorded, whichever


def board_key(objective: str, revision: int) -> str:
    """The row of a revision's newest recorded board."""
    return f"board/{objective}/{revision:06d}"


def record(context: Context, op: Op) -> None:
    key = op["objective"]
    number = op.get("revision", context.usable("objective", key)["revision"])
    revision = context.rows.get(revision_key(key, number))
    if revision is None:
        refuse(
            "B6",
            "the objective has no such revision",
            found=number,
            expected=f"1 to {context.need('objective', key)['revision']}",
            remedy="See its boards: `tilth leaderboard OBJECTIVE --history`.",
        )
    _check_pause(context)
    found = standing(context.rows, key, number, context.index)
    statement = {
        "net": context.net,
        "objective": key,
        "revision": number,
        "size": context.index,
        "time_ms": context.time_ms,
        "count": len(found.rows),
        "root": found.root.hex(),
        "entries": {"record": context.index, "objective": revision["index"]},
    }
    facts = {name: statement[name] for name in ("size", "time_ms", "count", "root")}
    context.rows.put(board_key(key, number), {**facts, "index": context.next_index})
    context.rows.put(NEWEST, {"time_ms": context.time_ms})
    context.derive(LEADERBOARD, statement)


def _check_pause(context: Context) -> None:
    last = context.rows.get(NEWEST)
    if last is not None and context.time_ms < last["time_ms"] + limits.BOARD_PAUSE_MS:
        refuse(
            "B6",
            "a leaderboard was recorded a moment ago",
            found=f"{context.time_ms - last['time_ms']} ms ago",
            expected=f"{limits.BOARD_PAUSE_MS} ms between two of them",
            remedy="Record it again in a second.",
        )
