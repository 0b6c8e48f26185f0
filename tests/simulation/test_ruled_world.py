"""The real state machine under faults: nodes join by snapshot, and bundles are verified."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from checker import Violation
from ruled_ledger import RuledArchive, changed_bundles, check_bundle, row_bundle
from ruled_world import RuledWorld

from tilth import verifier
from tilth_ledger.leaf import ENTRY, leaf_type

SEEDS = (3, 5, 6, 14, 23)


@pytest.fixture(scope="module")
def worlds() -> list[RuledWorld]:
    made = [RuledWorld(seed) for seed in SEEDS]
    for world in made:
        world.run()
    return made


def test_a_newcomer_and_an_emptied_member_join_by_snapshot_under_faults(
    worlds: list[RuledWorld],
) -> None:
    met = sum((world.met for world in worlds), Counter[str]())
    assert met["snapshot: joined"] == 2 * len(SEEDS)
    assert met["disk: wipe"] == len(SEEDS)
    for what in ("breaks off", "refused", "part damaged", "past fetched", "past refused"):
        assert met[f"snapshot: {what}"] > 0, what


def test_every_node_s_bundles_pass_the_independent_verifier(worlds: list[RuledWorld]) -> None:
    for world in worlds:
        assert world.met["bundle proven"] == len(world.present()) == 5
        assert world.rows_proven == 10


def test_a_bundle_of_another_leaf_than_was_certified_is_noticed(
    worlds: list[RuledWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = worlds[0].nodes[0].archive
    assert isinstance(archive, RuledArchive)
    monkeypatch.setattr(archive, "leaves", lambda: archive_leaves(archive))
    with pytest.raises(Violation, match="the verifier refuses"):
        check_bundle(archive, Random(0))


def test_a_verifier_that_takes_anything_is_noticed(
    worlds: list[RuledWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = worlds[0].nodes[0].archive
    assert isinstance(archive, RuledArchive)
    data, _ = row_bundle(archive)
    good = verifier.verify(data, archive.genesis.bytes)
    monkeypatch.setattr(verifier, "verify", lambda *_: good)
    with pytest.raises(Violation, match="takes a bundle with another"):
        check_bundle(archive, Random(0))


def test_changed_bundles_differ_in_one_part(worlds: list[RuledWorld]) -> None:
    archive = worlds[0].nodes[0].archive
    assert isinstance(archive, RuledArchive)
    data, _ = row_bundle(archive)
    kinds = Counter(what for _, what in changed_bundles(data, Random(1)))
    assert len(kinds) == 6


def archive_leaves(archive: RuledArchive) -> list[bytes]:
    """With one bit changed of the last entry's signature."""
    leaves = RuledArchive.leaves(archive)
    last = max(at for at, leaf in enumerate(leaves) if leaf_type(leaf) == ENTRY)
    leaves[last] = leaves[last][:-1] + bytes([leaves[last][-1] ^ 1])
    return leaves


def test_a_seed_of_these_is_one_run_too() -> None:
    assert RuledWorld(3).run().trace.digest() == RuledWorld(3).run().trace.digest()
