"""How the suite runs: in which order, on which worker, and how long hypothesis looks."""

import functools
import os
from pathlib import Path

from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# A shared, busy machine is slow now and then: time is judged by the benchmarks, not by hypothesis.
settings.register_profile("tilth", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tilth")

ROOT = Path(__file__).parents[1]
REAL_NODES = ROOT / "tests" / "end_to_end"


def pytest_collection_modifyitems(items):
    """The longest start first, so that no worker is left with one at the end: slow tests, then
    others with real nodes."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("slow") is None,
            REAL_NODES not in item.path.parents,
        )
    )


def pytest_xdist_make_scheduler(config, log):
    """Which tests stay together on a worker."""
    return Together(config, log)


class Together(LoadScopeScheduling):
    """A file stays together, so that what its tests share is made once. Tests with real nodes that
    share nothing go each their own way: one file of them may take as long as all others."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::", 1)[0]
        return nodeid if shares_nothing(file) else file


@functools.cache
def shares_nothing(file):
    """Whether a test file has real nodes, and no fixture that outlives a test."""
    path = ROOT / file
    return REAL_NODES in path.parents and "scope=" not in path.read_text("utf-8")
