"""The worker: sees its tasks on the ledger, runs them, and says how they ended.

Invariants
- Driven by row changes as they become final (`work/<organization>/`, `plan/`); nothing is polled.
- What runs is in `_active`, by task; a task is never run twice at the same time.
- A task that the ledger no longer wants (cancel, stopped plan, retry elsewhere) is ended, with
  the processes it started (rule L3).
- What a task waits for is not in its power: while it waits it gives its place to another one, so
  that nobody's missing blob keeps the node from working. Never do more than `slots` run steps.
- After a crash: what an earlier life said is sent, and every task that is still `doing` goes on:
  a step that still runs is adopted where that is safe, else ended and run again (see `leftovers`).
  No second result can come of it: see the outbox.

Leaves to others: which tasks begin (`tilth_node.worker.scheduler`), one attempt
(`tilth_node.worker.attempt`), what becomes superfluous (`tilth_node.worker.residue`).
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from tilth_ledger.transitions import FINAL, effective_state
from tilth_node.feed import Changes
from tilth_node.logs import logger
from tilth_node.storage.outbox import Statement
from tilth_node.storage.runs import Run
from tilth_node.worker.attempt import Attempt
from tilth_node.worker.closing import Closer
from tilth_node.worker.delivery import deliver, named_blobs
from tilth_node.worker.patience import patiently
from tilth_node.worker.scheduler import Candidate, choose
from tilth_node.worker.site import Site

TIDY_SECONDS = 0.5
MOST_WAITING = 16  # tasks of one organization that may wait beside those that run
PROVE_AGAIN_SECONDS = 600.0  # a machine that isolates nothing is tried again, now and then
Subscribe = Callable[[Sequence[str]], AsyncIterator[Changes]]


@dataclass(slots=True)
class _Active:
    """A task under way; it holds a slot until its statement is in the outbox."""

    candidate: Candidate
    attempt: Attempt
    task: asyncio.Task[None]
    holds_slot: bool = True
    changed: bool = False  # the ledger said something about it meanwhile


@dataclass(slots=True)
class Worker:
    """The worker of one site, with `slots` tasks at a time."""

    site: Site
    subscribe: Subscribe
    slots: int
    prove: Callable[[], Awaitable[None]]  # what the runtime holds; before the first task
    settled: Callable[[str], None] = lambda task: None  # what is said about a task is final
    show: Callable[[Mapping[str, str]], None] = lambda waiting: None
    waiting: dict[str, str] = field(default_factory=dict)  # task -> what it waits for
    _todo: dict[str, Candidate] = field(default_factory=dict)
    _active: dict[str, _Active] = field(default_factory=dict)
    _others: set[asyncio.Task[None]] = field(default_factory=set)
    _proof: asyncio.Task[None] | None = None
    _stopping: bool = False
    _closer: Closer = field(init=False)
    _arrivals: "count[int]" = field(default_factory=count)

    _places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.slots)
        self._closer = Closer(self.site, self._wait_for)

    async def start(self) -> None:
        """Find what an earlier life of this process left running, and send what it had to say."""
        shutil.rmtree(self.site.scratch, ignore_errors=True)
        self.site.scratch.mkdir(parents=True)
        await self.site.leftovers.find(self._still_wanted)
        for statement in self.site.desk.outbox.all():
            for digest in named_blobs(statement):
                self.site.vault.hold(digest, statement.task)
            self._deliver(statement)

    async def run(self) -> None:
        """Work until cancelled."""
        mine = f"work/{self.site.organization}/"
        async for changes in self.subscribe((mine, "plan/")):
            for key, value in changes.rows.items():
                if key.startswith(mine):
                    self._task_changed(key.removeprefix(mine), gone=value is None)
                else:
                    self._plan_changed(key.removeprefix("plan/"))
            self._begin_some()

    async def stop(self) -> None:
        """End everything that runs; it begins again in the next life."""
        self._stopping = True
        tasks = [active.task for active in self._active.values()] + list(self._others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._closer.stop()
        await self.site.runtime.close()

    def forget(self, plan: str) -> None:
        """A plan is over: its warm isolations are not needed again."""
        self._background(self.site.runtime.forget(plan), f"forget {plan}")

    # -- what the ledger says

    def _task_changed(self, key: str, *, gone: bool) -> None:
        if gone:
            self._todo.pop(key, None)
            self._end_leftover(key)
        else:
            self._consider(key)
        self._closer.consider(key, None if gone else self.site.rows.get(f"task/{key}"))
        if key in self._active:
            self._active[key].changed = True
            self._end_if_unwanted(key)

    def _plan_changed(self, plan: str) -> None:
        for key, active in list(self._active.items()):
            if active.candidate.plan == plan:
                active.changed = True
                self._end_if_unwanted(key)
        for key, candidate in list(self._todo.items()):
            if candidate.plan == plan:
                self._consider(key)

    def _state(self, key: str) -> str:
        """The task's effective state, `canceled` when it is not on the ledger."""
        task = self.site.rows.get(f"task/{key}")
        plan = None if task is None else self.site.rows.get(f"plan/{task['plan']}")
        if task is None or plan is None:
            return "canceled"
        return effective_state(task, plan, self.site.ledger_ms())

    def _still_wanted(self, run: Run) -> bool:
        task = self.site.rows.get(f"task/{run.task}")
        doing = self._state(run.task) == "doing"
        return doing and task is not None and task["attempt"] == run.attempt

    def _end_leftover(self, key: str) -> None:
        if key in self.site.leftovers:
            self._background(self.site.leftovers.end(key), f"end {key}")

    def _consider(self, key: str) -> None:
        """Put a task on the list of what could begin, or take it off."""
        if self._state(key) not in ("todo", "doing"):
            self._todo.pop(key, None)
            self._end_leftover(key)
            return
        task = self.site.rows.get(f"task/{key}")
        if task is not None and key not in self._active:
            before = self._todo.get(key)
            arrived = next(self._arrivals) if before is None else before.arrived
            folder = task.get("local_from", "")
            self._todo[key] = Candidate(key, task["plan"], task["rank"], arrived, folder)

    def _end_if_unwanted(self, key: str) -> None:
        active, state = self._active[key], self._state(key)
        stopped = active.attempt.begun and state == "todo"
        if active.holds_slot and (stopped or state in FINAL or state == "canceled"):
            active.task.cancel()

    # -- what runs

    def _begin_some(self) -> None:
        running = [each.candidate for each in self._active.values() if each.holds_slot]
        waiting = Counter(_owner(each) for each in running if each.task in self.waiting)
        room = self.slots + waiting.total()
        if self._stopping or len(running) >= room or not self._todo:
            return
        if not self._proven():
            return
        idle = [
            each
            for key, each in self._todo.items()
            if key not in self._active and waiting[_owner(each)] < MOST_WAITING
        ]
        for candidate in choose(idle, running, room):
            del self._todo[candidate.task]
            self._begin(candidate)

    def _proven(self) -> bool:
        """Whether tasks may begin; the first that comes has it found out."""
        if self._proof is None:
            tell = partial(self._wait_for, "isolation")
            proving = patiently(self.prove, tell, longest_seconds=PROVE_AGAIN_SECONDS)
            self._proof = self._background(proving, "prove isolation")
            self._proof.add_done_callback(lambda _: self._begin_some())
        return self._proof.done() and not self._proof.cancelled()

    def _begin(self, candidate: Candidate) -> None:
        key = candidate.task
        attempt = Attempt(self.site, key, partial(self._wait_for, key), self._places)
        task = asyncio.create_task(self._carry(candidate, attempt), name=f"task {key}")
        self._active[key] = _Active(candidate, attempt, task)
        task.add_done_callback(lambda done: self._ended(key, done))

    async def _carry(self, candidate: Candidate, attempt: Attempt) -> None:
        """One task from its beginning until what must be said about it is final."""
        tell = partial(self._wait_for, candidate.task)
        # Whatever this node's own disk or engine did to it, the attempt is taken up again.
        statement = await patiently(attempt.run, tell)
        self._active[candidate.task].holds_slot = False
        self._begin_some()
        if statement is not None:
            await deliver(self.site, statement, tell)
            # What it used may go now, but the tasks that waited for it go first.
            asyncio.get_running_loop().call_later(TIDY_SECONDS, self._tidy, candidate.task)

    def _tidy(self, key: str) -> None:
        if not self._stopping:
            self.settled(key)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        active = self._active.pop(key)
        self._wait_for(key, "")
        if task.cancelled():
            self.site.desk.runs.remove(key)
        elif (error := task.exception()) is not None:
            # A fault of the node's own code: the task stays `doing`, and the next start runs it.
            logger("worker").error("task broke the worker", task=key, exc_info=error)
            return
        self.site.vault.let_go(key)
        self._end_leftover(key)
        if active.changed and not self._stopping:
            self._consider(key)  # perhaps it was retried before its old attempt was settled
        self._begin_some()

    def _deliver(self, statement: Statement) -> None:
        """Send a statement of an earlier life."""
        key = statement.task
        sending = deliver(self.site, statement, partial(self._wait_for, key))
        task = self._background(sending, f"deliver {key}")
        task.add_done_callback(lambda _: self.site.vault.let_go(key))

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        return task

    def _wait_for(self, key: str, words: str) -> None:
        """Remember what a task waits for (empty: nothing), and say it when it changes."""
        if self.waiting.get(key, "") == words:
            return
        if words:
            self.waiting[key] = words
            logger("worker").warning("doing, waiting", task=key, reason=words)
            asyncio.get_running_loop().call_soon(self._begin_some)
        else:
            self.waiting.pop(key, None)
        self.show(self.waiting)


def _owner(candidate: Candidate) -> str:
    """The organization whose plan a task is of."""
    return candidate.plan.partition("/")[0]
