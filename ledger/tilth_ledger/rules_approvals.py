"""Operations on approvals: give and deny (rule P5).

Invariants:
- Only the dataset's owner gives or denies, and says what for.
- What waits for the answer goes on, or fails, in the same block: nothing waits for ever.
"""

from __future__ import annotations

from tilth_ledger import approvals, lifecycle
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.rows import Row


def give(context: Context, op: Op) -> None:
    _check_scope(context, op, ("plan", "objective", "algo", "author"))
    _write(context, op, "given")
    for task in _asking(context, op["dataset"]):
        if approvals.is_approved(context, task):
            lifecycle.approved(context, task)


def deny(context: Context, op: Op) -> None:
    _check_scope(context, op, ("plan", "algo"))
    _write(context, op, "denied")
    for task in _asking(context, op["dataset"]):
        if approvals.matches(op, approvals.facts_of(context, task)):
            lifecycle.fail(context, task, "denied")


def _check_scope(context: Context, op: Op, fields: tuple[str, ...]) -> None:
    context.own("dataset", op["dataset"])
    if not any(field in op for field in fields):
        refuse(
            "P5",
            "an approval or denial must say what it is for",
            found="none of these",
            expected="at least one of " + ", ".join(fields),
            remedy="Name the plan or the algo's digest.",
        )


def _write(context: Context, op: Op, status: str) -> None:
    row = {field: value for field, value in op.items() if field != "op"}
    row |= {"owner": context.organization, "status": status, "used": 0}
    context.check_key("approval", op["key"])
    context.add("approval", f"{op['dataset']}/{op['key']}", row)


def _asking(context: Context, dataset: str) -> list[Row]:
    prefix = f"asks/{dataset}/"
    keys = [name.removeprefix(prefix) for name, _ in context.rows.scan(prefix)]
    return [context.need("task", key) for key in keys]
