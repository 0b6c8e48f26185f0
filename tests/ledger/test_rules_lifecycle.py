"""How tasks and plans live: L1 to L5, and aggregates that need not all inputs (R7)."""

import pytest
from rules_world import Digits, World, digest

from tilth_ledger import transitions
from tilth_ledger.errors import InvalidInput, Refused

A, B, C = "hospital-a", "hospital-b", "hospital-c"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def digits(world):
    made = Digits(world, (A, B, C), A)
    made.grant_all()
    return made


def refused(world, organization, operation, role="scientist"):
    with pytest.raises(Refused) as caught:
        world.submit(organization, operation, role=role)
    return caught.value


def round_of(digits, **fields):
    """One training per site, and their mixture."""
    trained = [digits.train(site) for site in digits.sites]
    return trained, digits.mix(trained, B, **fields)


def states(world, *tasks):
    return [world.shown(task) for task in tasks]


# ---- L1: only the worker, only along the table ----


@pytest.mark.rule("L1")
def test_a_worker_reports_doing_and_done(world, digits):
    world.plan(A, [train := digits.train(A)])
    world.doing(train)
    assert world.shown(train) == "doing"

    world.done(train)

    assert world.shown(train) == "done"
    assert world.row(f"work/{A}/{train['key']}") is None


@pytest.mark.rule("L1")
def test_another_organization_does_not_report(world, digits):
    trained, mix = round_of(digits)
    world.plan(A, [*trained, mix])
    world.run(*trained)

    error = refused(world, A, {"op": "task.doing", "task": mix["key"], "attempt": 1}, role="node")

    assert (error.rule, error.expected) == ("L1", B)


@pytest.mark.rule("L1")
def test_a_person_does_not_report(world, digits):
    world.plan(A, [train := digits.train(A)])

    assert refused(world, A, {"op": "task.doing", "task": train["key"], "attempt": 1}).rule == "A1"


@pytest.mark.rule("L1")
@pytest.mark.parametrize("attempt", [2, 7])
def test_a_report_is_about_the_current_attempt(world, digits, attempt):
    world.plan(A, [train := digits.train(A)])
    operation = {"op": "task.doing", "task": train["key"], "attempt": attempt}

    assert refused(world, A, operation, role="node").expected == "attempt 1"


@pytest.mark.rule("L1")
def test_a_task_has_one_done_ever(world, digits):
    world.plan(A, [train := digits.train(A)])
    world.doing(train)
    again = world.done_operation(train)
    world.done(train)

    error = refused(world, A, again, role="node")

    assert error.rule == "L1"
    assert "is done" in error.found


@pytest.mark.rule("L1")
def test_done_needs_doing_first(world, digits):
    world.plan(A, [train := digits.train(A)])

    assert refused(world, A, world.done_operation(train, attempt=1), role="node").found.endswith(
        "todo"
    )


@pytest.mark.rule("L1")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", {"model": digest("another")}),
        ("inputs", {}),
        ("set", digest("another")),
        ("codes", {"code": digest("another")}),
        ("codes", {"metric": digest("none here")}),
    ],
)
def test_a_receipt_names_what_the_ledger_gave(world, digits, field, value):
    first = digits.train(A)
    second = digits.train(A, first)
    world.plan(A, [first, second])
    world.run(first)
    world.doing(second)
    operation = world.done_operation(second)
    operation["receipt"][field] = value

    error = refused(world, A, operation, role="node")

    assert error.rule == "L1"
    assert field in error.message


@pytest.mark.rule("L1")
def test_a_full_receipt_that_is_right_is_taken(world, digits):
    world.plan(A, [train := digits.train(A)])
    world.doing(train)
    operation = world.done_operation(train)
    operation["receipt"] |= {
        "set": world.row(f"sampleset/{digits.train_sets[A]}")["digest"],
        "codes": {
            "code": world.row(f"algo/{digits.algo}")["archive"],
            "opener": world.row(f"dataset/{digits.datasets[A]}")["opener"],
        },
        "mode": "warm",
        "data_check": "metadata",
        "usage": {"wall_ms": 20, "cpu_ms": 10, "peak_memory_bytes": 1 << 20},
    }
    world.submit(A, operation, role="node")

    assert world.row(f"task/{train['key']}")["receipt"]["usage"]["wall_ms"] == 20


