"""From a task to the steps that run it: folders, outputs, limits and the content of task.json.

Invariants
- Pure: the same rows and the same allowance give the same steps on every machine, so that a
  re-run anywhere is the same run.
- Which step sees which folder is data here (`_READS`, `_WRITES`): no step sees a folder that its
  row of the table does not name. In particular *predict* never gets `data/`, which holds the
  labels.
- task.json carries no secret, no host path and no address.

Left to others: fetching and mounting what a folder names (worker), starting the process
(runtimes), the code that reads task.json (`tilth.algorithm`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tilth_ledger.errors import InvalidInput

Row = Mapping[str, Any]
Get = Callable[[str], Row | None]
MIB = 1 << 20
CONTRACT = "tilth-task-1"
PERF_BYTES = 8 * MIB  # holds per-sample values; they stay on the node unless `details` is granted


class Kind(StrEnum):
    """What one process does; a test is three of them in three isolations."""

    INIT = "init"
    TRAIN = "train"
    AGGREGATE = "aggregate"
    FEATURES = "features"
    PREDICT = "predict"
    SCORE = "score"


class Reason(StrEnum):
    """Why a step failed: the part of `operations.FAILURE_REASONS` that a runtime can tell."""

    EXIT = "exit"  # ended with another code than 0, or by a signal of its own making
    OUT_OF_MEMORY = "out_of_memory"
    TIME = "time"
    MISSING_OUTPUT = "missing_output"
    TOO_LARGE = "too_large"  # an output exceeds its bound, or the disk space of the step
    WRONG_SHAPE = "wrong_shape"  # an output is there and is not what its kind demands
    SCORE = "score"  # the metric gave no finite number
    ENVIRONMENT = "environment"  # the code needs what the environment does not hold
    CANCELED = "canceled"


# Exit codes by which the runner tells more than "it failed"; any other code is EXIT.
EXIT_CODES: Mapping[Reason, int] = {
    Reason.OUT_OF_MEMORY: 81,
    Reason.WRONG_SHAPE: 82,
    Reason.ENVIRONMENT: 83,
    Reason.TOO_LARGE: 84,
}


class Source(StrEnum):
    """What fills a folder."""

    ARCHIVE = "archive"  # the files of an archive, by digest
    MODEL = "model"  # a model, by digest and format
    SAMPLES = "samples"  # the samples of a set, one folder each
    FEATURES = "features"  # the samples of a set without the files that `without` matches
    STEP = "step"  # what an earlier step of the same task wrote
    LOCAL = "local"  # a writable copy of the local folder, empty at first


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder below /task that the worker must fill before the step starts."""

    path: str
    source: Source
    digest: str = ""
    format: str = ""  # of a model: see `MODEL_FILES`
    dataset: str = ""
    set: str = ""
    without: tuple[str, ...] = ()  # globs of target files
    step: str = ""  # for STEP: the step that wrote the folder of the same path


