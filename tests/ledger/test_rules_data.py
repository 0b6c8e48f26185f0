"""Datasets, samples and sets: D1, D3, D4, D5, and the form of grants (P1)."""

import pytest
from rules_world import World, digest

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.limits import SETS_PER_TEST_SAMPLE
from tilth_ledger.rules_data import set_digest

A, B = "hospital-a", "hospital-b"


@pytest.fixture
def world():
    return World()


def refused(world, organization, *operations):
    with pytest.raises(Refused) as caught:
        world.submit(organization, *operations)
    return caught.value


def add(datasets, label, *samples):
    return {"op": "sample.add", "datasets": datasets, "label": label, "samples": list(samples)}


@pytest.mark.rule("D1")
def test_a_sample_belongs_to_datasets_of_its_organization(world):
    first, second = world.dataset(A), world.dataset(A, "more")
    sample = world.sample(A)
    world.submit(A, add([first, second], "train", sample))

    row = world.row(f"sample/{sample['key']}")
    assert (row["owner"], row["datasets"], row["label"]) == (A, [first, second], "train")


@pytest.mark.rule("D1")
def test_a_sample_never_enters_another_organization_s_dataset(world):
    foreign = world.dataset(B)

    error = refused(world, A, add([foreign], "train", world.sample(A)))

    assert error.rule == "D1"
    assert B in error.found


@pytest.mark.rule("D1")
def test_a_sample_s_label_never_changes(world):
    dataset = world.dataset(A)
    sample = world.sample(A)
    world.submit(A, add([dataset], "train", sample))

    error = refused(world, A, add([dataset], "test", {**sample, "tag": digest("other")}))

    assert error.rule == "D1"
    assert "labelled train" in error.found


@pytest.mark.rule("D3")
def test_a_person_is_a_key_with_a_card_off_the_ledger(world):
    key = world.add_identity(A, "somebody", ["scientist"], card=digest("salted card"))

    assert world.row(f"identity/{key.public.key_id}")["card"] == digest("salted card")


@pytest.mark.rule("D3")
@pytest.mark.parametrize("field", ["name", "mail"])
def test_nothing_personal_has_a_place_in_an_identity(world, field):
    operation = {"op": "identity.add", "public": digest("x"), "roles": ["scientist"]}

    with pytest.raises(InvalidInput, match="does not exist"):
        world.submit(A, {**operation, field: "Ada"}, role="admin")


@pytest.mark.rule("D4")
def test_different_bytes_are_different_samples(world):
    dataset = world.dataset(A)
    world.submit(A, add([dataset], "train", world.sample(A, "one")))
    world.submit(A, add([dataset], "test", world.sample(A, "two")))


@pytest.mark.rule("D4")
def test_the_same_bytes_are_never_train_and_test(world):
    dataset = world.dataset(A)
    first = world.sample(A, "one image")
    world.submit(A, add([dataset], "train", first))

    error = refused(world, A, add([dataset], "test", world.sample(A, "one image")))

    assert error.rule == "D4"
    assert first["key"] in error.found
    assert "labelled train" in error.found


@pytest.mark.rule("D4")
def test_the_same_tag_twice_in_one_operation_is_refused(world):
    twins = [world.sample(A, "one image") for _ in range(2)]

    assert refused(world, A, add([world.dataset(A)], "train", *twins)).rule == "D4"


@pytest.mark.rule("D4")
def test_tags_of_two_organizations_do_not_meet(world):
    for site in (A, B):
        sample = {**world.sample(site), "tag": digest("equal by chance")}
        world.submit(site, add([world.dataset(site)], "train", sample))


@pytest.mark.rule("D5")
def test_a_set_is_sealed_by_its_last_part(world):
    dataset = world.dataset(A)
    samples = world.samples(dataset, "train", 4)
    key = world.key(A)
    first = world.set_operation(dataset, "train", samples[:2], key=key, parts=2)
    del first["digest"], first["count"]
    world.submit(A, first)
    assert world.row(f"sampleset/{key}")["status"] == "unsealed"

    stated = {"part": 1, "parts": 2, "count": 4, "digest": set_digest(samples)}
    world.submit(A, world.set_operation(dataset, "train", samples[2:], key=key, **stated))

    row = world.row(f"sampleset/{key}")
    assert (row["status"], row["count"], row["digest"]) == ("sealed", 4, set_digest(samples))


