"""Training and plans: R1 to R7, on tasks as they are registered."""

import pytest
from rules_world import MEAN, Digits, World, digest

from tilth_ledger import graph
from tilth_ledger.errors import InvalidInput, Refused

A, B, C = "hospital-a", "hospital-b", "hospital-c"


@pytest.fixture
def world():
    return World()


@pytest.fixture
def digits(world):
    made = Digits(world, (A, B), A)
    made.grant_all()
    return made


def refused(world, tasks, owner=A, **fields):
    """What a plan is refused for; none of its tasks is registered."""
    with pytest.raises(Refused) as caught:
        world.plan(owner, tasks, **fields)
    assert not any(world.row(f"task/{task['key']}") for task in tasks)
    return caught.value


# ---- R1: on train samples ----


@pytest.mark.rule("R1")
def test_a_traintuple_works_on_a_train_set(world, digits):
    task = digits.train(A)
    world.plan(A, [task])

    assert world.shown(task) == "todo"


@pytest.mark.rule("R1")
@pytest.mark.parametrize("label", ["test", "none"])
def test_a_traintuple_never_sees_samples_of_another_label(world, digits, label):
    forbidden = world.set(digits.datasets[A], label)
    task = {**digits.train(A), "data": {"dataset": digits.datasets[A], "set": forbidden}}

    error = refused(world, [task])

    assert error.rule == "R1"
    assert f"label {label}" in error.found


@pytest.mark.rule("R1")
def test_a_traintuple_without_data_is_refused(world, digits):
    task = digits.train(A)
    del task["data"]

    assert refused(world, [task]).rule == "R1"


@pytest.mark.rule("R1")
def test_an_aggregate_has_no_data(world, digits):
    trained = [digits.train(A), digits.train(B)]
    mix = {**digits.mix(trained, B), "data": trained[0]["data"]}

    assert refused(world, [*trained, mix]).rule == "R1"


@pytest.mark.rule("D5")
def test_a_retired_set_has_no_new_use(world, digits):
    sample = next(k for k, _ in world.rows.scan(f"set-sample/{digits.train_sets[A]}/"))
    key = sample.removeprefix(f"set-sample/{digits.train_sets[A]}/")
    world.submit(A, {"op": "sample.withdraw", "key": key})

    error = refused(world, [digits.train(A)])

    assert error.rule == "D5"
    assert "retired" in error.found


# ---- R2: at the owner ----


@pytest.mark.rule("R2")
def test_a_traintuple_runs_at_its_dataset_s_owner(world, digits):
    task = digits.train(B)
    world.plan(A, [task])

    assert world.work(B)[task["key"]] == "todo"


@pytest.mark.rule("R2")
def test_no_other_worker_is_accepted(world, digits):
    error = refused(world, [{**digits.train(A), "worker": B}])

    assert (error.rule, error.expected) == ("R2", A)


@pytest.mark.rule("R2")
def test_nobody_else_executes_it(world, digits):
    task = digits.train(A)
    world.plan(A, [task])

    with pytest.raises(Refused) as caught:
        world.submit(B, {"op": "task.doing", "task": task["key"], "attempt": 1}, role="node")

    assert caught.value.rule == "R2"


# ---- R3: rights ----


@pytest.mark.rule("R3")
def test_the_plan_s_owner_trains_where_it_was_granted(world, digits):
    task = digits.train(B)
    world.plan(A, [task])

    assert world.row(f"task/{task['key']}")["owner"] == A


@pytest.mark.rule("R3")
def test_a_missing_train_right_is_refused_with_the_command_that_grants_it(world, digits):
    task = {**digits.train(B), "key": world.key(C)}

    error = refused(world, [task], owner=C)

    assert error.rule == "R3"
    assert error.found == "hospital-c on digits of hospital-b"
    assert error.expected == "hospital-a, hospital-b"
    assert error.remedy == "hospital-b grants it with: tilth data grant digits --train hospital-c"


