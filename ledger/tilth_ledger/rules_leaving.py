"""What becomes of the tasks of an organization that takes part no more (M7).

Invariants:
- With the entry that removes it, each of its open tasks fails with the reason `worker_removed`, and
  what that means for others follows as from any failure: a child goes on without it or is
  canceled, a plan stops or continues.
- Nothing new is registered, begun or tried again at it.

Left to others: who is removed (rules_members), a plan's own word on failures (lifecycle).
"""

from __future__ import annotations

from tilth_ledger import lifecycle
from tilth_ledger.context import Context, refuse
from tilth_ledger.shapes import WORKER_REMOVED
from tilth_ledger.transitions import OPEN, effective_state


def leave(context: Context, organization: str) -> None:
    """Fail the open tasks of one that is removed now."""
    prefix = f"work/{organization}/"
    for name in [name for name, _ in context.rows.scan(prefix)]:
        task = context.need("task", name.removeprefix(prefix))
        plan = context.need("plan", task["plan"])
        # Failing one may have ended others of them.
        if effective_state(task, plan, context.time_ms) in OPEN:
            lifecycle.fail(context, task, WORKER_REMOVED)


def check_worker(context: Context, task: str, worker: str) -> None:
    """Refuse work for one that was removed."""
    if not context.takes_part(worker):
        refuse(
            "M7",
            "the worker was removed from the consortium",
            found=f"{worker} as the worker of {task}",
            expected="an organization that takes part",
            remedy="Leave its data out of the plan, or choose another worker; who takes part:"
            " `tilth member list`.",
        )
