"""The scheduler: within the slots, fair over plans, lowest rank first, one folder at a time."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tilth_node.worker.scheduler import Candidate, choose

candidates = st.builds(
    Candidate,
    task=st.uuids().map(lambda each: f"a/{each.hex}"),
    plan=st.sampled_from(["p", "q", "r"]),
    rank=st.integers(0, 3),
    arrived=st.integers(0, 50),
    folder=st.sampled_from(["", "", "f", "g"]),
)


def task(
    name: str, plan: str = "p", rank: int = 0, arrived: int = 0, folder: str = ""
) -> Candidate:
    return Candidate(name, plan, rank, arrived, folder)


def names(chosen: list[Candidate]) -> list[str]:
    return [candidate.task for candidate in chosen]


@given(st.lists(candidates), st.lists(candidates, max_size=4), st.integers(1, 6))
def test_whatever_waits_the_choice_keeps_its_promises(
    todo: list[Candidate], running: list[Candidate], slots: int
) -> None:
    chosen = choose(todo, running, slots)
    assert len(running) + len(chosen) <= max(slots, len(running))
    assert len(set(names(chosen))) == len(chosen)
    assert set(chosen) <= set(todo)
    started = {(c.plan, c.folder) for c in running if c.folder}
    for candidate in chosen:
        assert not candidate.folder or (candidate.plan, candidate.folder) not in started
        started.add((candidate.plan, candidate.folder))
    if len(running) + len(chosen) < slots:
        # Work-conserving: whoever still waits waits for a folder.
        for candidate in set(todo) - set(chosen):
            assert (candidate.plan, candidate.folder) in started


@given(st.lists(candidates, min_size=1), st.integers(1, 6))
def test_no_plan_gets_two_more_slots_than_one_that_could_use_them(
    todo: list[Candidate], slots: int
) -> None:
    todo = [Candidate(c.task, c.plan, c.rank, c.arrived) for c in todo]
    load = Counter(c.plan for c in choose(todo, [], slots))
    for plan in {c.plan for c in todo} - {
        plan for plan in load if load[plan] == sum(c.plan == plan for c in todo)
    }:
        assert all(load[other] <= load[plan] + 1 for other in load)


def test_a_long_plan_does_not_starve_a_short_one() -> None:
    long = [task(f"long{i}", "long", arrived=i) for i in range(100)]
    assert names(choose([*long, task("short", "short", arrived=100)], [], 2)) == ["long0", "short"]


def test_what_others_wait_for_comes_first() -> None:
    assert names(choose([task("late", rank=2), task("early", rank=1, arrived=9)], [], 1)) == [
        "early"
    ]


def test_two_tasks_on_one_local_folder_never_run_together() -> None:
    todo = [task("one", folder="f"), task("two", folder="f", arrived=1)]
    assert names(choose(todo, [], 2)) == ["one"]
    assert choose(todo[1:], [todo[0]], 2) == []
    assert names(choose(todo[1:], [], 2)) == ["two"]


def test_a_full_node_begins_nothing() -> None:
    assert choose([task("one")], [task("running")], 1) == []
