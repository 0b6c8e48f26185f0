"""Who may use, take out, read: P2 to P6."""

from contextlib import suppress

import pytest
from rules_world import MEAN, Digits, World, digest

from tilth_ledger import permissions
from tilth_ledger.errors import Refused

A, B, C, LAB = "hospital-a", "hospital-b", "hospital-c", "lab"
SITES = (A, B, C)


@pytest.fixture
def world():
    return World((*SITES, LAB))


@pytest.fixture
def digits(world):
    made = Digits(world, SITES, A)
    made.grant_all()
    return made


def refused(world, organization, *operations, role="scientist"):
    with pytest.raises(Refused) as caught:
        world.submit(organization, *operations, role=role)
    return caught.value


def model(world, task, output="model"):
    return world.row(f"model/{task['key']}/{output}")


def users(world, task, right="use", output="model"):
    """Who may use a model now, whatever its row says it was."""
    return permissions.Rights(world.rows).model(model(world, task, output), right)


def mixture(world, digits, **fields):
    """A done mixture over all sites, and the trainings behind it."""
    trained = [digits.train(site) for site in digits.sites]
    mix = digits.mix(trained, B, **fields)
    world.plan(digits.scientist, [*trained, mix])
    world.run_all()
    return mix, trained


# ---- P2: the floor ----


@pytest.mark.rule("P2")
def test_an_unmixed_model_is_for_those_who_may_train_and_mix(world, digits):
    _, trained = mixture(world, digits)

    at_c = trained[2]
    assert users(world, at_c) == {A, B, C}  # A may train there, B aggregates
    assert users(world, at_c, "download") == {A, C}  # who only mixes does not take it out


@pytest.mark.rule("P2")
def test_an_output_lies_within_the_algo_s_grant(world, digits):
    digits.algo = world.algo(A, grants={"use": [A, B, C]})
    world.grant(digits.datasets[C], "train", "public")
    _, trained = mixture(world, digits)

    assert users(world, trained[2]) == {A, B, C}


@pytest.mark.rule("P2")
def test_a_creator_narrows(world, digits):
    mix, _ = mixture(world, digits, outputs={"model": {"use": [A, B]}})

    assert users(world, mix) == {A, B}


@pytest.mark.rule("P2")
def test_a_creator_never_widens(world, digits):
    mix, _ = mixture(world, digits, outputs={"model": {"use": "public", "download": [LAB]}})

    assert users(world, mix) == set(SITES)
    assert users(world, mix, "download") == set()


@pytest.mark.rule("P2")
def test_widening_takes_every_data_owner_behind_the_model(world, digits):
    mix, _ = mixture(world, digits)
    consent = {
        "op": "model.widen",
        "task": mix["key"],
        "output": "model",
        "right": "use",
        "organizations": [LAB],
    }
    for owner in (A, B):
        world.submit(owner, consent)
        assert LAB not in users(world, mix)

    world.submit(C, consent)

    assert LAB in users(world, mix)
    assert LAB not in users(world, mix, "download")


@pytest.mark.rule("P2")
def test_who_has_no_data_behind_a_model_does_not_widen_it(world, digits):
    mix, _ = mixture(world, digits)
    consent = {"op": "model.widen", "task": mix["key"], "output": "model", "right": "use"}

    error = refused(world, LAB, {**consent, "organizations": [LAB]})

    assert error.rule == "P2"
    assert error.expected == "hospital-a and hospital-b and hospital-c"


@pytest.mark.rule("P2")
def test_the_plan_s_owner_narrows_later_too(world, digits):
    mix, _ = mixture(world, digits)
    narrow = {"op": "model.narrow", "task": mix["key"], "output": "model", "right": "use"}
    assert refused(world, B, {**narrow, "grant": [B]}).rule == "P2"

    world.submit(A, {**narrow, "grant": []})

    assert users(world, mix) == {A}


@pytest.mark.rule("P2")
def test_an_imported_model_keeps_its_grants_in_what_is_made_of_it(world, digits):
    key = world.key(C)
    operation = {"op": "model.import", "key": key, "origin": "elsewhere"}
    world.submit(C, operation | world.file("weights") | {"grants": {"use": [A, B]}})
    start = digits.train(A) | {"inputs": [{"name": "model", "model": key}]}
    world.plan(A, [start])
    world.run(start)

    assert users(world, start) == {A}  # A may train at A, and nobody mixes in this plan
    assert users(world, start, "download") == set()  # the importer's `download` is its own


# ---- P3: mixtures ----


