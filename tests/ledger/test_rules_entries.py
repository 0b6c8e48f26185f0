"""Entries: who may sign what, once, whole, in time (A1 to A5), and malformed ones."""

import pytest
from rules_world import HOSPITALS, Digits, World, digest, named_key

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.dry_run import check_operations
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.execution import AlreadyRecorded
from tilth_ledger.leaf import CERTIFIED_RESULT, MAX_LEAF_BYTES, Leaf


@pytest.fixture
def world():
    return World()


def refusal(world, organization, *operations, **how):
    """What an entry is refused for; nothing of it is recorded."""
    before = (world.state.size, world.state.digest)
    with pytest.raises((Refused, InvalidInput)) as caught:
        world.submit(organization, *operations, **how)
    assert (world.state.size, world.state.digest) == before
    return caught.value


# ---- A1: identity and role ----


@pytest.mark.rule("A1")
def test_an_active_identity_with_the_role_is_heard(world):
    environment = world.environment("hospital-a")

    assert world.row(f"environment/{environment}")["owner"] == "hospital-a"


@pytest.mark.rule("A1")
def test_a_role_that_is_missing_refuses_the_entry(world):
    operation = world.dataset_operation("hospital-a")

    error = refusal(world, "hospital-a", operation, role="admin")

    assert error.rule == "A1"
    assert "owner" in error.expected
    assert "tilth identity add --role owner" in error.remedy


@pytest.mark.rule("A1")
def test_an_unknown_key_is_refused(world):
    operation = {"op": "plan.close", "plan": world.key("hospital-a")}

    error = refusal(world, "hospital-a", operation, key=named_key("stranger"))

    assert error.rule == "A1"


@pytest.mark.rule("A1")
def test_a_key_speaks_only_for_its_own_organization(world):
    operation = world.dataset_operation("hospital-a")

    error = refusal(world, "hospital-a", operation, key=world.signer("hospital-b"))

    assert error.rule == "A1"
    assert error.expected == "hospital-b"


@pytest.mark.rule("A1")
def test_a_revoked_key_is_refused(world):
    key = world.add_identity("hospital-a", "second person", ["scientist"])
    revoke = {"op": "identity.revoke", "identity": key.public.key_id}
    world.submit("hospital-a", revoke, role="admin")

    error = refusal(world, "hospital-a", {"op": "plan.close", "plan": world.key("x")}, key=key)

    assert error.found == "revoked"


@pytest.mark.rule("A1")
def test_a_key_expires_in_ledger_time(world):
    expires = world.time_ms + 5
    key = world.add_identity("hospital-a", "guest", ["scientist"], expires_ms=expires)
    spec = {"python": "3.11", "requirements": []}
    world.time_ms = expires - 1
    add = {"op": "environment.add", "name": "e", "spec": spec, "digest": sha256_hex(dumps(spec))}
    world.submit("hospital-a", {**add, "key": world.key("hospital-a")}, key=key)

    error = refusal(world, "hospital-a", {**add, "key": world.key("hospital-a")}, key=key)

    assert error.rule == "A1"
    assert str(expires) in error.found


@pytest.mark.rule("A1")
def test_an_admin_revokes_only_its_own_organization_s_keys(world):
    other = world.signer("hospital-b").public.key_id

    error = refusal(world, "hospital-a", {"op": "identity.revoke", "identity": other}, role="admin")

    assert error.rule == "A1"


@pytest.mark.rule("A1")
def test_the_last_admin_cannot_shut_itself_out(world):
    own = world.signer("hospital-a", "admin").public.key_id

    error = refusal(world, "hospital-a", {"op": "identity.revoke", "identity": own}, role="admin")

    assert error.rule == "A1"


@pytest.mark.rule("A1")
def test_only_its_owner_withdraws_an_asset(world):
    dataset = world.dataset("hospital-a")

    error = refusal(world, "hospital-b", {"op": "dataset.withdraw", "key": dataset})

    assert error.rule == "A1"
    assert error.expected == "an entry of hospital-a"


@pytest.mark.rule("A1")
def test_nobody_takes_a_key_of_another_organization(world):
    operation = {**world.dataset_operation("hospital-a"), "key": world.key("hospital-b")}

    assert refusal(world, "hospital-a", operation).rule == "A1"


# ---- A2: once, and whole ----


