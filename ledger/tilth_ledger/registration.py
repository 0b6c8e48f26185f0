"""From a part of a plan to rows of its tasks: parents, ranks, lineage, rights, local folder.

Invariants:
- A task is written only after its form and everybody's rights were judged (R1 to R7, T1 to T8).
- A task's outlook (what will stand behind its model, and the nearest ancestors) is a row of its
  own, written once: children in later parts read it instead of walking up.

Left to others: when tasks begin (`lifecycle`), parts and sealing (`rules_plans`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth_ledger import grants, graph, parameters, rules_tasks
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.errors import TilthError
from tilth_ledger.kinds import lane_of, outputs_of
from tilth_ledger.lifecycle import policy, save
from tilth_ledger.lineage import Lineage, union
from tilth_ledger.operations import builtin_digest
from tilth_ledger.rows import Row, RowView
from tilth_ledger.transitions import move


@dataclass(slots=True)
class Part:
    """Tasks that are being registered together."""

    context: Context
    plan: Row
    tasks: Mapping[str, Op]
    ranks: Mapping[str, int]
    rows: dict[str, Row] = field(default_factory=dict)  # registered so far, and known parents
    outlooks: dict[str, Row] = field(default_factory=dict)
    algos: dict[str, RowView] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, plan: Row, tasks: Sequence[Op]) -> Part:
        keyed = {task["key"]: task for task in tasks}
        if len(keyed) != len(tasks):
            refuse(
                "R4",
                "a task stands twice in the part",
                found=f"{len(tasks)} tasks, {len(keyed)} keys",
                expected="every key once",
                remedy="Remove the repetition.",
            )
        part = cls(context, plan, keyed, {})
        parents = {key: part._parents_in_plan(task) for key, task in keyed.items()}
        known = {
            p: part.rows[p]["rank"] for above in parents.values() for p in above if p in part.rows
        }
        part.ranks = graph.ranks(parents, known)
        return part

    def in_order(self) -> list[Op]:
        """Parents before children, whatever the order they were given in."""
        return [self.tasks[key] for key in self.ranks]

    def _parents_in_plan(self, task: Op) -> list[str]:
        found = []
        for edge in task.get("inputs", ()):
            parent = edge.get("task")
            if parent is None:
                continue
            if parent in self.tasks or self.parent(task, parent)["plan"] == self.plan["key"]:
                found.append(parent)
        return found

    def parent(self, task: Op, key: str) -> Row:
        """The row of a task that was registered before."""
        if key not in self.rows:
            row = self.context.rows.get(f"task/{key}")
            if row is None:
                refuse(
                    "R4",
                    "an input names a task that does not exist",
                    found=f"{key} in {task['key']}",
                    expected="a task of this part or an earlier one",
                    remedy="Order the parts so that parents come first.",
                )
            self.rows[key] = row
        return self.rows[key]

    def join_participants(self) -> None:
        """Note in the plan's row who takes part: whose data, who mixes, which objectives."""
        plan = self.plan
        organizations, aggregators = {*plan["organizations"]}, {*plan["aggregators"]}
        objectives = {*plan["objectives"]}
        for task in self.tasks.values():
            if task["kind"] in ("train", "composite") and "data" in task:
                organizations.add(task["data"]["dataset"].partition("/")[0])
            elif task["kind"] == "aggregate":
                aggregators.add(task["worker"])
            if "objective" in task:
                objectives.add(task["objective"])
        plan["organizations"] = sorted(organizations)
        plan["aggregators"] = sorted(aggregators)
        plan["objectives"] = sorted(objectives)

    def outlook(self, key: str) -> Row:
        if key not in self.outlooks:
            self.outlooks[key] = self.context.need("outlook", key)
        return self.outlooks[key]

    def algo(self, stated: Any) -> RowView | None:
        """The row of an algo; None for what is built in, or missing."""
        if not isinstance(stated, str):
            return None
        if stated not in self.algos:
            self.algos[stated] = self.context.usable("algo", stated)
        return self.algos[stated]


def register(part: Part, task: Op) -> Row:
    """Judge one task and write its rows. A dry run notes what is refused and goes on."""
    try:
        return _register(part, task)
    except TilthError as error:
        if part.context.problems is None:
            raise
        part.context.problems.append(error)
        return _inert(part, task)


