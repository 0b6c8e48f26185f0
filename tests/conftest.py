"""How the suite runs: in which order, on which worker, for how long at most, and how hypothesis
looks."""

import functools
import os
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# A shared, busy machine is slow now and then: time is judged by the benchmarks, not by hypothesis.
settings.register_profile("tilth", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tilth")

ROOT = Path(__file__).parents[1]
REAL_NODES = ROOT / "tests" / "end_to_end"
SLOW_SECONDS = 2400  # that a slow test may take, on a machine that others use too
SIMULATION = ROOT / "tests" / "simulation"


def pytest_collection_modifyitems(items):
    """What takes longest starts first, so that no worker is left with it at the end; and tests
    that wait, for nodes and disks, run beside tests that compute, so that both always do."""
    for item in items:
        if is_slow(item) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    waiting = [item for item in items if REAL_NODES in item.path.parents]
    waiting.sort(key=lambda item: (shares_nothing(file_of(item.nodeid)), not is_slow(item)))
    computing = [item for item in items if REAL_NODES not in item.path.parents]
    computing.sort(key=lambda item: (SIMULATION not in item.path.parents, not is_slow(item)))
    items[:] = alternately(waiting, computing)


def is_slow(item):
    return item.get_closest_marker("slow") is not None


def alternately(*kinds):
    """All items, what stays together together, each kind spread evenly over the whole."""
    placed = []
    for items in kinds:
        together = {}
        for item in items:
            together.setdefault(scope_of(item.nodeid), []).append(item)
        placed += [
            ((place + 0.5) / len(together), group) for place, group in enumerate(together.values())
        ]
    placed.sort(key=lambda each: each[0])
    return [item for _, group in placed for item in group]


def pytest_xdist_make_scheduler(config, log):
    """Which tests stay together on a worker."""
    return Together(config, log)


class Together(LoadScopeScheduling):
    """A file stays together, so that what its tests share is made once. Tests with real nodes that
    share nothing go each their own way: one file of them may take as long as all others."""

    def _split_scope(self, nodeid):
        return scope_of(nodeid)


def file_of(nodeid):
    return nodeid.split("::", 1)[0]


def scope_of(nodeid):
    """Tests of the same run on one worker, one after the other."""
    file = file_of(nodeid)
    return nodeid if shares_nothing(file) else file


@functools.cache
def shares_nothing(file):
    """Whether a test file has real nodes, and no fixture that outlives a test."""
    path = ROOT / file
    return REAL_NODES in path.parents and "scope=" not in path.read_text("utf-8")
