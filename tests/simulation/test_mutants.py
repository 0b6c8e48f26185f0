"""Rules of voting left out are noticed by the simulator, within a few seeds: each of the five by
the swarm itself (hostile seeds), some by a mix of faults that is made for it.

One rule, no nullify after finalize, stands twice in the code: who finalizes has left the view. Both
places are taken out here, and one alone may not be noticed. All five are caught as well by the
scenarios of tests/ledger/test_replica_rules.py and by the search of test_voters.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import pytest
from checker import Violation
from faults import HOSTILE, Faults, of_seed
from mutants import LIAR, MUTANTS, TWINS, unchecked
from removals import Removal, removed
from world import World

from tilth_ledger.ballot import VoterRules
from tilth_ledger.errors import InvalidInput

MOST_SEEDS = 100

LINGERS = Removal(
    "core:Core.certified",
    "if certificate.view >= self.view:",
    "if certificate.view >= self.view and certificate.kind is not NOTARIZE:",
    by="",
)


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


def unchanged() -> AbstractContextManager[None]:
    return nullcontext()


def lingering() -> AbstractContextManager[None]:
    """A member stays in a view whose block is notarized."""
    return removed(LINGERS)


SWARM = {
    "parent certificate": (unchanged, HOSTILE + 13),
    "skip proof": (unchanged, HOSTILE + 28),
    "one notarize per view": (unchanged, HOSTILE + 91),
    "no finalize after nullify": (unchanged, HOSTILE + 3),
    "no nullify after finalize": (lingering, HOSTILE + 0),
}


@pytest.mark.parametrize("rule", SWARM)
def test_the_swarm_notices_each_rule_left_out_and_only_then(rule: str) -> None:
    elsewhere, known = SWARM[rule]
    with elsewhere():
        seed = swarming(known, rule)
        assert seed is not None, "let the swarm be more hostile: schemes.py"
        assert passes(seed, of_seed(seed), None)


def swarming(known: int, rule: str) -> int | None:
    """The first seed of the swarm that notices, one that did when this was written goes first."""
    seeds = chain([known], range(HOSTILE, HOSTILE + MOST_SEEDS))
    return next((s for s in seeds if not passes(s, of_seed(s), MUTANTS[rule])), None)


@pytest.mark.parametrize(("what", "known"), [("size", 9), ("root", 7), ("state", 33)])
def test_an_outcome_that_nobody_checks_is_noticed_and_only_then(what: str, known: int) -> None:
    with unchecked(what):
        seed = noticing(known, LIAR, None)
    assert seed is not None, "let the liar lie more"
    assert passes(seed, LIAR, None)
