"""What is no longer needed on this node: transient models, local folders, warm isolations.

Invariants
- A model goes when it is not a final output of its plan, tasks took it as input, all of them are
  done, and the plan takes no further tasks (rule L6). Its digest stays on the ledger.
- A file goes only if every asset that names its digest agrees.
- Local folders and warm isolations go when their plan is over (rule L5).
- What expires, expires in ledger time: nothing goes because this machine's clock was wrong.
- Nothing is scanned again and again: a settled task looks at what it used, a plan that is over at
  its tasks, a start at what is here.

The choices are pure functions of the ledger's rows. A crash leaves a file too many, which the next
start removes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from tilth_ledger.rows import Row, Rows
from tilth_node.feed import Changes
from tilth_node.storage.folders import Folders
from tilth_node.storage.vault import Vault
from tilth_node.worker.holders import namings
from tilth_node.worker.staging import Stage

OVER = ("closed", "stopped", "canceled")


class Residue:
    """Removes what is over from one node's stores; `forget` hears of plans that are."""

    def __init__(
        self,
        rows: Rows,
        vault: Vault,
        folders: Folders,
        stage: Stage,
        ledger_ms: Callable[[], int],
        forget: Callable[[str], None],
    ) -> None:
        self._rows, self._vault, self._folders = rows, vault, folders
        self._stage, self._ledger_ms, self._forget = stage, ledger_ms, forget

    async def run(self, subscribe: Callable[[Sequence[str]], AsyncIterator[Changes]]) -> None:
        """Follow the ledger until cancelled."""
        for digest in list(self._vault.digests()):
            self._remove_if_over(digest)
            await asyncio.sleep(0)
        async for changes in subscribe(("progress/", "plan/")):
            plans = {key.partition("/")[2] for key in changes.rows}
            kept = set(self._folders.plans())
            for plan in plans if changes.live else plans & kept:
                self._end_if_over(plan)

    def settled(self, key: str) -> None:
        """A task of this node is settled: look at what it took, and what that was made of."""
        task = self._rows.get(f"task/{key}")
        for parent in parents(task):
            for each in (parent, *parents(self._rows.get(f"task/{parent}"))):
                for digest in outputs(self._rows, each):
                    self._remove_if_over(digest)

    def _end_if_over(self, key: str) -> None:
        plan = self._rows.get(f"plan/{key}")
        if plan is None or not plan_is_over(self._rows, plan, self._ledger_ms()):
            return
        prefix = f"plan-task/{key}/"
        for name, _ in list(self._rows.scan(prefix)):
            task = name.removeprefix(prefix).partition("/")[2]
            for digest in outputs(self._rows, task):
                self._remove_if_over(digest)
        self._folders.drop(key)
        self._forget(key)

    def _remove_if_over(self, digest: str) -> None:
        if self._vault.has(digest) and digest_is_over(self._rows, digest):
            self._vault.remove(digest)
            self._stage.forget(digest)


def parents(task: Row | None) -> list[str]:
    """The tasks whose models a task took."""
    return [] if task is None else [each["task"] for each in task["inputs"] if "task" in each]


def outputs(rows: Rows, task: str) -> Iterator[str]:
    """Digests of the models that a task made."""
    for _, model in list(rows.scan(f"model/{task}/")):
        yield str(model["digest"])


def digest_is_over(rows: Rows, digest: str) -> bool:
    """Whether nothing on the ledger will ask for this blob again."""
    named = False
    for what, asset, row in namings(rows, digest):
        named = True
        if what != "model" or "output" not in row or not model_is_over(rows, asset):
            return False
    return named


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
