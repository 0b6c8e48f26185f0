"""Ordinary federated learning works with the default rights, in four constellations."""

import pytest
from rules_world import Digits, World

from tilth_ledger.errors import Refused


def certified(world, objective):
    return [row for _, row in world.rows.scan(f"certified/{objective}/")]


def check_all_done(world, tasks):
    assert {world.shown(task) for task in tasks} == {"done"}


@pytest.mark.rule("P3")
def test_hospitals_alone_train_mix_and_certify():
    world = World()
    digits = Digits(world, world.organizations, "hospital-a")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b")
    world.plan("hospital-a", tasks, final=[final["key"]], objectives=[digits.objective])

    world.run_all()

    check_all_done(world, tasks)
    results = certified(world, digits.objective)
    assert len(results) == 3
    assert all(result["final"] for result in results)
    mix = world.row(f"model/{final['key']}/model")
    assert mix["use"] == ["hospital-a", "hospital-b", "hospital-c"]
    assert world.state.digest == world.recomputed_digest()


@pytest.mark.rule("P3")
def test_a_neutral_aggregator_mixes_without_being_allowed_to_take_the_model_out():
    organizations = ("hospital-a", "hospital-b", "neutral")
    world = World(organizations, aggregators=("neutral",))
    digits = Digits(world, ("hospital-a", "hospital-b"), "hospital-a")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("neutral")
    world.plan("hospital-a", tasks)

    world.run_all()

    check_all_done(world, tasks)
    mix = world.row(f"model/{final['key']}/model")
    assert mix["use"] == ["hospital-a", "hospital-b", "neutral"]
    assert mix["download"] == ["hospital-a", "hospital-b"]


@pytest.mark.rule("T4")
def test_an_external_hospital_tests_what_it_did_not_train():
    organizations = ("hospital-a", "hospital-b", "external")
    world = World(organizations)
    digits = Digits(world, ("hospital-a", "hospital-b"), "hospital-a", test_sites=("external",))
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b")
    world.plan("hospital-a", tasks, objectives=[digits.objective])

    world.run_all()

    check_all_done(world, tasks)
    assert [row["worker"] for row in certified(world, digits.objective)] == ["external"]
    assert "external" in world.row(f"model/{final['key']}/model")["use"]
    assert "external" not in world.row(f"model/{final['key']}/model")["download"]


@pytest.mark.rule("P3")
def test_a_scientist_without_data_trains_at_hospitals_that_granted_it():
    organizations = ("hospital-a", "hospital-b", "lab")
    world = World(organizations)
    digits = Digits(world, ("hospital-a", "hospital-b"), "lab")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b")
    world.plan("lab", tasks)

    world.run_all()

    check_all_done(world, tasks)
    assert "lab" in world.row(f"model/{final['key']}/model")["download"]


@pytest.mark.rule("R3")
def test_without_a_grant_the_refusal_holds_the_command_that_gives_it():
    world = World(("hospital-a", "hospital-b", "lab"))
    digits = Digits(world, ("hospital-a", "hospital-b"), "lab")
    tasks, _, _ = digits.fedavg("hospital-b")

    with pytest.raises(Refused) as refusal:
        world.plan("lab", tasks)

    assert refusal.value.rule == "R3"
    assert "tilth data grant digits --train lab" in refusal.value.remedy
