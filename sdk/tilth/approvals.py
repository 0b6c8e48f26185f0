"""Approvals: a data owner's word on tasks that want its data, where a dataset demands it (P5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilth.assets import Dataset
from tilth.errors import InvalidInput

if TYPE_CHECKING:
    from tilth.client import Network


@dataclass(frozen=True, slots=True)
class Asked:
    """A task that waits for this organization's word."""

    dataset: str
    task: str
    plan: str
    algo: str  # digest of the code that would touch the data
    author: str  # the plan's owner


class Approvals:
    """What waits for a word, and the words."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def asked(self) -> tuple[Asked, ...]:
        """Tasks that wait for the approval of this organization."""
        found = []
        for key, row in self._net.rows.scan(f"asks/{self._net.organization}/"):
            owner, dataset, author, task = key.removeprefix("asks/").split("/")
            algo = row["algo"] if isinstance(row["algo"], str) else str(row["algo"])
            names = (f"{owner}/{dataset}", f"{author}/{task}", row["plan"], algo, author)
            found.append(Asked(*names))
        return tuple(found)

    def give(
        self,
        *,
        plan: str | None = None,
        algo: str | None = None,
        dataset: Dataset | None = None,
        **terms: Any,
    ) -> tuple[str, ...]:
        """Approves tasks of a plan (by key), or of an algo (by digest), on the datasets that were
        asked for, or on one. Terms: `runs`, `expires_ms`, `minimum_grade`. Returns the datasets."""
        return self._say("approval.give", plan, algo, dataset, terms)

    def deny(
        self,
        *,
        plan: str | None = None,
        algo: str | None = None,
        dataset: Dataset | None = None,
    ) -> tuple[str, ...]:
        """Denies them: what waits fails, and what comes is refused. Returns the datasets."""
        return self._say("approval.deny", plan, algo, dataset, {})

    def _say(
        self, what: str, plan: str | None, algo: str | None, dataset: Dataset | None, terms: Any
    ) -> tuple[str, ...]:
        scope = {name: value for name, value in (("plan", plan), ("algo", algo)) if value}
        if not scope:
            raise InvalidInput(
                "an approval must say what it is for",
                expected="a plan or an algo",
                remedy="Look at what waits with: tilth approval list",
            )
        datasets = [dataset.key] if dataset else self._asking(scope)
        if not datasets:
            raise InvalidInput(
                "no task of this kind waits for your approval",
                found=", ".join(scope.values()),
                expected="a plan or an algo that asks, or the dataset it is for",
                remedy="Look at what waits with: tilth approval list",
            )
        given = {name: value for name, value in terms.items() if value is not None}
        operations = [
            {"op": what, "key": self._net.new_key(), "dataset": key, **scope, **given}
            for key in datasets
        ]
        self._net.record(*operations)
        return tuple(datasets)

    def _asking(self, scope: dict[str, str]) -> Sequence[str]:
        matching = (
            each.dataset
            for each in self.asked()
            if scope.get("plan", each.plan) == each.plan
            and scope.get("algo", each.algo) == each.algo
        )
        return sorted(set(matching))
