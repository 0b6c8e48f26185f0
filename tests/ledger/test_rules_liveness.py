"""Random plans under random failures: no task ever waits for what cannot come (L2), and what the
rows say stays consistent."""

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_world import HOSPITALS, Digits, World

from tilth_ledger.errors import Refused
from tilth_ledger.transitions import OPEN


def setting():
    """Sites that let everything through: rights are not the subject here."""
    world = World(aggregators=HOSPITALS)
    digits = Digits(world, HOSPITALS, "hospital-a")
    digits.grant_all()
    for dataset in digits.datasets.values():
        for right in ("updates", "mixed"):
            world.grant(dataset, right, "public")
    return world, digits


def random_plan(draw, digits):
    """Tasks in order, each taking some of the models before it."""
    tasks, makers = [], []
    for _ in range(draw(st.integers(2, 9))):
        site = draw(st.sampled_from(HOSPITALS))
        parents = (
            draw(st.lists(st.sampled_from(makers), max_size=4, unique_by=id)) if makers else []
        )
        kind = draw(st.sampled_from(["train", "aggregate", "test"])) if parents else "train"
        task = digits.train(site) if kind == "train" else None
        if kind == "aggregate":
            task = digits.mix(parents, site)
            if draw(st.booleans()):
                task["need"] = {"at_least": draw(st.integers(1, len(parents)))}
        elif kind == "test":
            task = digits.test(site, parents[0], label="train")
        elif parents:
            task["inputs"] = [
                {"name": f"in-{n}", "task": parent["key"], "output": "model"}
                for n, parent in enumerate(parents)
            ]
        for edge in task.get("inputs", ()):
            if draw(st.booleans()):
                edge["on_failed"] = draw(st.sampled_from(["skip", "cancel"]))
        task["local"] = "none"
        tasks.append(task)
        if kind != "test":
            makers.append(task)
    return tasks


def check(world, tasks):
    """What must hold after every entry."""
    rows = {task["key"]: world.row(f"task/{task['key']}") for task in tasks}
    for key, row in rows.items():
        in_work = world.row(f"work/{row['worker']}/{key}") is not None
        assert in_work == (row["state"] in OPEN)
        parents = [rows[edge["task"]] for edge in row["inputs"]]
        shown = {edge["task"]: world.shown(edge["task"]) for edge in row["inputs"]}
        if world.shown(key) == "waiting":
            assert any(state in OPEN for state in shown.values())
            assert row["missing"] == sum(parent["state"] in OPEN for parent in parents)
        if world.shown(key) in ("todo", "doing"):
            there = [e for e in row["inputs"] if e["name"] not in row["skipped"]]
            assert all(shown[edge["task"]] == "done" for edge in there)
            assert there or not row["inputs"]
            assert len(there) >= row.get("need", {"at_least": 0})["at_least"]


def step(draw, world, tasks):
    """One thing that somebody does; whether there was anything to do."""
    states = {task["key"]: world.shown(task) for task in tasks}
    by_state = {s: [t for t in tasks if states[t["key"]] == s] for s in ("todo", "doing", "failed")}
    choices = [(state, task) for state, found in by_state.items() for task in found]
    waiting = [t for t in tasks if states[t["key"]] == "waiting" and "need" in t]
    choices += [("close", task) for task in waiting]
    if not choices:
        return False
    what, task = draw(st.sampled_from(choices))
    if what == "todo":
        world.doing(task)
    elif what == "doing":
        (world.failed if draw(st.integers(0, 3)) == 0 else world.done)(task)
    else:
        verb = "task.retry" if what == "failed" else "task.close"
        with suppress(Refused):  # tried too often, or too few inputs
            world.submit("hospital-a", {"op": verb, "task": task["key"]})
    return True


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_no_task_waits_for_what_cannot_come(data):
    world, digits = setting()
    tasks = random_plan(data.draw, digits)
    on_failure = data.draw(st.sampled_from(["stop", "continue"]))
    world.plan("hospital-a", tasks, on_failure=on_failure)
    check(world, tasks)

    for _ in range(30):
        if not step(data.draw, world, tasks):
            break
        check(world, tasks)

    assert world.state.digest == world.recomputed_digest()
