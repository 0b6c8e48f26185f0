"""Compute plans and their tasks on the ledger, by name or key."""

import json
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
        return tuple(
            self._read(key.removeprefix("plan/"), row) for key, row in self._net.rows.scan(prefix)
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
        return self._read(key, self.row(key))

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

    def _read(self, key: str, row: dict[str, Any]) -> PlanStatus:
        return PlanStatus.from_row(key, row, self._net.rows.get(f"progress/{key}"))


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
        return TaskStatus.from_row(key, row, effective_state(row, self._net.plans.row(row["plan"])))

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
            )
        digest = stated["digest"] if isinstance(stated, dict) else stated
        found: dict[str, Any] = json.loads(fetch(self._net, digest))
        return found
