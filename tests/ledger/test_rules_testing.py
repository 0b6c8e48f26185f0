"""Objectives and tests: T1 to T8, and the certified results they give."""

import pytest
from rules_world import Digits, World, digest

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf

A, B, C = "hospital-a", "hospital-b", "hospital-c"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def digits(world):
    """Two hospitals that train, a third that tests."""
    made = Digits(world, (A, B), A, test_sites=(C,))
    made.grant_all()
    return made


@pytest.fixture
def mixed(world, digits):
    """A done mixture of both hospitals, ready to be tested; its plan is open."""
    tasks, final, _ = digits.fedavg(B, rounds=1)
    training = [task for task in tasks if task["kind"] != "test"]
    plan = world.plan(A, training, open=True, final=[final["key"]], objectives=[digits.objective])
    world.run_all()
    return plan, final


def extend(world, plan, *tasks):
    part = world.row(f"plan/{plan}")["received"]
    world.submit(A, {"op": "plan.tasks", "plan": plan, "part": part, "tasks": list(tasks)})


def refused(world, plan, *tasks):
    with pytest.raises(Refused) as caught:
        extend(world, plan, *tasks)
    return caught.value


def certified(world, digits, revision=1):
    prefix = f"certified/{digits.objective}/{revision:06d}/"
    return {key.removeprefix(prefix): row for key, row in world.rows.scan(prefix)}


def run_test(world, digits, mixed, receipt=None, **fields):
    """Run one test of the mixture at hospital-c and return its task."""
    plan, final = mixed
    task = digits.test(C, final, **fields)
    extend(world, plan, task)
    world.doing(task)
    done = world.done_operation(task)
    done["receipt"] |= receipt or {}
    world.submit(C, done, role="node")
    return task


# ---- T1: test sets are accepted ----


@pytest.mark.rule("T1")
def test_a_set_is_pending_until_its_owner_accepts_it(world, digits):
    objective = world.objective(A, [digits.test_sets[C]], accept=False)
    assert not world.row(f"revision/{objective}/000001")["sets"][0]["accepted"]

    world.accept(objective, digits.test_sets[C])

    assert world.row(f"revision/{objective}/000001")["sets"][0]["accepted"]


@pytest.mark.rule("T1")
def test_an_owner_s_own_objective_needs_no_second_word(world, digits):
    objective = world.objective(C, [digits.test_sets[C]], accept=False)

    assert world.row(f"revision/{objective}/000001")["sets"][0]["accepted"]


@pytest.mark.rule("T1")
@pytest.mark.parametrize(
    "wrong", [{"metric_digest": digest("other")}, {"revision": 2}, {"set": f"{C}/{'0' * 32}"}]
)
def test_an_acceptance_is_bound_to_revision_set_and_metric(world, digits, wrong):
    objective = world.objective(A, [digits.test_sets[C]], accept=False)
    metric = world.row(f"objective/{objective}")["metric_digest"]
    operation = {
        "op": "objective.accept",
        "key": objective,
        "revision": 1,
        "set": digits.test_sets[C],
        "metric_digest": metric,
    }

    with pytest.raises(Refused) as caught:
        world.submit(C, operation | wrong)

    assert caught.value.rule == "T1"


@pytest.mark.rule("T1")
def test_nobody_accepts_for_another_owner(world, digits):
    objective = world.objective(A, [digits.test_sets[C]], accept=False)
    metric = world.row(f"objective/{objective}")["metric_digest"]
    operation = {"op": "objective.accept", "key": objective, "revision": 1}
    named = {"set": digits.test_sets[C], "metric_digest": metric}

    with pytest.raises(Refused) as caught:
        world.submit(B, operation | named)

    assert caught.value.rule == "A1"


@pytest.mark.rule("T1")
def test_an_objective_is_measured_on_test_samples(world, digits):
    with pytest.raises(Refused) as caught:
        world.objective(A, [digits.train_sets[A]])

    assert caught.value.rule == "T1"
    assert "label train" in caught.value.found


@pytest.mark.rule("T1")
def test_other_sets_make_a_new_revision_with_its_own_board(world, digits, mixed):
    first = run_test(world, digits, mixed)
    other = world.set(digits.datasets[C], "test")
    sets = [{"dataset": digits.datasets[C], "set": other}]
    world.submit(A, {"op": "objective.revise", "key": digits.objective, "sets": sets})
    world.accept(digits.objective, other, revision=2)
    digits.test_sets[C] = other
    second = run_test(world, digits, mixed)

    assert world.row(f"revision/{digits.objective}/000002")["previous"] == 1
    assert {*certified(world, digits, 1)} == {first["key"]}
    assert {*certified(world, digits, 2)} == {second["key"]}


