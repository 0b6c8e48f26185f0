"""What a receipt must state: a test's is full (L1, T3); and the key of equal work."""

import pytest
from rules_world import Digits, World, digest

from tilth_ledger import receipts
from tilth_ledger.context import Context
from tilth_ledger.errors import Refused
from tilth_ledger.rows import Overlay

A, C = "hospital-a", "hospital-c"


class Bench:
    """A model in an open plan, ready to be tested at hospital-c."""

    def __init__(self):
        self.world = World()
        self.digits = Digits(self.world, (A,), A, test_sites=(C,))
        self.digits.grant_all()
        self.model = self.digits.init(A)
        self.plan = self.world.plan(A, [self.model], open=True)
        self.world.run(self.model)

    def begun(self, **fields):
        """A test that is doing, and the `task.done` that would be right."""
        task = self.digits.test(C, self.model, **fields)
        part = self.world.row(f"plan/{self.plan}")["received"]
        add = {"op": "plan.tasks", "plan": self.plan, "part": part, "tasks": [task]}
        self.world.submit(A, add)
        self.world.doing(task)
        return task, self.world.done_operation(task)

    def submit(self, done):
        return self.world.submit(C, done, role="node")

    def certified(self, task, objective=None):
        name = f"certified/{objective or self.digits.objective}/000001/{task['key']}"
        return self.world.row(name) is not None


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.rule("L1")
def test_a_test_s_full_receipt_is_taken_and_certified(bench):
    task, done = bench.begun()
    bench.submit(done)

    assert {*receipts.OF_A_TEST} <= {*bench.world.row(f"task/{task['key']}")["receipt"]}
    assert bench.certified(task)


@pytest.mark.rule("L1")
@pytest.mark.parametrize("field", receipts.OF_A_TEST)
def test_a_test_s_receipt_without_a_field_is_refused(bench, field):
    task, done = bench.begun()
    del done["receipt"][field]

    with pytest.raises(Refused) as caught:
        bench.submit(done)

    assert caught.value.rule == "L1"
    assert f"receipt's {field} " in caught.value.message
    assert bench.world.shown(task) == "doing"


@pytest.mark.rule("L1")
@pytest.mark.parametrize("folder", ["code", "opener", "metric"])
def test_a_test_s_receipt_names_every_code_that_ran(bench, folder):
    _, done = bench.begun()
    codes = done["receipt"]["codes"]
    for wrong in ({n: d for n, d in codes.items() if n != folder}, codes | {folder: digest("x")}):
        done["receipt"]["codes"] = wrong
        with pytest.raises(Refused, match="codes"):
            bench.submit(done)


@pytest.mark.rule("L1")
@pytest.mark.parametrize("step", ["features", "predict", "score"])
def test_a_test_s_receipt_names_the_environment_of_every_step(bench, step):
    _, done = bench.begun()
    stated = done["receipt"]["environments"]
    for wrong in ({n: d for n, d in stated.items() if n != step}, stated | {step: digest("x")}):
        done["receipt"]["environments"] = wrong
        with pytest.raises(Refused, match="environments"):
            bench.submit(done)


@pytest.mark.rule("L1")
def test_a_run_that_ended_before_it_began_is_refused(bench):
    _, done = bench.begun()
    done["receipt"]["ended_ms"] = done["receipt"]["started_ms"] - 1

    with pytest.raises(Refused, match="ended_ms"):
        bench.submit(done)


@pytest.mark.rule("L1")
def test_a_training_s_receipt_may_be_short_but_not_wrong(bench):
    """Nothing is certified of it; what it does state must be true."""
    for stated, taken in (({}, True), ({"codes": {"code": digest("x")}}, False)):
        train = bench.digits.train(A)
        bench.world.plan(A, [train])
        bench.world.doing(train)
        done = bench.world.done_operation(train)
        done["receipt"] |= stated
        if taken:
            bench.world.submit(A, done, role="node")
        else:
            with pytest.raises(Refused, match="codes"):
                bench.world.submit(A, done, role="node")


@pytest.mark.rule("T3")
@pytest.mark.parametrize("check", ["metadata", "none"])
def test_data_that_was_not_hashed_certifies_nothing(bench, check):
    task, done = bench.begun()
    done["receipt"]["data_check"] = check
    bench.submit(done)

    assert bench.world.shown(task) == "done"
    assert not bench.certified(task)


@pytest.mark.rule("T3")
def test_an_objective_that_was_withdrawn_meanwhile_certifies_nothing(bench):
    task, done = bench.begun()
    bench.world.submit(A, {"op": "objective.withdraw", "key": bench.digits.objective})
    bench.submit(done)

    assert bench.world.shown(task) == "done"
    assert not bench.certified(task)


# ---- the key of equal work ----


def key_of(world, task, models=None, **changes):
    """The work key of a task's row with some fields replaced, as the ledger computes it."""
    context = Context(Overlay(world.rows), None, "", 0, 0, "", "", "", frozenset())
    row = world.row(f"task/{task['key']}") | changes
    present = [
        (edge, {"digest": (models or {}).get(edge["name"]) or model["digest"]})
        for edge in row["inputs"]
        if (model := world.row(f"model/{edge['task']}/{edge['output']}"))
    ]
    return receipts.work_key(context, row, present)


def test_equal_work_has_equal_keys_and_is_found_by_them(bench):
    """Another task, at another time and with other words around it; the result is the same."""
    first, done = bench.begun()
    bench.submit(done)
    again, done = bench.begun(metadata={"why": "again"})
    bench.submit(done)
    name = bench.world.row(f"task/{first['key']}")["work_key"]

    prefix = f"same-work/{name}/"
    found = {key.removeprefix(prefix) for key, _ in bench.world.rows.scan(prefix)}
    assert found == {first["key"], again["key"]}
    assert key_of(bench.world, first) == name


def other_algo(bench, spec=None):
    """An algo of the same archive in another environment, or of another archive in the same."""
    world, row = bench.world, bench.world.row(f"algo/{bench.digits.algo}")
    if spec is None:
        return world.algo(A, environment=row["environment"])
    return world.algo(A, archive=row["archive"], environment=world.environment(A, spec))


def changed(bench, task):
    """For each ingredient, the task's fields with just that one changed."""
    world, row = bench.world, bench.world.row(f"task/{task['key']}")
    slower = other_algo(bench, {"python": "3.12", "requirements": ["numpy"]})
    newer = other_algo(bench)
    metric = world.objective(A, [bench.digits.test_sets[C]], metric={"builtin": "kappa"})
    opened = world.dataset(C, opener=digest("another opener"))
    other_set = world.set(bench.digits.datasets[C], "test")
    data = row["data"]
    return {
        "kind": {"kind": "predict"},
        "opener": {"data": data | {"dataset": opened}},
        "set": {"data": data | {"set": other_set}},
        "selection": {"data": data | {"selection": {"kind": "first", "count": 2}}},
        "algo": {"algo": newer, "algo_digest": world.row(f"algo/{newer}")["archive"]},
        "environment": {"algo": slower},
        "metric": {"objective": metric},
        "parameters": {"parameters": {"rate": "0.25", "steps": 5}},
        "seed": {"seed": 8},
        "inputs": {"models": {"model": digest("another model")}},
    }


INGREDIENTS = (
    *("kind", "opener", "set", "selection", "algo", "environment", "metric", "parameters"),
    *("seed", "inputs"),
)


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_each_ingredient_changes_the_key(bench, ingredient):
    task, done = bench.begun()
    bench.submit(done)

    assert key_of(bench.world, task, **changed(bench, task)[ingredient]) != key_of(
        bench.world, task
    )
