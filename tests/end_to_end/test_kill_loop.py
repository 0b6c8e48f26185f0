"""A short loop of kills; a longer one: `make kill-loop`."""

from pathlib import Path

import pytest
from kill_loop import kill_loop


@pytest.mark.slow
def test_what_nodes_acknowledged_outlives_that_they_are_killed_again_and_again(
    tmp_path: Path,
) -> None:
    kills, size = kill_loop(tmp_path, nodes=3, kills=6, seed=2)
    assert kills.total() >= 6
    assert size > 6
