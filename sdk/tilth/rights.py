"""Who could use what a plan makes, if it were submitted now.

Computed by the functions that the nodes run (tilth_ledger.permissions, .lineage), on the plan as it
would stand on the ledger. Grants bind when something is used, not when it is submitted (rule P4):
this is true as of now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilth.plan import Builtin, Input, Plan, Task
from tilth_ledger import grants
from tilth_ledger.lineage import Lineage, union
from tilth_ledger.operations import builtin_digest
from tilth_ledger.permissions import Rights
from tilth_ledger.rows import Overlay, Row, Rows

MAKES_MODELS = ("init", "train", "composite", "aggregate")


@dataclass(frozen=True, slots=True)
class Right:
    """Who may use, and who may take out, the models that tasks of one kind make at one worker."""

    what: str
    worker: str
    use: str
    download: str


def rights_of(rows: Rows, plan: Plan, organization: str) -> tuple[Right, ...]:
    """One line per kind and worker, and per different right, in the order of the plan."""
    key = f"{organization}/{plan.id}"
    overlay = Overlay(rows)
    overlay.put(f"plan/{key}", _plan_row(plan))
    rights = Rights(overlay)
    lineages: dict[str, Lineage] = {}
    found: dict[Right, None] = {}
    for task in plan.tasks:
        if task.kind in MAKES_MODELS:
            lineage = _lineage(rights, task, lineages, key)
            lineages[task.id] = lineage
            use, download = rights.use(lineage), rights.download(lineage)
            found[Right(task.kind, task.worker, grants.show(use), grants.show(download))] = None
    return tuple(found)


def _plan_row(plan: Plan) -> Row:
    """What the rights read of a plan's row."""
    owners = {task.data.dataset.partition("/")[0] for task in plan.tasks if task.data}
    trains = {task.worker for task in plan.tasks if task.kind in ("train", "composite")}
    return {
        "organizations": sorted(owners & trains),
        "aggregators": sorted({task.worker for task in plan.tasks if task.kind == "aggregate"}),
        "objectives": list(plan.objectives),
    }


def _lineage(rights: Rights, task: Task, made: Mapping[str, Lineage], plan: str) -> Lineage:
    behind = union(_parent(rights, each, made) for each in task.inputs)
    algo = task.algo.key if not isinstance(task.algo, Builtin) else {"builtin": task.algo.name}
    may = rights.algo(algo)
    lineage = behind.within(may, may)
    if task.data is not None:
        lineage = lineage.trained_on((task.data.dataset, plan))
    if task.kind == "aggregate" and rights.may_mix(lineage, _digest(task)):
        lineage = lineage.mixture()
    narrower: Mapping[str, Any] = task.outputs.get("model", {})
    return lineage.within(
        grants.read(narrower.get("use", "public")), grants.read(narrower.get("download", "public"))
    )


def _parent(rights: Rights, edge: Input, made: Mapping[str, Lineage]) -> Lineage:
    if isinstance(edge.source, Task):
        return made.get(edge.source.id, Lineage())
    row = rights.rows.get(f"model/{edge.source.key}")
    return Lineage.read(row) if row is not None else Lineage()


def _digest(task: Task) -> str:
    return builtin_digest(task.algo.name) if isinstance(task.algo, Builtin) else task.algo.archive
