"""Rules about compute plans: registration in parts, sealing, extension, closing (R4, L5, B3).

Invariants:
- Parts come in order; a task's parents stand in its own or an earlier part, so each part is judged
  when it arrives. Until the last announced part the plan is inert, and it expires.
- The last part seals the plan: its first tasks become `todo` then. Parts of an open, sealed plan
  take effect at once.
- Final models are marked with the tasks that make them, so before any of their scores (B3).
"""

from __future__ import annotations

from collections.abc import Sequence

from tilth_ledger import lifecycle
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.kinds import KINDS
from tilth_ledger.registration import Part, register
from tilth_ledger.rows import Row
from tilth_ledger.rules_data import check_part


def add(context: Context, op: Op) -> None:
    for objective in op.get("objectives", ()):
        context.usable("objective", objective)
    is_open = op.get("open", False)
    if op["parts"] == 0 and not is_open:
        refuse(
            "R4",
            "a plan without tasks must be open",
            found="parts 0, not open",
            expected="at least one part, or open",
            remedy="Announce the number of plan.tasks parts that follow.",
        )
    lifetime = context.time_ms + context.limits.plan_lifetime_ms
    row = {field: value for field, value in op.items() if field != "op"}
    row |= {
        "owner": context.organization,
        "status": "unsealed",
        "on_failure": op.get("on_failure", "stop"),
        "open": is_open,
        "final": op.get("final", []),
        "objectives": op.get("objectives", []),
        "received": 0,
        "tasks": 0,
        "organizations": [],
        "aggregators": [],
        "stops": 0,
        "until_ms": min(op.get("expires_ms", lifetime), lifetime),
        "expires_ms": context.time_ms + context.limits.unsealed_lifetime_ms,
    }
    context.add("plan", op["key"], row)
    context.rows.put(f"progress/{op['key']}", {"done": 0, "failed": 0})
    if op["parts"] == 0:
        _seal(context, row)


def add_tasks(context: Context, op: Op) -> None:
    plan = context.own("plan", op["plan"])
    if plan["status"] == "unsealed":
        check_part("R4", "plan", plan, op["part"], context.time_ms)
    else:
        _check_extension(context, plan, op["part"])
    sealed = plan["status"] != "unsealed"
    plan["received"] += 1
    plan["tasks"] += len(op["tasks"])
    _check_size(context, plan)
    _mark_finals(plan, op.get("final", ()), op["tasks"])
    part = Part.of(context, plan, op["tasks"])
    part.join_participants()
    context.rows.put(f"plan/{plan['key']}", plan)
    tasks = [register(part, task) for task in part.in_order()]
    if context.problems:
        return  # a dry run has found what is wrong; there is nothing to seal
    if sealed:
        for task in tasks:
            if task["state"] == "waiting":
                lifecycle.settle(context, task, plan)
    elif plan["received"] == plan["parts"]:
        _seal(context, plan)


def _check_extension(context: Context, plan: Row, part: int) -> None:
    alive = context.time_ms <= plan["expires_ms"]
    if plan["status"] != "open" or not alive:
        refuse(
            "L5",
            "the plan cannot be extended",
            found=f"{plan['key']} is {plan['status']}" + ("" if alive else ", expired"),
            expected="an open plan",
            remedy="Submit a new plan; it may take models of this one as inputs.",
        )
    if part != plan["received"]:
        refuse(
            "R4",
            "a part of the plan is missing or comes twice",
            found=f"part {part}",
            expected=f"part {plan['received']}",
            remedy="Send the parts in order, each once.",
        )


def _check_size(context: Context, plan: Row) -> None:
    if plan["tasks"] > context.limits.plan_tasks:
        refuse(
            "R4",
            "the plan has too many tasks",
            found=plan["tasks"],
            expected=f"at most {context.limits.plan_tasks}",
            remedy="Split it over several plans.",
        )


def _mark_finals(plan: Row, finals: Sequence[str], tasks: Sequence[Op]) -> None:
    new = {task["key"] for task in tasks}
    for key in finals:
        if key not in new:
            refuse(
                "B3",
                "a model is marked final together with the task that makes it",
                found=key,
                expected="tasks of this part",
                remedy="Mark finals in plan.add, or in the part that holds their tasks.",
            )
    plan["final"] = [*plan["final"], *(key for key in finals if key not in plan["final"])]


def _seal(context: Context, plan: Row) -> None:
    for key in plan["final"]:
        _check_final(context, plan, key)
    plan["status"] = "open" if plan["open"] else "closed"
    plan["expires_ms"] = plan["until_ms"]
    context.rows.put(f"plan/{plan['key']}", plan)
    # Only tasks without parents in this plan can be due: those of rank 1.
    prefix = f"plan-task/{plan['key']}/000001/"
    for name, _ in list(context.rows.scan(prefix)):
        task = context.need("task", name.removeprefix(prefix))
        if task["state"] == "waiting":
            lifecycle.settle(context, task, plan)


def _check_final(context: Context, plan: Row, key: str) -> None:
    task = context.rows.get(f"task/{key}")
    if task is None or task["plan"] != plan["key"] or KINDS[task["kind"]].capability == "predict":
        if task is None and plan["open"]:
            return  # a later part may bring it
        refuse(
            "B3",
            "a final task is not one of the plan that makes a model",
            found=key,
            expected="tasks of this plan that make models",
            remedy="Name the tasks whose models are final, not their tests.",
        )


def close(context: Context, op: Op) -> None:
    plan = context.own("plan", op["plan"])
    if plan["status"] != "open":
        refuse(
            "L5",
            "only an open plan is closed",
            found=f"{op['plan']} is {plan['status']}",
            expected="open",
            remedy="Nothing to do.",
        )
    context.rows.put(f"plan/{op['plan']}", {**plan, "status": "closed", "open": False})
