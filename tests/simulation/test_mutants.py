"""Each rule of voting, left out, is caught: by stored seeds here, or by a directed attack in
tests/ledger/test_replica_rules.py."""

from __future__ import annotations

import pytest
from checker import Violation
from faults import Faults
from mutants import LIAR, MUTANTS, TWINS
from world import World

from tilth_ledger.errors import InvalidInput

STORED = [
    ("parent certificate", LIAR, 1),
    ("parent certificate", LIAR, 4),
    ("skip proof", LIAR, 55),
    ("skip proof", LIAR, 115),
    ("one notarize per view", TWINS, 8),
    ("one notarize per view", TWINS, 9),
    ("no finalize after nullify", LIAR, 0),
    ("no finalize after nullify", TWINS, 0),
]


@pytest.mark.parametrize(("rule", "faults", "seed"), STORED)
def test_a_rule_left_out_is_caught_by_its_seeds(rule: str, faults: Faults, seed: int) -> None:
    with pytest.raises((Violation, InvalidInput)):
        World(seed, faults, rules=MUTANTS[rule]).run()


@pytest.mark.parametrize(("faults", "seed"), sorted({(f is LIAR, s) for _, f, s in STORED}))
def test_with_every_rule_in_place_the_same_seeds_pass(faults: bool, seed: int) -> None:
    World(seed, LIAR if faults else TWINS).run()