def _inert(part: Part, task: Op) -> Row:
    """In a dry run: something for the children of a refused task to stand on."""
    facts = {"plan": part.plan["key"], "owner": part.plan["owner"], "state": "waiting"}
    row: Row = {"inputs": [], **task, **facts, "rank": part.ranks[task["key"]]}
    part.rows[task["key"]] = row
    part.outlooks[task["key"]] = {**Lineage().write(), "near": {}}
    return row


def _register(part: Part, task: Op) -> Row:
    context, plan = part.context, part.plan
    algo = part.algo(task.get("algo"))
    rules_tasks.form(context, task, algo)
    inputs = {edge["name"]: _input(part, task, edge) for edge in task.get("inputs", ())}
    rules_tasks.judge_rights(context, plan, task, inputs)
    rules_tasks.judge_probe(context, plan, task)
    row = _stated(part, task, algo)
    lineage = lineage_of(
        context, row, [as_lineage(model) for _, (model, _) in sorted(inputs.items())]
    )
    near = graph.nearest(_ancestors(part, row))
    _choose_local(part, row, near)
    outlook = {**lineage.write(), "near": {lane: list(found) for lane, found in near.items()}}
    part.rows[row["key"]], part.outlooks[row["key"]] = row, outlook
    _resolve_inputs(part, row)
    _write(context, row, outlook, makes=bool(outputs_of(row["kind"], algo)))
    return row


def _stated(part: Part, task: Op, algo: RowView | None) -> Row:
    context = part.context
    row = dict(task)
    row |= {
        "plan": part.plan["key"],
        "owner": part.plan["owner"],
        "rank": part.ranks[task["key"]],
        "state": "new",
        "attempt": 0,
        "missing": 0,
        "skipped": [],
        "inputs": list(task.get("inputs", ())),
        "seed": task.get("seed", 0),
        "parameters": dict(task.get("parameters", {})),
        "algo_digest": builtin_digest("mean"),
    }
    if algo is not None:
        row["algo_digest"] = algo["archive"]
        row["parameters"] = parameters.fit(algo["manifest"]["parameters"], row["parameters"])
    elif isinstance(task.get("algo"), Mapping):
        row["algo_digest"] = builtin_digest(task["algo"]["builtin"])
        row["parameters"] = parameters.fit((), row["parameters"])
    if "objective" in task:
        row["revision"] = context.need("objective", task["objective"])["revision"]
    _check_outputs(context, task)
    return row


def _check_outputs(context: Context, task: Op) -> None:
    for name, stated in task.get("outputs", {}).items():
        for right, grant in stated.items():
            if not isinstance(grant, str):
                context.check_organizations(grant, f"the right {right} on output {name}")


def _input(part: Part, task: Op, edge: Op) -> tuple[Lineage | RowView, bool]:
    """What stands behind an input, and whether it comes from outside the plan."""
    if "model" in edge:
        return part.context.usable("model", edge["model"]), True
    key, output = edge["task"], edge["output"]
    parent = part.parent(task, key)
    made = outputs_of(parent["kind"], part.algo(parent.get("algo")))
    if output not in made:
        refuse(
            "R4",
            "an input names an output that its task does not make",
            found=f"{output} of {key}",
            expected=", ".join(made) or "a task that makes models",
            remedy=f"Correct input {edge['name']} of {task['key']}.",
        )
    if output == "head" and parent["worker"] != task["worker"]:
        refuse(
            "R6",
            "heads never leave their worker",
            found=f"{task['worker']} would get the head of {key}",
            expected=parent["worker"],
            remedy=f"Run {task['key']} at {parent['worker']}, or use the trunk only.",
        )
    return _model_of(part, task, edge, parent)


