"""Whether a data owner approved a task (rule P5): questions over rows.

An approval states what it is for (a plan, an objective, digests of algo, environment, metric and
opener, an author, a minimum grade), how often, and until when; a task matches when it agrees with
all that is stated. A denial names a plan or an algo.

Invariants:
- A denial wins over every approval.
- The owner's own plans need no approval: its entry is its word.
- Judged again, in ledger time, when the task begins; each begun run is counted there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth_ledger.context import Context, refuse
from tilth_ledger.rows import Row


def row_key(dataset: str, key: str) -> str:
    return f"approval/{dataset}/{key}"


def facts_of(context: Context, task: Row) -> Mapping[str, Any]:
    """What an approval can name, of a task."""
    dataset = context.need("dataset", task["data"]["dataset"])
    algo = context.rows.get(f"algo/{task['algo']}") or {}
    environment = context.rows.get(f"environment/{algo.get('environment')}") or {}
    objective = context.rows.get(f"objective/{task.get('objective')}") or {}
    return {
        "plan": task["plan"],
        "objective": task.get("objective"),
        "algo": task["algo_digest"],
        "environment": environment.get("digest"),
        "metric": objective.get("metric_digest"),
        "opener": dataset["opener"],
        "author": task["owner"],
    }


def matches(stated: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    return all(stated[name] == fact for name, fact in facts.items() if name in stated)


def demands(context: Context, task: Row) -> bool:
    """Whether the task's dataset demands an approval for it."""
    if "data" not in task:
        return False
    dataset = context.need("dataset", task["data"]["dataset"])
    return bool(dataset["approval"] == "required" and dataset["owner"] != task["owner"])


def is_approved(context: Context, task: Row) -> bool:
    return not demands(context, task) or isinstance(_find(context, task), dict)


def _find(context: Context, task: Row) -> Row | str:
    """A matching approval in force, or why there is none."""
    facts = facts_of(context, task)
    reason = "no approval"
    found: Row | None = None
    for _, row in context.rows.scan(f"approval/{task['data']['dataset']}/"):
        if not matches(row, facts):
            continue
        if row["status"] == "denied":
            return f"denied by {row['key']}"
        if "expires_ms" in row and context.time_ms > row["expires_ms"]:
            reason = f"{row['key']} expired at {row['expires_ms']} ms"
        elif row["used"] >= row.get("runs", row["used"] + 1):
            reason = f"all {row['runs']} runs of {row['key']} are used"
        else:
            found = found or row
    return found or reason


def consume(context: Context, task: Row) -> str | None:
    """Judge the approval when a task begins and count the run; the minimum grade it demands."""
    if not demands(context, task):
        return None
    found = _find(context, task)
    if isinstance(found, str):
        refuse(
            "P5",
            "the data owner's approval is not in force",
            found=found,
            expected="an approval of the dataset's owner that matches this task",
            remedy="Report the task as failed (approval_expired or denied); the plan's owner asks"
            f" again: `tilth approval give --plan {task['plan']}` at the owner's node.",
        )
    context.rows.put(
        row_key(task["data"]["dataset"], found["key"]), found | {"used": found["used"] + 1}
    )
    return found.get("minimum_grade")
