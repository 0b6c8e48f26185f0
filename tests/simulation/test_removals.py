"""Every rule and promise that is taken out of the code is noticed, by a seed or a scenario that is
kept here; with the rule, the same passes."""

from __future__ import annotations

import pytest
from removals import REMOVALS, is_caught


@pytest.mark.parametrize("name", REMOVALS)
def test_what_is_taken_out_of_the_code_is_noticed(name: str) -> None:
    assert is_caught(REMOVALS[name]), "find another seed (removals.py), or a scenario"


@pytest.mark.parametrize("name", REMOVALS)
def test_the_same_passes_while_the_rule_stands(name: str) -> None:
    REMOVALS[name].run()