@pytest.mark.rule("L1")
@pytest.mark.parametrize("outputs", [{}, {"other": 1}, {"model": 1, "extra": 1}])
def test_outputs_are_those_declared(world, digits, outputs):
    world.plan(A, [train := digits.train(A)])
    world.doing(train)
    files = {name: world.file(name) for name in outputs}

    assert refused(world, A, world.done_operation(train, outputs=files), role="node").rule == "L1"


@pytest.mark.rule("L1")
def test_a_reason_is_of_the_closed_list(world, digits):
    world.plan(A, [train := digits.train(A)])
    world.doing(train)

    with pytest.raises(InvalidInput, match="reason"):
        world.failed(train, "bad mood")


@pytest.mark.rule("L1")
def test_a_state_moves_only_along_the_table():
    task = {"key": "x", "state": "done"}
    with pytest.raises(Refused) as caught:
        transitions.move(task, "doing")

    assert caught.value.rule == "L1"
    assert task["state"] == "done"


# ---- L2: failed parents ----


@pytest.mark.rule("L2")
def test_a_failure_stops_its_plan_at_once_by_default(world, digits):
    tasks, _, _ = digits.fedavg(B)
    plan = world.plan(A, tasks)
    world.doing(tasks[0])
    world.failed(tasks[0])

    assert world.row(f"plan/{plan}")["cause"] == tasks[0]["key"]
    assert set(states(world, *tasks[1:])) == {"canceled"}


@pytest.mark.rule("L2")
def test_a_plan_that_continues_loses_only_what_hangs_on_the_failure(world, digits):
    first, other = digits.train(A), digits.train(B)
    child = digits.train(A, first)
    grandchild = digits.train(A, child)
    world.plan(A, [first, other, child, grandchild], on_failure="continue")
    world.doing(first)
    world.failed(first)

    assert states(world, first, other, child, grandchild) == [
        "failed",
        "todo",
        "canceled",
        "canceled",
    ]
    assert world.row(f"task/{grandchild['key']}")["cause"] == first["key"]


@pytest.mark.rule("L2")
def test_an_edge_may_skip_a_failed_parent(world, digits):
    first = digits.train(A)
    child = digits.train(A, first)
    more = digits.train(A)
    child["inputs"][0]["on_failed"] = "skip"
    child["inputs"].append({"name": "other", "task": more["key"], "output": "model"})
    child["local"] = "none"
    world.plan(A, [first, more, child], on_failure="continue")
    world.doing(first)
    world.failed(first)
    world.run(more)

    assert world.shown(child) == "todo"
    assert world.row(f"task/{child['key']}")["skipped"] == ["model"]
    world.run(child)


@pytest.mark.rule("L2")
def test_a_task_left_without_any_input_is_canceled(world, digits):
    first = digits.train(A)
    child = digits.train(A, first)
    child["inputs"][0]["on_failed"] = "skip"
    world.plan(A, [first, child], on_failure="continue")
    world.doing(first)
    world.failed(first)

    assert world.shown(child) == "canceled"


@pytest.mark.rule("L2")
def test_an_aggregate_goes_on_with_at_least_k(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2})
    plan = world.plan(A, [*trained, mix])
    world.run(trained[0])
    world.doing(trained[1])
    world.failed(trained[1])
    assert world.row(f"plan/{plan}")["status"] == "closed"  # tolerated: the plan goes on
    assert world.shown(mix) == "waiting"

    world.run(trained[2])

    assert world.shown(mix) == "todo"
    world.run(mix)
    assert world.row(f"model/{mix['key']}/model")["parties"] == [A, C]


@pytest.mark.rule("L2")
def test_an_aggregate_that_cannot_reach_k_is_canceled_with_the_cause(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2})
    after = digits.train(A, mix)
    world.plan(A, [*trained, mix, after], on_failure="continue")
    for train in trained[:2]:
        world.doing(train)
        world.failed(train)

    assert states(world, mix, after) == ["canceled", "canceled"]
    assert world.row(f"task/{mix['key']}")["cause"] == trained[1]["key"]


@pytest.mark.rule("L2")
def test_a_dropout_does_not_exclude_a_site_from_later_rounds(world, digits):
    first = [digits.train(site) for site in (A, B, C)]
    mix = digits.mix(first, B, need={"at_least": 2})
    second = [digits.train(site, mix) for site in (A, B, C)]
    world.plan(A, [*first, mix, *second])
    world.doing(first[2])
    world.failed(first[2])
    world.run_all()

    assert states(world, *second) == ["done"] * 3


