"""Strategies write compute plans: what other frameworks call a run with rounds and clients.

A strategy knows no node: it reads assets and returns a Plan, which anyone can look at, check and
submit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth.assets import Algo, Dataset, Objective
from tilth.errors import InvalidInput
from tilth.plan import MEAN, Builtin, Plan, Task

Selection = dict[str, Any]


def fraction(part: str, *, seed: int = 0, complement: bool = False) -> Selection:
    """A share of a set's rows, drawn with a seed at the data's node, or all other rows."""
    chosen: Selection = {"kind": "fraction", "fraction": part, "seed": seed}
    return {**chosen, "complement": True} if complement else chosen


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Federated averaging: in each round every site trains on the last mix, and the results are
    mixed, weighted by their rows (McMahan et al. 2017, algorithm 1, all clients in each round).

    rounds        how often sites train
    at_least      a round goes on when so many sites have trained (default: all must)
    aggregate_at  the organization that mixes
    parameters    of the algo, at every site
    aggregator    what mixes: the mean that ships with Tilth, or an algo of your own, which each
                  data owner must accept
    held_out      the share of each site's train rows kept for validation, as a decimal
    """

    algo: Algo
    rounds: int = 10
    at_least: int | None = None
    aggregate_at: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    aggregator: Algo | Builtin = MEAN
    held_out: str = "0.2"
    seed: int = 0

    def plan(
        self,
        sites: Sequence[Dataset],
        *,
        validate_every: int = 0,
        final_test: Objective | None = None,
        name: str = "",
    ) -> Plan:
        """The plan over these datasets.

        validate_every  every so many rounds the mix is tested at each site on the held-out rows,
                        which then take no part in training; 0: never
        final_test      the last mix is marked final and certified on all of its test sets
        """
        self._check(sites, validate_every, final_test)
        plan = Plan(name or f"FedAvg {self.algo.name}", on_failure=self._on_failure, seed=self.seed)
        rest = self._split(complement=True) if validate_every else None
        model = plan.init(self.algo, at=self.aggregate_at, parameters=self.parameters, tag="start")
        for number in range(1, self.rounds + 1):
            model = self._round(plan, sites, model, rest, f"round {number}")
            if final_test and validate_every and number % validate_every == 0:
                for site in sites:
                    held_out = self._split(complement=False)
                    tag = f"round {number}"
                    plan.test(self.algo, model, final_test, site, selection=held_out, tag=tag)
        plan.final(model)
        if final_test:
            for each in final_test.sets:
                plan.test(self.algo, model, final_test, each, tag="final")
        return plan

    def _round(
        self, plan: Plan, sites: Sequence[Dataset], model: Task, rows: Selection | None, tag: str
    ) -> Task:
        trained = [
            plan.train(self.algo, site, model, selection=rows, parameters=self.parameters, tag=tag)
            for site in sites
        ]
        return plan.aggregate(
            self.aggregator, trained, at=self.aggregate_at, at_least=self.at_least, tag=tag
        )

    def _split(self, *, complement: bool) -> Selection:
        """The same rows are held out in every round, so that no training ever sees them."""
        return fraction(self.held_out, seed=self.seed, complement=complement)

    @property
    def _on_failure(self) -> str:
        # "stop" would end the plan at the first failed site, which at_least allows.
        return "stop" if self.at_least is None else "continue"

    def _check(
        self, sites: Sequence[Dataset], validate_every: int, final_test: Objective | None
    ) -> None:
        if not sites:
            raise InvalidInput(
                "there is nothing to train on",
                found="no datasets",
                expected="at least one",
                remedy="Look for them with net.datasets.list(name=...).",
            )
        if self.rounds < 1:
            raise InvalidInput(
                "a plan needs a round",
                found=self.rounds,
                expected="at least 1",
                remedy="Raise rounds.",
            )
        if not self.aggregate_at:
            raise InvalidInput(
                "it is not said who mixes the models",
                expected="aggregate_at=, an organization that aggregates",
                remedy=f"For example FedAvg(..., aggregate_at={sites[0].owner!r}).",
            )
        if validate_every and final_test is None:
            raise InvalidInput(
                "validation needs a metric",
                found=f"validate_every={validate_every} without an objective",
                expected="final_test=, the objective whose metric scores it",
                remedy="Name the objective, or set validate_every=0.",
            )
        if final_test and not final_test.sets:
            raise InvalidInput(
                "the objective certifies nothing",
                found=f"{final_test.name!r} without test sets",
                expected="at least one test set",
                remedy="Add some with: tilth objective revise NAME",
            )
