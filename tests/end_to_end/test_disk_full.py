"""A node whose disk is full: the plan waits and completes, and nothing is lost or doubled."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from field import Field
from network import audit
from small_disk import SmallDisk, small_disk

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


def test_a_disk_without_a_byte_left_stops_the_node_and_a_restart_goes_on(
    tmp_path: Path, disk: SmallDisk
) -> None:
    with Field(tmp_path) as field:
        disk.fill()
        run = field.submit(field.averaging())
        trained = field.task(run, "train", "hospital-c")
        field.until(f"task/{trained}", lambda row: row["state"] == "done")
        disk.empty()
        field.nodes.kill(SITE)  # it has ended by itself, or is about to
        field.restart(SITE)
        completes(field, run)
        roots = {json.dumps(field.rows("model/", at=i), sort_keys=True) for i in range(3)}
        assert len(roots) == 1