@pytest.mark.rule("R7")
def test_an_aggregate_is_closed_by_its_plan_s_owner(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2})
    world.plan(A, [*trained, mix])
    close = {"op": "task.close", "task": mix["key"]}
    world.run(trained[0])
    assert "1 of 3" in refused(world, A, close).found
    world.run(trained[1])
    assert refused(world, C, close).rule == "R7"

    world.submit(A, close)

    assert world.shown(mix) == "todo"
    world.run(trained[2])  # comes too late, and harms nobody
    world.run(mix)
    assert world.row(f"model/{mix['key']}/model")["parties"] == [A, B]


@pytest.mark.rule("R7")
def test_a_worker_closes_an_overdue_aggregate(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2, "within_ms": 1_000})
    world.plan(A, [*trained, mix])
    world.run(*trained[:2])
    close = {"op": "task.close", "task": mix["key"]}
    assert refused(world, B, close, role="node").rule == "R7"

    world.time_ms += 1_000
    world.submit(B, close, role="node")

    assert world.shown(mix) == "todo"


@pytest.mark.rule("R7")
def test_an_input_that_comes_after_the_time_to_wait_closes_the_aggregate(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2, "within_ms": 1_000})
    world.plan(A, [*trained, mix])
    world.run(trained[0])
    world.time_ms += 1_000

    world.run(trained[1])

    assert world.shown(mix) == "todo"


# ---- L3: cancel ----


@pytest.mark.rule("L3")
def test_canceling_a_plan_is_one_small_entry(world, digits):
    tasks, _, _ = digits.fedavg(B, rounds=5)
    plan = world.plan(A, tasks)
    world.doing(tasks[0])

    built = world.submit(A, {"op": "plan.cancel", "plan": plan})

    assert len(built.state.changes) == 2  # the plan and the receipt
    assert set(states(world, *tasks)) == {"canceled"}


@pytest.mark.rule("L3")
def test_a_late_done_is_refused(world, digits):
    plan = world.plan(A, [train := digits.train(A)])
    world.doing(train)
    late = world.done_operation(train)
    world.submit(A, {"op": "plan.cancel", "plan": plan})

    assert refused(world, A, late, role="node").rule == "L3"


@pytest.mark.rule("L3")
def test_what_is_done_stays_done(world, digits):
    first = digits.train(A)
    plan = world.plan(A, [first, digits.train(A, first)])
    world.run(first)
    world.submit(A, {"op": "plan.cancel", "plan": plan})

    assert world.shown(first) == "done"


@pytest.mark.rule("L3")
def test_nobody_else_cancels_a_plan(world, digits):
    plan = world.plan(A, [digits.train(B)])

    assert refused(world, B, {"op": "plan.cancel", "plan": plan}).rule == "A1"


@pytest.mark.rule("L3")
def test_a_plan_is_canceled_once(world, digits):
    plan = world.plan(A, [digits.train(A)])
    world.submit(A, {"op": "plan.cancel", "plan": plan})

    assert refused(world, A, {"op": "plan.cancel", "plan": plan}).rule == "L3"


@pytest.mark.rule("L3")
def test_a_worker_s_admin_cancels_what_runs_on_its_node(world, digits):
    train, other = digits.train(B), digits.train(A)
    world.plan(A, [train, other], on_failure="continue")
    world.doing(train)

    world.submit(B, {"op": "task.cancel", "task": train["key"]}, role="admin")

    assert states(world, train, other) == ["canceled", "todo"]


@pytest.mark.rule("L3")
@pytest.mark.parametrize(("organization", "role"), [(C, "admin"), (B, "scientist")])
def test_nobody_else_cancels_a_task(world, digits, organization, role):
    world.plan(A, [train := digits.train(B)])

    error = refused(world, organization, {"op": "task.cancel", "task": train["key"]}, role=role)

    assert error.rule == "L3"


# ---- L4: retry ----


