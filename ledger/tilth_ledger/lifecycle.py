"""How tasks move: inputs that arrive or cannot come, approvals, failures and what they cancel.

Invariants:
- Every change of a task's state goes through `transitions.move`; its `work/` row follows it.
- A failed parent is resolved by each edge's policy in the same entry: a child skips the input or
  is canceled with the cause, so that no task waits for what cannot come (L2).
- Work per entry follows the edges of the tasks concerned; no table is scanned as a whole. What a
  plan's stop or cancel means for its tasks is derived (`transitions.effective_state`).

Left to others: who may ask for a change (`rules_lifecycle`, `rules_reports`, `rules_approvals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilth_ledger import approvals
from tilth_ledger.context import Context
from tilth_ledger.rows import Row
from tilth_ledger.shapes import WORKER_REMOVED
from tilth_ledger.transitions import OPEN, move

Edge = Mapping[str, Any]


def save(context: Context, task: Row) -> None:
    """Write a task's row and the row by which its worker sees open work."""
    context.rows.put(f"task/{task['key']}", task)
    work = f"work/{task['worker']}/{task['key']}"
    if task["state"] in OPEN:
        facts = {"state": task["state"], "plan": task["plan"], "kind": task["kind"]}
        context.rows.put(work, facts)
    else:
        context.rows.delete(work)


def edges_from(task: Row, parent: str) -> list[Edge]:
    """The unresolved edges that come from a parent."""
    return [
        edge
        for edge in task["inputs"]
        if edge.get("task") == parent and edge["name"] not in task["skipped"]
    ]


def policy(task: Row, edge: Edge) -> str:
    """What a failed parent means; inputs that an aggregate does not all need are skipped."""
    return str(edge.get("on_failed", "skip" if "need" in task else "cancel"))


def children(context: Context, parent: str) -> list[Row]:
    prefix = f"child/{parent}/"
    keys = [name.removeprefix(prefix) for name, _ in context.rows.scan(prefix)]
    return [context.need("task", key) for key in keys]


def arrived(task: Row) -> int:
    return len(task["inputs"]) - int(task["missing"]) - len(task["skipped"])


def least(task: Row) -> int:
    """How many inputs a task needs at least: all that are not skipped, but not none."""
    if "need" in task:
        return int(task["need"]["at_least"])
    return min(1, len(task["inputs"]))


def overdue(context: Context, task: Row) -> bool:
    """Whether an aggregate's time to wait, counted from its first input, has passed."""
    within = task.get("need", {}).get("within_ms")
    first = task.get("first_input_ms")
    return within is not None and first is not None and context.time_ms >= first + within


def settle(context: Context, task: Row, plan: Row) -> None:
    """Let a waiting task begin when its inputs are there; else it waits on."""
    enough = "need" in task and arrived(task) >= least(task) and overdue(context, task)
    if enough:
        skip_missing(context, task)
    if task["missing"] == 0 and plan["status"] != "unsealed":
        begin_or_ask(context, task)
    else:
        save(context, task)


def skip_missing(context: Context, task: Row) -> None:
    """Go on without the inputs that have not come (rule R7's `need`)."""
    for edge in task["inputs"]:
        parent = context.need("task", edge["task"]) if "task" in edge else None
        if parent and parent["state"] != "done" and edge["name"] not in task["skipped"]:
            task["skipped"].append(edge["name"])
    task["missing"] = 0


def begin_or_ask(context: Context, task: Row) -> None:
    """All inputs are there: to do, unless the data's owner must approve first (P5)."""
    if approvals.is_approved(context, task):
        approved(context, task)
        return
    task["wait"] = "approval"
    asks = {"plan": task["plan"], "algo": task["algo_digest"]}
    context.rows.put(f"asks/{task['data']['dataset']}/{task['key']}", asks)
    save(context, task)


def approved(context: Context, task: Row) -> None:
    _forget_question(context, task)
    task.pop("wait", None)
    move(task, "todo")
    save(context, task)


def _forget_question(context: Context, task: Row) -> None:
    if task.get("wait") == "approval":
        context.rows.delete(f"asks/{task['data']['dataset']}/{task['key']}")


def parent_done(context: Context, parent: Row, plan: Row) -> None:
    """A task is done: its children have one input more."""
    for task in children(context, parent["key"]):
        edges = edges_from(task, parent["key"])
        if task["state"] != "waiting" or task["missing"] == 0 or not edges:
            continue
        task["missing"] -= len(edges)
        task.setdefault("first_input_ms", context.time_ms)
        settle(context, task, plan)


