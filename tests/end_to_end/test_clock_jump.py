"""A machine's clock that leaps while a plan runs: far ahead, far back, and right again.

The clock is the system's own: libfaketime (Debian's package of that name) is loaded before the
node's process and reads from a file by how much wall time is off, so that TLS, the interpreter and
every library see it. The monotonic clock is left alone, as it is on a machine whose time is set.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from field import Field
from lacking import lacks
from network import same_ledger

pytestmark = pytest.mark.slow
SITE = 1
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Wrong:
    """How far a process's clock is off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """Such as `+400d`, `-40h`."""
        draft = self._file.with_suffix(".new")
        draft.write_text(offset)
        draft.rename(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> Wrong:
    if not LIBRARIES:
        lacks("setting a process's clock wrong needs libfaketime")
    return Wrong(tmp_path / "offset")


@pytest.fixture
def field(tmp_path: Path, clock: Wrong) -> Iterator[Field]:
    with Field(tmp_path) as field:
        field.nodes.stop(SITE)
        field.nodes.launch(SITE, environment=clock.environment)
        assert field.nodes.wait_ready(SITE), field.nodes.sites[SITE].log
        field.connect(SITE)
        yield field


def test_a_clock_that_leaps_ahead_and_back_under_a_running_plan(field: Field, clock: Wrong) -> None:
    goal = field.objective()
    run = field.submit(field.averaging(rounds=3, seconds=0.5, goal=goal))
    rounds = sorted(
        (task for task in run.tasks() if task.kind == "train" and task.worker == "hospital-b"),
        key=lambda task: task.rank,
    )
    waiting = field.nodes.sites[SITE].folder / "run" / "waiting.json"
    # Ahead by more than a plan lives: what the node has to say waits, and nothing is thrown away.
    field.until(f"task/{rounds[0].key}", lambda row: row["state"] == "doing")
    clock.set("+400d")
    while "clock" not in json.loads(waiting.read_bytes()).get(rounds[0].key, ""):
        pass
    clock.set("+0")
    # Back: the other members go on, and this node with them.
    field.until(f"task/{rounds[1].key}", lambda row: row["state"] == "doing")
    clock.set("-400d")
    field.until(f"task/{rounds[1].key}", lambda row: row["state"] == "done")
    clock.set("+0")
    run = field.wait(field.net.plans.one(run.key))
    assert run.outcome().ok, run.outcome()
    counted = field.results()
    keys = [task.key for task in run.tasks()]
    assert {key: counted[key] for key in keys} == dict.fromkeys(keys, 1)
    boards = [net.leaderboard(net.objectives.find(goal.key)) for net in field.nets]
    assert [row.plan for row in boards[0].rows] == [run.key]
    assert len({str(board) for board in boards}) == 1
    same_ledger(field.nodes, range(3))
