"""What the worker says about an attempt: pure functions from step results to an operation.

Invariants
- The receipt names by digest all that went in and out, and what each step ran in; its grade,
  runtime and exit are those of its worst step, its mode `warm` when any step was. A step whose
  kept result was taken counts as the one that made it.
- Nothing of user code's words gets in here: reasons are codes of the closed list.

Leaves to others: reading scores (`tilth_ledger.results`), running the steps and storing what they
left (`tilth_node.worker.execution`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth_ledger.operations import builtin_digest
from tilth_ledger.steps import Step
from tilth_node.runtimes import StepResult
from tilth_node.storage.vault import Blob


@dataclass(frozen=True, slots=True)
class Evidence:
    """Digests and facts that belong into a receipt beside what the runtimes measured."""

    started_ms: int
    ended_ms: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    input_bytes: int = 0
    labels: str = "none"  # "sealed" when a test kept them from predict
    data_check: str = "none"
    set_digest: str = ""
    environments: Mapping[str, str] = field(default_factory=dict)  # by step
    local_in: str = ""
    local_out: str = ""
    predictions: str = ""
    log: str = ""
    report: str = ""


def receipt(
    steps: Sequence[Step], results: Sequence[StepResult], evidence: Evidence
) -> dict[str, Any]:
    """The receipt of an attempt whose steps gave these results, one each."""
    named = {
        "set": evidence.set_digest,
        "local_in": evidence.local_in,
        "local_out": evidence.local_out,
        "predictions": evidence.predictions,
        "log": evidence.log,
        "report": evidence.report,
    }
    worst = max(results, key=lambda result: result.grade)
    images = {s.name: r.image for s, r in zip(steps, results, strict=True) if r.image}
    facts: dict[str, Any] = {
        "grade": worst.grade,
        "labels": evidence.labels,
        "runtime": worst.runtime,
        "mode": "warm" if any(result.warm for result in results) else "strict",
        "inputs": dict(evidence.inputs),
        "codes": _codes(steps),
        "data_check": evidence.data_check,
        "usage": _usage(results, evidence),
        "started_ms": evidence.started_ms,
        "ended_ms": evidence.ended_ms,
        **{name: digest for name, digest in named.items() if digest},
    }
    if evidence.environments:
        facts["environments"] = dict(evidence.environments)
    if images:
        facts["images"] = images
    exits = [result.exit for result in results if result.exit is not None]
    return facts | ({"exit": max(exits, key=abs)} if exits else {})


def _codes(steps: Sequence[Step]) -> dict[str, str]:
    """Digests by folder of the archives that ran; what ships with Tilth has a well-known one."""
    codes = {f.path: f.digest for s in steps for f in s.folders if f.source == "archive"}
    for folder, fact in (("code", "algo"), ("metric", "metric")):
        for stated in (step.task_json.get(fact, {}) for step in steps):
            if "builtin" in stated:
                codes[folder] = builtin_digest(stated["builtin"])
    return codes


def _usage(results: Sequence[StepResult], evidence: Evidence) -> dict[str, int]:
    return {
        "wall_ms": sum(result.usage.wall_ms for result in results),
        "cpu_ms": sum(result.usage.cpu_ms for result in results),
        "peak_memory_bytes": max(result.usage.peak_memory_bytes for result in results),
        "input_bytes": evidence.input_bytes,
        "output_bytes": sum(result.usage.output_bytes for result in results),
    }


def done(
    task: str,
    attempt: int,
    outputs: Mapping[str, tuple[Blob, str]],
    facts: Mapping[str, Any],
    score: Mapping[str, Any] | None,
    report: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The `task.done` operation; `outputs` are (blob, format) by name."""
    models = {
        name: {"digest": blob.digest, "size": blob.size, "format": form}
        for name, (blob, form) in outputs.items()
    }
    operation = {
        "op": "task.done",
        "task": task,
        "attempt": attempt,
        "outputs": models,
        "receipt": dict(facts),
    }
    if score is not None:
        operation["score"] = dict(score)
    if report is not None:
        operation["report"] = dict(report)
    return operation


def failed(task: str, attempt: int, reason: str, log: Blob | None) -> dict[str, Any]:
    """The `task.failed` operation."""
    operation: dict[str, Any] = {
        "op": "task.failed",
        "task": task,
        "attempt": attempt,
        "reason": reason,
    }
    if log is not None:
        operation["log"] = {"digest": log.digest, "size": log.size}
    return operation
