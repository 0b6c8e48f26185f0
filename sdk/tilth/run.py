"""A submitted plan: watch it, read its curve and its final score, stop it, repeat what failed.

What is shown comes from rows as they become final, pushed by the node; nothing is polled, and
nothing here keeps the plan going: it runs on the nodes, watched or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilth.assets import PlanStatus, TaskStatus
from tilth.curve import Curve, curve_of
from tilth.errors import InvalidInput, Refused, TilthError
from tilth.leaderboard import LeaderboardRow
from tilth.plan import Plan
from tilth.progress import Progress, reporter
from tilth_ledger.shapes import WORKER_REMOVED
from tilth_ledger.transitions import OPEN, effective_state

if TYPE_CHECKING:
    from tilth.client import Network

# Up to here each task is watched by its own key; larger plans watch all tasks of their owner.
WATCHED_BY_KEY = 60  # a node takes 64 prefixes in one watch; above, all tasks of the owner


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a plan ended, or how far it is."""

    key: str
    name: str
    ok: bool  # all tasks are done
    states: Mapping[str, int]
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        lines = [f"{self.name}: {counts}", *self.failures]
        if self.failures:
            lines.append(f"repeat what failed with: tilth plan retry {self.key}")
        elif not self.ok and self.states.keys() & {*OPEN}:
            lines.append(f"still running; follow it with: tilth plan watch {self.key}")
        return "\n".join(lines)


@dataclass(slots=True)
class View:
    """The rows of one plan as they arrive."""

    plan: Mapping[str, Any]
    keys: frozenset[str]
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    time_ms: int | None = None  # ledger time when the view was opened: a plan may have expired

    def take(self, rows: Iterable[tuple[str, dict[str, Any] | None]]) -> None:
        for key, row in rows:
            noun, _, asset = key.partition("/")
            if row is not None and noun == "task" and asset in self.keys:
                self.rows[asset] = row
            elif row is not None and noun == "plan":
                self.plan = row

    @property
    def tasks(self) -> tuple[TaskStatus, ...]:
        """In the order in which they can run."""
        found = (
            TaskStatus.from_row(key, row, effective_state(row, self.plan, self.time_ms))
            for key, row in self.rows.items()
        )
        return tuple(sorted(found, key=lambda task: (task.rank, task.worker, task.key)))

    @property
    def over(self) -> bool:
        return len(self.rows) == len(self.keys) and not any(task.open for task in self.tasks)


