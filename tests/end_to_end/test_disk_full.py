"""A node whose disk is full: the plan waits and completes, and nothing is lost or doubled."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hospital_code
import pytest
from field import Field
from holding import Holds
from network import audit
from small_disk import SmallDisk, small_disk

from tilth.plan import Plan
from tilth.run import Run
from tilth_ledger.leaf import ENTRY, Leaf
from tilth_node.storage.vault import FLOOR_BYTES

pytestmark = pytest.mark.slow
SITE = 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """The disk of hospital-b, a little larger than what is kept free for the ledger."""
    with small_disk(tmp_path / "hospital-b", (FLOOR_BYTES >> 20) + 200) as made:
        yield made


def completes(field: Field, run: Run) -> None:
    run = field.wait(field.net.plans.one(run.key))
    assert run.outcome().ok, run.outcome()
    client, counted, start = field.net.transport, Counter[str](), 0
    while leaves := client.leaves(start, 500):
        start += len(leaves)
        entries = [leaf for leaf in map(Leaf.decode, leaves) if leaf.type == ENTRY]
        operations = [each for leaf in entries for each in json.loads(leaf.payload)["operations"]]
        counted.update(each["task"] for each in operations if each["op"] == "task.done")
    assert {task.key: counted[task.key] for task in run.tasks()} == dict.fromkeys(
        (task.key for task in run.tasks()), 1
    )
    audit(field.nodes)


def test_below_the_floor_tasks_wait_and_the_ledger_goes_on(tmp_path: Path, disk: SmallDisk) -> None:
    with Field(tmp_path) as field:
        disk.fill(leave=FLOOR_BYTES // 2)
        run = field.submit(field.averaging())
        trained = field.task(run, "train", "hospital-c")
        field.until(f"task/{trained}", lambda row: row["state"] == "done", at=SITE)
        states = {task.state for task in run.tasks() if task.worker == "hospital-b"}
        assert "done" not in states
        disk.empty()
        completes(field, run)


# What is written, and what room is left for it: the ledger goes on where there is a little.
LEFT_BYTES = {"blob": 1 << 20, "model": 1 << 20, "log": 1 << 17, "block": 0}


def test_a_disk_that_fills_while_a_blob_a_model_a_log_and_a_block_are_written(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """A task waits until there is room; a node that cannot write its ledger ends."""
    holds = Holds(tmp_path / "holds", ["hospital-b"])
    with Field(tmp_path) as field:
        field.nodes.kill(SITE)
        start(field, holds)
        for what, leave in LEFT_BYTES.items():
            plan = heavy(field)
            task = f"hospital-a/{plan.tasks[-1].id}"
            holds.arm("hospital-b", what, {"blob": "large", "model": task}.get(what, what))
            run = field.submit(plan)
            holds.wait("hospital-b")
            cut_zeros(tmp_path / "hospital-b" / "ledger.db-wal")
            disk.fill(leave=leave)
            holds.release("hospital-b")
            assert re.search("No space left|is full", holds.error("hospital-b"))
            disk.empty()
            if what == "block":
                field.nodes.ended(SITE)
                start(field, holds)
            completes(field, run)
        assert len({str(sorted(field.rows("model/", at=i).items())) for i in range(3)}) == 1


def cut_zeros(log: Path) -> None:
    """Take away what was written ahead, or the ledger has room for many blocks on a full disk."""
    header, frame = 32, 24 + 4096
    used = len(log.read_bytes().rstrip(b"\0"))
    os.truncate(log, header + -(-(used - header) // frame) * frame)


def start(field: Field, holds: Holds) -> None:
    """hospital-b, which stands still where it is told to."""
    field.nodes.launch(SITE, launcher=holds.launcher, environment=holds.environment)
    assert field.nodes.wait_ready(SITE), field.nodes.sites[SITE].log
    field.connect(SITE)


def heavy(field: Field) -> Plan:
    """A large model of hospital-a's is fetched by hospital-b, which makes another and a log."""
    algo = field.algo(hospital_code.Heavy)
    plan = Plan("heavy")
    plan.train(algo, field.sites[SITE], plan.init(algo, at="hospital-a"))
    return plan
