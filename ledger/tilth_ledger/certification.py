"""Certified results: when a test certifies, and the system leaf that says so (T3, T7, T8, B3).

A certified result is an in-toto Statement v1 in canonical JSON. It is derived from the ledger
alone, right after the entry that caused it, so every voter writes the same bytes.

Invariants:
- Certified if and only if: the set is an accepted one of the objective's revision, no selection,
  the metric of an active objective, sealed labels, all data hashed before (D2), and at least
  the objective's minimum isolation. That the receipt says all this is `receipts`' rule.
- A test that certifies nothing is still a done task and an attempt.
- The first result of (revision, model, set) counts; later ones say whether they agree (T8).

Left to others: combining the results of several sets (`combine`), ranking (`leaderboard`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth_ledger import combine, rules_tasks
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.leaf import CERTIFIED_RESULT
from tilth_ledger.rows import Row, RowView
from tilth_ledger.rules_objectives import revision_key
from tilth_ledger.shapes import GRADES

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:tilth:certified-result:1"


def record_attempts(context: Context, plan: Row, task: Row) -> None:
    """A test that begins is an attempt at every objective whose test samples it touches."""
    touched = rules_tasks.objectives_touched(context, task)
    for objective, revision in sorted(touched.items()):
        name = f"attempt/{objective}/{revision:06d}/{task['key']}"
        if context.rows.get(name) is not None:
            continue  # a retry is the same attempt
        counter = f"attempts/{objective}/{revision:06d}/{plan['owner']}"
        number = (context.rows.get(counter) or {"count": 0})["count"] + 1
        context.rows.put(counter, {"count": number})
        facts = {"number": number, "set": task["data"]["set"], "plan": plan["key"]}
        facts["index"] = context.index
        context.rows.put(name, {"organization": plan["owner"], **facts})


def check_grade(task: Row, receipt: Row) -> None:
    """An approval may demand a minimum isolation (P5)."""
    wanted = task.get("minimum_grade")
    if wanted is not None and not reaches(receipt["grade"], wanted):
        refuse(
            "P5",
            "the task ran with less isolation than the data owner's approval demands",
            found=f"grade {receipt['grade']}",
            expected=f"grade {wanted} or better",
            remedy="Report it as failed and run it in a stronger runtime: `tilth node doctor`.",
        )


def reaches(grade: str, wanted: str) -> bool:
    return GRADES.index(grade) <= GRADES.index(wanted)


def certify(context: Context, plan: Row, task: Row, present: list[tuple[Op, RowView]]) -> None:
    """Decide whether a done test is certified; if it is, write its row and its system leaf."""
    objective = context.need("objective", task["objective"])
    entry, revision = _objective_set(context, task)
    _check_score(objective, task)
    if entry is None or not _holds(objective, task):
        return
    edge, model = _tested(present)
    index = context.next_index
    row = _row(context, plan, task, entry, edge, model, index)
    context.rows.put(f"certified/{task['objective']}/{task['revision']:06d}/{task['key']}", row)
    task["certified"] = index
    statement = _statement(context, objective, revision, task, row, entry)
    context.derive(CERTIFIED_RESULT, statement)


def _objective_set(context: Context, task: Row) -> tuple[Row | None, Row]:
    """The accepted set of the objective's revision that the test ran on, if it is one."""
    revision = context.rows.get(revision_key(task["objective"], task["revision"])) or {"sets": []}
    tested = task["data"]["set"]
    found = next((s for s in revision["sets"] if s["set"] == tested and s["accepted"]), None)
    return found, revision


def _holds(objective: Row, task: Row) -> bool:
    receipt = task["receipt"]
    return (
        "selection" not in task["data"]
        and receipt["labels"] == "sealed"
        and receipt["data_check"] == "content"
        and reaches(receipt["grade"], objective["minimum_grade"])
        and (not objective["strict"] or receipt["mode"] == "strict")
        and objective["status"] == "active"
    )


def _check_score(objective: Row, task: Row) -> None:
    """A score that is pooled comes with its integers, and is what they say (T5)."""
    score = task["score"]
    if objective["combine"] != "pooled" or not ("statistics" in score or _whole(task)):
        return
    name = objective["metric"]["builtin"]
    stated = combine.check_statistics(name, score)
    if stated is not None:
        refuse(
            "T5",
            "the score is not that of its statistics",
            found=f"value {score['value']}, count {score['count']}",
            expected=stated,
            remedy="Report integer statistics (labels, confusion matrix) and the score they give.",
        )


def _whole(task: Row) -> bool:
    return "selection" not in task["data"]


def _tested(present: list[tuple[Op, RowView]]) -> tuple[Op, RowView]:
    """The model under test: of a composite the trunk, since heads differ from site to site."""
    shared = [(edge, model) for edge, model in present if edge.get("output") != "head"]
    return shared[0]


def _row(
    context: Context, plan: Row, task: Row, entry: Row, edge: Op, model: RowView, index: int
) -> Row:
    maker = edge.get("task", edge.get("model"))
    revision = f"{task['revision']:06d}"
    attempt = context.rows.get(f"attempt/{task['objective']}/{revision}/{task['key']}")
    row: dict[str, Any] = {
        "index": index,
        "entry": context.entry,
        "score": task["score"],
        "set": entry["set"],
        "dataset": entry["dataset"],
        "model": model["digest"],
        "model_task": maker,
        "imports": model["imports"],
        "trained_by": model.get("parties", []),
        "plan": plan["key"],
        "organization": plan["owner"],
        "worker": task["worker"],
        "algo": task["algo_digest"],
        "algo_key": task["algo"],
        "attempt": task["attempt"],
        "attempt_number": attempt["number"] if attempt else 0,
        "grade": task["receipt"]["grade"],
        "final": _is_final(context, maker, model),
    }
    first_key = f"first/{task['objective']}/{revision}/{entry['set']}/{model['digest']}"
    first_key += f"/{task['algo_digest']}"  # one file read by two algos is two models
    first = context.rows.get(first_key)
    if first is None:
        facts = {"value": task["score"]["value"], "count": task["score"]["count"]}
        context.rows.put(first_key, {"task": task["key"], "index": index, **facts})
    else:
        agrees = all(first[name] == task["score"][name] for name in ("value", "count"))
        row["again"] = {"first": first["index"], "agrees": agrees}
    return row


def _is_final(context: Context, maker: str, model: RowView) -> bool:
    """Whether the plan that made a model marked it final (B3), whichever plan tests it."""
    made_in = context.rows.get(f"plan/{model.get('plan')}")
    return made_in is not None and maker in made_in["final"]


def _statement(
    context: Context, objective: Row, revision: Row, task: Row, row: Row, entry: Row
) -> Row:
    dataset = context.need("dataset", entry["dataset"])
    subjects: Mapping[str, str] = {
        "algo": row["algo"],
        "dataset": dataset["opener"],
        "evaluation": objective["metric_digest"],
        "model": row["model"],
    }
    names = ("metric", "combine", "direction", "primary")
    stated = ("set", "dataset", "plan", "organization", "worker", "attempt", "attempt_number")
    predicate: Row = {
        "net": context.net,
        "objective": task["objective"],
        "revision": task["revision"],
        "task": task["key"],
        "model_task": row["model_task"],
        "set_digest": entry["digest"],
        "score": task["score"],
        "grade": row["grade"],
        "final": row["final"],
        "entries": {"done": context.index, "objective": revision["index"]},
    }
    predicate |= {name: objective[name] for name in names}
    predicate |= {name: row[name] for name in stated}
    if "again" in row:
        predicate["again"] = row["again"]
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()
        ],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