@pytest.mark.rule("R3")
@pytest.mark.parametrize("allowed", [[A], [A, C]])
def test_an_algo_s_grant_binds_worker_and_creator(world, digits, allowed):
    algo = world.algo(A, grants={"use": allowed})

    error = refused(world, [{**digits.train(B), "algo": algo}])

    assert error.rule == "R3"
    assert error.found == "hospital-b on softmax"


@pytest.mark.rule("R3")
def test_an_algo_must_be_capable(world, digits):
    algo = world.algo(A, capabilities=("predict",))

    error = refused(world, [{**digits.train(A), "algo": algo}])

    assert error.rule == "R3"
    assert error.expected == "train"


@pytest.mark.rule("R3")
def test_a_built_in_aggregation_trains_nothing(world, digits):
    assert refused(world, [{**digits.train(A), "algo": MEAN}]).rule == "R3"


def in_environment(world, *requirements, python="3.11"):
    """An algo whose environment states these; the digits' opener needs Python 3.11 and numpy."""
    spec = {"python": python, "requirements": list(requirements)}
    return world.algo(A, environment=world.environment(A, spec))


@pytest.mark.rule("R3")
def test_an_algo_s_environment_may_hold_more_than_the_opener_needs(world, digits):
    task = {**digits.train(A), "algo": in_environment(world, "h5py", "numpy")}
    world.plan(A, [task])

    assert world.shown(task) == "todo"


@pytest.mark.rule("R3")
@pytest.mark.parametrize(
    ("requirements", "python", "lacking"),
    [
        (("h5py",), "3.11", "also numpy,"),
        (("numpy>=2",), "3.11", "also numpy,"),
        (("numpy",), "3.12", "also python 3.11,"),
        ((), "3.12", "also python 3.11, numpy,"),
    ],
)
def test_an_algo_s_environment_must_hold_what_the_opener_needs(
    world, digits, requirements, python, lacking
):
    algo = in_environment(world, *requirements, python=python)
    start = world.task(A, "init", A, algo)
    train = {**digits.train(A, start), "algo": algo}

    error = refused(world, [start, train])

    assert error.rule == "R3"
    assert lacking in error.expected
    assert "tilth algo add FOLDER --environment NAME" in error.remedy
    world.plan(A, [start])  # no opener runs in it


def imported(world, owner, **grants):
    key = world.key(owner)
    operation = {"op": "model.import", "key": key, "origin": "published weights", "grants": grants}
    world.submit(owner, {**operation, **world.file("imported")})
    return key


@pytest.mark.rule("R3")
def test_training_starts_from_an_imported_model(world, digits):
    model = imported(world, C, use="public")
    task = {**digits.train(B), "inputs": [{"name": "model", "model": model}]}
    world.plan(A, [task])
    world.run(task)

    assert world.row(f"model/{task['key']}/model")["imports"] == [model]


@pytest.mark.rule("R3")
def test_an_outside_model_needs_a_grant_to_creator_and_worker(world, digits):
    for allowed in ([A], [B]):
        model = imported(world, C, use=allowed)
        task = {**digits.train(B), "inputs": [{"name": "model", "model": model}]}

        assert refused(world, [task]).rule == "R3"


@pytest.mark.rule("R3")
def test_a_model_of_another_plan_is_an_input_once_it_is_done(world, digits):
    first = digits.train(A)
    world.plan(A, [first])
    second = digits.train(A, first)
    assert refused(world, [second]).rule == "R4"

    world.run(first)
    world.plan(A, [second])

    assert world.shown(second) == "todo"


@pytest.mark.rule("R3")
def test_an_unmixed_model_does_not_travel_to_another_data_owner(world, digits):
    first = digits.train(A)
    second = digits.train(B, first)

    error = refused(world, [first, second])

    assert error.rule == "R3"
    assert "tilth data grant digits --updates hospital-b" in error.remedy


# ---- R4: the graph ----


@pytest.mark.rule("R4")
def test_ranks_are_depths(world, digits):
    tasks, final, tests = digits.fedavg(B, rounds=2)
    world.plan(A, tasks)

    assert world.row(f"task/{tasks[0]['key']}")["rank"] == 1
    assert world.row(f"task/{final['key']}")["rank"] == 5
    assert {world.row(f"task/{test['key']}")["rank"] for test in tests} == {6}


