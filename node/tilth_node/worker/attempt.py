"""One attempt at one task: from `todo` on the ledger to a statement in the outbox.

Invariants
- Only tasks of this organization, on its own data, are touched (rule R2).
- Nothing is mounted before `doing` is final, and rights, approval and plan are looked at once
  more right before mounting: what was lost in between counts (rules P4, P5).
- Exactly one statement per attempt; a crash anywhere before it is written repeats the work, a
  crash after it repeats the sending.

Leaves to others: running (`tilth_node.worker.execution`), sending (`tilth_node.worker.delivery`).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.operations import check
from tilth_ledger.rows import Row, Rows
from tilth_ledger.transitions import effective_state
from tilth_node.logs import logger
from tilth_node.runtimes import EnvironmentMissing
from tilth_node.storage.outbox import Statement
from tilth_node.worker import outcome
from tilth_node.worker.delivery import say, signed_anew
from tilth_node.worker.execution import Execution, words
from tilth_node.worker.failure import MOVED_ON, Dropped, Failed, reason_of
from tilth_node.worker.patience import patiently
from tilth_node.worker.rights import judge
from tilth_node.worker.site import Site


class Attempt:
    """The worker's next attempt at the task `key`; `tell` hears what it waits for, and its steps
    run in one of `places`."""

    def __init__(
        self, site: Site, key: str, tell: Callable[[str], None], places: asyncio.Semaphore
    ) -> None:
        self._site, self._key, self._tell, self._places = site, key, tell, places
        self._log = logger("worker")
        self.begun = False  # its `doing` is final

    async def run(self) -> Statement | None:
        """What to say about it; None when the ledger has moved on."""
        try:
            task, state = self._read("todo", "doing")
            number = task["attempt"] + (1 if state == "todo" else 0)
            standing = self._site.desk.outbox.get(self._key, number)
            return standing or await self._attempt(task, state, number)
        except Dropped as reason:
            self._log.info("task dropped", task=self._key, reason=str(reason))
            return None

    async def _attempt(self, task: Row, state: str, number: int) -> Statement:
        try:
            operation = await self._carry_out(task, state, number)
            check(operation)
            leaf = self._site.sign(operation)
        except Failed as failure:
            operation = self._failed(task, number, failure)
            leaf = self._site.sign(operation)
        except EnvironmentMissing as error:
            operation = self._failed(task, number, Failed("environment", str(error), log=error.log))
            leaf = self._site.sign(operation)
        except InvalidInput as error:
            # User code made the statement itself impossible: odd names, too many statistics.
            reason = "score" if task["kind"] == "test" else "wrong_shape"
            operation = self._failed(task, number, Failed(reason, str(error)))
            leaf = self._site.sign(operation)
        done = operation["op"] == "task.done"
        return self._site.desk.settle(Statement(self._key, number, leaf, done))

    async def _carry_out(self, task: Row, state: str, number: int) -> Mapping[str, Any]:
        check_own(self._site.rows, self._site.organization, task)
        execution = Execution(self._site, task, number, self._tell)
        preparing = asyncio.create_task(execution.prepare(), name=f"prepare {self._key}")
        try:
            if state == "todo":
                await self._begin(number)
            self.begun = True
            await preparing
            async with self._places:
                task, _ = self._read("doing")
                judge(self._site, task)
                return await execution.run()
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    async def _begin(self, number: int) -> None:
        """Return when `doing` is final."""
        operation = {"op": "task.doing", "task": self._key, "attempt": number}
        leaf = self._site.sign(operation)

        def wanted() -> bool:
            return self._read("todo", "doing", "canceled")[1] == "todo"

        try:
            await patiently(lambda: say(self._site, leaf, wanted), self._tell)
        except Refused as refusal:
            if signed_anew(self._site, leaf) != leaf:
                await self._begin(number)  # this node's key was rotated while it waited
                return
            if refusal.rule in MOVED_ON:
                raise Dropped(str(refusal)) from refusal
            raise Failed(reason_of(refusal), str(refusal)) from refusal

    def _read(self, *wanted: str) -> tuple[Row, str]:
        """The task as it stands; raises Dropped unless it is in a wanted state."""
        task = self._site.rows.get(f"task/{self._key}")
        plan = None if task is None else self._site.rows.get(f"plan/{task['plan']}")
        if task is None or plan is None:
            raise Dropped("the task is not on the ledger", found=self._key)
        state = effective_state(task, plan, self._site.ledger_ms())
        if state not in wanted:
            raise Dropped("the task has moved on", found=state, expected=" or ".join(wanted))
        return task, state

    def _failed(self, task: Row, number: int, failure: Failed) -> Mapping[str, Any]:
        self._log.warning("task failed", task=self._key, reason=failure.reason)
        text = words(failure, failure.log, self._log_bytes(task))
        log = self._site.vault.write(text, holder=self._key) if text else None
        return outcome.failed(self._key, number, failure.reason, log)

    def _log_bytes(self, task: Row) -> int:
        """How much of a log may leave: what the node allows, cut to what the data's owner does."""
        data = task.get("data")
        dataset = self._site.rows.get(f"dataset/{data['dataset']}") if data else None
        stated = (
            self._site.allowance.log_bytes if dataset is None else dataset["limits"]["log_bytes"]
        )
        return int(min(self._site.allowance.log_bytes, stated))


def check_own(rows: Rows, organization: str, task: Row) -> None:
    """Rule R2: raise Dropped unless worker and data of the task are this organization's."""
    data = task.get("data")
    dataset = rows.get(f"dataset/{data['dataset']}") if data else {"owner": task["worker"]}
    owner = "nobody" if dataset is None else dataset["owner"]
    if {task["worker"], owner} != {organization}:
        raise Dropped(
            "R2: the task is another organization's",
            found=f"worker {task['worker']}, data of {owner}",
            expected=organization,
        )