# ---- T2: what a test may work on ----


@pytest.mark.rule("T2")
def test_a_test_on_train_samples_is_cross_validation_and_never_certified(world, digits):
    train = digits.train(A)
    check = digits.test(A, train, label="train")
    world.plan(A, [train, check])
    world.run_all()

    assert world.shown(check) == "done"
    assert not certified(world, digits)


@pytest.mark.rule("T2")
def test_a_test_needs_labelled_samples(world, digits, mixed):
    plan, final = mixed
    unlabelled = world.set(digits.datasets[C], "none")
    data = {"dataset": digits.datasets[C], "set": unlabelled}

    assert refused(world, plan, {**digits.test(C, final), "data": data}).rule == "T2"


@pytest.mark.rule("T2")
def test_samples_without_labels_are_predicted_on(world, digits, mixed):
    plan, final = mixed
    unlabelled = world.set(digits.datasets[C], "none")
    task = digits.test(C, final) | {
        "kind": "predict",
        "data": {"dataset": digits.datasets[C], "set": unlabelled},
    }
    del task["objective"]
    extend(world, plan, task)
    world.doing(task)
    world.done(task, outputs={"predictions": world.file("predictions")})

    assert world.shown(task) == "done"


# ---- T3: certified if and only if ----


@pytest.mark.rule("T3")
def test_a_test_on_the_objective_s_set_is_certified_by_a_leaf_of_its_own(world, digits, mixed):
    task = run_test(world, digits, mixed)

    row = certified(world, digits)[task["key"]]
    leaf = Leaf.decode(world.leaves[row["index"]])
    statement = canonical.loads(leaf.payload)
    assert leaf.type == CERTIFIED_RESULT
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [s["name"] for s in statement["subject"]] == ["algo", "dataset", "evaluation", "model"]
    assert statement["predicate"]["score"] == {"value": "0.9", "count": 10}
    assert statement["predicate"]["entries"]["done"] == row["index"] - 1
    assert world.row(f"task/{task['key']}")["certified"] == row["index"]
    assert canonical.dumps(statement) == leaf.payload


@pytest.mark.rule("T3")
@pytest.mark.parametrize(
    "receipt", [{"labels": "open"}, {"labels": "none"}, {"grade": "C"}, {"grade": "D"}]
)
def test_too_little_isolation_certifies_nothing(world, digits, mixed, receipt):
    task = run_test(world, digits, mixed, receipt)

    assert world.shown(task) == "done"
    assert not certified(world, digits)


@pytest.mark.rule("T3")
def test_a_better_grade_than_the_minimum_certifies(world, digits, mixed):
    assert run_test(world, digits, mixed, {"grade": "A"})["key"] in certified(world, digits)


@pytest.mark.rule("T3")
def test_a_strict_objective_wants_a_fresh_isolation_per_step(world, digits, mixed):
    digits.objective = world.objective(A, [digits.test_sets[C]], strict=True)
    run_test(world, digits, mixed, {"mode": "warm"})
    assert not certified(world, digits)

    assert run_test(world, digits, mixed, {"mode": "strict"})["key"] in certified(world, digits)


@pytest.mark.rule("T3")
def test_a_selection_certifies_nothing(world, digits, mixed):
    world.grant(digits.datasets[C], "probe", [A])
    plan, final = mixed
    task = digits.test(C, final)
    task["data"]["selection"] = {"kind": "first", "count": 2}
    extend(world, plan, task)
    world.run(task)

    assert not certified(world, digits)


@pytest.mark.rule("T3")
def test_a_pending_set_certifies_nothing(world, digits, mixed):
    digits.objective = world.objective(A, [digits.test_sets[C]], accept=False)
    run_test(world, digits, mixed)

    assert not certified(world, digits)


@pytest.mark.rule("T3")
def test_a_proposer_cannot_write_a_certified_result_of_its_own(world, digits, mixed):
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    world.doing(task)
    entry = world.entry(C, world.done_operation(task), role="node")
    executor, parent = world.proposer
    built = executor.build(parent, [entry], world.time_ms + 1)
    system = Leaf.decode(built.leaves[1])
    better = Leaf(CERTIFIED_RESULT, system.payload.replace(b'"0.9"', b'"1.0"')).encode()

    for leaves in ([entry], [entry, better], [*built.leaves, built.leaves[1]]):
        with pytest.raises((Refused, InvalidInput)):
            executor.execute(parent, leaves, world.time_ms + 1)
    executor.execute(parent, built.leaves, world.time_ms + 1)