@pytest.mark.rule("P3")
def test_a_mixture_is_for_its_participants(world, digits):
    mix, _ = mixture(world, digits)

    assert users(world, mix) == set(SITES)
    assert model(world, mix)["raw"] == []


@pytest.mark.rule("P3")
def test_too_few_parties_leave_the_floor(world):
    digits = Digits(world, (A, B), A)
    digits.grant_all()
    world.grant(digits.datasets[B], "mixed", "participants", min_parties=3)
    mix, _ = mixture(world, digits)

    assert [dataset for dataset, _ in model(world, mix)["raw"]] == sorted(digits.datasets.values())


@pytest.mark.rule("P3")
def test_one_party_s_two_datasets_are_one_party(world):
    digits = Digits(world, (A,), A)
    digits.grant_all()
    second = world.dataset(A, "more")
    data = (second, world.set(second, "train"))
    trained = [digits.train(A), world.task(A, "train", A, digits.algo, data=data)]
    mix = digits.mix(trained, B)
    world.plan(A, [*trained, mix])
    world.run_all()

    assert model(world, mix)["mixed"] == []


def own_mean(world, owner):
    return world.algo(owner, capabilities=("aggregate",), name="my mean")


@pytest.mark.rule("P3")
def test_an_aggregation_of_one_s_own_mixes_once_every_owner_accepts_it(world, digits):
    algo = own_mean(world, A)
    trained = [digits.train(site) for site in SITES]
    plan = world.plan(A, trained, open=True)
    world.run(*trained)

    def mixed(part):
        mix = digits.mix(trained, B) | {"algo": algo, "local": "none"}
        world.submit(A, {"op": "plan.tasks", "plan": plan, "part": part, "tasks": [mix]})
        world.run(mix)
        return model(world, mix)["raw"] == []

    archive = world.row(f"algo/{algo}")["archive"]
    for part, site in enumerate(SITES, 1):
        assert not mixed(part)
        accept = {"op": "algo.accept", "dataset": digits.datasets[site], "algo": archive}
        world.submit(site, accept)

    assert mixed(4)


@pytest.mark.rule("P3")
def test_nobody_accepts_an_aggregation_for_another_owner(world, digits):
    archive = world.row(f"algo/{own_mean(world, A)}")["archive"]
    accept = {"op": "algo.accept", "dataset": digits.datasets[B], "algo": archive}

    assert refused(world, A, accept).rule == "A1"


@pytest.mark.rule("P3")
def test_an_owner_may_keep_mixtures_from_others(world, digits):
    world.grant(digits.datasets[C], "mixed", [B])
    mix, _ = mixture(world, digits)

    assert users(world, mix) == {B, C}


@pytest.mark.rule("P3")
def test_adding_a_known_mixture_does_not_make_one_party_s_update_a_mixture(world, digits):
    mix, trained = mixture(world, digits)
    lone = digits.mix([trained[2], mix], B)
    world.plan(A, [lone])
    world.run(lone)

    assert model(world, lone)["raw"] == [
        [digits.datasets[C], world.row(f"task/{mix['key']}")["plan"]]
    ]


@pytest.mark.rule("P3")
def test_participants_of_a_later_plan_are_not_participants_of_the_first(world, digits):
    mix, _ = mixture(world, digits)
    dataset = world.dataset(LAB)
    world.grant(dataset, "train", [A])
    data = (dataset, world.set(dataset, "train"))
    stolen = world.task(A, "train", LAB, digits.algo, {"model": (mix, "model")}, data)

    error = refused(world, A, *world.plan_operations(A, [stolen]))

    assert error.rule == "R3"
    assert "--mixed lab" in error.remedy


# ---- P4: narrowing binds later use ----


@pytest.mark.rule("P4")
def test_a_grant_that_stands_lets_a_running_plan_go_on(world, digits):
    tasks, _, _ = digits.fedavg(B)
    world.plan(A, tasks)

    assert len(world.run_all()) == len(tasks)


@pytest.mark.rule("P4")
def test_a_narrowed_grant_binds_a_running_plan(world, digits):
    train = digits.train(B)
    world.plan(A, [train])
    world.grant(digits.datasets[B], "train", [])

    with pytest.raises(Refused) as caught:
        world.doing(train)

    assert caught.value.rule == "R3"
    world.failed(train, "rights")
    assert world.shown(train) == "failed"


@pytest.mark.rule("P4")
def test_a_narrowed_grant_binds_models_that_exist(world, digits):
    mix, _ = mixture(world, digits)
    world.grant(digits.datasets[C], "mixed", [A])

    assert users(world, mix) == {A, C}
    with pytest.raises(Refused):
        permissions.may_read_blob(world.rows, model(world, mix)["digest"], LAB)


