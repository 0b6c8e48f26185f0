"""Rules of the lifecycle that people ask for: cancel, close, retry (L3, L4, R7's close).

Invariants:
- A plan is canceled by its owner; a task by its plan's owner, or by an admin of its worker.
- A canceled plan stays canceled; a stopped one goes on when what stopped it is retried.
"""

from __future__ import annotations

from tilth_ledger import lifecycle, rules_leaving
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.rows import Row
from tilth_ledger.transitions import OPEN, effective_state


def cancel_plan(context: Context, op: Op) -> None:
    plan = context.own("plan", op["plan"])
    if plan["status"] == "canceled":
        refuse(
            "L3",
            "the plan is canceled already",
            found=op["plan"],
            expected="a plan that is not canceled",
            remedy="Nothing to do.",
        )
    context.rows.put(f"plan/{op['plan']}", {**plan, "status": "canceled"})


def _open_task(context: Context, key: str, rule: str) -> tuple[Row, Row]:
    """A task that is still open, and its plan."""
    task = context.need("task", key)
    plan = context.need("plan", task["plan"])
    state = effective_state(task, plan, context.time_ms)
    if state not in OPEN or plan["status"] == "unsealed":
        refuse(
            rule,
            "the task is not open",
            found=f"{key} is {state} in a plan that is {plan['status']}",
            expected="a task that is waiting, todo or doing",
            remedy="Nothing to do, or retry the task if it failed.",
        )
    return task, plan


def cancel_task(context: Context, op: Op) -> None:
    task, plan = _open_task(context, op["task"], "L3")
    by_owner = plan["owner"] == context.organization and "scientist" in context.roles
    by_worker = task["worker"] == context.organization and "admin" in context.roles
    if not (by_owner or by_worker):
        refuse(
            "L3",
            "a task is canceled by its plan's owner, or by an admin of its worker",
            found=f"{context.organization} as {', '.join(sorted(context.roles))}",
            expected=f"a scientist of {plan['owner']} or an admin of {task['worker']}",
            remedy="Ask one of them.",
        )
    lifecycle.cancel(context, task, op["task"])
    lifecycle.spread(context, op["task"], plan)


def close_task(context: Context, op: Op) -> None:
    task, plan = _open_task(context, op["task"], "R7")
    if task["state"] != "waiting" or "need" not in task or not task["missing"]:
        refuse(
            "R7",
            "only an aggregate that waits for inputs it does not all need is closed",
            found=f"{op['task']}: {task['kind']}, {task['state']}",
            expected="a waiting aggregate with `need`",
            remedy="Nothing to do.",
        )
    _check_closer(context, task, plan)
    if lifecycle.arrived(task) < lifecycle.least(task):
        refuse(
            "R7",
            "too few inputs have come",
            found=f"{lifecycle.arrived(task)} of {len(task['inputs'])}",
            expected=f"at least {lifecycle.least(task)}",
            remedy="Wait for more, or cancel the task.",
        )
    lifecycle.skip_missing(context, task)
    lifecycle.settle(context, task, plan)


def _check_closer(context: Context, task: Row, plan: Row) -> None:
    if plan["owner"] == context.organization and "scientist" in context.roles:
        return
    worker = task["worker"] == context.organization and "node" in context.roles
    if not (worker and lifecycle.overdue(context, task)):
        refuse(
            "R7",
            "an aggregate is closed by its plan's owner, or by its worker after `within_ms`",
            found=f"{context.organization} at {context.time_ms} ms",
            expected=f"a scientist of {plan['owner']}, or {task['worker']} once it is overdue",
            remedy="Wait, or ask the plan's owner to close it.",
        )


def retry_task(context: Context, op: Op) -> None:
    task = context.need("task", op["task"])
    plan = context.need("plan", task["plan"])
    context.check_owner("plan", plan["owner"], task["plan"])
    if task["state"] != "failed":
        refuse(
            "L4",
            "only a failed task is retried; what it canceled is reopened with it",
            found=f"{op['task']} is {effective_state(task, plan, context.time_ms)}",
            expected=f"the failed task{_cause(task, plan)}",
            remedy="Retry the cause, or submit a new plan.",
        )
    _check_retry(context, task, plan)
    rules_leaving.check_worker(context, op["task"], task["worker"])
    if plan["status"] == "stopped" and plan["cause"] == op["task"]:
        plan = _resume(context, plan)
    lifecycle.reopen(context, task, plan)


def _cause(task: Row, plan: Row) -> str:
    cause = task.get("cause") or plan.get("cause")
    return f" {cause}" if cause else ""


def _check_retry(context: Context, task: Row, plan: Row) -> None:
    if plan["status"] == "canceled" or context.time_ms > plan["expires_ms"]:
        refuse(
            "L4",
            "a plan that was canceled or has expired is not taken up again",
            found=f"{task['plan']} is {plan['status']}, expires at {plan['expires_ms']} ms",
            expected="a plan that lives",
            remedy="Submit a new plan; results that exist are found by their work key.",
        )
    if task["attempt"] >= context.limits.task_attempts:
        refuse(
            "L4",
            "the task was tried too often",
            found=f"{task['attempt']} attempts",
            expected=f"at most {context.limits.task_attempts}",
            remedy="Find the cause in the log, then submit a new plan.",
        )


def _resume(context: Context, plan: Row) -> Row:
    """Runs that stopped with the plan begin again: they are told by the number of stops."""
    changed = {k: v for k, v in plan.items() if k not in ("cause", "resume")}
    changed |= {"status": plan["resume"], "stops": plan["stops"] + 1}
    context.rows.put(f"plan/{plan['key']}", changed)
    return changed
