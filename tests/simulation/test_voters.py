"""A part of the search over all that voters may do (voters.py): to a fork without one of the five
rules of voting, and none with them."""

from __future__ import annotations

import pytest
from mutants import MUTANTS
from voters import SETTINGS, ForkFound, Setting, VoterSearch

STATES = 1_500
MOST_STATES = 10_000
GREEDY = ("parent certificate", "skip proof", "one notarize per view", "no nullify after finalize")


@pytest.mark.rule("V1")
@pytest.mark.rule("V2")
@pytest.mark.rule("V3")
@pytest.mark.parametrize("rule", MUTANTS)
def test_without_one_rule_there_is_a_fork_and_it_is_found(rule: str) -> None:
    greedy = rule in GREEDY
    setting = SETTINGS["three" if greedy else "three, one block a parent"]
    with pytest.raises(ForkFound) as found:
        VoterSearch(setting, rule, greedy=greedy).run(MOST_STATES)
    assert 5 < len(found.value.path) < 12


@pytest.mark.parametrize("setting", ["three", "four", "four, a voter lies"])
def test_with_all_rules_there_is_none(setting: str) -> None:
    found = VoterSearch(SETTINGS[setting]).run(STATES)
    assert found.states >= STATES


def test_one_liar_more_than_the_votes_allow_is_a_fork() -> None:
    beyond = Setting(3, 2, frozenset({1}))
    with pytest.raises(ForkFound):
        VoterSearch(beyond, greedy=True).run(STATES)


def test_a_small_setting_is_searched_to_its_end() -> None:
    found = VoterSearch(Setting(3, 2, views=1)).run()
    assert found.whole
