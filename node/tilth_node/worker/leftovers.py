"""Steps that an earlier life of this node left running: adopted where that is safe, else ended.

Invariants
- A step is adopted by the attempt that would start it again, once, and only if it was made from
  the same spec: the same code, inputs, limits and place for its outputs. Then its result is the
  one that a new run would have to give.
- Everything else that is found is ended before the task runs again, or as soon as the ledger no
  longer wants the task. So a task never runs twice at the same time.
- Nothing is lost by ending one: the task runs again.

Leaves to others: finding and ending (the runtime; a sandbox ends with its node, so only containers
are ever found), the journal of handles (`tilth_node.storage.runs`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tilth_node.logs import logger
from tilth_node.runtimes import Handle, Runtime, StepSpec
from tilth_node.storage.runs import Run, Runs


@dataclass(slots=True)
class Leftovers:
    """What is left of an earlier life, by task."""

    runtime: Runtime
    runs: Runs
    _found: dict[str, tuple[Run, Handle]] = field(default_factory=dict)

    async def find(self, wanted: Callable[[Run], bool]) -> None:
        """Look for what is journaled; end what is not wanted any more."""
        for run in self.runs.all():
            handle = await self.runtime.attach(run.handle)
            if handle is not None:
                self._found[run.task] = (run, handle)
            if handle is None or not wanted(run):
                await self.end(run.task)
                self.runs.remove(run.task)

    async def adopt(self, task: str, attempt: int, spec: StepSpec) -> Handle | None:
        """The running step of this attempt, to be collected; None: none fits, start one."""
        run, handle = self._found.get(task, (None, None))
        if run is None or handle is None:
            return None
        if (run.attempt, handle.made_from) != (attempt, spec.made_from):
            await self.end(task)
            return None
        # Once: what cannot be collected is run again and not adopted again.
        del self._found[task]
        logger("worker").info("step adopted", task=task, step=run.step)
        return handle

    async def end(self, task: str) -> None:
        """End what is left of a task, if anything is."""
        _, handle = self._found.pop(task, (None, None))
        if handle is not None:
            logger("worker").info("step of an earlier life ended", task=task)
            await self.runtime.cancel(handle)

    def __contains__(self, task: str) -> bool:
        return task in self._found