@pytest.mark.rule("R4")
def test_the_order_within_a_part_does_not_matter(world, digits):
    tasks, _, _ = digits.fedavg(B)
    world.plan(A, list(reversed(tasks)))

    assert len(world.run_all()) == len(tasks)


@pytest.mark.rule("R4")
def test_a_cycle_is_refused_and_named(world, digits):
    first, second = digits.train(A), digits.train(A)
    for task, parent in ((first, second), (second, first)):
        task["inputs"] = [{"name": "model", "task": parent["key"], "output": "model"}]

    error = refused(world, [first, second])

    assert error.rule == "R4"
    assert first["key"] in error.found
    assert second["key"] in error.found


@pytest.mark.rule("R4")
def test_an_unknown_parent_is_refused(world, digits):
    task = digits.train(A, {"key": world.key(A)})

    assert refused(world, [task]).rule == "R4"


@pytest.mark.rule("R4")
def test_a_repeated_id_is_refused(world, digits):
    task = digits.train(A)

    with pytest.raises(Refused) as caught:
        world.plan(A, [task, dict(task)])

    assert caught.value.rule == "R4"


@pytest.mark.rule("R4")
def test_an_input_names_an_output_that_exists(world, digits):
    first = digits.train(A)

    assert refused(world, [first, digits.train(A, first, output="trunk")]).rule == "R4"


@pytest.mark.rule("R4")
def test_parts_are_inert_until_the_last_one_seals_the_plan(world, digits):
    first = digits.train(A)
    second = digits.train(A, first)
    plan = world.key(A)
    add = {"op": "plan.add", "key": plan, "name": "in parts", "parts": 2}
    world.submit(A, add, {"op": "plan.tasks", "plan": plan, "part": 0, "tasks": [first]})
    assert world.row(f"task/{first['key']}")["state"] == "waiting"
    with pytest.raises(Refused, match="inert"):
        world.doing(first)

    world.submit(A, {"op": "plan.tasks", "plan": plan, "part": 1, "tasks": [second]})

    assert world.shown(first) == "todo"
    assert len(world.run_all()) == 2


@pytest.mark.rule("R4")
@pytest.mark.parametrize("part", [0, 2])
def test_parts_come_in_order_and_once(world, digits, part):
    plan = world.key(A)
    add = {"op": "plan.add", "key": plan, "name": "in parts", "parts": 3}
    first = {"op": "plan.tasks", "plan": plan, "part": 0, "tasks": [digits.train(A)]}
    world.submit(A, add, first)

    with pytest.raises(Refused) as caught:
        world.submit(A, {**first, "part": part, "tasks": [digits.train(A)]})

    assert caught.value.rule == "R4"
    assert caught.value.expected == "part 1"


@pytest.mark.rule("R4")
def test_a_plan_that_is_never_sealed_expires_and_stays_inert(world, digits):
    plan = world.key(A)
    task = digits.train(A)
    add = {"op": "plan.add", "key": plan, "name": "abandoned", "parts": 2}
    world.submit(A, add, {"op": "plan.tasks", "plan": plan, "part": 0, "tasks": [task]})
    world.time_ms = world.row(f"plan/{plan}")["expires_ms"] + 1

    late = {"op": "plan.tasks", "plan": plan, "part": 1, "tasks": [digits.train(A)]}
    with pytest.raises(Refused) as caught:
        world.submit(A, late)

    assert "expired" in caught.value.message
    assert world.work(A)[task["key"]] == "canceled"


@pytest.mark.rule("R4")
def test_a_plan_has_a_largest_size(world):
    small = World(limits={"plan_tasks": 2})
    digits = Digits(small, (A, B), A)
    digits.grant_all()

    assert refused(small, [digits.train(A) for _ in range(3)]).rule == "R4"


