"""What becomes of tasks whose worker is removed from the consortium (M7)."""

import pytest
from members_world import MembersWorld, file_of
from rules_world import Digits

from tilth_ledger.errors import Refused
from tilth_ledger.genesis import KEY_NAMES

SITES = ("hospital-a", "hospital-b", "hospital-c")
REMOVED = "worker_removed"


@pytest.fixture
def world():
    return MembersWorld()


@pytest.fixture
def digits(world):
    made = Digits(world, SITES, "hospital-a")
    made.grant_all()
    for site, dataset in made.datasets.items():
        world.grant(dataset, "updates", [each for each in SITES if each != site])
    return made


def remove(world, name="hospital-c"):
    world.change({"kind": "remove", "organization": name}, 2, 2)


def refused(call, *arguments, **choices):
    with pytest.raises(Refused) as caught:
        call(*arguments, **choices)
    return caught.value.rule


@pytest.mark.rule("M7")
def test_a_plan_stops_with_the_first_open_task_of_a_worker_that_was_removed(world, digits):
    tasks, _, _ = digits.fedavg("hospital-b")
    plan = world.plan("hospital-a", tasks)
    world.run(tasks[0])
    remove(world)
    row = world.row(f"plan/{plan}")
    failed = world.row(f"task/{row['cause']}")
    assert row["status"] == "stopped"
    assert (failed["worker"], failed["state"]) == ("hospital-c", "failed")
    assert failed["reason"] == REMOVED
    assert world.row(f"tried/{failed['key']}/{failed['attempt']:06d}")["reason"] == REMOVED
    assert {world.shown(task) for task in tasks[1:]} == {"failed", "canceled"}


@pytest.mark.rule("M7")
def test_a_task_that_runs_at_the_removed_worker_fails_too(world, digits):
    alone = digits.train("hospital-c")
    world.plan("hospital-a", [alone])
    world.doing(alone)
    remove(world)
    assert world.row(f"task/{alone['key']}")["reason"] == REMOVED
    assert world.work("hospital-c") == {}


@pytest.mark.rule("M7")
def test_what_can_go_on_without_it_goes_on(world, digits):
    first = digits.init("hospital-b")
    trained = [digits.train(site, first) for site in SITES]
    mixed = digits.mix(trained, "hospital-b", need={"at_least": 2})
    plan = world.plan("hospital-a", [first, *trained, mixed])
    world.run(first, *trained[:2])
    remove(world)
    assert world.row(f"plan/{plan}")["status"] == "closed"
    world.run(mixed)
    assert world.shown(mixed) == "done"


@pytest.mark.rule("M7")
def test_a_plan_without_it_and_what_is_done_are_not_touched(world, digits):
    here, there = digits.train("hospital-b"), digits.train("hospital-c")
    world.plan("hospital-a", [here])
    world.plan("hospital-a", [there])
    world.run(there)
    remove(world)
    assert (world.shown(here), world.shown(there)) == ("todo", "done")


@pytest.mark.rule("M7")
def test_a_plan_that_continues_loses_only_what_needs_it(world, digits):
    here, there = digits.train("hospital-b"), digits.train("hospital-c")
    below = digits.train("hospital-b", there)
    plan = world.plan("hospital-a", [here, there, below], on_failure="continue")
    remove(world)
    assert [world.shown(each) for each in (here, there, below)] == ["todo", "failed", "canceled"]
    assert world.row(f"plan/{plan}")["status"] == "closed"


@pytest.mark.rule("M7")
def test_nothing_new_is_registered_at_it_or_tried_again(world, digits):
    alone = digits.train("hospital-c")
    world.plan("hospital-a", [alone])
    remove(world)
    again = {"op": "task.retry", "task": alone["key"]}
    assert refused(world.submit, "hospital-a", again) == "M7"
    assert refused(world.plan, "hospital-a", [digits.train("hospital-c")]) == "M7"
    assert refused(world.plan, "hospital-a", [digits.init("hospital-c")]) == "M7"


@pytest.mark.rule("M7")
def test_a_retry_above_a_removed_worker_does_not_wait_for_it(world, digits):
    above = digits.train("hospital-b")
    below = digits.train("hospital-c", above)
    world.plan("hospital-a", [above, below], on_failure="continue")
    world.failed(above)
    remove(world)
    world.submit("hospital-a", {"op": "task.retry", "task": above["key"]})
    assert (world.shown(above), world.shown(below)) == ("todo", "canceled")
    assert world.row(f"task/{below['key']}")["reason"] == REMOVED


@pytest.mark.rule("M7")
def test_who_only_stops_voting_keeps_its_tasks_and_who_comes_back_gets_new_ones(world, digits):
    task = digits.train("hospital-c")
    world.plan("hospital-a", [task])
    world.change({"kind": "votes", "organization": "hospital-c", "votes": False}, 2, 2)
    assert world.shown(task) == "todo"
    remove(world)
    new = file_of("hospital-c", **{purpose: f"new {purpose}" for purpose in KEY_NAMES})
    world.change({"kind": "admit", "member": new, "votes": False}, 2, 2)
    assert world.shown(task) == "failed"
    fresh = digits.train("hospital-c")
    world.plan("hospital-a", [fresh])
    assert world.shown(fresh) == "todo"