@pytest.mark.rule("L4")
def test_a_retry_reopens_a_stopped_plan_where_it_was(world, digits):
    tasks, final, _ = digits.fedavg(B)
    plan = world.plan(A, tasks)
    world.run(tasks[0])
    world.doing(tasks[1])
    world.doing(tasks[2])
    world.failed(tasks[1])
    assert world.shown(tasks[2]) == "canceled"

    world.submit(A, {"op": "task.retry", "task": tasks[1]["key"]})

    assert states(world, tasks[1], tasks[2]) == ["todo", "todo"]  # its run was stopped too
    world.run_all()
    assert world.shown(final) == "done"
    assert world.row(f"plan/{plan}")["status"] == "closed"
    assert world.row(f"task/{tasks[2]['key']}")["attempt"] == 2


@pytest.mark.rule("L4")
def test_a_retry_reopens_what_the_failure_canceled(world, digits):
    first = digits.train(A)
    child = digits.train(A, first)
    grandchild = digits.train(A, child)
    world.plan(A, [first, child, grandchild], on_failure="continue")
    world.doing(first)
    world.failed(first)

    world.submit(A, {"op": "task.retry", "task": first["key"]})

    assert states(world, first, child, grandchild) == ["todo", "waiting", "waiting"]
    world.run_all()
    assert world.shown(grandchild) == "done"
    assert world.row(f"tried/{first['key']}/000001")["reason"] == "exit"


@pytest.mark.rule("L4")
def test_a_retry_does_not_revive_what_another_failure_holds_down(world, digits):
    first, other = digits.train(A), digits.train(B)
    mix = digits.mix([first, other], B)
    world.plan(A, [first, other, mix], on_failure="continue")
    for train in (first, other):
        world.doing(train)
        world.failed(train)

    world.submit(A, {"op": "task.retry", "task": first["key"]})
    assert world.shown(mix) == "canceled"

    world.submit(A, {"op": "task.retry", "task": other["key"]})
    assert world.shown(mix) == "waiting"


@pytest.mark.rule("L4")
def test_a_retry_reopens_a_diamond_as_a_whole(world, digits):
    first = digits.train(A)
    left, right = digits.train(A, first), digits.train(A, first)
    bottom = digits.mix([left, right], B)
    world.plan(A, [first, left, right, bottom], on_failure="continue")
    world.doing(first)
    world.failed(first)
    assert states(world, left, right, bottom) == ["canceled"] * 3

    world.submit(A, {"op": "task.retry", "task": first["key"]})

    assert states(world, left, right, bottom) == ["waiting"] * 3
    world.run_all()
    assert world.shown(bottom) == "done"


@pytest.mark.rule("L4")
def test_a_reopened_task_whose_inputs_are_all_lost_is_canceled_again(world, digits):
    first, other = digits.train(A), digits.train(B)
    child = digits.mix([first], B)
    child["inputs"].append({"name": "b", "task": other["key"], "output": "model"})
    for edge in child["inputs"]:
        edge["on_failed"] = "skip"
    after = digits.train(A, child)
    world.plan(A, [first, other, child, after], on_failure="continue")
    for task in (first, other):
        world.doing(task)
        world.failed(task)
    world.submit(A, {"op": "task.retry", "task": other["key"]})
    assert states(world, child, after) == ["waiting", "waiting"]
    world.doing(other)

    world.failed(other)

    assert states(world, child, after) == ["canceled", "canceled"]


@pytest.mark.rule("L4")
def test_a_skipped_input_comes_back_while_the_aggregate_still_waits(world, digits):
    trained, mix = round_of(digits, need={"at_least": 2})
    world.plan(A, [*trained, mix])
    world.doing(trained[0])
    world.failed(trained[0])
    assert world.row(f"task/{mix['key']}")["skipped"] == ["in-0"]

    world.submit(A, {"op": "task.retry", "task": trained[0]["key"]})
    world.run_all()

    assert world.row(f"model/{mix['key']}/model")["parties"] == [A, B, C]


@pytest.mark.rule("L4")
def test_only_what_failed_is_retried(world, digits):
    first = digits.train(A)
    child = digits.train(A, first)
    world.plan(A, [first, child], on_failure="continue")
    world.doing(first)
    world.failed(first)

    error = refused(world, A, {"op": "task.retry", "task": child["key"]})

    assert error.rule == "L4"
    assert first["key"] in error.expected


@pytest.mark.rule("L4")
def test_a_canceled_plan_is_not_taken_up_again(world, digits):
    plan = world.plan(A, [train := digits.train(A), digits.train(B)], on_failure="continue")
    world.doing(train)
    world.failed(train)
    world.submit(A, {"op": "plan.cancel", "plan": plan})

    assert refused(world, A, {"op": "task.retry", "task": train["key"]}).rule == "L4"


