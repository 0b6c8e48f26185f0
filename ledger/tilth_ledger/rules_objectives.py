"""Rules about objectives: registration, revisions, acceptance of test sets (T1, A4).

Invariants:
- An objective's sets hold test samples; each is pending until its dataset's owner accepts it,
  bound to the metric's digest (T1).
- Changing sets makes a new revision with a board of its own; nothing changes an old one.
"""

from __future__ import annotations

from typing import Any

from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.operations import metric_digest
from tilth_ledger.rows import Row
from tilth_ledger.rules_data import withdraw as leave_tombstone
from tilth_ledger.shapes import POOLABLE_METRICS

DEFAULT_MINIMUM_GRADE = "B"


def revision_key(objective: str, number: int) -> str:
    return f"revision/{objective}/{number:06d}"


def add(context: Context, op: Op) -> None:
    metric = op["metric"]
    if "environment" in metric:
        context.usable("environment", metric["environment"])
    _check_combine(op)
    row = {field: value for field, value in op.items() if field not in ("op", "sets")}
    row |= {
        "owner": context.organization,
        "status": "active",
        "primary": op.get("primary", "all"),
        "minimum_grade": op.get("minimum_grade", DEFAULT_MINIMUM_GRADE),
        "strict": op.get("strict", False),
        "metric_digest": metric_digest(metric),
        "revision": 1,
    }
    if "grants" in op:
        use = op["grants"].get("use", "public")
        row["grants"] = {"use": context.stated_grant(use, "the right use")}
    context.add("objective", op["key"], row)
    if "archive" in metric:
        context.rows.put(f"blob/{metric['archive']}/metric/{op['key']}", {})
    _write_revision(context, op["key"], 1, op.get("sets", []))


def _check_combine(op: Op) -> None:
    name = op["metric"].get("builtin")
    if op["combine"] == "pooled" and name not in POOLABLE_METRICS:
        refuse(
            "T5",
            "this metric has no integer statistics to pool",
            found=f"combine pooled with {name or 'a metric of its own'}",
            expected="pooled with one of " + ", ".join(POOLABLE_METRICS),
            remedy="Combine by_count or by_site, or choose another metric.",
        )


def revise(context: Context, op: Op) -> None:
    row = context.own("objective", op["key"])
    context.usable("objective", op["key"])
    number = row["revision"] + 1
    context.rows.put(f"objective/{op['key']}", {**row, "revision": number})
    _write_revision(context, op["key"], number, op["sets"])


def _write_revision(context: Context, key: str, number: int, sets: list[Any]) -> None:
    entries = [_set_entry(context, stated) for stated in sets]
    if len({entry["set"] for entry in entries}) != len(entries):
        refuse(
            "T1",
            "a test set stands twice in the objective",
            found=", ".join(entry["set"] for entry in entries),
            expected="every set once",
            remedy="Remove the repetition.",
        )
    row: Row = {"sets": entries, "index": context.index}
    if number > 1:
        row["previous"] = number - 1
    context.rows.put(revision_key(key, number), row)
    for entry in entries:
        if entry["accepted"]:
            _index(context, key, number, entry["set"])


def _index(context: Context, key: str, number: int, test_set: str) -> None:
    """Only accepted sets count: otherwise anybody could make tests on another's data probes (T7)
    by naming its sets in an objective."""
    context.rows.put(f"objective-set/{test_set}/{key}", {"revision": number})


def _set_entry(context: Context, stated: Any) -> Row:
    dataset = context.usable("dataset", stated["dataset"])
    row = context.need("sampleset", stated["set"])
    if row["dataset"] != stated["dataset"] or row["label"] != "test" or row["status"] != "sealed":
        refuse(
            "T1",
            "an objective is measured on sealed sets of test samples",
            found=f"{stated['set']}: {row['status']}, label {row['label']}, of {row['dataset']}",
            expected=f"a sealed test set of {stated['dataset']}",
            remedy="Name a test set: `tilth data sets NAME` lists them.",
        )
    # An owner that organizes the objective itself has said yes by signing it.
    accepted = dataset["owner"] == context.organization and "owner" in context.roles
    return {
        "dataset": stated["dataset"],
        "set": stated["set"],
        "digest": row["digest"],
        "count": row["count"],
        "accepted": accepted,
    }


def accept(context: Context, op: Op) -> None:
    objective = context.usable("objective", op["key"])
    if op["metric_digest"] != objective["metric_digest"]:
        refuse(
            "T1",
            "the acceptance is bound to another metric",
            found=op["metric_digest"],
            expected=objective["metric_digest"],
            remedy="Look at the objective's metric, then accept that one.",
        )
    name = revision_key(op["key"], op["revision"])
    revision = context.rows.get(name)
    entry = next((s for s in (revision or {}).get("sets", []) if s["set"] == op["set"]), None)
    if revision is None or entry is None:
        refuse(
            "T1",
            "the objective's revision does not name this set",
            found=f"set {op['set']} in revision {op['revision']}",
            expected=f"a set of revision {objective['revision']}",
            remedy="Read the objective's sets, then accept one of yours.",
        )
    context.own("dataset", entry["dataset"])
    entry["accepted"] = True
    context.rows.put(name, revision)
    if op["revision"] == objective["revision"]:
        _index(context, op["key"], op["revision"], op["set"])


def withdraw(context: Context, op: Op) -> None:
    leave_tombstone(context, "objective", op["key"])
