"""A small part of the search over all orders of events (explore.py), and what it finds when a rule
of voting is left out."""

from __future__ import annotations

import pytest
from checker import Violation
from explore import SETTINGS, Search
from mutants import MUTANTS


@pytest.mark.parametrize("setting", ["three", "four, a liar"])
def test_no_order_of_a_few_events_breaks_an_invariant(setting: str) -> None:
    found = Search(SETTINGS[setting]).run(1_200)
    assert found.states >= 1_200
    assert found.depth >= 2


@pytest.mark.parametrize("setting", ["three", "four, a liar"])
def test_no_long_order_of_events_breaks_one_either(setting: str) -> None:
    found = Search(SETTINGS[setting], deep=True).run(800)
    assert found.depth > 20
    assert found.final > 100


def test_the_search_finds_what_a_rule_left_out_allows() -> None:
    """One by one; the other four rules, and real forks, are found by test_voters."""
    with pytest.raises(Violation, match="exclude"):
        Search(SETTINGS["four, a liar"], MUTANTS["one notarize per view"]()).run(3_000)


def test_two_searches_are_one() -> None:
    first, second = (Search(SETTINGS["three"]).run(150) for _ in range(2))
    assert first == second
