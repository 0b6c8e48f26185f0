"""What a plan would do, before it is submitted: who runs what, who may use what comes out, and what
is missing, with the command that gives it.

The judgement is the node's: it runs the rules that would run at submission (a dry run). Rights of
outputs are derived here from the grants as they stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilth.assets import Objective
from tilth.errors import TilthError
from tilth.plan import Operation, Plan
from tilth.rights import Right, rights_of
from tilth.rows import Remembered
from tilth.tables import table
from tilth_ledger import canonical

if TYPE_CHECKING:
    from tilth.client import Network
CHECKED_BYTES = 1_900_000  # a node takes 2 MiB


@dataclass(frozen=True, slots=True)
class Work:
    """What one organization would run of one kind."""

    worker: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """The answer to `net.check(plan)`; prints as three short tables."""

    name: str
    work: tuple[Work, ...]
    rights: tuple[Right, ...]
    problems: tuple[TilthError, ...]  # these refuse the plan
    warnings: tuple[str, ...] = ()  # these do not, and should be known

    @property
    def ok(self) -> bool:
        """Whether `net.submit(plan)` would be taken now."""
        return not self.problems

    def __str__(self) -> str:
        tasks = sum(each.count for each in self.work)
        work = table(("who", "runs", "tasks"), [(w.worker, w.kind, w.count) for w in self.work])
        rights = table(
            ("output of", "at", "may be used by", "may be taken out by"),
            [(r.what, r.worker, r.use, r.download) for r in self.rights],
        )
        verdict = "nothing is missing: net.submit(plan)"
        if self.problems:
            verdict = "missing:\n" + "\n".join(f"- {problem}" for problem in self.problems)
        notes = "".join(f"\nnote: {warning}" for warning in self.warnings)
        return f"{self.name}: {tasks} tasks\n\n{work}\n\n{rights}\n\n{verdict}{notes}"

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "ok": self.ok,
            "work": [{"worker": w.worker, "kind": w.kind, "count": w.count} for w in self.work],
            "rights": [
                {"what": r.what, "worker": r.worker, "use": r.use, "download": r.download}
                for r in self.rights
            ],
            "problems": [problem.as_dict() for problem in self.problems],
            "warnings": list(self.warnings),
        }


def check_plan(net: "Network", plan: Plan) -> PlanCheck:
    """Asks the node for its verdict and gathers the rest."""
    operations = [each for entry in plan.entries(net.organization) for each in entry]
    asked, left = _first(operations)
    net.rows.reach()
    problems = net.transport.check(asked)
    objectives = [net.objectives.find(key) for key in plan.objectives]
    return PlanCheck(
        name=plan.name,
        work=_work(plan),
        rights=rights_of(Remembered(net.rows), plan, net.organization),
        problems=tuple(_distinct(problems)),
        warnings=(*_pending(objectives), *left),
    )


def _first(operations: Sequence[Operation]) -> tuple[bytes, list[str]]:
    """As many operations as a node judges at once, and a word about the rest."""
    taken, size = 0, 0
    for operation in operations:
        size += len(canonical.dumps(operation))
        if size > CHECKED_BYTES:
            break
        taken += 1
    left = len(operations) - taken
    words = f"the last {left} parts of the plan are too much for one check; submission judges them"
    return canonical.dumps(list(operations[:taken])), [words] if left else []


def _work(plan: Plan) -> tuple[Work, ...]:
    counts: dict[tuple[str, str], int] = {}
    for task in plan.tasks:
        place = (task.worker, task.kind)
        counts[place] = counts.get(place, 0) + 1
    return tuple(Work(*place, count) for place, count in sorted(counts.items()))


def _distinct(problems: Sequence[TilthError]) -> list[TilthError]:
    """The same words once: ten rounds lack the same grant."""
    return list({str(problem): problem for problem in problems}.values())


def _pending(objectives: Sequence[Objective]) -> list[str]:
    return [
        f"{each.owner} has not accepted its test set into {objective.name!r}; its score counts "
        f"after: tilth objective accept {objective.name!r}"
        for objective in objectives
        for each in objective.sets
        if not each.accepted
    ]
