"""What federated averaging writes: the plan, task by task."""

import dataclasses
from collections import Counter

import pytest

from tilth import InvalidInput
from tilth.strategies import FedAvg


@pytest.fixture
def plan(algo, sites, goal):
    fedavg = FedAvg(algo, rounds=10, at_least=2, aggregate_at="hospital-b")
    return fedavg.plan(sites, validate_every=1, final_test=goal)


def kinds(plan):
    return Counter(task.kind for task in plan.tasks)


def test_ten_rounds_at_three_sites(plan):
    assert kinds(plan) == {"init": 1, "train": 30, "aggregate": 10, "test": 33}
    assert plan.rounds == 10


def test_each_round_trains_on_what_the_last_one_mixed(plan):
    mixes = [task for task in plan.tasks if task.kind == "aggregate"]
    second = [task for task in plan.tasks if task.tag == "round 2" and task.kind == "train"]

    assert {task.inputs[0].source.id for task in second} == {mixes[0].id}


def test_validation_sees_exactly_the_rows_that_training_does_not(plan):
    train = {str(dict(t.data.selection)) for t in plan.tasks if t.kind == "train"}
    held_out = {"kind": "fraction", "fraction": "0.2", "seed": 0}
    validation = [t for t in plan.tasks if t.kind == "test" and t.data.selection]

    assert train == {str({**held_out, "complement": True})}
    assert len(validation) == 30
    assert all(task.data.selection == held_out for task in validation)


def test_validation_runs_on_train_sets_and_the_final_test_on_the_objective(plan, sites, goal):
    validation = {t.data.set for t in plan.tasks if t.kind == "test" and t.data.selection}
    final = [t for t in plan.tasks if t.kind == "test" and not t.data.selection]

    assert validation == {site.set_of("train").key for site in sites}
    assert [task.data.set for task in final] == [each.set for each in goal.sets]
    assert all(task.objective == goal.key for task in final)


def test_only_the_last_mix_is_final(plan):
    assert plan.finals == [[task for task in plan.tasks if task.kind == "aggregate"][-1]]


def test_a_failed_site_does_not_stop_the_plan_when_some_are_enough(plan):
    assert plan.on_failure == "continue"


def test_a_failed_site_stops_the_plan_when_all_must_train(algo, sites):
    assert FedAvg(algo, aggregate_at="hospital-b").plan(sites).on_failure == "stop"


def test_without_validation_all_rows_are_trained_on(algo, sites, goal):
    plan = FedAvg(algo, rounds=2, aggregate_at="hospital-b").plan(sites, final_test=goal)

    assert {task.data.selection for task in plan.tasks if task.kind == "train"} == {None}
    assert kinds(plan)["test"] == 3


def test_validation_every_second_round(algo, sites, goal):
    fedavg = FedAvg(algo, rounds=5, aggregate_at="hospital-b")
    plan = fedavg.plan(sites, validate_every=2, final_test=goal)

    validation = [task.tag for task in plan.tasks if task.kind == "test" and task.data.selection]
    assert sorted(set(validation)) == ["round 2", "round 4"]


def test_an_aggregator_must_be_named(algo, sites):
    with pytest.raises(InvalidInput, match="aggregate_at='hospital-a'"):
        FedAvg(algo).plan(sites)


def test_no_sites_is_no_plan(algo):
    with pytest.raises(InvalidInput, match="nothing to train on"):
        FedAvg(algo, aggregate_at="hospital-b").plan([])


def test_validation_needs_a_metric(algo, sites):
    with pytest.raises(InvalidInput, match="needs a metric"):
        FedAvg(algo, aggregate_at="hospital-b").plan(sites, validate_every=1)


def test_an_objective_without_test_sets_certifies_nothing(algo, sites, goal):
    empty = dataclasses.replace(goal, sets=())

    with pytest.raises(InvalidInput, match="certifies nothing"):
        FedAvg(algo, aggregate_at="hospital-b").plan(sites, final_test=empty)