@pytest.mark.rule("R4")
def test_a_task_continues_the_local_folder_of_its_nearest_ancestor(world, digits):
    tasks, final, _ = digits.fedavg(B, rounds=2)
    world.plan(A, tasks)
    trains = [task for task in tasks if task["kind"] == "train" and task["worker"] == B]
    mixes = [task for task in tasks if task["kind"] == "aggregate"]

    assert "local_from" not in world.row(f"task/{trains[0]['key']}")
    assert world.row(f"task/{trains[1]['key']}")["local_from"] == trains[0]["key"]
    assert world.row(f"task/{final['key']}")["local_from"] == mixes[0]["key"]


@pytest.mark.rule("R4")
def test_two_equally_near_local_folders_are_refused_unless_the_task_says_which(world, digits):
    first, second = digits.train(A), digits.train(A)
    mix = digits.mix([first, second], B)
    after = digits.train(A, mix)

    error = refused(world, [first, second, mix, after])
    assert error.rule == "R4"
    assert "local" in error.remedy

    world.plan(A, [first, second, mix, {**after, "local": first["key"]}])
    assert world.row(f"task/{after['key']}")["local_from"] == first["key"]


def test_ranks_of_a_long_chain_need_no_deep_stack():
    parents = {str(i): [str(i - 1)] if i else [] for i in range(20_000)}

    assert graph.ranks(parents, {})["19999"] == 20_000


# ---- R5: parameters ----


@pytest.mark.rule("R5")
def test_parameters_are_filled_in_from_the_schema(world, digits):
    task = digits.train(A, parameters={"rate": "0.25"})
    world.plan(A, [task])

    assert world.row(f"task/{task['key']}")["parameters"] == {"rate": "0.25", "steps": 5}


@pytest.mark.rule("R5")
@pytest.mark.parametrize(
    ("given", "found", "expected"),
    [
        ({"speed": 1}, "speed", "rate, steps"),
        ({"rate": True}, "True", "a decimal"),
        ({"rate": "fast"}, "'fast'", "a decimal"),
        ({"rate": "10.5"}, "'10.5'", "at most 10"),
        ({"rate": "-1"}, "'-1'", "at least 0"),
        ({"steps": "5"}, "'5'", "an integer"),
        ({"steps": 0}, "0", "at least 1"),
        ({"steps": [1, 2]}, "[1, 2]", "an integer"),
    ],
)
def test_a_parameter_that_does_not_fit_says_what_is_allowed(world, digits, given, found, expected):
    error = refused(world, [digits.train(A, parameters=given)])

    assert error.rule == "R5"
    assert error.found == found
    assert expected in error.expected


def schema(world, *parameters):
    manifest = {"format": "python", "capabilities": ["train"], "parameters": list(parameters)}
    return world.algo(A, manifest=manifest)


@pytest.mark.rule("R5")
def test_choices_lengths_and_arrays(world, digits):
    algo = schema(
        world,
        {"name": "mode", "type": "str", "choices": ["fast", "slow"]},
        {"name": "layers", "type": "int", "array": True, "max_length": 3, "low": 1},
        {"name": "word", "type": "str", "min_length": 2, "default": "ok"},
        {"name": "flag", "type": "bool", "default": False},
    )
    good = {"mode": "slow", "layers": [8, 4]}
    task = {**digits.train(A), "algo": algo}
    world.plan(A, [{**task, "parameters": good}])
    assert world.row(f"task/{task['key']}")["parameters"]["word"] == "ok"

    for wrong in ({"mode": "medium"}, {"layers": [1, 2, 3, 4]}, {"layers": [0]}, {"word": "x"}):
        again = {**task, "key": world.key(A), "parameters": good | wrong}
        assert refused(world, [again]).rule == "R5"
    missing = {**task, "key": world.key(A), "parameters": {"mode": "fast"}}
    assert refused(world, [missing]).found == "no value"


