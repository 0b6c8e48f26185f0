"""What a data scientist writes: an Algorithm.

Invariants
- Every method gets all it needs as arguments; an instance lives for one step only.
- A model is a dict of arrays unless `save` and `load` say otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth.algorithm import weights
from tilth.algorithm.errors import WrongShape
from tilth.algorithm.parameters import Parameter
from tilth.algorithm.task import Task


class Algorithm:
    """Untrained code. Override what it can do; what is not overridden it cannot."""

    parameters: Sequence[Parameter] = ()

    def start(self, task: Task) -> Any:
        """The model before any training."""
        raise WrongShape("this algorithm has no start", remedy="define start(self, task)")

    def train(self, data: Any, model: Any, task: Task) -> Any:
        """The model after training on `data` (see `tilth.algorithm.Data`)."""
        raise WrongShape("this algorithm cannot train", remedy="define train(...)")

    def aggregate(self, models: Sequence[Any], task: Task) -> Any:
        """One model of several: the mean of all arrays, weighted by the rows of each."""
        return mean(models, [i.count for i in task.inputs])

    def predict(self, features: Any, model: Any, task: Task) -> Any:
        """One prediction per row of `features`, which hold no labels."""
        raise WrongShape("this algorithm cannot predict", remedy="define predict(...)")

    def save(self, model: Any, folder: Path) -> None:
        """Write a model into an empty folder."""
        weights.save(model, folder)

    def load(self, folder: Path) -> Any:
        """Read what `save` wrote."""
        return weights.load(folder)

    @classmethod
    def capabilities(cls) -> list[str]:
        """What this class can do, as its manifest says."""
        able = [
            capability
            for capability, method in (
                ("init", "start"),
                ("train", "train"),
                ("predict", "predict"),
            )
            if getattr(cls, method) is not getattr(Algorithm, method)
        ]
        return sorted([*able, "aggregate"])


def mean(models: Sequence[Mapping[str, Any]], counts: Sequence[int | None]) -> dict[str, Any]:
    """The mean of all arrays, weighted by `counts`; equally where a count is unknown.

    Summed in float64 in the order given, then in the first model's type: the same models in the
    same order give the same bytes. McMahan et al., Communication-Efficient Learning of Deep
    Networks from Decentralized Data, 2017.
    """
    import numpy as np

    if not models:
        raise WrongShape(
            "there is no model to average", remedy="Give the aggregate at least one model as input."
        )
    known = [count for count in counts if count is not None]
    total = sum(known)
    equal = len(known) < len(models) or total == 0
    shares = [1 / len(models)] * len(models) if equal else [count / total for count in known]
    first = models[0]
    for model in models[1:]:
        if {k: np.shape(v) for k, v in model.items()} != {k: np.shape(v) for k, v in first.items()}:
            raise WrongShape(
                "models of different shapes cannot be averaged",
                found={k: np.shape(v) for k, v in model.items()},
                expected={k: np.shape(v) for k, v in first.items()},
                remedy="Start all sites from the same model, and keep its shapes in train.",
            )
    averaged: dict[str, Any] = {}
    for name in first:
        like = np.asarray(first[name])
        arrays = [np.asarray(model[name]) for model in models]
        value = sum(
            share * array.astype(np.result_type(array.dtype, np.float64))
            for share, array in zip(shares, arrays, strict=True)
        )
        averaged[name] = np.asarray(value).astype(like.dtype if like.dtype.kind in "fc" else float)
    return averaged
