"""A compute plan under construction: tasks, what they read, and the entries that register it.

    plan = Plan("two sites")
    start = plan.init(algo, at="hospital-b")
    trained = [plan.train(algo, site, start) for site in sites]
    mixed = plan.aggregate(MEAN, trained, at="hospital-b", at_least=2)
    plan.final(mixed)
    plan.test(algo, mixed, goal, goal.sets[0])

Pure: no node, no clock. The plan draws its id when it is made; everything else follows from it, so
checking and submitting the same plan names the same keys.

Invariants:
- a task reads only tasks made before it, so a plan cannot hold a cycle;
- every entry that `entries` returns fits a leaf.
"""

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from tilth.assets import Algo, Dataset, Objective, TestSet
from tilth.errors import InvalidInput
from tilth_ledger import canonical
from tilth_ledger.limits import TASKS_PER_OPERATION

# A leaf holds 65,535 bytes; the rest is for the entry around the operations and its signature.
ENTRY_BYTES = 60_000
PART_BYTES = ENTRY_BYTES - 2_000  # an operation's own names and the announcement of the plan
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model that no task of this plan makes: an import, or an earlier plan's."""

    key: str


@dataclass(frozen=True, slots=True)
class Builtin:
    """An aggregation that ships with Tilth, and that data owners need not accept (rule P3)."""

    name: str


MEAN = Builtin("mean")  # of all arrays, each model weighted by the rows it was trained on


