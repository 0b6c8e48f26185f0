"""Rules of voting left out are noticed by the simulator, within a few seeds.

The rules that it rarely meets (skip proof) or cannot (no nullify after finalize: the view has
always moved on by then) are caught by the scenarios of tests/ledger/test_replica_rules.py, as are
all five.
"""

from __future__ import annotations

from itertools import takewhile

import pytest
from checker import Violation
from faults import Faults
from mutants import LIAR, MUTANTS, OUTCOMES, TWINS, unchecked
from world import World

from tilth_ledger.ballot import VoterRules
from tilth_ledger.errors import InvalidInput

MOST_SEEDS = 100


def passes(seed: int, faults: Faults, rules: type[VoterRules] | None) -> bool:
    try:
        World(seed, faults, rules).run()
    except (Violation, InvalidInput):
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        pytest.param("parent certificate", LIAR, id="parent certificate, a liar"),
        pytest.param("one notarize per view", TWINS, id="one notarize per view, twins"),
        pytest.param("no finalize after nullify", LIAR, id="no finalize after nullify, a liar"),
        pytest.param("no finalize after nullify", TWINS, id="no finalize after nullify, twins"),
    ],
)
def test_a_rule_left_out_is_noticed_and_only_then(rule: str, faults: Faults) -> None:
    seeds = range(MOST_SEEDS)
    survived = list(takewhile(lambda seed: passes(seed, faults, MUTANTS[rule]), seeds))
    assert len(survived) < MOST_SEEDS, "look for better faults, or a scenario, that catches it"
    assert passes(len(survived), faults, None)


@pytest.mark.parametrize("what", OUTCOMES)
def test_an_outcome_that_nobody_checks_is_noticed_and_only_then(what: str) -> None:
    seeds = range(MOST_SEEDS)
    with unchecked(what):
        survived = list(takewhile(lambda seed: passes(seed, LIAR, None), seeds))
    assert len(survived) < MOST_SEEDS, "let the liar lie more"
    assert passes(len(survived), LIAR, None)