def _model_of(part: Part, task: Op, edge: Op, parent: Row) -> tuple[Lineage | RowView, bool]:
    outside = parent["plan"] != part.plan["key"]
    state = parent["state"]
    if state == "done":
        return part.context.need("model", f"{edge['task']}/{edge['output']}"), outside
    tests = task["kind"] in ("test", "predict")
    lost = state in ("failed", "canceled") and edge.get("on_failed") != "skip"
    if outside or (tests and lost):
        refuse(
            "T6" if tests else "R4",
            "the model of this input cannot be had",
            found=f"{edge['task']} is {state}" + (" in another plan" if outside else ""),
            expected="a task of this plan that is not lost, or a done one of another plan",
            remedy="Retry that task, or use another model.",
        )
    lineage = Lineage.read(part.outlook(edge["task"]))
    return narrowed(parent, lineage, edge["output"]), False


def as_lineage(model: Lineage | RowView) -> Lineage:
    return model if isinstance(model, Lineage) else Lineage.read(model)


def narrowed(task: Row, lineage: Lineage, output: str) -> Lineage:
    """One output's lineage: what the plan's owner narrowed (P2); a head stays where it is (R6)."""
    stated = task.get("outputs", {}).get(output, {})
    use = grants.read(stated.get("use", "public"))
    download = grants.read(stated.get("download", "public"))
    if "use" in stated:
        download = grants.meet(download, use)
    if output == "head":
        worker = frozenset((str(task["worker"]),))
        use, download = worker, worker
    return lineage.within(use, download)


def lineage_of(context: Context, task: Row, inputs: Sequence[Lineage]) -> Lineage:
    """What stands behind the models of a task, given those of its inputs (P2, P3)."""
    base = union(inputs)
    use = context.rights.algo(task["algo"], "use")
    read = grants.meet(use, context.rights.algo(task["algo"], "read"))
    base = base.within(use, read)
    if task["kind"] in ("train", "composite"):
        return base.trained_on((task["data"]["dataset"], task["plan"]))
    if task["kind"] == "aggregate" and context.rights.may_mix(base, task["algo_digest"]):
        return base.mixture()
    return base


def _ancestors(part: Part, task: Row) -> list[tuple[str, str, graph.Near]]:
    found = []
    for key in sorted({edge["task"] for edge in task["inputs"] if "task" in edge}):
        parent = part.rows[key]
        if parent["plan"] == task["plan"]:
            near = {lane: (n[0], n[1]) for lane, n in part.outlook(key)["near"].items()}
            found.append((key, lane_of(parent), near))
    return found


def _choose_local(part: Part, task: Row, near: graph.Near) -> None:
    """Whose local folder the task continues: what it says, else the nearest of its lane."""
    stated = task.pop("local", None)
    lane = lane_of(task)
    if not lane or stated == "none":
        return
    if stated is not None:
        ancestor = part.parent(task, stated) if stated not in part.tasks else part.rows[stated]
        if lane_of(ancestor) == lane and ancestor["plan"] == task["plan"]:
            task["local_from"] = stated
            return
    distance, found = near.get(lane, (0, "-"))
    if found == "" or stated is not None:
        refuse(
            "R4",
            "it is not clear whose local folder the task continues",
            found=stated or f"two tasks {distance} steps above {task['key']}",
            expected="one nearest ancestor on the same data or aggregator",
            remedy="Say which in the task's field local: a task's key, or \"none\".",
        )
    if found != "-":
        task["local_from"] = found


def _resolve_inputs(part: Part, task: Row) -> None:
    """Count what must still come; a parent that is lost counts by its edge's policy."""
    cause = ""
    for edge in task["inputs"]:
        state = part.rows[edge["task"]]["state"] if "task" in edge else "done"
        if state in ("failed", "canceled"):
            task["skipped"].append(edge["name"])
            if policy(task, edge) == "cancel":
                cause = edge["task"]
        elif state != "done":
            task["missing"] += 1
    move(task, "canceled" if cause else "waiting")
    if cause:
        task["cause"] = cause
    else:
        task["wait"] = "inputs"


def _write(context: Context, task: Row, outlook: Row, makes: bool) -> None:
    key, plan = task["key"], task["plan"]
    context.add("task", key, task)
    save(context, task)
    context.rows.put(f"plan-task/{plan}/{task['rank']:06d}/{key}", {})
    for edge in task["inputs"]:
        if "task" in edge:
            context.rows.put(f"child/{edge['task']}/{key}", {})
    if makes:
        context.rows.put(f"outlook/{key}", outlook)
