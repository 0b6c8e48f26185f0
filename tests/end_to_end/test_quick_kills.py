"""A short loop of kills of one small process; a longer one: `make quick-kills`."""

from pathlib import Path

import pytest
from quick_kills import quick_kills


@pytest.mark.slow
def test_what_one_process_acknowledged_outlives_that_it_is_killed_wherever_it_is(
    tmp_path: Path,
) -> None:
    kills, kept = quick_kills(tmp_path, kills=24, seed=5)
    assert kills.total() == 24
    assert kept > 24