@pytest.mark.rule("P4")
@pytest.mark.parametrize("what", ["dataset", "algo", "set"])
def test_a_withdrawal_binds_a_task_that_has_not_begun(world, digits, what):
    train = digits.train(A)
    world.plan(A, [train])
    if what == "set":
        prefix = f"set-sample/{digits.train_sets[A]}/"
        key = next(name.removeprefix(prefix) for name, _ in world.rows.scan(prefix))
        world.submit(A, {"op": "sample.withdraw", "key": key})
    else:
        key = digits.datasets[A] if what == "dataset" else digits.algo
        world.submit(A, {"op": f"{what}.withdraw", "key": key})

    with pytest.raises(Refused) as caught:
        world.doing(train)

    assert caught.value.rule == ("D5" if what == "set" else "A4")


# ---- P5: approvals ----


@pytest.fixture
def guarded(world):
    """Hospital B demands approval for each use of its data."""
    made = Digits(world, (A, B), A, approval="required")
    made.grant_all()
    return made


def give(world, digits, **fields):
    key = world.key(B)
    operation = {"op": "approval.give", "key": key, "dataset": digits.datasets[B]}
    world.submit(B, operation | fields)
    return key


@pytest.mark.rule("P5")
def test_a_task_waits_for_the_owner_s_approval_and_goes_on_with_it(world, guarded):
    train = guarded.train(B)
    plan = world.plan(A, [train])
    assert world.row(f"task/{train['key']}")["wait"] == "approval"
    assert world.row(f"asks/{guarded.datasets[B]}/{train['key']}")["plan"] == plan

    key = give(world, guarded, plan=plan)

    assert world.shown(train) == "todo"
    assert world.row(f"asks/{guarded.datasets[B]}/{train['key']}") is None
    world.run(train)
    assert world.row(f"approval/{guarded.datasets[B]}/{key}")["used"] == 1


@pytest.mark.rule("P5")
def test_an_approval_given_before_needs_no_question(world, guarded):
    give(world, guarded, algo=world.row(f"algo/{guarded.algo}")["archive"], author=A)
    world.plan(A, [train := guarded.train(B)])

    assert world.shown(train) == "todo"


@pytest.mark.rule("P5")
def test_an_owner_s_own_plan_needs_no_approval(world, guarded):
    world.plan(A, [train := guarded.train(A)])

    assert world.shown(train) == "todo"


@pytest.mark.rule("P5")
@pytest.mark.parametrize(
    "other",
    [{"algo": digest("x")}, {"author": LAB}, {"author": A, "environment": digest("x")}],
)
def test_an_approval_for_something_else_does_not_count(world, guarded, other):
    world.plan(A, [train := guarded.train(B)])
    give(world, guarded, **other)

    assert world.shown(train) == "waiting"


@pytest.mark.rule("P5")
def test_a_denial_fails_what_waits_and_forbids_the_rest(world, guarded):
    train = guarded.train(B)
    plan = world.plan(A, [train, after := guarded.train(B, train)])
    deny = {"op": "approval.deny", "key": world.key(B), "dataset": guarded.datasets[B]}
    world.submit(B, {**deny, "plan": plan})

    row = world.row(f"task/{train['key']}")
    assert (row["state"], row["reason"]) == ("failed", "denied")
    assert world.shown(after) == "canceled"
    give(world, guarded, author=A)
    world.submit(A, {"op": "task.retry", "task": train["key"]})
    assert world.shown(train) == "waiting"  # the denial stands above a wider approval


@pytest.mark.rule("P5")
@pytest.mark.parametrize("limit", ["runs", "expires_ms"])
def test_an_approval_that_is_used_up_or_expired_does_not_let_a_task_begin(world, guarded, limit):
    first, second = guarded.train(B), guarded.train(B)
    plan = world.plan(A, [first, second])
    bound = {"runs": 1} if limit == "runs" else {"expires_ms": world.time_ms + 4}
    give(world, guarded, plan=plan, **bound)
    world.run(first)
    world.time_ms += 4

    with pytest.raises(Refused) as caught:
        world.doing(second)

    assert caught.value.rule == "P5"
    world.failed(second, "approval_expired")
    assert world.shown(second) == "failed"


