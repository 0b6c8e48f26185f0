"""What a receipt must state, and the key of the work that it is about (L1, T3).

Invariants:
- What a receipt names (inputs, set, codes, environments) is exactly what the ledger gave the task.
- A test's receipt is full (`OF_A_TEST`): without set, codes, environments, mode, data check and
  times nobody could run it again and compare, so the `done` is refused.
- The work key names all that a result depends on, and not who asked nor where it ran.

Left to others: whether the worker tells the truth (attributable by its key; re-runs); how much of
what is stated certifies (`certification`).
"""

from __future__ import annotations

from typing import Any

from tilth_ledger import certification
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.rows import Row, RowView
from tilth_ledger.steps import environments_of

OF_A_TEST = ("set", "codes", "environments", "mode", "data_check", "started_ms", "ended_ms")


def check(context: Context, task: Row, receipt: Row, present: list[tuple[Op, RowView]]) -> None:
    """Refuse a receipt that is not about this task, or of a test that does not say enough."""
    if task["kind"] == "test":
        for field in OF_A_TEST:
            if field not in receipt:
                _refuse(task, field, "nothing", "a test's receipt states it")
    expected: dict[str, Any] = {"inputs": {edge["name"]: m["digest"] for edge, m in present}}
    if "set" in receipt:
        expected["set"] = set_of(context, task)
    if "codes" in receipt:
        expected["codes"] = codes_of(context, task)
    if "environments" in receipt:
        expected["environments"] = environments(context, task)
    for field, value in expected.items():
        if receipt[field] != value:
            _refuse(task, field, receipt[field], value or "none")
    begin, end = receipt.get("started_ms", 0), receipt.get("ended_ms")
    if end is not None and end < begin:
        _refuse(task, "ended_ms", end, f"{begin} (started_ms) or later")
    certification.check_grade(task, receipt)


def _refuse(task: Row, field: str, found: object, expected: object) -> None:
    refuse(
        "L1",
        f"the receipt's {field} is not what the ledger gave the task",
        found=found,
        expected=expected,
        remedy=f"Run {task['key']} again on the right {field}, or report it as failed.",
    )


def set_of(context: Context, task: Row) -> str:
    """Digest of the sample set that a task works on."""
    data = task.get("data")
    return str(context.need("sampleset", data["set"])["digest"]) if data else ""


def codes_of(context: Context, task: Row) -> dict[str, str]:
    """Digests of the code that a task runs, by folder; built-in code has its well-known digest."""
    codes = {"code": task["algo_digest"]}
    if "data" in task:
        codes["opener"] = context.need("dataset", task["data"]["dataset"])["opener"]
    if "objective" in task:
        codes["metric"] = context.need("objective", task["objective"])["metric_digest"]
    return codes


def environments(context: Context, task: Row) -> dict[str, str]:
    """Digests of the environments that a task's steps run in, by step; none is the node's own."""
    keys = environments_of(task, context.rows.get)
    return {step: context.need("environment", key)["digest"] for step, key in keys.items()}


def work_key(context: Context, task: Row, present: list[tuple[Op, RowView]]) -> str:
    """What was computed, whoever asked: the same key, the same work."""
    facts: dict[str, Any] = {
        "kind": task["kind"],
        "codes": codes_of(context, task),
        "environments": environments(context, task),
        "parameters": task["parameters"],
        "seed": task["seed"],
        "selection": task.get("data", {}).get("selection", {}),
        "set": set_of(context, task),
        "inputs": {edge["name"]: model["digest"] for edge, model in present},
    }
    return sha256_hex(dumps(facts))