@dataclass(frozen=True, slots=True)
class Data:
    """What a task reads: a sealed set of a dataset, or the part of it that `selection` cuts."""

    dataset: str
    set: str
    selection: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An edge of the plan: what is read, under which name, and what its failure means."""

    name: str
    source: "Task | Model"
    on_failed: str = "cancel"


@dataclass(frozen=True, slots=True)
class Task:
    """One task; made by the methods of Plan."""

    id: str
    kind: str
    worker: str
    rank: int
    algo: Algo | Builtin
    inputs: tuple[Input, ...] = ()
    at_least: int | None = None
    data: Data | None = None
    objective: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    tag: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)


class Options(TypedDict, total=False):
    """What every kind of task takes beside its own arguments."""

    parameters: Mapping[str, Any]  # checked against the algo's schema (rule R5)
    seed: int  # default: drawn from the plan's seed
    tag: str
    outputs: Mapping[str, Any]  # narrower grants: {"model": {"use": [...], "download": [...]}}


class Plan:
    """A graph of tasks, submitted as one."""

    def __init__(
        self,
        name: str,
        *,
        tag: str = "",
        metadata: Mapping[str, str] | None = None,
        on_failure: str = "stop",
        seed: int = 0,
        open: bool = False,  # noqa: A002 - the ledger's word: more tasks may follow, until closed
    ) -> None:
        self.id = secrets.token_hex(16)
        self.name = name
        self.tag = tag
        self.metadata = dict(metadata or {})
        self.on_failure = on_failure
        self.seed = seed
        self.open = open
        self.tasks: list[Task] = []
        self.finals: list[Task] = []
        self.objectives: list[str] = []
        self._made: set[str] = set()  # ids of `tasks`

    def init(self, algo: Algo, *, at: str, **options: Unpack[Options]) -> Task:
        """Makes the model that training starts from, at an organization that may use the algo."""
        return self._add("init", at, algo, (), **options)

    def train(
        self,
        algo: Algo,
        dataset: Dataset,
        model: Task | Model | None = None,
        *,
        selection: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Task:
        """Trains on the current train set of a dataset, at its owner."""
        inputs = () if model is None else (Input("model", model),)
        data = Data(dataset.key, dataset.set_of("train").key, selection)
        return self._add("train", dataset.owner, algo, inputs, data=data, **options)

    def aggregate(
        self,
        algo: Algo | Builtin,
        models: Sequence[Task],
        *,
        at: str,
        at_least: int | None = None,
        **options: Unpack[Options],
    ) -> Task:
        """Mixes models. With `at_least`, sites whose training failed are left out."""
        if at_least is not None and not 1 <= at_least <= len(models):
            raise InvalidInput(
                "an aggregate cannot need more models than it reads",
                found=f"at_least={at_least}",
                expected=f"1 to {len(models)}",
                remedy="Lower at_least, or train at more sites.",
            )
        on_failed = "cancel" if at_least is None else "skip"
        inputs = tuple(
            Input(name, model, on_failed)
            for name, model in zip(_names(models), models, strict=True)
        )
        return self._add("aggregate", at, algo, inputs, at_least=at_least, **options)

    def test(
        self,
        algo: Algo,
        model: Task | Model,
        objective: Objective,
        on: TestSet | Dataset,
        *,
        selection: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Task:
        """Scores a model with the objective's metric. On one of the objective's test sets the
        score is certified; on a dataset it is a validation on (a selection of) its train set."""
        if isinstance(on, TestSet):
            data = Data(on.dataset, on.set, selection)
        else:
            data = Data(on.key, on.set_of("train").key, selection)
        self._name(objective)
        inputs = (Input("model", model),)
        return self._add(
            "test", on.owner, algo, inputs, data=data, objective=objective.key, **options
        )

    def predict(
        self,
        algo: Algo,
        model: Task | Model,
        dataset: Dataset,
        *,
        label: str = "none",
        **options: Unpack[Options],
    ) -> Task:
        """Predicts on the samples of a dataset that carry `label`, at its owner."""
        data = Data(dataset.key, dataset.set_of(label).key)
        return self._add(
            "predict", dataset.owner, algo, (Input("model", model),), data=data, **options
        )

    def final(self, *tasks: Task) -> None:
        """Marks models as the plan's results, before any of their scores is known (rule B3)."""
        self.finals.extend(task for task in tasks if task not in self.finals)

    @property
    def rounds(self) -> int:
        """How many ranks of training the plan has."""
        return len({task.rank for task in self.tasks if task.kind in {"train", "composite"}})

    @property
    def workers(self) -> list[str]:
        """The organizations that run something, sorted."""
        return sorted({task.worker for task in self.tasks})

    def entries(self, organization: str) -> list[list[Operation]]:
        """The operations that register the plan for its owner, one list per entry, in order."""
        parts = _parts([_task(task, organization) for task in self.tasks])
        key = f"{organization}/{self.id}"
        entries = [[self._plan(organization, len(parts))]]
        for number, tasks in enumerate(parts):
            part = {"op": "plan.tasks", "plan": key, "part": number, "tasks": tasks}
            if _size(entries[-1]) + _size(part) <= ENTRY_BYTES:
                entries[-1].append(part)
            else:
                entries.append([part])
        return entries

    def extension(self, organization: str, known: Collection[str]) -> list[Operation]:
        """The tasks that are not among `known` keys, in parts, with those of them that are final:
        what extends an open plan."""
        new = [task for task in self.tasks if f"{organization}/{task.id}" not in known]
        finals = {f"{organization}/{task.id}" for task in self.finals}
        parts = _parts([_task(task, organization) for task in new])
        return [
            {"tasks": tasks} | _given(final=[t["key"] for t in tasks if t["key"] in finals])
            for tasks in parts
        ]

    def _add(
        self, kind: str, worker: str, algo: Algo | Builtin, inputs: tuple[Input, ...], **rest: Any
    ) -> Task:
        self._refuse_strangers(inputs)
        parents = [each.source.rank for each in inputs if isinstance(each.source, Task)]
        number = len(self.tasks)
        identity = hashlib.sha256(f"{self.id}/{number}".encode()).hexdigest()[:32]
        rest.setdefault("seed", _seed(self.seed, kind, worker, number))
        task = Task(
            id=identity,
            kind=kind,
            worker=worker,
            rank=1 + max(parents, default=0),
            algo=algo,
            inputs=inputs,
            **rest,
        )
        self.tasks.append(task)
        self._made.add(task.id)
        return task

    def _refuse_strangers(self, inputs: Iterable[Input]) -> None:
        for each in inputs:
            if isinstance(each.source, Task) and each.source.id not in self._made:
                raise InvalidInput(
                    "a task reads a task of another plan",
                    found=f"{each.source.kind} at {each.source.worker}",
                    expected="a task of this plan, or tilth.plan.Model(key)",
                    remedy="Build all tasks of one graph with the same Plan.",
                )

    def _name(self, objective: Objective) -> None:
        if objective.key not in self.objectives:
            self.objectives.append(objective.key)

    def _plan(self, organization: str, parts: int) -> Operation:
        operation: Operation = {
            "op": "plan.add",
            "key": f"{organization}/{self.id}",
            "name": self.name,
            "on_failure": self.on_failure,
            "final": [f"{organization}/{task.id}" for task in self.finals],
            "objectives": list(self.objectives),
            "parts": parts,
            "open": self.open,
        }
        return operation | _given(tag=self.tag, metadata=self.metadata)