@pytest.mark.rule("A2")
def test_the_same_entry_again_gives_the_same_receipt(world):
    leaf = world.entry("hospital-a", world.dataset_operation("hospital-a"))
    index = world.state.size
    world.record(leaf)

    with pytest.raises(AlreadyRecorded) as caught:
        world.record(leaf)

    assert caught.value.index == index
    assert world.row(f"entry/{Leaf.decode(leaf).id}")["index"] == index


@pytest.mark.rule("A2")
def test_a_key_used_for_something_else_is_refused(world):
    operation = world.dataset_operation("hospital-a")
    world.submit("hospital-a", operation)

    error = refusal(world, "hospital-a", {**operation, "name": "other"})

    assert error.rule == "A2"
    assert error.found == operation["key"]


@pytest.mark.rule("A2")
def test_a_registered_public_key_is_never_registered_again(world):
    public = world.signer("hospital-b").public.hex
    operation = {"op": "identity.add", "public": public, "roles": ["owner"]}

    assert refusal(world, "hospital-a", operation, role="admin").rule == "A2"


@pytest.mark.rule("A2")
def test_operations_of_one_entry_hold_together(world):
    first, second = (world.dataset_operation("hospital-a") for _ in range(2))
    world.submit("hospital-a", first, second)

    assert world.row(f"dataset/{first['key']}")
    assert world.row(f"dataset/{second['key']}")


@pytest.mark.rule("A2")
def test_one_bad_operation_undoes_the_others_of_its_entry(world):
    good = world.dataset_operation("hospital-a")
    bad = {"op": "dataset.withdraw", "key": world.key("hospital-a")}

    error = refusal(world, "hospital-a", good, bad)

    assert error.rule == "A3"
    assert world.row(f"dataset/{good['key']}") is None


# ---- A3, A4: references ----


@pytest.mark.rule("A3")
def test_a_reference_to_nothing_is_refused(world):
    operation = world.dataset_operation("hospital-a")
    operation["environment"] = world.key("hospital-a")

    error = refusal(world, "hospital-a", operation)

    assert error.rule == "A3"
    assert error.found == operation["environment"]


@pytest.mark.rule("A3")
def test_a_reference_to_another_organization_s_asset_is_fine(world):
    operation = world.dataset_operation("hospital-a")
    operation["environment"] = world.environment("hospital-b")
    world.submit("hospital-a", operation)

    assert world.row(f"dataset/{operation['key']}")


@pytest.mark.rule("A3")
def test_an_environment_is_what_its_digest_says(world):
    spec = {"python": "3.11", "requirements": []}
    operation = {"op": "environment.add", "key": world.key("hospital-a"), "name": "e"}

    error = refusal(world, "hospital-a", {**operation, "spec": spec, "digest": digest("other")})

    assert error.rule == "A3"


@pytest.mark.rule("A4")
def test_a_withdrawn_asset_stays_as_a_tombstone(world):
    dataset = world.dataset("hospital-a")
    world.submit("hospital-a", {"op": "dataset.withdraw", "key": dataset})

    assert world.row(f"dataset/{dataset}")["status"] == "withdrawn"


@pytest.mark.rule("A4")
def test_a_withdrawn_asset_has_no_new_use(world):
    dataset = world.dataset("hospital-a")
    world.submit("hospital-a", {"op": "dataset.withdraw", "key": dataset})
    sample = world.sample("hospital-a")
    add = {"op": "sample.add", "datasets": [dataset], "label": "train", "samples": [sample]}

    error = refusal(world, "hospital-a", add)

    assert error.rule == "A4"
    assert dataset in error.found


@pytest.mark.rule("A4")
def test_what_is_withdrawn_is_withdrawn_once(world):
    algo = world.algo("hospital-a")
    world.submit("hospital-a", {"op": "algo.withdraw", "key": algo})

    assert refusal(world, "hospital-a", {"op": "algo.withdraw", "key": algo}).rule == "A4"


# ---- A5: expiry in ledger time ----


@pytest.mark.rule("A5")
def test_an_entry_holds_until_its_not_after(world):
    leaf = world.entry("hospital-a", world.dataset_operation("hospital-a"), not_after=world.time_ms)
    executor, parent = world.proposer

    executor.check(parent, leaf, world.time_ms)


@pytest.mark.rule("A5")
def test_an_entry_expires_in_ledger_time(world):
    operation = world.dataset_operation("hospital-a")

    error = refusal(world, "hospital-a", operation, not_after=world.time_ms)

    assert error.rule == "A5"
    assert str(world.time_ms) in error.found


# ---- bad input ----