@pytest.mark.rule("L4")
def test_attempts_are_counted_and_bounded():
    world = World(limits={"task_attempts": 2})
    digits = Digits(world, (A, B), A)
    world.plan(A, [train := digits.train(A)])
    retry = {"op": "task.retry", "task": train["key"]}
    world.doing(train)
    world.failed(train)
    world.submit(A, retry)
    world.doing(train)
    world.failed(train)

    assert refused(world, A, retry).found == "2 attempts"


@pytest.mark.rule("L4")
def test_nobody_else_retries(world, digits):
    world.plan(A, [train := digits.train(B)])
    world.doing(train)
    world.failed(train)

    assert refused(world, B, {"op": "task.retry", "task": train["key"]}).rule == "A1"


# ---- L5: open plans ----


def part(plan, number, *tasks):
    return {"op": "plan.tasks", "plan": plan, "part": number, "tasks": list(tasks)}


@pytest.mark.rule("L5")
def test_an_open_plan_is_extended_until_it_is_closed(world, digits):
    plan = world.plan(A, [first := digits.train(A)], open=True)
    world.run(first)
    world.submit(A, part(plan, 1, second := digits.train(A, first)))
    assert world.shown(second) == "todo"

    world.submit(A, {"op": "plan.close", "plan": plan})

    assert refused(world, A, part(plan, 2, digits.train(A, second))).rule == "L5"
    world.run(second)


@pytest.mark.rule("L5")
def test_an_open_plan_may_begin_empty(world, digits):
    plan = world.key(A)
    world.submit(A, {"op": "plan.add", "key": plan, "name": "later", "parts": 0, "open": True})
    world.submit(A, part(plan, 0, train := digits.train(A)))

    assert world.shown(train) == "todo"


@pytest.mark.rule("L5")
def test_an_empty_closed_plan_is_refused(world, digits):
    add = {"op": "plan.add", "key": world.key(A), "name": "nothing", "parts": 0}

    assert refused(world, A, add).rule == "R4"


@pytest.mark.rule("L5")
def test_a_closed_plan_is_not_extended(world, digits):
    plan = world.plan(A, [digits.train(A)])

    assert refused(world, A, part(plan, 1, digits.train(A))).rule == "L5"


@pytest.mark.rule("L5")
def test_a_plan_expires_in_ledger_time(world, digits):
    expires = world.time_ms + 50
    train = digits.train(A)
    plan = world.plan(A, [train], open=True, expires_ms=expires)
    world.time_ms = expires + 1

    assert world.shown(train) == "canceled"
    assert refused(world, A, part(plan, 1, digits.train(A))).rule == "L5"
    late = {"op": "task.doing", "task": train["key"], "attempt": 1}
    assert refused(world, A, late, role="node").rule == "L3"


@pytest.mark.rule("L5")
def test_only_its_owner_extends_a_plan(world, digits):
    plan = world.plan(A, [digits.train(A)], open=True)

    assert refused(world, B, part(plan, 1, digits.train(B))).rule == "A1"


@pytest.mark.rule("B3")
def test_finals_are_marked_with_their_tasks(world, digits):
    train, later = digits.train(A), digits.train(A)
    plan = world.plan(A, [train], open=True, final=[train["key"]])
    world.submit(A, part(plan, 1, later) | {"final": [later["key"]]})

    assert world.row(f"plan/{plan}")["final"] == [train["key"], later["key"]]


@pytest.mark.rule("B3")
def test_a_model_is_not_made_final_afterwards(world, digits):
    train = digits.train(A)
    plan = world.plan(A, [train], open=True)
    world.run(train)
    late = part(plan, 1, digits.train(A, train)) | {"final": [train["key"]]}

    assert refused(world, A, late).rule == "B3"


@pytest.mark.rule("B3")
def test_a_final_task_makes_a_model(world, digits):
    train = digits.train(A)
    check = digits.test(A, train, label="train")
    tasks = [train, check]
    for operations in (
        world.plan_operations(A, tasks, final=[check["key"]]),
        world.plan_operations(A, tasks, final=[world.key(A)]),
    ):
        with pytest.raises(Refused) as caught:
            world.submit(A, *operations)
        assert caught.value.rule == "B3"