class Run:
    """One compute plan on the ledger."""

    def __init__(self, net: "Network", plan: PlanStatus) -> None:
        self._net = net
        self.plan = plan

    def __repr__(self) -> str:
        return f"<run {self.plan.name!r} {self.plan.status} {self.key}>"

    @property
    def key(self) -> str:
        return self.plan.key

    def tasks(self) -> tuple[TaskStatus, ...]:
        """All tasks as they are now."""
        view = self._view()
        view.take((f"task/{key}", self._net.rows.get(f"task/{key}")) for key in view.keys)
        return view.tasks

    def watch(self, *, quiet: bool = False) -> "Run":
        """Follows the plan until nothing of it is open. Ctrl-C stops the watching, not the plan."""
        view = self._view()
        with reporter(quiet=quiet) as progress:
            try:
                self._follow(view, progress)
            except KeyboardInterrupt:
                progress.say(f"it goes on; follow it with: tilth plan watch {self.key}")
            for line in _failures(view.tasks):
                progress.say(line)
        self.plan = self._net.plans.status(self.key)
        return self

    def outcome(self) -> Outcome:
        """How many tasks are in which state, and what failed."""
        tasks = self.tasks()
        states: dict[str, int] = {}
        for task in tasks:
            states[task.state] = states.get(task.state, 0) + 1
        done = states.get("done", 0) == len(tasks)
        return Outcome(self.key, self.plan.name, done, states, tuple(_failures(tasks)))

    def curve(self) -> Curve:
        """Validation scores round by round: on rows that no training of the plan has seen."""
        return curve_of(self.tasks())

    def reports(self) -> dict[str, dict[str, Any]]:
        """What the finished training tasks reported, by task key, as far as you may read it."""
        found = {}
        for task in self.tasks():
            if task.kind in ("train", "composite") and task.state == "done":
                try:
                    found[task.key] = self._net.tasks.report(task.key)
                except Refused:
                    continue  # closed to us by its owner; the others may not be
        return found

    @property
    def final(self) -> LeaderboardRow:
        """The leaderboard row of the plan's final model. Raises InvalidInput when there is none."""
        for objective in self.plan.facts.get("objectives", ()):
            board = self._net.leaderboard(self._net.objectives.find(objective))
            for row in board.rows:
                if row.plan == self.key:
                    return row
        raise InvalidInput(
            "the final model of this plan is not on a leaderboard",
            found=str(self.outcome()),
            expected="its tests on every set of the objective done and certified",
            remedy="Wait with run.watch(), or look at what failed with run.logs().",
        )

    def logs(self) -> str:
        """Reasons and logs of the tasks that failed, as far as you may read them."""
        failed = [task for task in self.tasks() if task.state == "failed"]
        return "\n".join(
            f"--- {task.kind} at {task.worker}: {task.reason}\n{self._log(task)}" for task in failed
        )

    def cancel(self) -> None:
        """Stops what is not finished: one small entry, whatever the plan's size. Raises
        InvalidInput when nothing is open."""
        standing = self._net.plans.status(self.key)
        if standing.over:
            raise InvalidInput(
                "nothing of this plan is left to stop",
                found=f"plan {self.plan.name!r} is {standing.status}",
                expected="a plan with open tasks",
                remedy=f"Look at it with: tilth plan show {self.key}",
            )
        self._net.record({"op": "plan.cancel", "plan": self.key})
        self.plan = self._net.plans.status(self.key)

    def close(self) -> None:
        """Ends the extension of an open plan: it is over when its last task is (rule L5)."""
        self._net.record({"op": "plan.close", "plan": self.key})
        self.plan = self._net.plans.status(self.key)

    def extend(self, more: "Plan | Sequence[Mapping[str, Any]]") -> "Run":
        """Adds tasks to an open plan: those of `more` that the ledger does not have yet, or tasks
        as `plan.tasks` holds them (ledger/README.md). Raises Refused (L5) when it is closed."""
        if isinstance(more, Plan):
            known = self._view().keys
            parts = more.extension(self._net.organization, known)
        else:
            parts = [{"tasks": [dict(each) for each in more]}]
        number = self._net.plans.row(self.key)["received"]
        for place, part in enumerate(parts):
            where = {"op": "plan.tasks", "plan": self.key, "part": number + place}
            self._net.record({**where, **part})
        self.plan = self._net.plans.status(self.key)
        return self

    def retry(self) -> tuple[TaskStatus, ...]:
        """Reopens what failed; what was canceled because of it opens again with it."""
        failed = tuple(task for task in self.tasks() if task.state == "failed")
        if failed:
            self._net.record(*({"op": "task.retry", "task": task.key} for task in failed))
        return failed

    def _view(self) -> View:
        prefix = f"plan-task/{self.key}/"
        keys = frozenset(
            key.removeprefix(prefix).partition("/")[2] for key, _ in self._net.rows.scan(prefix)
        )
        plan, time_ms = self._net.plans.row(self.key), self._net.status()["time_ms"]
        return View(plan, keys, time_ms=time_ms)

    def _follow(self, view: View, progress: Progress) -> None:
        prefixes = [f"task/{key}" for key in sorted(view.keys)]
        if len(prefixes) > WATCHED_BY_KEY:
            prefixes = [f"task/{self.plan.owner}/"]
        for changes in self._net.transport.watch([f"plan/{self.key}", *prefixes]):
            view.take(changes.rows)
            if not changes.live:
                continue  # half a picture says nothing of who is waited for
            self._net.rows.holds(changes.size)
            tasks = view.tasks
            ended = sum(not task.open for task in tasks)
            progress.update(ended, len(view.keys), _now(tasks))
            if view.over:
                return

    def _log(self, task: TaskStatus) -> str:
        try:
            return self._net.tasks.log(task.key)
        except TilthError as refused:  # another site's log may be closed to us; say so and go on
            return f"({refused})"


def _now(tasks: Sequence[TaskStatus]) -> str:
    """What runs now: `round 3: train at hospital-a, hospital-b`, or who must say a word."""
    doing = [task for task in tasks if task.state == "doing"]
    if not doing:
        asked = sorted({task.worker for task in tasks if task.wait == "approval"})
        return f"waits for the approval of {', '.join(asked)}" if asked else ""
    first = doing[0]
    where = ", ".join(sorted({task.worker for task in doing if task.kind == first.kind}))
    return f"{first.tag + ': ' if first.tag else ''}{first.kind} at {where}"


def _more(task: TaskStatus) -> str:
    """Where more is told of a failure."""
    if task.reason == WORKER_REMOVED:
        return f"{task.worker} left the consortium: plan again without it"
    return f"tilth task log {task.key}"


def _failures(tasks: Iterable[TaskStatus]) -> list[str]:
    return [
        f"{task.kind} at {task.worker} failed: {task.reason} ({_more(task)})"
        for task in tasks
        if task.state == "failed"
    ]
