"""Some disks as power cuts leave them; more: `make power-cuts`."""

from pathlib import Path

import pytest
from power_cuts import explored


@pytest.mark.slow
@pytest.mark.rule("F4")
@pytest.mark.rule("F8")
def test_nothing_that_was_told_is_lost_by_a_power_cut_and_none_is_taken_for_damage(
    tmp_path: Path,
) -> None:
    explorer = explored(tmp_path, images=40, seed=1)
    assert explorer.wrong == []
    assert explorer.tried.total() == 41
