"""Whatever well-shaped operations say, the state machine answers with a refusal or a new state.

Values are drawn from the table's own types, keys and digests mostly from those that exist.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_world import Digits, World

from tilth_ledger import operations, schema, shapes
from tilth_ledger.dry_run import check_operations
from tilth_ledger.errors import InvalidInput, Refused

A, B, C = "hospital-a", "hospital-b", "hospital-c"


def half_way():
    """A consortium in the middle of its work: tasks in every state, an open plan, a question."""
    world = World()
    digits = Digits(world, (A, B), A, test_sites=(B, C))
    digits.grant_all()
    guarded = world.dataset(C, "guarded", approval="required")
    world.grant(guarded, "train", "public")
    train_set = world.set(guarded, "train")
    asking = world.task(A, "train", C, digits.algo, data=(guarded, train_set))
    trained = [digits.train(A), digits.train(B), digits.train(A)]
    mix = digits.mix(trained[:2], B, need={"at_least": 1})
    test = digits.test(B, trained[1])
    waiting = digits.train(A, mix)
    tasks = [*trained, mix, test, waiting, asking]
    world.plan(A, tasks, open=True, on_failure="continue", objectives=[digits.objective])
    world.run(trained[1])
    world.doing(trained[0])
    world.doing(test)
    world.doing(trained[2])
    world.failed(trained[2])
    return world


TOLD = half_way()


def keys_of(noun):
    prefix = f"{noun}/"
    return sorted(k.removeprefix(prefix) for k, _ in TOLD.rows.scan(prefix) if k.count("/") == 2)


FRESH = st.integers(0, 5).map(lambda n: f"{A}/{'f' * 31}{n}")
POOLS = {noun: keys_of(noun) for noun in ("task", "plan", "dataset", "objective", "algo", "sample")}
POOLS |= {"environment": keys_of("environment"), "set": keys_of("sampleset")}
DIGESTS = sorted({key.split("/")[1] for key, _ in TOLD.rows.items() if key.startswith("blob/")})
EXAMPLES = {
    id(schema.KEY): st.sampled_from(POOLS["sample"]) | FRESH,
    id(schema.DIGEST): st.sampled_from([*DIGESTS, "0" * 64]),
    id(schema.ORGANIZATION): st.sampled_from([A, B, C, "nobody"]),
    id(schema.LABEL): st.sampled_from(["model", "head", "trunk", "rate", "in-0", "x"]),
    id(shapes.GLOB): st.just("labels/*"),
}


def values(kind):
    """Values that a type accepts."""
    if id(kind) in EXAMPLES:
        return EXAMPLES[id(kind)]
    match kind:
        case schema.Text():
            return st.text("ab", min_size=max(kind.low, 1), max_size=3)
        case schema.Integer():
            return st.integers(kind.low, min(kind.high, kind.low + 3))
        case schema.Boolean():
            return st.booleans()
        case schema.Choice():
            return st.sampled_from(kind.values)
        case schema.Decimal():
            return st.sampled_from(["0", "0.9", "-1.5"])
        case schema.ListOf():
            return st.lists(values(kind.item), min_size=kind.low, max_size=kind.low + 2)
        case schema.MapOf():
            return st.dictionaries(values(kind.key), values(kind.value), max_size=2)
        case schema.Json():
            return st.just({"classes": [0, 1]})
        case schema.Record():
            return records(kind)
        case schema.Either():
            return values(kind.text) | values(kind.record)
        case schema.Tagged():
            return st.one_of(*map(records, kind.records.values()))
        case schema.Grant():
            return st.sampled_from([*kind.words, [], ["hospital-b"], ["nobody"]])
        case shapes.Metric():
            return values(shapes.METRIC)
        case shapes.Input():
            return records(shapes.INPUT_OF_TASK) | records(shapes.INPUT_OF_MODEL)
        case shapes.Parameter() | shapes.ConfusionLabel():
            return st.sampled_from([0, 1, "0.5", "x"])
        case _:
            return st.sampled_from(["none", "a"])


def field(name, kind, noun):
    """Values of a named field: a key mostly names something of the right kind."""
    if kind is not schema.KEY:
        return values(kind)
    pool = POOLS.get(noun if name == "key" else name, [])
    return st.sampled_from(pool) | FRESH if pool else FRESH


def records(kind, noun=""):
    required = {name: field(name, kind.fields[name], noun) for name in sorted(kind.required)}
    optional = {name: field(name, kind.fields[name], noun) for name in sorted(kind.optional)}
    return st.fixed_dictionaries(required, optional=optional)


def operation(name):
    noun, _, verb = name.partition(".")
    known = "" if verb in ("add", "import", "give", "deny") else noun
    fields = records(operations.OPERATIONS[name].fields, known)
    return fields.map(lambda op: {**op, "op": name})


def role_of(op):
    roles = operations.OPERATIONS[op["op"]].roles
    return next(
        role for role in ("node", "admin", "scientist") if role in roles or role == "scientist"
    )


ANY = st.sampled_from(sorted(operations.OPERATIONS)).flatmap(operation)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(ANY, st.sampled_from([A, B, C]))
def test_an_operation_is_refused_or_applied_and_nothing_else(operation, organization):
    executor, parent = TOLD.proposer
    leaf = TOLD.entry(organization, operation, role=role_of(operation))
    built = executor.build(parent, [leaf], TOLD.time_ms + 1)

    for _, error in built.refused:
        assert isinstance(error, (Refused, InvalidInput))
        assert error.remedy or isinstance(error, InvalidInput)
    if not built.refused:
        after = TOLD.voter[0].execute(TOLD.voter[1], built.leaves, TOLD.time_ms + 1)
        assert after.digest == built.state.digest


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANY, min_size=1, max_size=4))
def test_a_dry_run_never_stops_at_the_unforeseen(given_operations):
    executor, parent = TOLD.proposer
    author = TOLD.signer(A).key_id

    problems = check_operations(executor, parent, author, A, given_operations, TOLD.time_ms)

    assert all(isinstance(problem, (Refused, InvalidInput)) for problem in problems)


@pytest.mark.parametrize("name", sorted(operations.OPERATIONS))
def test_every_field_of_the_table_has_values(name):
    records(operations.OPERATIONS[name].fields)


def test_a_world_is_the_same_wherever_it_is_made():
    assert World().state.digest == World().state.digest