def test_an_unknown_field_is_named(world):
    error = refusal(world, "hospital-a", {**world.dataset_operation("hospital-a"), "colour": "red"})

    assert isinstance(error, InvalidInput)
    assert error.found == "'colour'"
    assert "opener" in error.expected


def test_a_field_inside_an_object_is_checked_too(world):
    operation = world.dataset_operation("hospital-a", grants={"trains": "public"})

    assert "trains" in refusal(world, "hospital-a", operation).found


def test_a_missing_field_is_named(world):
    operation = world.dataset_operation("hospital-a")
    del operation["opener"]

    assert refusal(world, "hospital-a", operation).found == "no opener"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("name", ""),
        ("name", "x" * 101),
        ("opener", "ff"),
        ("environment", "hospital-a"),
        ("targets", ["../secret"]),
        ("targets", ["/etc/passwd"]),
        ("approval", "maybe"),
        ("grants", {"train": ["Not A Slug"]}),
        ("limits", {"model_bytes": True, "log_bytes": 1, "report_bytes": 1}),
        ("metadata", {"k" * 51: "v"}),
        ("metadata", {"k": "v" * 5_000}),
    ],
)
def test_a_wrong_type_or_range_says_what_was_expected(world, field, value):
    operation = {**world.dataset_operation("hospital-a"), field: value}

    error = refusal(world, "hospital-a", operation)

    assert isinstance(error, InvalidInput)
    assert field in error.message
    assert error.expected
    assert error.remedy


def test_an_unknown_operation_is_named(world):
    assert "dataset.sell" in refusal(world, "hospital-a", {"op": "dataset.sell"}).found


def test_a_bad_signature_is_refused(world):
    leaf = bytearray(world.entry("hospital-a", world.dataset_operation("hospital-a")))
    leaf[-1] ^= 1

    with pytest.raises(InvalidInput):
        world.record(bytes(leaf))


def test_a_good_signature_in_the_cache_does_not_vouch_for_a_bad_one(world):
    leaf = world.entry("hospital-a", world.dataset_operation("hospital-a"))
    executor, parent = world.proposer
    executor.check(parent, leaf, world.time_ms)  # the same id is verified and cached now
    forged = leaf[:-1] + bytes([leaf[-1] ^ 1])

    with pytest.raises(InvalidInput):
        executor.check(parent, forged, world.time_ms)


def test_an_entry_for_another_consortium_is_refused(world):
    other = World(("elsewhere",)).genesis.net

    error = refusal(world, "hospital-a", world.dataset_operation("hospital-a"), net=other)

    assert error.rule == "A1"
    assert error.found == other


def test_an_oversized_leaf_is_refused(world):
    with pytest.raises(InvalidInput, match="too large"):
        world.record(b"\x01" * (MAX_LEAF_BYTES + 1))


def test_too_many_operations_in_one_entry_are_refused():
    world = World(limits={"entry_operations": 2})
    operations = [world.dataset_operation("hospital-a") for _ in range(3)]

    assert isinstance(refusal(world, "hospital-a", *operations), InvalidInput)


def test_a_leaf_that_is_not_an_entry_is_refused(world):
    with pytest.raises(InvalidInput):
        world.record(Leaf(CERTIFIED_RESULT, b"{}").encode())


# ---- the dry run ----


def test_a_dry_run_lists_every_problem_and_records_nothing(world):
    good = world.dataset_operation("hospital-a")
    operations = [
        good,
        {"op": "dataset.withdraw", "key": world.key("hospital-a")},
        {"op": "nonsense"},
        {"op": "dataset.withdraw", "key": good["key"]},  # sees the first
    ]
    before = world.state.digest
    executor, state = world.proposer
    author = world.signer("hospital-a").public.key_id

    problems = check_operations(executor, state, author, "hospital-a", operations, world.time_ms)

    assert [getattr(problem, "rule", "invalid") for problem in problems] == ["A3", "invalid"]
    assert world.state.digest == before


@pytest.mark.rule("R3")
def test_a_dry_run_of_a_plan_names_every_missing_grant():
    world = World((*HOSPITALS, "lab"))
    digits = Digits(world, HOSPITALS, "lab")
    tasks, _, _ = digits.fedavg("hospital-b", rounds=3)
    executor, state = world.proposer
    author = world.signer("lab").public.key_id

    problems = check_operations(
        executor, state, author, "lab", world.plan_operations("lab", tasks), world.time_ms
    )

    remedies = {problem.remedy for problem in problems}
    assert remedies == {
        f"{site} grants it with: tilth data grant digits --{right} lab"
        for site in HOSPITALS
        for right in ("train", "test")
    }