def _task(task: Task, organization: str) -> dict[str, Any]:
    algo = {"builtin": task.algo.name} if isinstance(task.algo, Builtin) else task.algo.key
    written: dict[str, Any] = {
        "key": f"{organization}/{task.id}",
        "kind": task.kind,
        "worker": task.worker,
        "algo": algo,
        "inputs": [_edge(each, organization) for each in task.inputs],
        "parameters": _parameters(task),
        "seed": task.seed,
    }
    written |= _given(objective=task.objective, tag=task.tag, outputs=dict(task.outputs))
    if task.at_least is not None:
        written["need"] = {"at_least": task.at_least}
    if task.data is not None:
        written["data"] = {"dataset": task.data.dataset, "set": task.data.set}
        written["data"] |= _given(selection=task.data.selection)
    return written


def _parameters(task: Task) -> dict[str, Any]:
    """Values as the algo's schema wants them: where it says float, 1 is written as "1"."""
    schema = () if isinstance(task.algo, Builtin) else task.algo.parameters
    floats = {each["name"] for each in schema if each.get("type") == "float"}
    return {
        name: wire(_as_float(value) if name in floats else value)
        for name, value in task.parameters.items()
    }


def _as_float(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_float(each) for each in value]
    return float(value) if type(value) is int else value


def wire(value: Any) -> Any:
    """A parameter as the ledger holds it: no floats, decimals as strings.

    Raises InvalidInput for what has no exact decimal of at most 18 digits, 12 behind the point.
    """
    if isinstance(value, list | tuple):
        return [wire(each) for each in value]
    if isinstance(value, bool | int | str):
        return value
    exact = Decimal(repr(value)) + 0 if isinstance(value, float) else Decimal("NaN")
    text = format(exact, "f").removesuffix(".0")
    digits = text.lstrip("-").replace(".", "")
    if not exact.is_finite() or len(digits) > 18 or len(text.partition(".")[2]) > 12:
        raise InvalidInput(
            "a parameter has no place on the ledger",
            found=repr(value),
            expected="text, whole number, yes/no, or a decimal of at most 18 digits, 12 of them "
            "behind the point",
            remedy="Round it, or write it as text.",
        )
    return text


def _edge(each: Input, organization: str) -> dict[str, Any]:
    if isinstance(each.source, Model):
        return {"name": each.name, "model": each.source.key, "on_failed": each.on_failed}
    return {
        "name": each.name,
        "task": f"{organization}/{each.source.id}",
        "output": "model",
        "on_failed": each.on_failed,
    }


def _names(models: Sequence[Task]) -> list[str]:
    """Inputs of an aggregate are named after the workers; a second one gets a number."""
    seen: dict[str, int] = {}
    names = []
    for model in models:
        seen[model.worker] = seen.get(model.worker, 0) + 1
        count = seen[model.worker]
        name = model.worker if model.worker[0].isalpha() else f"_{model.worker}"
        names.append(name if count == 1 else f"{name}-{count}")
    return names


def _parts(tasks: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Consecutive tasks, so that every parent stands in its child's part or an earlier one."""
    parts: list[list[dict[str, Any]]] = []
    used = 0
    for task in tasks:
        size = _size(task) + 1
        if not parts or used + size > PART_BYTES or len(parts[-1]) == TASKS_PER_OPERATION:
            parts.append([])
            used = 0
        parts[-1].append(task)
        used += size
    return parts


def _size(value: Any) -> int:
    return len(canonical.dumps(value))


def _given(**fields: Any) -> dict[str, Any]:
    """Optional fields are left out when they say nothing."""
    return {name: value for name, value in fields.items() if value}


def _seed(seed: int, kind: str, worker: str, number: int) -> int:
    """Seeds differ between tasks and repeat when the same plan is built again."""
    digest = hashlib.sha256(f"{seed}/{kind}/{worker}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
