"""The state machine as a whole: pure, deterministic, and what its tables say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hashing import history
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_world import SPEC, World

from tilth_ledger import state, transitions
from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.execution import Executor
from tilth_ledger.limits import Limits
from tilth_ledger.operations import OPERATIONS
from tilth_ledger.rows import MemoryRows

HERE = Path(__file__).parent
README = HERE.parent.parent / "ledger" / "README.md"


@pytest.fixture(scope="module")
def told():
    """A world after a whole plan, with a failure and a retry."""
    return history()


def test_every_operation_has_a_handler_and_no_handler_lacks_its_operation():
    assert {*state.HANDLERS} == {*OPERATIONS}


def test_the_digest_in_a_header_is_that_of_all_rows(told):
    assert told.state.digest == told.recomputed_digest()


def test_a_replay_of_the_leaves_comes_to_the_same_root_and_digest(told):
    world = World()
    executor = Executor(world.genesis, MemoryRows())
    parent = executor.genesis_state()
    receipts = {r["index"]: r["time_ms"] for _, r in told.rows.scan("entry/")}
    leaves = list(enumerate(told.leaves))
    while leaves:
        index = leaves[0][0]
        body = [leaves.pop(0)[1]]
        while leaves and leaves[0][0] not in receipts:  # system leaves follow their entry
            body.append(leaves.pop(0)[1])
        parent = executor.execute(parent, body, receipts[index])

    assert (parent.root, parent.digest) == (told.state.root, told.state.digest)


def test_blocks_stand_on_unfinalized_blocks():
    world = World()
    executor, parent = world.proposer
    entries = [world.entry("hospital-a", new_environment(world)) for _ in range(3)]
    first = executor.build(parent, entries[:1], world.time_ms + 1).state
    second = executor.build(first, entries[1:2], world.time_ms + 2).state
    third = executor.build(second, entries[2:], world.time_ms + 3).state
    executor.rows.apply(first.changes)
    executor.settle(first)
    executor.rows.apply(second.changes)
    executor.settle(second)

    assert third.size == parent.size + 3
    assert sum(1 for _ in third.rows.scan("environment/")) == 3
    loaded = executor.load(second.frontier, second.accumulator, second.time_ms)
    assert (loaded.root, loaded.digest) == (second.root, second.digest)


def new_environment(world):
    key = world.key("hospital-a")
    named = {"op": "environment.add", "key": key, "name": "e", "spec": SPEC}
    return {**named, "digest": sha256_hex(dumps(SPEC))}


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_the_order_of_independent_entries_changes_nothing_but_their_places(order):
    world = World()
    entries = [world.entry("hospital-a", new_environment(world)) for _ in range(6)]
    executor, parent = world.proposer

    rows = {}
    for chosen in (range(6), order):
        built = executor.build(parent, [entries[index] for index in chosen], world.time_ms + 1)
        assert not built.refused
        changes = built.state.changes.items()
        rows[len(rows)] = {k: v for k, v in changes if not k.startswith("entry/")}

    assert rows[0] == rows[1]


def test_a_proposer_leaves_out_what_does_not_execute_and_keeps_the_rest():
    world = World()
    good = world.entry("hospital-a", new_environment(world))
    bad = world.entry("hospital-a", {"op": "plan.close", "plan": world.key("hospital-a")})
    executor, parent = world.proposer

    built = executor.build(parent, [bad, good, b"rubbish"], world.time_ms + 1)

    assert built.leaves == (good,)
    assert [type(error) for _, error in built.refused] == [Refused, InvalidInput]
    with pytest.raises(Refused):
        executor.execute(parent, [bad, good], world.time_ms + 1)


@pytest.mark.parametrize(
    "limits", [{"block_leaves": 2}, {"block_bytes": 1_500}, {"block_row_writes": 4}]
)
def test_a_block_is_bounded_and_what_does_not_fit_waits(limits):
    world = World(limits=limits)
    entries = [world.entry("hospital-a", new_environment(world)) for _ in range(5)]
    executor, parent = world.proposer

    built = executor.build(parent, entries, world.time_ms + 1)

    assert 0 < len(built.leaves) < 5
    assert not built.refused
    executor.execute(parent, built.leaves, world.time_ms + 1)
    with pytest.raises(InvalidInput, match="larger than the genesis file allows"):
        executor.execute(parent, entries, world.time_ms + 1)


def test_the_digest_does_not_depend_on_the_hash_seed(told):
    digests = set()
    for seed in ("0", "1", "4242"):
        run = subprocess.run(
            [sys.executable, str(HERE / "hashing.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout.strip())

    assert digests == {f"{told.state.root.hex()} {told.state.digest.hex()}"}


def test_limits_of_a_genesis_are_known_positive_integers():
    assert Limits.of_genesis({"plan_tasks": 5}).plan_tasks == 5
    for wrong in ({"plan_task": 5}, {"plan_tasks": 0}, {"plan_tasks": "5"}, {"plan_tasks": True}):
        with pytest.raises(InvalidInput):
            Limits.of_genesis(wrong)


# ---- the page of this folder ----


def test_the_diagram_is_that_of_the_table():
    assert f"```mermaid\n{transitions.diagram()}\n```" in README.read_text()


def test_every_row_that_is_written_is_listed(told):
    listed = set(re.findall(r"`([a-z-]+)/<", README.read_text()))

    assert {key.partition("/")[0] for key, _ in told.rows.items()} <= listed


def test_every_file_that_enforces_a_rule_exists():
    table = README.read_text().partition("## Rules")[2].partition("## The life")[0]
    for name in re.findall(r"`([a-z_]+)\.py`", table):
        assert (README.parent / "tilth_ledger" / f"{name}.py").exists(), name


def test_every_state_of_the_table_is_reachable_and_open_ones_can_end():
    reached = {"new"}
    for _ in transitions.TRANSITIONS:
        reached |= {t.target for t in transitions.TRANSITIONS if t.source in reached}

    assert reached == {"new", *transitions.OPEN, *transitions.FINAL}
    for source in transitions.OPEN:
        assert (source, "canceled") in transitions.ALLOWED
