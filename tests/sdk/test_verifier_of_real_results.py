"""What the rules certify, a bundle carries and the verifier accepts: they agree on every field."""

import pytest
from bundled_world import bundle_of
from rules_world import Digits, World

from tilth import verifier


def federated_averaging():
    """A ledger on which three hospitals trained, mixed and tested a model."""
    world = World()
    digits = Digits(world, world.organizations, "hospital-a")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b")
    world.plan("hospital-a", tasks, final=[final["key"]], objectives=[digits.objective])
    world.run_all()
    return world, digits.objective


@pytest.fixture(scope="module")
def ledger():
    """The world, and the indexes of its certified results."""
    world, objective = federated_averaging()
    rows = world.rows.scan(f"certified/{objective}/")
    return world, sorted(row["index"] for _, row in rows)


def test_what_the_rules_certified_is_proven_as_a_row(ledger):
    world, certified = ledger
    report = verifier.verify(bundle_of(world, world.leaves, certified), world.genesis.bytes)

    assert report.ok, report.refusal
    assert sorted(r["worker"] for r in report.facts["results"]) == list(world.organizations)
    assert all(result["final"] for result in report.facts["results"])
    assert report.facts["score"] == "0.900000"
    assert not any("who wrote" in text or "test sets" in text for text in report.not_proven)


def test_a_part_of_the_row_is_proven_as_a_part(ledger):
    world, certified = ledger
    report = verifier.verify(bundle_of(world, world.leaves, certified[:1]), world.genesis.bytes)

    assert report.ok, report.refusal
    assert "score" not in report.facts
    assert any("all 3 test sets: 1 proven" in text for text in report.not_proven)


def test_a_node_that_swaps_a_score_is_refused(ledger):
    world, certified = ledger
    leaves = list(world.leaves)
    leaves[certified[0]] = leaves[certified[0]].replace(b'"value":"0.9"', b'"value":"1.0"')
    report = verifier.verify(bundle_of(world, leaves, certified), world.genesis.bytes)

    assert leaves != world.leaves
    assert report.refusal["check"] == f"place of leaf {certified[0]} in the tree"
