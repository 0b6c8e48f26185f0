"""Who could use what a plan makes: the ledger's own rules, on a plan not yet submitted."""

import pytest

from tilth.plan import MEAN, Plan
from tilth.rights import rights_of
from tilth_ledger.canonical import dumps
from tilth_ledger.rows import MemoryRows


def rows_of(sites, algo, *, grants, min_parties=2):
    rows = {f"algo/{algo.key}": {"owner": "hospital-a", "status": "active"}}
    for site in sites:
        stated = {"grants": grants, "min_parties": min_parties}
        rows[f"dataset/{site.key}"] = {"owner": site.owner, "name": "digits", **stated}
    return MemoryRows({key: dumps(row) for key, row in rows.items()})


@pytest.fixture
def plan(algo, sites):
    plan = Plan("p")
    start = plan.init(algo, at="hospital-b")
    plan.aggregate(MEAN, [plan.train(algo, site, start) for site in sites], at="hospital-b")
    return plan


def right(rights, what, worker):
    return next(each for each in rights if (each.what, each.worker) == (what, worker))


def test_an_untrained_model_is_everybodys(plan, sites, algo):
    rights = rights_of(rows_of(sites, algo, grants={}), plan, "hospital-a")

    assert right(rights, "init", "hospital-b").use == "everybody"


def test_an_unmixed_model_goes_to_who_may_train_and_the_plans_aggregator(plan, sites, algo):
    rights = rights_of(rows_of(sites, algo, grants={"train": ["hospital-a"]}), plan, "hospital-a")

    trained = right(rights, "train", "hospital-c")
    assert trained.use == "hospital-a, hospital-b, hospital-c"
    assert trained.download == "hospital-a, hospital-c"


@pytest.mark.rule("P3")
def test_a_mix_goes_to_the_participants(plan, sites, algo):
    grants = {"train": ["hospital-a"], "mixed": "participants"}
    rights = rights_of(rows_of(sites, algo, grants=grants), plan, "hospital-a")

    assert right(rights, "aggregate", "hospital-b").use == "hospital-a, hospital-b, hospital-c"


@pytest.mark.rule("P3")
def test_too_few_parties_make_no_mix(plan, sites, algo):
    rows = rows_of(sites, algo, grants={"train": ["hospital-a"]}, min_parties=4)
    rights = rights_of(rows, plan, "hospital-a")

    assert right(rights, "aggregate", "hospital-b").download == "hospital-a"