def fail(context: Context, task: Row, reason: str, log: Row | None = None) -> None:
    """A task failed: record the attempt, then resolve its children or stop its plan."""
    _forget_question(context, task)
    move(task, "failed")
    task["reason"] = reason
    task.pop("wait", None)
    save(context, task)
    tried = {"reason": reason, "index": context.index} | ({"log": log} if log else {})
    context.rows.put(f"tried/{task['key']}/{task['attempt']:06d}", tried)
    count(context, task["plan"], "failed", 1)
    plan = context.need("plan", task["plan"])
    stops = plan["on_failure"] == "stop"
    if (stops and not _tolerated(context, task)) or (spread(context, task["key"], plan) and stops):
        _stop(context, plan, task["key"])


def _tolerated(context: Context, task: Row) -> bool:
    """Whether every child goes on without this task."""
    below = children(context, task["key"])
    edges = [(child, edge) for child in below for edge in edges_from(child, task["key"])]
    return bool(edges) and all(policy(child, edge) == "skip" for child, edge in edges)


def _stop(context: Context, plan: Row, cause: str) -> None:
    stopped = {"status": "stopped", "resume": plan["status"], "cause": cause}
    context.rows.put(f"plan/{plan['key']}", plan | stopped)


def spread(context: Context, cause: str, plan: Row) -> bool:
    """Resolve everything below a task that will not come; whether something was canceled."""
    lost = [cause]
    for parent in lost:  # grows while it is walked
        for task in children(context, parent):
            if task["state"] == "waiting" and _lose(context, task, parent, cause, plan):
                lost.append(task["key"])
    return len(lost) > 1


def _lose(context: Context, task: Row, parent: str, cause: str, plan: Row) -> bool:
    """Resolve the edges from a lost parent by their policies; whether the task is canceled."""
    edges = edges_from(task, parent)
    if task["missing"] == 0 or not edges:
        return False
    task["missing"] -= len(edges)
    task["skipped"] += [edge["name"] for edge in edges]
    must = any(policy(task, edge) == "cancel" for edge in edges)
    if must or arrived(task) + task["missing"] < least(task):
        cancel(context, task, cause)
        return True
    settle(context, task, plan)
    return False


def cancel(context: Context, task: Row, cause: str) -> None:
    _forget_question(context, task)
    move(task, "canceled")
    task.pop("wait", None)
    task["cause"] = cause
    save(context, task)


def recount(context: Context, task: Row) -> str | None:
    """Count a task's inputs anew from its parents' states; the cause if it cannot run."""
    task["missing"], task["skipped"] = 0, []
    lost: str | None = None
    must = False
    for edge in task["inputs"]:
        if "task" not in edge:
            continue
        parent = context.need("task", edge["task"])
        if parent["state"] in OPEN:
            task["missing"] += 1
        elif parent["state"] != "done":
            task["skipped"].append(edge["name"])
            lost = lost or str(parent.get("cause", parent["key"]))
            must = must or policy(task, edge) == "cancel"
    too_few = arrived(task) + task["missing"] < least(task)
    return lost if must or too_few else None


def reopen(context: Context, failed: Row, plan: Row) -> None:
    """Rule L4: a failed task and what it canceled wait again; children that wait count anew."""
    count(context, plan["key"], "failed", -1)
    for field in ("reason", "receipt"):
        failed.pop(field, None)
    opened, waiting = _open_again(context, failed)
    # Parents before children: what one counts, an earlier one has settled.
    for key in sorted(opened, key=lambda key: (opened[key], key)):
        task = context.need("task", key)
        other = recount(context, task)
        if other is not None:
            cancel(context, task, other)
        elif not context.takes_part(task["worker"]):
            cancel(context, task | {"reason": WORKER_REMOVED}, key)
        else:
            settle(context, task, plan)
    for key in sorted(waiting - opened.keys()):
        task = context.need("task", key)
        recount(context, task)
        save(context, task)


def _open_again(context: Context, failed: Row) -> tuple[dict[str, int], set[str]]:
    """Set a failed task and those it canceled to waiting: their ranks by key, and the keys of
    children that wait anyway."""
    opened, waiting = {failed["key"]: int(failed["rank"])}, set()
    queue = [failed]
    for parent in queue:  # grows while it is walked
        move(parent, "waiting")
        parent.pop("cause", None)
        save(context, parent | {"wait": "inputs"})
        for task in children(context, parent["key"]):
            key, state = task["key"], task["state"]
            if state == "waiting" and task.get("wait") != "approval":
                waiting.add(key)
            elif state == "canceled" and task.get("cause") == failed["key"] and key not in opened:
                opened[key] = int(task["rank"])
                queue.append(task)
    return opened, waiting


def count(context: Context, plan: str, field: str, by: int) -> None:
    row = context.rows.get(f"progress/{plan}") or {"done": 0, "failed": 0}
    row[field] += by
    context.rows.put(f"progress/{plan}", row)
