"""What a plan under construction holds, and the entries that register it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tilth import InvalidInput
from tilth.plan import ENTRY_BYTES, MEAN, Model, Plan, wire
from tilth_ledger import canonical, operations
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry


def operations_of(plan, organization="hospital-a"):
    return [each for entry in plan.entries(organization) for each in entry]


def tasks_of(plan):
    return [t for op in operations_of(plan) if op["op"] == "plan.tasks" for t in op["tasks"]]


@pytest.fixture
def plan(algo, sites, goal):
    plan = Plan("three sites", tag="paper", metadata={"who": "us"})
    start = plan.init(algo, at="hospital-b", parameters={"rate": 1, "steps": 5})
    trained = [plan.train(algo, site, start) for site in sites]
    mixed = plan.aggregate(MEAN, trained, at="hospital-b", at_least=2)
    plan.final(mixed)
    for each in goal.sets:
        plan.test(algo, mixed, goal, each)
    return plan


def test_every_operation_of_a_plan_has_the_shape_that_the_ledger_asks_for(plan):
    for operation in operations_of(plan):
        operations.check(operation)


def test_ranks_follow_from_the_parents(plan):
    assert [task.rank for task in plan.tasks] == [1, 2, 2, 2, 3, 4, 4, 4]


def test_training_uses_the_current_set_of_its_label(plan, sites):
    train = [task for task in plan.tasks if task.kind == "train"]

    assert [task.data.set for task in train] == [site.sets[1].key for site in sites]


def test_an_aggregate_that_needs_only_some_skips_the_others(plan):
    aggregate = next(task for task in tasks_of(plan) if task["kind"] == "aggregate")

    assert aggregate["need"] == {"at_least": 2}
    assert {edge["on_failed"] for edge in aggregate["inputs"]} == {"skip"}
    assert [edge["name"] for edge in aggregate["inputs"]] == [
        "hospital-a",
        "hospital-b",
        "hospital-c",
    ]


def test_an_aggregate_that_needs_all_is_canceled_with_a_parent(algo, sites):
    plan = Plan("all")
    plan.aggregate(MEAN, [plan.train(algo, site) for site in sites], at="hospital-b")
    aggregate = tasks_of(plan)[-1]

    assert "need" not in aggregate
    assert {edge["on_failed"] for edge in aggregate["inputs"]} == {"cancel"}


def test_an_aggregate_cannot_need_more_than_it_reads(algo, sites):
    plan = Plan("too many")
    trained = [plan.train(algo, site) for site in sites]

    with pytest.raises(InvalidInput, match="1 to 3"):
        plan.aggregate(MEAN, trained, at="hospital-b", at_least=4)


def test_two_models_of_one_worker_have_different_names(algo, sites):
    plan = Plan("twice")
    plan.aggregate(MEAN, [plan.train(algo, sites[0]) for _ in range(2)], at="hospital-b")

    names = [edge["name"] for edge in tasks_of(plan)[-1]["inputs"]]
    assert names == ["hospital-a", "hospital-a-2"]


def test_a_number_for_a_float_parameter_is_written_as_a_decimal(plan):
    init = tasks_of(plan)[0]

    assert init["parameters"] == {"rate": "1", "steps": 5}


def test_a_task_may_start_from_a_model_of_elsewhere(algo, sites):
    plan = Plan("fine-tune")
    plan.train(algo, sites[0], Model("hospital-a/" + "7" * 32))

    edge = tasks_of(plan)[0]["inputs"][0]
    assert edge == {"name": "model", "model": "hospital-a/" + "7" * 32, "on_failed": "cancel"}


def test_a_task_of_another_plan_is_no_input(algo, sites):
    stranger = Plan("other").train(algo, sites[0])

    with pytest.raises(InvalidInput, match="another plan"):
        Plan("mine").train(algo, sites[0], stranger)


def test_a_dataset_without_the_label_says_how_to_get_one(algo, sites):
    bare = dataclasses.replace(sites[0], sets=())

    with pytest.raises(InvalidInput, match="tilth data add digits --train DIR"):
        Plan("nothing").train(algo, bare)


def test_final_models_are_announced_with_the_plan(plan):
    announced = operations_of(plan)[0]

    assert announced["op"] == "plan.add"
    assert announced["final"] == [f"hospital-a/{plan.finals[0].id}"]


def test_the_same_plan_gives_the_same_entries_again(plan):
    assert plan.entries("hospital-a") == plan.entries("hospital-a")


def test_two_plans_never_share_a_key(algo, sites):
    first, second = Plan("one"), Plan("one")
    for plan in (first, second):
        plan.train(algo, sites[0])

    assert first.tasks[0].id != second.tasks[0].id


def test_seeds_repeat_when_a_plan_is_built_again_and_differ_between_tasks(algo, sites):
    seeds = [[plan.train(algo, site).seed for site in sites] for plan in (Plan("a"), Plan("b"))]

    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_a_large_plan_comes_in_parts_that_fit_a_leaf_parents_first(algo, sites):
    plan = Plan("large")
    model = plan.init(algo, at="hospital-b", parameters={"rate": 0.5, "steps": 3})
    for _ in range(200):
        trained = [plan.train(algo, site, model, tag="round") for site in sites]
        model = plan.aggregate(MEAN, trained, at="hospital-b")

    entries = plan.entries("hospital-a")
    seen = set()
    key = SigningKey.from_seed(bytes(32))
    for entry in entries:
        leaf = write_entry("0" * 64, "hospital-a", key, "0" * 32, entry, not_after=2**52)
        assert len(leaf.encode()) <= 65_535
    for task in tasks_of(plan):
        assert all(edge["task"] in seen for edge in task["inputs"])
        seen.add(task["key"])
    parts = [op for op in operations_of(plan) if op["op"] == "plan.tasks"]
    assert [op["part"] for op in parts] == list(range(operations_of(plan)[0]["parts"]))
    assert len(parts) > 1
    assert max(len(canonical.dumps(op)) for op in parts) <= ENTRY_BYTES


@given(some.decimals(min_value=-1000, max_value=1000, places=6))
def test_a_float_becomes_the_decimal_that_people_wrote(value):
    written = wire(float(value))

    assert float(written) == float(value)
    assert "e" not in written.lower()


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (2.0, "2"), (-0.0, "0"), (1e-7, "0.0000001"), (1e3, "1000")]
)
def test_decimals_have_one_form(value, text):
    assert wire(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e-13, 1e19, None, {"a": 1}])
def test_what_has_no_exact_decimal_is_refused(value):
    with pytest.raises(InvalidInput, match="no place on the ledger"):
        wire(value)