@pytest.mark.rule("P5")
def test_an_approval_may_demand_a_grade(world, guarded):
    plan = world.plan(A, [train := guarded.train(B)])
    give(world, guarded, plan=plan, minimum_grade="A")
    world.doing(train)

    with pytest.raises(Refused) as caught:
        world.done(train)

    assert (caught.value.rule, caught.value.found) == ("P5", "grade B")


@pytest.mark.rule("P5")
def test_an_approval_says_what_it_is_for_and_comes_from_the_owner(world, guarded):
    base = {"op": "approval.give", "key": world.key(B), "dataset": guarded.datasets[B]}

    assert refused(world, B, base).rule == "P5"
    assert refused(world, A, {**base, "author": A}).rule == "A1"


# ---- P6: what is served ----


def serves(world, blob, organization, right="use"):
    with suppress(Refused):
        permissions.may_read_blob(world.rows, blob, organization, right)
        return True
    return False


@pytest.mark.rule("P6")
def test_a_model_is_served_to_run_and_to_take_out_by_different_rights(world, digits):
    _, trained = mixture(world, digits)
    blob = model(world, trained[2])["digest"]

    assert [serves(world, blob, name) for name in (A, B, C, LAB)] == [True, True, True, False]
    assert [serves(world, blob, name, "download") for name in (A, B, LAB)] == [True, False, False]


@pytest.mark.rule("P6")
def test_an_unknown_blob_is_served_to_nobody(world, digits):
    with pytest.raises(Refused) as caught:
        permissions.may_read_blob(world.rows, digest("nothing"), A)

    assert caught.value.rule == "P6"


def serves_from(world, holder, blob, organization, right="use"):
    with suppress(Refused):
        permissions.may_read_blob(world.rows, blob, organization, right, holder)
        return True
    return False


@pytest.mark.rule("P6")
def test_naming_another_s_blob_in_an_asset_of_one_s_own_opens_nothing(world, digits):
    _, trained = mixture(world, digits)
    blob = model(world, trained[2])["digest"]
    thief = {"op": "model.import", "key": world.key(LAB), "origin": "mine", "size": 1}
    world.submit(LAB, {**thief, "digest": blob, "format": "hdf5", "grants": {"use": "public"}})

    assert not serves_from(world, C, blob, LAB)  # the worker that made it
    assert not serves_from(world, B, blob, LAB)  # a node that keeps a copy
    assert serves_from(world, C, blob, B)


@pytest.mark.rule("P6")
def test_a_copy_is_served_to_whom_every_asset_allows_it(world, digits):
    algo = world.algo(A, grants={"use": [B, C]})
    blob = world.row(f"algo/{algo}")["archive"]

    assert serves_from(world, B, blob, C)
    assert not serves_from(world, B, blob, LAB)
    assert not serves_from(world, B, digest("nothing"), A)


@pytest.mark.rule("P6")
def test_code_is_served_to_those_who_may_run_it(world, digits):
    algo = world.algo(A, grants={"use": [B]})
    blob = world.row(f"algo/{algo}")["archive"]

    assert [serves(world, blob, name) for name in (A, B, C)] == [True, True, False]


@pytest.mark.rule("P6")
def test_an_opener_is_served_to_those_who_may_work_on_the_dataset(world):
    dataset = world.dataset(A, grants={"train": [B], "test": [C]})
    blob = world.row(f"dataset/{dataset}")["opener"]

    assert [serves(world, blob, name) for name in (A, B, C, LAB)] == [True, True, True, False]


@pytest.mark.rule("P6")
def test_a_report_goes_to_the_plan_s_owner_and_beside_the_model_to_who_mixes_it(world, digits):
    train = digits.train(C)
    mix = digits.mix([train, digits.train(A)], B)
    other = next(edge["task"] for edge in mix["inputs"] if edge["task"] != train["key"])
    tasks = [train, mix, {**digits.train(A), "key": other}]
    world.plan(A, tasks)
    world.doing(train)
    report = {"digest": digest("report"), "size": 10}
    world.done(train, report=report)

    assert [serves(world, report["digest"], name) for name in (A, B, C)] == [True] * 3
    assert not serves(world, report["digest"], LAB)


@pytest.mark.rule("P6")
def test_a_log_is_for_the_data_s_owner_and_the_plan_s(world, digits):
    world.plan(A, [train := digits.train(C)])
    world.doing(train)
    log = {"digest": digest("log"), "size": 10}
    report = {"op": "task.failed", "task": train["key"], "attempt": 1, "reason": "exit", "log": log}
    world.submit(C, report, role="node")

    assert [serves(world, log["digest"], name) for name in (A, B, C)] == [True, False, True]
    assert permissions.may_log(world.rows, train["key"], A)
    world.grant(digits.datasets[C], "logs", [])
    assert not permissions.may_log(world.rows, train["key"], A)


