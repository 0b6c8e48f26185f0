"""What the worker says about an attempt: pure functions from step results to an operation.

Invariants
- A score is a finite decimal with a row count, taken from perf.json as text: no float is ever
  rounded twice, NaN and infinity never become a score.
- The receipt names by digest all that went in and out; its grade is the worst of its steps, its
  mode `warm` when any step was.
- Nothing of user code's words gets in here: reasons are codes of the closed list.

Leaves to others: running the steps, storing logs and outputs (`tilth_node.worker.attempt`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

from tilth_ledger.errors import InvalidInput
from tilth_ledger.steps import Step
from tilth_node.runtimes import StepResult
from tilth_node.storage.vault import Blob

MAX_DIGITS = 18
MAX_FRACTION = 12
MAX_NAMED = 16
MAX_INTEGER = 2**53 - 1
RESERVED = ("all", "count", "interval", "statistics", "samples")
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


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
    environment: str = ""
    local_in: str = ""
    local_out: str = ""
    predictions: str = ""
    log: str = ""
    report: str = ""


def receipt(
    steps: Sequence[Step], results: Sequence[StepResult], evidence: Evidence
) -> dict[str, Any]:
    """The receipt of an attempt whose steps gave these results."""
    named = {
        "environment": evidence.environment,
        "set": evidence.set_digest,
        "local_in": evidence.local_in,
        "local_out": evidence.local_out,
        "predictions": evidence.predictions,
        "log": evidence.log,
        "report": evidence.report,
    }
    codes = {f.path: f.digest for step in steps for f in step.folders if f.source == "archive"}
    last = results[-1]
    facts: dict[str, Any] = {
        "grade": max(result.grade for result in results),
        "labels": evidence.labels,
        "runtime": last.runtime,
        "mode": "warm" if any(result.warm for result in results) else "strict",
        "inputs": dict(evidence.inputs),
        "codes": codes,
        "data_check": evidence.data_check,
        "usage": _usage(results, evidence),
        "started_ms": evidence.started_ms,
        "ended_ms": evidence.ended_ms,
        **{name: digest for name, digest in named.items() if digest},
    }
    if last.exit is not None:
        facts["exit"] = last.exit
    return facts


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


def score(perf: bytes) -> dict[str, Any]:
    """The score that perf.json states, as the ledger wants it. Raises InvalidInput."""
    content = _object(perf, "perf.json")
    value, count = content.get("all"), content.get("count")
    if type(count) is not int or not 0 < count <= MAX_INTEGER:
        raise _bad("count", count, "a positive number of rows")
    result: dict[str, Any] = {"value": decimal(value, "all"), "count": count}
    interval = content.get("interval")
    if interval is not None:
        if not isinstance(interval, list) or len(interval) != 2:
            raise _bad("interval", interval, "[low, high]")
        result["interval"] = [decimal(bound, "interval") for bound in interval]
    named = {name: each for name, each in content.items() if name not in RESERVED}
    if len(named) > MAX_NAMED:
        raise _bad("named values", len(named), f"at most {MAX_NAMED}")
    if named:
        result["named"] = {name: decimal(each, name) for name, each in named.items()}
    if "statistics" in content:
        result["statistics"] = content["statistics"]
    return result


def row_count(report: bytes) -> int | None:
    """The number of rows that report.json states, None when it states none."""
    try:
        count = _object(report, "report.json").get("count")
    except InvalidInput:
        return None
    return count if type(count) is int and 0 <= count <= MAX_INTEGER else None


def decimal(value: object, what: str) -> str:
    """A number of JSON as the ledger's decimal: at most 18 digits, 12 of them fraction."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _bad(what, value, "a number")
    number = Decimal(value)
    if not number.is_finite() or number.adjusted() >= MAX_DIGITS:
        raise _bad(what, value, f"a finite number of at most {MAX_DIGITS} digits")
    whole = max(1, number.adjusted() + 1)
    places = min(MAX_FRACTION, MAX_DIGITS - whole)
    try:
        rounded = number.quantize(Decimal(1).scaleb(-places), context=_CONTEXT)
    except InvalidOperation as error:
        raise _bad(what, value, "a number of reasonable size") from error
    text = f"{rounded:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(data, parse_float=Decimal, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON", found=str(error)[:200]) from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{name} is not an object", found=type(content).__name__)
    return content


def _constant(name: str) -> Decimal:
    """NaN and infinities, which are not JSON but which Python writes."""
    return Decimal(name)


def _bad(what: str, found: object, expected: str) -> InvalidInput:
    return InvalidInput(
        f"perf.json has no usable {what}",
        found=repr(found)[:80],
        expected=expected,
        remedy="see the metric; NaN and infinite never rank",
    )
