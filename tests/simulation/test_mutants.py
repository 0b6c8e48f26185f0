"""Rules of voting left out are noticed by the simulator, within a few seeds.

The rules that it rarely meets (parent certificate, skip proof) or cannot (no nullify after
finalize: the view has always moved on by then) are caught by the scenarios of
tests/ledger/test_replica_rules.py, as are all five, and by the search of test_voters.py.
"""

from __future__ import annotations

from itertools import chain

import pytest
from checker import Violation
from faults import Faults
from mutants import LIAR, MUTANTS, TWINS, unchecked
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


def noticing(known: int, faults: Faults, rules: type[VoterRules] | None) -> int | None:
    """The first seed whose run is not clean. A search from 0 takes up to half a minute: one that
    was known to notice when this was written goes first."""
    seeds = chain([known], range(MOST_SEEDS))
    return next((seed for seed in seeds if not passes(seed, faults, rules)), None)


@pytest.mark.parametrize(
    ("rule", "faults", "known"),
    [
        pytest.param("one notarize per view", TWINS, 30, id="one notarize per view, twins"),
        pytest.param("no finalize after nullify", LIAR, 0, id="no finalize after nullify, a liar"),
        pytest.param("no finalize after nullify", TWINS, 0, id="no finalize after nullify, twins"),
    ],
)
def test_a_rule_left_out_is_noticed_and_only_then(rule: str, faults: Faults, known: int) -> None:
    seed = noticing(known, faults, MUTANTS[rule])
    assert seed is not None, "look for better faults, or a scenario, that catches it"
    assert passes(seed, faults, None)


@pytest.mark.parametrize(("what", "known"), [("size", 9), ("root", 7), ("state", 33)])
def test_an_outcome_that_nobody_checks_is_noticed_and_only_then(what: str, known: int) -> None:
    with unchecked(what):
        seed = noticing(known, LIAR, None)
    assert seed is not None, "let the liar lie more"
    assert passes(seed, LIAR, None)
