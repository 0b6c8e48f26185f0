"""What is no longer needed on this node: transient models, local folders, cached archives.

Invariants
- A model goes when it is not a final output of its plan, tasks took it as input, all of them are
  done, and the plan takes no further tasks (rule L6). Its digest stays on the ledger.
- A file goes only if every asset that names its digest agrees.
- Local folders go when their plan is over (rule L5).

Pure choices over the ledger's rows; removing is the last line of each. A crash in between leaves
a file too many, which the next settled task of the plan, or the next start, removes.
"""

from tilth_ledger.rows import Row, Rows
from tilth_ledger.transitions import effective_state
from tilth_node.storage.folders import Folders
from tilth_node.storage.vault import Vault
from tilth_node.worker.holders import model_row, namings

OVER = ("closed", "stopped", "canceled")


def tidy(rows: Rows, vault: Vault, folders: Folders, task_key: str, now_ms: int) -> None:
    """A task of this node is settled: drop what only it was waited for."""
    task = rows.get(f"task/{task_key}")
    plan = None if task is None else rows.get(f"plan/{task['plan']}")
    if task is None or plan is None:
        return
    if plan_is_over(rows, task["plan"], plan, now_ms):
        folders.drop(task["plan"])
    for each in task.get("inputs", ()):
        model = (
            rows.get(f"model/{each['task']}/{each.get('output', 'model')}")
            if "task" in each
            else None
        )
        if model is not None and digest_is_over(rows, model["digest"]):
            vault.remove(model["digest"])


def digest_is_over(rows: Rows, digest: str) -> bool:
    """Whether nothing on the ledger will ask for this blob again."""
    named = list(namings(rows, digest))
    return bool(named) and all(
        what == "model"
        and "output" in row
        and model_is_over(rows, asset, model_row(rows, asset, row))
        for what, asset, row in named
    )


def model_is_over(rows: Rows, task_key: str, model: Row | None) -> bool:
    """Rule L6 for one output of one task."""
    task = rows.get(f"task/{task_key}")
    plan = None if task is None else rows.get(f"plan/{task['plan']}")
    if model is None or task is None or plan is None or plan["status"] not in OVER:
        return False
    if task_key in plan.get("final", ()):
        return False
    prefix = f"child/{task_key}/"
    children = [rows.get(f"task/{key.removeprefix(prefix)}") for key, _ in rows.scan(prefix)]
    return bool(children) and all(child and child["state"] == "done" for child in children)


def plan_is_over(rows: Rows, key: str, plan: Row, now_ms: int) -> bool:
    """Whether no task of the plan can run here again: it takes no more, and none is open."""
    if plan["status"] not in OVER:
        return False
    prefix = f"plan-task/{key}/"
    tasks = (
        rows.get(f"task/{name.rpartition(prefix)[2].partition('/')[2]}")
        for name, _ in rows.scan(prefix)
    )
    return all(task is None or effective_state(task, plan, now_ms) == "done" for task in tasks)
