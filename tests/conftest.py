"""How the suite runs: end-to-end tests share one worker, the rest spreads over the others."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A shared, busy machine is slow now and then: time is judged by the benchmarks, not by hypothesis.
settings.register_profile("tilth", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tilth")

SERIAL = Path(__file__).parent / "end_to_end"


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items):
    """Real nodes and clocks want a core of their own; the longest group starts first."""
    serial = [item for item in items if SERIAL in item.path.parents]
    for item in serial:
        item.add_marker(pytest.mark.xdist_group("end_to_end"))
    items.sort(key=lambda item: SERIAL not in item.path.parents)