@pytest.mark.rule("D5")
@pytest.mark.parametrize(
    "wrong", [{"count": 4}, {"digest": digest("other")}, {"label": "test"}, {"part": 1}]
)
def test_a_set_that_is_not_what_it_states_is_refused(world, wrong):
    dataset = world.dataset(A)
    operation = world.set_operation(dataset, "train", world.samples(dataset, "train"))

    with pytest.raises(Refused) as caught:
        world.submit(A, operation | wrong)

    assert caught.value.rule in ("D5", "A3")


@pytest.mark.rule("D5")
def test_a_set_holds_one_label(world):
    dataset = world.dataset(A)
    mixed = [*world.samples(dataset, "train", 2), *world.samples(dataset, "test", 1)]

    error = refused(world, A, world.set_operation(dataset, "train", mixed))

    assert error.rule == "D5"
    assert error.found == "label test"


@pytest.mark.rule("D5")
def test_a_set_holds_samples_of_one_dataset(world):
    dataset, other = world.dataset(A), world.dataset(A, "other")

    error = refused(world, A, world.set_operation(dataset, "train", world.samples(other, "train")))

    assert error.rule == "D5"


@pytest.mark.rule("D5")
def test_a_test_sample_is_in_a_bounded_number_of_sets(world):
    """Each new set is compared with all others that share a sample: one entry must stay cheap."""
    dataset = world.dataset(A)
    sample = world.samples(dataset, "test", 1)
    sets = [world.set(dataset, "test", samples=sample) for _ in range(SETS_PER_TEST_SAMPLE)]

    error = refused(world, A, world.set_operation(dataset, "test", sample))

    assert len(sets) == SETS_PER_TEST_SAMPLE
    assert error.rule == "D5"


@pytest.mark.rule("D5")
def test_a_sample_is_in_a_set_once(world):
    dataset = world.dataset(A)
    sample = world.samples(dataset, "train", 1)[0]
    first = world.set_operation(dataset, "train", [sample], parts=2)
    world.submit(A, {k: v for k, v in first.items() if k not in ("digest", "count")})

    error = refused(world, A, {**first, "part": 1, "count": 2})

    assert error.rule == "D5"
    assert error.found == sample


@pytest.mark.rule("D5")
def test_the_same_sample_twice_in_one_part_is_malformed(world):
    dataset = world.dataset(A)
    sample = world.samples(dataset, "train", 1)[0]

    with pytest.raises(InvalidInput, match="samples"):
        world.submit(A, world.set_operation(dataset, "train", [sample, sample]))


@pytest.mark.rule("D5")
def test_withdrawing_a_sample_retires_its_sets(world):
    dataset = world.dataset(A)
    samples = world.samples(dataset, "train")
    held, other = world.set(dataset, "train", samples=samples), world.set(dataset, "train")

    world.submit(A, {"op": "sample.withdraw", "key": samples[0]})

    assert world.row(f"sampleset/{held}")["status"] == "retired"
    assert world.row(f"sampleset/{other}")["status"] == "sealed"
    assert refused(world, A, world.set_operation(dataset, "train", samples)).rule == "D5"


@pytest.mark.rule("D5")
def test_a_set_that_is_never_sealed_expires(world):
    dataset = world.dataset(A)
    samples = world.samples(dataset, "train", 2)
    first = world.set_operation(dataset, "train", samples[:1], parts=2)
    world.submit(A, {k: v for k, v in first.items() if k not in ("digest", "count")})
    world.time_ms = world.row(f"sampleset/{first['key']}")["expires_ms"] + 1

    second = {**first, "part": 1, "samples": samples[1:], "count": 2}
    error = refused(world, A, {**second, "digest": set_digest(samples)})

    assert error.rule == "D5"
    assert "expired" in error.message


@pytest.mark.rule("P1")
def test_a_grant_names_organizations_and_its_owner_is_in_it(world):
    dataset = world.dataset(A, grants={"train": [B]})

    assert world.row(f"dataset/{dataset}")["grants"]["train"] == [A, B]


@pytest.mark.rule("P1")
def test_a_grant_to_nobody_known_is_refused(world):
    dataset = world.dataset(A)
    operation = {"op": "dataset.grant", "key": dataset, "right": "train", "grant": ["nowhere"]}

    error = refused(world, A, operation)

    assert (error.rule, error.found) == ("P1", "nowhere")


@pytest.mark.rule("P1")
def test_participants_is_a_word_of_mixed_only(world):
    dataset = world.dataset(A)
    operation = {"op": "dataset.grant", "key": dataset, "right": "train", "grant": "participants"}

    assert refused(world, A, operation).rule == "P1"