@pytest.mark.rule("R5")
@pytest.mark.parametrize(
    "parameter",
    [
        {"name": "a", "type": "int", "default": "one"},
        {"name": "a", "type": "int", "low": 5, "default": 1},
        {"name": "a", "type": "str", "low": 1},
        {"name": "a", "type": "float", "choices": ["x"]},
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(world, parameter):
    with pytest.raises(Refused) as caught:
        schema(world, parameter)

    assert caught.value.rule == "R5"


def test_a_binary_float_is_no_parameter(world, digits):
    with pytest.raises(InvalidInput):
        world.plan(A, [digits.train(A, parameters={"rate": 0.5})])


# ---- R6: heads ----


def composite(world, digits, site, head=None, trunk=None, **fields):
    algo = fields.pop("algo", None) or world.algo(A, capabilities=("composite", "predict"))
    inputs = {"head": (head, "head"), "trunk": (trunk, "trunk")} if head else {}
    data = (digits.datasets[site], digits.train_sets[site])
    return world.task(A, "composite", site, algo, inputs, data, **fields)


@pytest.mark.rule("R6")
def test_a_head_stays_and_the_trunk_travels(world, digits):
    first = composite(world, digits, A)
    other = composite(world, digits, B)
    inputs = {"a": (first, "trunk"), "b": (other, "trunk")}
    mix = world.task(A, "aggregate", B, MEAN, inputs)
    second = composite(world, digits, A)
    second["inputs"] = [
        {"name": "head", "task": first["key"], "output": "head"},
        {"name": "trunk", "task": mix["key"], "output": "model"},
    ]
    world.plan(A, [first, other, mix, second])
    world.run_all()

    assert world.shown(second) == "done"
    assert world.row(f"model/{second['key']}/head")["use"] == [A]
    assert A in world.row(f"model/{mix['key']}/model")["use"]


@pytest.mark.rule("R6")
def test_a_head_never_leaves_its_worker(world, digits):
    first = composite(world, digits, A)

    error = refused(world, [first, composite(world, digits, B, first, first)])

    assert (error.rule, error.expected) == ("R6", A)


@pytest.mark.rule("R6")
def test_a_head_is_never_aggregated(world, digits):
    first = composite(world, digits, B)
    mix = world.task(A, "aggregate", B, MEAN, {"a": (first, "head")})

    assert refused(world, [first, mix]).rule == "R6"


@pytest.mark.rule("R6")
def test_head_and_trunk_come_together(world, digits):
    first = composite(world, digits, A)
    second = composite(world, digits, A)
    second["inputs"] = [{"name": "head", "task": first["key"], "output": "head"}]

    assert refused(world, [first, second]).rule == "R4"


# ---- R7: aggregates ----


@pytest.mark.rule("R7")
def test_an_aggregate_runs_where_it_is_declared(world, digits):
    trained = [digits.train(A), digits.train(B)]
    mix = digits.mix(trained, B)
    world.plan(A, [*trained, mix])
    world.run(*trained)

    assert world.shown(mix) == "todo"


@pytest.mark.rule("R7")
def test_an_organization_that_does_not_aggregate_is_refused(world, digits):
    trained = [digits.train(A), digits.train(B)]

    error = refused(world, [*trained, digits.mix(trained, A)])

    assert (error.rule, error.found) == ("R7", A)

    world.submit(A, {"op": "organization.update", "aggregates": True}, role="admin")
    world.plan(A, [*trained, digits.mix(trained, A)])


@pytest.mark.rule("R7")
def test_an_aggregator_that_may_not_hold_updates_is_refused(world, digits):
    world.grant(digits.datasets[A], "updates", [])
    trained = [digits.train(A), digits.train(B)]

    error = refused(world, [*trained, digits.mix(trained, B)])

    assert error.rule == "R7"
    assert "tilth data grant digits --updates hospital-b" in error.remedy


@pytest.mark.rule("R7")
def test_an_aggregate_needs_no_more_than_it_has(world, digits):
    trained = [digits.train(A), digits.train(B)]

    assert refused(world, [*trained, digits.mix(trained, B, need={"at_least": 3})]).rule == "R7"


@pytest.mark.rule("R7")
def test_input_names_differ(world, digits):
    trained = [digits.train(A), digits.train(B)]
    mix = digits.mix(trained, B)
    mix["inputs"][1]["name"] = mix["inputs"][0]["name"]

    assert refused(world, [*trained, mix]).rule == "R4"


def test_an_opener_is_a_blob_that_names_its_dataset(world, digits):
    name = f"blob/{digest(f'opener of {A}')}/opener/{digits.datasets[A]}"

    assert world.row(name) == {}
