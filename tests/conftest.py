"""How the suite runs: in which order, and how long hypothesis looks."""

import os
from pathlib import Path

from hypothesis import settings

# A shared, busy machine is slow now and then: time is judged by the benchmarks, not by hypothesis.
settings.register_profile("tilth", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tilth")

REAL_NODES = Path(__file__).parent / "end_to_end"


def pytest_collection_modifyitems(items):
    """A file runs on one worker (`--dist loadfile`), so that what its tests share is made once;
    those with real nodes take longest and start first."""
    items.sort(key=lambda item: REAL_NODES not in item.path.parents)