@dataclass(frozen=True, slots=True)
class Output:
    """One file or folder below /task that the step writes. Nothing else is collected."""

    path: str
    required: bool
    max_bytes: int


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one step may use. The defaults are what a node allows when its config is silent."""

    wall_ms: int = 600_000
    cpu_ms: int = 1_200_000  # of one process
    memory_bytes: int = 2_048 * MIB  # address space of one process
    processes: int = 64  # processes and threads together
    open_files: int = 256
    scratch_bytes: int = 1_024 * MIB  # all that is written below /task, /tmp and /dev/shm
    output_bytes: int = 512 * MIB
    output_files: int = 20_000
    log_bytes: int = 1 * MIB
    report_bytes: int = 64 << 10


@dataclass(frozen=True, slots=True)
class Step:
    """One process of a task."""

    name: str
    kind: Kind
    folders: tuple[Folder, ...]
    outputs: tuple[Output, ...]
    limits: StepLimits
    task_json: Mapping[str, Any]
    environment: str  # key of the environment row; "" is the node's own
    strict: bool  # a fresh isolation, never a warm runner: the objective demands it
    warm_key: tuple[str, ...]  # steps with equal keys may share a warm runner


STEPS_OF_KIND: Mapping[str, tuple[Kind, ...]] = {
    "init": (Kind.INIT,),
    "train": (Kind.TRAIN,),
    "composite": (Kind.TRAIN,),
    "aggregate": (Kind.AGGREGATE,),
    "test": (Kind.FEATURES, Kind.PREDICT, Kind.SCORE),
    "predict": (Kind.FEATURES, Kind.PREDICT),
}

# The table of the file contract: read-only folders of each step ...
_READS: Mapping[Kind, tuple[str, ...]] = {
    Kind.INIT: ("code",),
    Kind.TRAIN: ("data", "opener", "in", "code"),
    Kind.AGGREGATE: ("in", "code"),
    Kind.FEATURES: ("data", "opener"),
    Kind.PREDICT: ("opener", "features", "in", "code"),
    Kind.SCORE: ("data", "opener", "pred", "metric"),
}
# ... and what each writes.
_WRITES: Mapping[Kind, tuple[str, ...]] = {
    Kind.INIT: ("out", "report.json"),
    Kind.TRAIN: ("out", "report.json", "local"),
    Kind.AGGREGATE: ("out", "report.json", "local"),
    Kind.FEATURES: ("features",),
    Kind.PREDICT: ("pred", "report.json"),
    Kind.SCORE: ("perf.json", "report.json"),
}

# A model that is one file of a known name travels as that file; anything else as an archive.
MODEL_FILES: Mapping[str, str] = {"hdf5": "model.h5", "safetensors": "model.safetensors"}
ARCHIVE_FORMAT = "archive"


def format_of(names: Sequence[str]) -> str:
    """The format of a model whose output folder holds these files."""
    if len(names) == 1:
        for form, name in MODEL_FILES.items():
            if names[0] == name:
                return form
    return ARCHIVE_FORMAT


def steps_of(task: Row, get: Get, allowance: StepLimits | None = None) -> tuple[Step, ...]:
    """The steps of a task row, in order. `get` reads the rows it refers to.

    A test whose dataset declares target files has no features step: predict reads the samples
    themselves, without those files. Raises InvalidInput when a row is missing.
    """
    facts = _Facts.read(task, get, allowance or StepLimits())
    return tuple(facts.step(kind) for kind in facts.kinds)


def environments_of(task: Row, get: Get) -> dict[str, str]:
    """Keys of the environments that a task's steps run in, by step, without the node's own."""
    facts = _Facts.read(task, get, StepLimits())
    named = {kind.value: facts.environment(kind) for kind in facts.kinds}
    return {step: key for step, key in named.items() if key}


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that the steps of one task are made of."""

    task: Row
    algo: Row | None
    dataset: Row | None
    objective: Row | None
    models: tuple[tuple[str, Row], ...]  # input name -> model row
    provenance: tuple[Mapping[str, Any], ...]
    limits: StepLimits

    @classmethod
    def read(cls, task: Row, get: Get, allowance: StepLimits) -> "_Facts":
        algo = task.get("algo")
        data: Row = task.get("data") or {}
        dataset = _need(get, f"dataset/{data['dataset']}") if data else None
        objective = task.get("objective")
        present = [(i, model) for i in task.get("inputs", ()) if (model := _model(i, get))]
        return cls(
            task=task,
            algo=_need(get, f"algo/{algo}") if isinstance(algo, str) else None,
            dataset=dataset,
            objective=_need(get, f"objective/{objective}") if objective else None,
            models=tuple((str(i["name"]), model) for i, model in present),
            provenance=tuple(_provenance(i, model, get) for i, model in present),
            limits=_limits(allowance, task, dataset),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple((self.dataset or {}).get("targets") or ())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The task's steps: where target files are declared, nothing exports features."""
        kinds = STEPS_OF_KIND[str(self.task["kind"])]
        return tuple(k for k in kinds if k is not Kind.FEATURES) if self.targets else kinds

    def step(self, kind: Kind) -> Step:
        folders = tuple(f for path in _READS[kind] for f in self._folders(kind, path))
        if "local" in _WRITES[kind]:
            folders += (Folder("local", Source.LOCAL),)
        environment = self.environment(kind)
        code = "".join(f.digest for f in folders if f.source is Source.ARCHIVE)
        data: Row = self.task.get("data") or {}
        return Step(
            name=kind.value,
            kind=kind,
            folders=folders,
            outputs=self._outputs(kind),
            limits=self.limits,
            task_json=self._task_json(kind),
            environment=environment,
            strict=bool((self.objective or {}).get("strict")),
            warm_key=(str(self.task["plan"]), code, environment, kind, str(data.get("set", ""))),
        )

    def _folders(self, kind: Kind, path: str) -> tuple[Folder, ...]:
        match path:
            case "code":
                return _archive(path, (self.algo or {}).get("archive"))
            case "opener":
                return _archive(path, (self.dataset or {}).get("opener"))
            case "metric":
                return _archive(path, (self.objective or {}).get("metric", {}).get("archive"))
            case "in":
                return tuple(_input(name, model) for name, model in self.models)
            case "data":
                return (self._samples(path, Source.SAMPLES),)
            case "features" if self.targets:
                return (self._samples(path, Source.FEATURES),)
            case "features":
                return (Folder(path, Source.STEP, step=Kind.FEATURES),)
            case _:
                return (Folder(path, Source.STEP, step=Kind.PREDICT),)

    def _samples(self, path: str, source: Source) -> Folder:
        data = self.task["data"]
        without = self.targets if source is Source.FEATURES else ()
        return Folder(path, source, dataset=data["dataset"], set=data["set"], without=without)

    def _outputs(self, kind: Kind) -> tuple[Output, ...]:
        outputs: list[Output] = []
        for path in _WRITES[kind]:
            if path == "out":
                outputs += [
                    Output(f"out/{name}", True, self.limits.output_bytes) for name in self._names()
                ]
            elif path == "perf.json":
                outputs.append(Output(path, True, PERF_BYTES))
            elif path == "report.json":
                outputs.append(Output(path, False, self.limits.report_bytes))
            else:
                outputs.append(Output(path, path != "local", self.limits.scratch_bytes))
        return tuple(outputs)

    def _names(self) -> tuple[str, ...]:
        """Names of the models that the task makes."""
        if self.task["kind"] == "composite":
            return ("head", "trunk")
        manifest: Row = (self.algo or {}).get("manifest") or {}
        return tuple(manifest.get("outputs") or ("model",))

    def environment(self, kind: Kind) -> str:
        """Whose environment the step runs in: the algo's, the dataset's or the metric's."""
        owner: Row = self.algo or {}
        if kind is Kind.FEATURES:
            owner = self.dataset or {}
        if kind is Kind.SCORE:
            metric = (self.objective or {}).get("metric", {})
            owner = metric if "environment" in metric else self.dataset or {}
        return str(owner.get("environment", ""))

    def _task_json(self, kind: Kind) -> Mapping[str, Any]:
        data = self.task.get("data")
        return {
            "contract": CONTRACT,
            "step": kind.value,
            "kind": self.task["kind"],
            "plan": self.task["plan"],
            "task": self.task.get("key", ""),
            "rank": self.task.get("rank", 0),
            "attempt": self.task.get("attempt", 1),
            "organization": self.task["worker"],
            "algo": self.task["algo"] if isinstance(self.task.get("algo"), Mapping) else {},
            "parameters": dict(self.task.get("parameters") or {}),
            "seed": self.task.get("seed", 0),
            "inputs": [dict(p) for p in self.provenance],
            "outputs": list(self._names()) if "out" in _WRITES[kind] else [],
            "selection": dict((data or {}).get("selection") or {}),
            "features": "files" if self.targets else "exported",
            "metric": dict((self.objective or {}).get("metric", {})),
            "specs": (self.dataset or {}).get("specs", ""),
            "limits": {
                "wall_ms": self.limits.wall_ms,
                "memory_bytes": self.limits.memory_bytes,
                "output_bytes": self.limits.output_bytes,
                "report_bytes": self.limits.report_bytes,
            },
        }


def _need(get: Get, key: str) -> Row:
    row = get(key)
    if row is None:
        raise InvalidInput("a task refers to a row that is not there", found=key)
    return row


def _model(reference: Row, get: Get) -> Row | None:
    """The model an input names; None when its parent was skipped."""
    if "model" in reference:
        return _need(get, f"model/{reference['model']}")
    return get(f"model/{reference['task']}/{reference.get('output', 'model')}")


def _provenance(reference: Row, model: Row, get: Get) -> Mapping[str, Any]:
    maker = get(f"task/{reference['task']}") if "task" in reference else None
    report = (maker or {}).get("report") or {}
    count = report.get("count") if isinstance(report, Mapping) else None
    facts = {
        "name": reference["name"],
        "task": reference.get("task", ""),
        "organization": (maker or model).get("worker", ""),
        "rank": (maker or {}).get("rank", 0),
        "format": model.get("format", ARCHIVE_FORMAT),
    }
    return facts if count is None else {**facts, "count": count}


def _input(name: str, model: Row) -> Folder:
    form = str(model.get("format", ARCHIVE_FORMAT))
    return Folder(f"in/{name}", Source.MODEL, digest=str(model["digest"]), format=form)


def _archive(path: str, digest: Any) -> tuple[Folder, ...]:
    return (Folder(path, Source.ARCHIVE, digest=str(digest)),) if digest else ()


def _limits(allowance: StepLimits, task: Row, dataset: Row | None) -> StepLimits:
    """The node's allowance, cut to what the task asks for and what the dataset lets leave."""
    asked: Row = task.get("limits") or {}
    stated: Row = (dataset or {}).get("limits") or {}
    endless = 1 << 62
    return replace(
        allowance,
        wall_ms=min(allowance.wall_ms, 1_000 * asked.get("seconds", endless)),
        memory_bytes=min(allowance.memory_bytes, asked.get("memory_bytes", endless)),
        processes=min(allowance.processes, asked.get("processes", endless)),
        output_bytes=min(allowance.output_bytes, stated.get("model_bytes", endless)),
        log_bytes=min(allowance.log_bytes, stated.get("log_bytes", endless)),
        report_bytes=min(allowance.report_bytes, stated.get("report_bytes", endless)),
    )