# ---- T4: rights ----


@pytest.mark.rule("T4")
def test_the_right_test_is_asked_of_the_dataset(world, digits, mixed):
    plan, final = mixed
    extend(world, plan, digits.test(C, final))  # granted to everybody

    world.grant(digits.datasets[C], "test", [])
    error = refused(world, plan, digits.test(C, final))

    assert error.rule == "T4"
    assert error.remedy.endswith("tilth data grant digits --test hospital-a")


@pytest.mark.rule("T4")
def test_the_tester_must_be_allowed_to_use_the_model(world, digits):
    train = digits.train(A)

    with pytest.raises(Refused) as caught:
        world.plan(A, [train, digits.test(C, train)])

    assert caught.value.rule == "T4"
    assert "tilth data grant digits --updates hospital-c" in caught.value.remedy


@pytest.mark.rule("T4")
def test_an_objective_may_be_kept_to_some(world, digits, mixed):
    plan, final = mixed
    own = world.objective(C, [digits.test_sets[C]], grants={"use": [B]})

    assert refused(world, plan, digits.test(C, final, objective=own)).rule == "T4"


@pytest.mark.rule("T4")
def test_a_test_names_an_objective_and_nothing_else_does(world, digits, mixed):
    plan, final = mixed
    test = digits.test(C, final)
    del test["objective"]

    assert refused(world, plan, test).rule == "T4"
    assert refused(world, plan, digits.train(A, objective=digits.objective)).rule == "T4"


# ---- T5: pooled scores come with their integers ----

MATRIX = {"labels": ["cat", "dog"], "matrix": [[3, 1], [2, 4]]}


def pooled(world, digits, mixed, **score):
    digits.objective = world.objective(A, [digits.test_sets[C]], combine="pooled")
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    world.doing(task)
    world.done(task, score={"value": "0.7", "count": 10, "statistics": MATRIX, **score})
    return task


@pytest.mark.rule("T5")
def test_a_pooled_score_is_that_of_its_statistics(world, digits, mixed):
    assert pooled(world, digits, mixed)["key"] in certified(world, digits)


@pytest.mark.rule("T5")
@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "0.8"},
        {"count": 11},
        {"statistics": {"labels": [1, 1], "matrix": [[3, 1], [2, 4]]}},
        {"statistics": {"labels": ["cat", "dog"], "matrix": [[3, 1, 0], [2, 4]]}},
    ],
)
def test_statistics_that_contradict_the_score_are_refused(world, digits, mixed, wrong):
    with pytest.raises(Refused) as caught:
        pooled(world, digits, mixed, **wrong)

    assert caught.value.rule == "T5"


@pytest.mark.rule("T5")
def test_only_metrics_with_integer_statistics_are_pooled(world, digits):
    with pytest.raises(Refused) as caught:
        world.objective(A, [digits.test_sets[C]], metric={"builtin": "roc_auc"}, combine="pooled")

    assert caught.value.rule == "T5"


# ---- T6: lost models ----


@pytest.mark.rule("T6")
def test_a_test_waits_for_a_model_to_come(world, digits):
    plan = world.plan(A, [train := digits.train(A)], open=True)
    extend(world, plan, check := digits.test(A, train, label="train"))

    assert world.shown(check) == "waiting"


@pytest.mark.rule("T6")
def test_a_test_of_a_failed_model_is_refused(world, digits):
    train = digits.train(A)
    plan = world.plan(A, [train], open=True, on_failure="continue")
    world.doing(train)
    world.failed(train)

    error = refused(world, plan, digits.test(A, train, label="train"))

    assert error.rule == "T6"
    assert "failed" in error.found


# ---- T7: attempts and probes ----


@pytest.mark.rule("T7")
def test_a_test_is_an_attempt_before_its_score_is_known(world, digits, mixed):
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    counter = f"attempts/{digits.objective}/000001/{A}"
    assert world.row(counter) is None

    world.doing(task)

    assert world.row(counter) == {"count": 1}
    assert world.row(f"attempt/{digits.objective}/000001/{task['key']}")["number"] == 1


@pytest.mark.rule("T7")
def test_a_retry_is_the_same_attempt(world, digits, mixed):
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    world.doing(task)
    world.failed(task)
    world.submit(A, {"op": "task.retry", "task": task["key"]})
    world.doing(task)

    assert world.row(f"attempts/{digits.objective}/000001/{A}") == {"count": 1}


