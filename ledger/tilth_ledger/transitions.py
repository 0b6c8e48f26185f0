"""The life of a task as one table; the diagram in ledger/README.md is generated from it.

Invariants:
- A task's stored state changes only along `TRANSITIONS` (rule L1); `move` is the only way.
- A canceled or stopped plan is one flag on the plan's row: what readers must show is
  `effective_state`, derived from both rows.

What the diagram cannot see: an open plan whose `expires_ms` has passed shows its open tasks as
canceled, and a task that was running when its plan was stopped begins again after a retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilth_ledger.errors import Refused
from tilth_ledger.rows import Row

OPEN = ("waiting", "todo", "doing")
FINAL = ("done", "failed", "canceled")


@dataclass(frozen=True, slots=True)
class Transition:
    source: str
    target: str
    by: str
    when: str


TRANSITIONS: tuple[Transition, ...] = (
    Transition("new", "waiting", "ledger", "registered; an input or the approval is missing"),
    Transition("new", "canceled", "ledger", "registered; a parent cannot come"),
    Transition("waiting", "todo", "ledger", "inputs exist, approved"),
    Transition("waiting", "failed", "data owner", "approval denied"),
    Transition("todo", "failed", "data owner", "approval denied"),
    Transition("todo", "doing", "worker", "task.doing: rights are judged here"),
    Transition("doing", "doing", "worker", "task.doing after its plan was stopped and retried"),
    Transition("doing", "done", "worker", "task.done: the receipt matches"),
    Transition("doing", "failed", "worker", "task.failed"),
    Transition("todo", "failed", "worker", "task.failed"),
    Transition("waiting", "canceled", "owner, worker's admin, cause", "cancel or a failed parent"),
    Transition("todo", "canceled", "owner, worker's admin", "cancel"),
    Transition("doing", "canceled", "owner, worker's admin", "cancel"),
    Transition("failed", "waiting", "owner", "task.retry"),
    Transition("canceled", "waiting", "owner", "task.retry of the cause"),
)
ALLOWED = frozenset((t.source, t.target) for t in TRANSITIONS)


def effective_state(
    task: Mapping[str, Any], plan: Mapping[str, Any], time_ms: int | None = None
) -> str:
    """The state to show and to judge by: plan flags, interrupted runs and (if a ledger time is
    given) the plan's expiry applied to the stored state."""
    state = str(task["state"])
    if state not in OPEN:
        return state
    if plan["status"] in ("stopped", "canceled"):
        return "canceled"
    if time_ms is not None and time_ms > plan["expires_ms"]:
        return "canceled"
    if state == "doing" and task.get("stops", 0) != plan["stops"]:
        return "todo"  # its run was stopped with the plan, which was retried since
    return state


def move(task: Row, target: str) -> None:
    """Change a task's stored state along the table (L1)."""
    source = str(task["state"])
    if (source, target) not in ALLOWED:
        raise Refused(
            "L1",
            f"a task that is {source} cannot become {target}",
            found=f"{task['key']} is {source}",
            expected=f"one of {', '.join(sorted(s for s, t in ALLOWED if t == target))}",
            remedy="Read the task's state again; somebody else may have decided already.",
        )
    task["state"] = target


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for t in TRANSITIONS:
        source = "[*]" if t.source == "new" else t.source
        label = f"{t.by}: {t.when}".replace(":", " -", 1).replace(":", "").replace(";", ",")
        lines.append(f"    {source} --> {t.target}: {label}")
    return "\n".join(lines)
