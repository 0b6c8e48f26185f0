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
from tilth_node.storage.folders import Folders
from tilth_node.storage.vault import Vault
from tilth_node.worker.holders import namings

OVER = ("closed", "stopped", "canceled")


def tidy(rows: Rows, vault: Vault, folders: Folders, task_key: str, now_ms: int) -> str:
    """A task of this node is settled: drop what only it was waited for. Returns the key of its
    plan when that is over, else ""."""
    task = rows.get(f"task/{task_key}")
    plan = None if task is None else rows.get(f"plan/{task['plan']}")
    if task is None or plan is None:
        return ""
    for digest in _inputs(rows, task):
        if digest_is_over(rows, digest):
            vault.remove(digest)
    if not plan_is_over(rows, plan, now_ms):
        return ""
    folders.drop(task["plan"])
    return str(task["plan"])


def _inputs(rows: Rows, task: Row) -> list[str]:
    """Digests of the models that a task took from other tasks."""
    edges = (each for each in task["inputs"] if "task" in each)
    models = (rows.get(f"model/{each['task']}/{each['output']}") for each in edges)
    return [model["digest"] for model in models if model is not None]


def digest_is_over(rows: Rows, digest: str) -> bool:
    """Whether nothing on the ledger will ask for this blob again."""
    named = list(namings(rows, digest))
    return bool(named) and all(
        what == "model" and "output" in row and model_is_over(rows, asset)
        for what, asset, row in named
    )


def model_is_over(rows: Rows, task_key: str) -> bool:
    """Rule L6 for the outputs of one task."""
    task = rows.get(f"task/{task_key}")
    plan = None if task is None else rows.get(f"plan/{task['plan']}")
    if task is None or plan is None or plan["status"] not in OVER or task_key in plan["final"]:
        return False
    prefix = f"child/{task_key}/"
    children = [rows.get(f"task/{key.removeprefix(prefix)}") for key, _ in rows.scan(prefix)]
    return bool(children) and all(child and child["state"] == "done" for child in children)


def plan_is_over(rows: Rows, plan: Row, now_ms: int) -> bool:
    """Whether no task of a plan can run again: it takes no more, and all are done. One that
    failed may be retried while the plan lives."""
    if plan["status"] == "canceled" or now_ms > plan["expires_ms"]:
        return True
    progress = rows.get(f"progress/{plan['key']}") or {"done": 0}
    return bool(plan["status"] == "closed" and progress["done"] == plan["tasks"])
