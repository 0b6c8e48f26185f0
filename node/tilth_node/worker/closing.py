"""Aggregates that need not wait for all: closing them when their time to wait has passed.

`need: {at_least: k, within_ms: t}` lets an aggregate begin with k inputs once t has passed since
the first one came. Nothing on the ledger happens by itself, so its worker says `task.close` then.

Invariants
- One timer per waiting aggregate, set by its row, gone when it begins or ends.
- Ledger time decides; an early word is refused and said again a little later.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.rows import Row
from tilth_node.logs import logger
from tilth_node.worker.patience import patiently, wait
from tilth_node.worker.site import Site

AGAIN_SECONDS = 0.5  # clocks of members differ, and ledger time is the leader's


class Closer:
    """The timers of one site."""

    def __init__(self, site: Site, tell: Callable[[str, str], None]) -> None:
        self._site, self._tell = site, tell
        self._timers: dict[str, asyncio.Task[None]] = {}

    def consider(self, key: str, task: Row | None) -> None:
        """Set, keep or drop the timer of a task, as its row says now."""
        due = None if task is None else due_ms(task)
        timer = self._timers.get(key)
        if due is not None and timer is None:
            self._timers[key] = asyncio.create_task(self._close(key, due), name=f"close {key}")
            self._timers[key].add_done_callback(lambda _: self._timers.pop(key, None))
        elif due is None and timer is not None:
            timer.cancel()

    async def stop(self) -> None:
        timers = list(self._timers.values())
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)

    async def _close(self, key: str, due: int) -> None:
        await wait(max(0, due - self._site.ledger_ms()) / 1_000)
        while True:
            leaf = self._site.sign({"op": "task.close", "task": key})
            try:
                await patiently(partial(self._site.submit, leaf), partial(self._tell, key))
            except (Refused, InvalidInput) as refusal:
                logger("worker").info("not closed yet", task=key, reason=str(refusal))
            else:
                return
            await wait(AGAIN_SECONDS)


def due_ms(task: Row) -> int | None:
    """When a task may be closed, in ledger time; None when there is nothing to close."""
    need = task.get("need", {})
    if task["state"] != "waiting" or not task["missing"] or "within_ms" not in need:
        return None
    arrived = len(task["inputs"]) - task["missing"] - len(task["skipped"])
    if "first_input_ms" not in task or arrived < need["at_least"]:
        return None
    return int(task["first_input_ms"] + need["within_ms"])
