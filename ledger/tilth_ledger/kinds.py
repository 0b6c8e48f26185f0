"""The kinds of tasks as one table: what each takes, on which data, and what it makes.

Left to others: how a kind runs (`steps`), whether a task may exist (`rules_tasks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    capability: str  # what the algo's manifest must declare
    inputs: str  # none, any, pair (head and trunk or neither), many (at least 1), model
    labels: tuple[str, ...] = ()  # of the set it works on; empty: no data
    right: str = ""  # what the plan's owner needs on the dataset
    rule: str = ""  # that says so
    label_rule: str = ""  # that says which labels
    objective: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "init": Kind("init", "none"),
        "train": Kind("train", "any", ("train",), "train", "R3", "R1"),
        "composite": Kind("composite", "pair", ("train",), "train", "R3", "R1"),
        "aggregate": Kind("aggregate", "many"),
        "test": Kind("predict", "model", ("test", "train"), "test", "T4", "T2", objective=True),
        "predict": Kind("predict", "model", ("test", "train", "none"), "test", "T4", "T2"),
    }
)


def outputs_of(kind: str, algo: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of the models a task makes; a test or prediction makes none."""
    if kind in ("test", "predict"):
        return ()
    if kind == "composite":
        return ("head", "trunk")
    return tuple(((algo or {}).get("manifest") or {}).get("outputs") or ("model",))


def lane_of(task: Mapping[str, Any]) -> str:
    """Tasks of one plan in the same lane continue each other's local folder."""
    if task["kind"] in ("train", "composite"):
        return str(task.get("data", {}).get("dataset", ""))
    return str(task["worker"]) if task["kind"] == "aggregate" else ""