@pytest.mark.rule("P6")
def test_per_sample_values_are_the_data_owner_s_alone_until_it_grants_them(world, digits):
    world.plan(A, [train := digits.train(C)])
    world.doing(train)
    details = {"digest": digest("details"), "size": 10}
    world.done(train, details=details)
    assert [serves(world, details["digest"], name) for name in (A, C)] == [False, True]

    world.grant(digits.datasets[C], "details", [A])

    assert serves(world, details["digest"], A)


@pytest.mark.rule("P6")
def test_predictions_leave_only_where_the_dataset_exports_them(world):
    for export in (False, True):
        digits = Digits(world, (A, C), A, export=export)
        digits.grant_all()
        train = digits.train(A)
        world.grant(digits.datasets[A], "updates", [C])
        task = digits.test(C, train) | {"kind": "predict"}
        del task["objective"]
        world.plan(A, [train, task])
        world.run(train)
        world.doing(task)
        predictions = world.file(f"predictions {export}")
        world.done(task, outputs={"predictions": predictions})

        assert serves(world, predictions["digest"], C)
        assert serves(world, predictions["digest"], A) is export


@pytest.mark.rule("P6")
def test_what_leaves_is_bounded_by_the_dataset(world):
    bounds = {"model_bytes": 50, "log_bytes": 1, "report_bytes": 5}
    digits = Digits(world, (A, B), A, limits=bounds)
    world.plan(A, [train := digits.train(A)])
    world.doing(train)

    with pytest.raises(Refused) as caught:
        world.done(train)

    assert (caught.value.rule, caught.value.found) == ("P6", "100 bytes")


@pytest.mark.rule("P6")
def test_a_count_stands_on_the_ledger_only_if_reports_are_public(world, digits):
    report = {"digest": digest("report"), "size": 10, "count": 7}
    world.plan(A, [train := digits.train(C)])
    world.doing(train)
    with pytest.raises(Refused) as caught:
        world.done(train, report=report)
    assert caught.value.rule == "P6"

    world.grant(digits.datasets[C], "report", "public")
    world.done(train, report=report)

    assert world.row(f"task/{train['key']}")["report"]["count"] == 7


def test_the_mean_is_reviewed_and_known_by_its_digest():
    assert {digest('{"builtin":"mean"}')} == permissions.REVIEWED_AGGREGATIONS
    assert MEAN == {"builtin": "mean"}


# ---- images of environments ----


def image(world, owner=A, **more):
    """The operation by which an organization states and offers an image."""
    operation = {"op": "image.add", "key": world.key(owner), "environment": world.environment(B)}
    file = {"digest": digest("file"), "size": 7}
    return {**operation, "image": digest("image"), "file": file, **more}


@pytest.mark.rule("P6")
def test_an_image_is_served_to_all_or_to_whom_its_statement_names(world):
    stated = image(world)
    world.submit(A, stated)
    assert serves_from(world, A, digest("file"), LAB)
    (key,) = world.rows.scan(f"image-of/{world.row('image/' + stated['key'])['digest']}/")
    assert key[0].endswith(stated["key"])

    named = image(world, file={"digest": digest("other"), "size": 7}, grants={"use": [C]})
    world.submit(A, named)
    assert serves_from(world, A, digest("other"), C)
    assert not serves_from(world, A, digest("other"), LAB)


@pytest.mark.rule("A4")
@pytest.mark.rule("P6")
def test_a_withdrawn_image_is_served_to_nobody_else(world):
    stated = image(world)
    world.submit(A, stated)
    assert refused(world, B, {"op": "image.withdraw", "key": stated["key"]}).rule == "A1"
    world.submit(A, {"op": "image.withdraw", "key": stated["key"]})

    assert not serves_from(world, A, digest("file"), LAB)
    assert serves_from(world, A, digest("file"), A)


@pytest.mark.rule("A3")
def test_an_image_is_of_a_registered_environment(world):
    stated = image(world, environment=f"{B}/{'9' * 32}")
    assert refused(world, A, stated).rule == "A3"


@pytest.mark.rule("P6")
def test_stating_an_image_under_another_s_blob_opens_nothing(world, digits):
    _, trained = mixture(world, digits)
    blob = model(world, trained[2])["digest"]
    world.submit(LAB, image(world, LAB, file={"digest": blob, "size": 1}))

    assert not serves_from(world, C, blob, LAB)