@pytest.mark.rule("T7")
def test_a_probe_of_some_test_samples_needs_its_own_right(world, digits, mixed):
    plan, final = mixed
    probe = digits.test(C, final)
    probe["data"]["selection"] = {"kind": "fraction", "fraction": "0.1", "seed": 1}
    error = refused(world, plan, probe)
    assert error.rule == "T7"
    assert "tilth data grant digits --probe hospital-a" in error.remedy

    world.grant(digits.datasets[C], "probe", [A])
    extend(world, plan, probe)
    world.run(probe)

    assert world.row(f"attempts/{digits.objective}/000001/{A}") == {"count": 1}


@pytest.mark.rule("T7")
def test_a_set_that_shares_samples_with_the_objective_s_is_a_probe_too(world, digits, mixed):
    plan, final = mixed
    objective_set = digits.test_sets[C]
    prefix = f"set-sample/{objective_set}/"
    sample = next(key.removeprefix(prefix) for key, _ in world.rows.scan(prefix))
    part = world.set(digits.datasets[C], "test", samples=[sample])
    data = {"dataset": digits.datasets[C], "set": part}

    assert refused(world, plan, {**digits.test(C, final), "data": data}).rule == "T7"


@pytest.mark.rule("T7")
def test_a_set_apart_from_the_objective_s_is_no_attempt(world, digits, mixed):
    plan, final = mixed
    apart = world.set(digits.datasets[C], "test")
    task = {**digits.test(C, final), "data": {"dataset": digits.datasets[C], "set": apart}}
    extend(world, plan, task)
    world.run(task)

    assert world.row(f"attempts/{digits.objective}/000001/{A}") is None


@pytest.mark.rule("T7")
def test_naming_another_s_set_in_an_objective_makes_nobody_s_test_a_probe(world, digits, mixed):
    apart = world.set(digits.datasets[C], "test")
    world.objective(B, [apart], accept=False)
    plan, final = mixed
    task = {**digits.test(C, final), "data": {"dataset": digits.datasets[C], "set": apart}}
    task["data"]["selection"] = {"kind": "first", "count": 1}

    extend(world, plan, task)

    assert world.shown(task) == "todo"


# ---- T8: the first counts ----


@pytest.mark.rule("T8")
def test_the_first_result_counts_and_a_re_run_agrees(world, digits, mixed):
    first, second = run_test(world, digits, mixed), run_test(world, digits, mixed)

    rows = certified(world, digits)
    assert "again" not in rows[first["key"]]
    again = {"first": rows[first["key"]]["index"], "agrees": True}
    assert rows[second["key"]]["again"] == again


@pytest.mark.rule("T8")
def test_a_re_run_with_another_score_disagrees_and_changes_nothing(world, digits, mixed):
    first = run_test(world, digits, mixed)
    plan, final = mixed
    second = digits.test(C, final)
    extend(world, plan, second)
    world.doing(second)
    world.done(second, score={"value": "0.99", "count": 10})

    rows = certified(world, digits)
    assert rows[second["key"]]["again"]["agrees"] is False
    assert rows[first["key"]]["score"]["value"] == "0.9"


@pytest.mark.rule("B3")
def test_a_final_model_is_final_whichever_plan_tests_it(world, digits, mixed):
    _, final = mixed
    task = digits.test(C, final)
    world.plan(A, [task])
    world.run(task)

    assert certified(world, digits)[task["key"]]["final"]


@pytest.mark.rule("B3")
def test_a_plan_cannot_make_another_plan_s_model_final(world, digits):
    train = digits.train(A)
    world.plan(A, [train])
    world.run(train)
    world.grant(digits.datasets[A], "updates", [C])
    operations = world.plan_operations(A, [digits.test(C, train)], final=[train["key"]])

    with pytest.raises(Refused) as caught:
        world.submit(A, *operations)

    assert caught.value.rule == "B3"


# ---- scores ----


@pytest.mark.rule("B2")
@pytest.mark.parametrize("value", ["NaN", "nan", "Infinity", "-inf", "1e5", "", "0.1234567890123"])
def test_a_score_that_is_not_a_finite_decimal_is_refused(world, digits, mixed, value):
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    world.doing(task)

    with pytest.raises(InvalidInput) as caught:
        world.done(task, score={"value": value, "count": 10})

    assert "finite decimal" in caught.value.expected
    assert 'reason "score"' in caught.value.remedy
    assert world.shown(task) == "doing"


@pytest.mark.rule("B2")
def test_a_binary_float_is_no_score(world, digits, mixed):
    plan, final = mixed
    task = digits.test(C, final)
    extend(world, plan, task)
    world.doing(task)

    with pytest.raises(InvalidInput):
        world.done(task, score={"value": 0.9, "count": 10})
