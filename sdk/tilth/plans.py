"""Compute plans and their tasks on the ledger, by name or key."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilth.assets import PlanStatus, TaskStatus
from tilth.blobs import fetch
from tilth.errors import InvalidInput
from tilth.run import Run
from tilth_ledger.transitions import effective_state

if TYPE_CHECKING:
    from tilth.client import Network


class Plans:
    """Compute plans of the consortium."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(self, *, owner: str | None = None) -> tuple[PlanStatus, ...]:
        prefix = f"plan/{owner}/" if owner else "plan/"
        found = list(self._net.rows.scan(prefix))
        work = _work(self._net) if found else {}
        time_ms = self._net.status()["time_ms"] if found else None
        return tuple(
            self._read(key.removeprefix("plan/"), row, work, time_ms) for key, row in found
        )

    def one(self, key: str) -> Run:
        return Run(self._net, self.status(key))

    def find(self, name_or_key: str) -> Run:
        """By key, else by name; of several of one name the key is needed."""
        found = [each for each in self.list() if name_or_key in (each.key, each.name)]
        if len(found) == 1:
            return Run(self._net, found[0])
        raise InvalidInput(
            f"{name_or_key!r} is not clear" if found else f"no plan is named {name_or_key!r}",
            found=", ".join(each.key for each in found) or "none",
            expected="the name or key of one plan",
            remedy="Look at them with: tilth plan list",
        )

    def status(self, key: str) -> PlanStatus:
        return self._read(key, self.row(key), _work(self._net), self._net.status()["time_ms"])

    def row(self, key: str) -> dict[str, Any]:
        """The plan's row; raises InvalidInput when there is none."""
        row = self._net.rows.get(f"plan/{key}")
        if row is None:
            raise InvalidInput(
                "there is no such plan",
                found=key,
                expected="a key of the form organization/32 hexadecimal digits",
                remedy="Look at them with: tilth plan list",
            )
        return row

    def _read(
        self, key: str, row: dict[str, Any], work: Mapping[str, Sequence[str]], time_ms: int | None
    ) -> PlanStatus:
        progress = self._net.rows.get(f"progress/{key}")
        return PlanStatus.from_row(key, row, progress, work.get(key, ()), time_ms)


def _work(net: "Network") -> dict[str, list[str]]:
    """The states of all open tasks, by plan."""
    states: dict[str, list[str]] = {}
    for _, row in net.rows.scan("work/"):
        states.setdefault(row["plan"], []).append(row["state"])
    return states


class Tasks:
    """Tasks of compute plans, by key."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def one(self, key: str) -> TaskStatus:
        row = self._net.rows.get(f"task/{key}")
        if row is None:
            raise InvalidInput(
                "there is no such task",
                found=key,
                expected="a key of the form organization/32 hexadecimal digits",
                remedy="A plan's tasks: tilth plan show PLAN",
            )
        plan, time_ms = self._net.plans.row(row["plan"]), self._net.status()["time_ms"]
        return TaskStatus.from_row(key, row, effective_state(row, plan, time_ms))

    def cancel(self, key: str) -> TaskStatus:
        """Stops one open task, and what cannot come without it. For its plan's owner, or an admin
        of its worker (rule L3)."""
        return self._say("task.cancel", key)

    def close(self, key: str) -> TaskStatus:
        """Lets an aggregate begin with the inputs that are there, at least what it needs. For its
        plan's owner (rule R7)."""
        return self._say("task.close", key)

    def _say(self, operation: str, key: str) -> TaskStatus:
        self.one(key)
        self._net.record({"op": operation, "task": key})
        return self.one(key)

    def log(self, key: str) -> str:
        """What the task's code printed. Raises Refused (P6) without the right to read it."""
        task = self.one(key)
        tried = self._net.rows.get(f"tried/{key}/{task.facts['attempt']:06d}") or {}
        log = tried.get("log") or task.receipt.get("log")
        if not log:
            raise InvalidInput(
                "this task has no log",
                found=f"{task.kind} at {task.worker}, {task.state}",
                expected="a task that has run, and whose code printed something",
                remedy=f"See how far it is with: tilth task show {key}",
            )
        return fetch(self._net, log["digest"] if isinstance(log, dict) else log).decode(
            "utf-8", "replace"
        )

    def report(self, key: str) -> dict[str, Any]:
        """What the task's code reported: `count` of rows, last `scalars`, `series` of each name.
        Raises Refused (P6) without the right to read it."""
        task = self.one(key)
        stated = task.facts.get("report") or task.receipt.get("report")
        if not stated:
            raise InvalidInput(
                "this task has no report",
                found=f"{task.kind} at {task.worker}, {task.state}",
                expected="a task that is done",
                remedy=f"Wait for it with: tilth plan watch {task.plan}",
            )
        digest = stated["digest"] if isinstance(stated, dict) else stated
        found: dict[str, Any] = json.loads(fetch(self._net, digest))
        return found
