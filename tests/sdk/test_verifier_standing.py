"""That a row still stood, proven to a stranger: a recorded leaderboard in a bundle."""

import json
from dataclasses import replace

import pytest
from bundled_world import bundle_of
from contest import A, B, C, Contest, both
from rules_world import World

from tilth import verifier
from tilth_ledger import bundle, canonical, limits
from tilth_ledger.leaf import LEADERBOARD, Leaf
from tilth_ledger.merkle import leaf_hash
from tilth_ledger.standing import standing


def board_of(world):
    return lambda *wanted: standing(world.rows, *wanted)


def stood(world, certified):
    return bundle.stood(world.rows, world.leaves.__getitem__, certified, board_of(world))


def record(contest):
    contest.world.time_ms += limits.BOARD_PAUSE_MS
    contest.world.submit(C, {"op": "leaderboard.record", "objective": contest.objective})


def check(world, data):
    return verifier.verify(data, world.genesis.bytes)


@pytest.fixture(scope="module")
def ledger():
    """Two rows, a recorded board, and more after it; and the second row's results."""
    contest = Contest(World())
    contest.enter(both("0.9"))
    contest.enter(both("0.8"))
    record(contest)
    world, size = contest.world, contest.world.state.size
    contest.enter(both("0.7"))
    certified = list(contest.board().rows[1].certified)
    return world, certified, size - 2


def test_a_row_that_stood_is_shown_to_have_stood_at_that_size(ledger):
    world, certified, size = ledger
    data = bundle_of(world, world.leaves, certified, stood(world, certified))
    report = check(world, data)

    assert report.ok, report.refusal
    assert report.facts["size"] == world.state.size
    assert report.facts["stood"].startswith(f"at size {size} (2023-11-14T")
    assert report.facts["stood"].endswith("rank 2, one of 2 rows")
    assert report.facts["not checked"] == f"revocation after size {size}"
    assert any(f"stood at size {size}" in text for text in report.proven)
    without = check(world, bundle_of(world, world.leaves, certified))
    assert without.ok
    assert "stood" not in without.facts
    assert without.facts["not checked"] == f"revocation after size {certified[-1] + 1}"


def test_a_row_that_came_after_the_board_is_not_on_it(ledger):
    world, _, _ = ledger
    newest = [r["index"] for _, r in world.rows.scan("certified/") if r["score"]["value"] == "0.7"]

    assert stood(world, newest) is None


def test_a_withdrawn_row_is_not_shown_as_standing():
    contest = Contest(World())
    contest.enter(both("0.9"))
    record(contest)
    world = contest.world
    certified = list(contest.board().rows[0].certified)
    old = stood(world, certified)
    size = world.state.size - 2
    dataset = contest.digits.datasets[B]
    world.submit(B, {"op": "dataset.withdraw", "key": dataset})
    # Nobody recorded a board since: what is proven is the day before, and the report says so.
    report = check(world, bundle_of(world, world.leaves, certified, stood(world, certified)))
    assert report.facts["not checked"] == f"revocation after size {size}"

    record(contest)
    assert stood(world, certified) is None
    newest = next(i for i in reversed(range(len(world.leaves))) if is_board(world.leaves[i]))
    false = replace(old, index=newest)
    report = check(world, bundle_of(world, world.leaves, certified, false))
    assert report.refusal["check"] == f"place of the row on leaderboard {newest}"


def is_board(leaf):
    return Leaf.decode(leaf).type == LEADERBOARD


def test_a_proof_that_the_row_of_another_model_stood_is_refused(ledger):
    world, certified, _ = ledger
    first = [r["index"] for _, r in world.rows.scan("certified/") if r["score"]["value"] == "0.9"]
    other = stood(world, sorted(first))

    report = check(world, bundle_of(world, world.leaves, certified, other))
    assert report.refusal["check"].startswith("model of the row on leaderboard")


def test_a_part_of_a_row_is_no_row(ledger):
    world, certified, _ = ledger
    whole = stood(world, certified)

    report = check(world, bundle_of(world, world.leaves, certified[:1], whole))
    assert report.refusal["check"].startswith("results of the row on leaderboard")
    assert stood(world, certified[:1]) is None


def test_a_board_that_no_tree_holds_is_refused(ledger):
    """A node that writes a better board than the members recorded."""
    world, certified, _ = ledger
    found = stood(world, certified)
    better = found.row.replace(b'"rank":2', b'"rank":1')
    forged = Leaf.decode(world.leaves[found.index])
    payload = json.loads(forged.payload) | {"count": 1, "root": leaf_hash(better).hex()}
    leaves = list(world.leaves)
    leaves[found.index] = Leaf(LEADERBOARD, canonical.dumps(payload)).encode()
    false = replace(found, row=better, place=0, path=[])

    report = check(world, bundle_of(world, leaves, certified, false))
    assert report.refusal["check"] == f"place of leaf {found.index} in the tree"


def test_any_changed_byte_of_the_standing_is_refused(ledger):
    world, certified, _ = ledger
    value = json.loads(bundle_of(world, world.leaves, certified, stood(world, certified)))
    row = value["standing"]["row"]
    changed = [
        {"row": row[:at] + ("0" if row[at] != "0" else "1") + row[at + 1 :]}
        for at in range(0, len(row), 9)
    ]
    changed += [{"place": 0}, {"place": -1}, {"path": []}, {"path": [0]}, {"row": row + " "}]
    changed += [
        {"index": certified[0]},
        {"index": 10**9},
        {"row": 5},
        {"more": 1},
        {"row": "\ud800"},
    ]
    for change in changed:
        data = json.dumps(value | {"standing": value["standing"] | change}).encode()
        assert not check(world, data).ok, change
    assert not check(world, json.dumps(value | {"standing": [1]}).encode()).ok


@pytest.mark.parametrize(
    "told",
    [
        {"net": "00" * 32},
        {"objective": A + "/" + "0" * 32},
        {"revision": 2},
        {"size": 3},
        {"size": 10**6},
        {"count": "2"},
        {"time_ms": 2**53 - 1},
        {"root": "zz"},
    ],
)
def test_a_board_that_makes_no_sense_is_refused_whoever_signed_the_head(told):
    contest = Contest(World())
    contest.enter(both("0.9"))
    record(contest)
    world = contest.world
    certified = list(contest.board().rows[0].certified)
    found = stood(world, certified)
    leaf = Leaf.decode(world.leaves[-1])
    false = Leaf(LEADERBOARD, canonical.dumps(json.loads(leaf.payload) | told)).encode()
    forged = [*world.leaves[:-1], false]
    # All members signed this head: the verifier still holds the board against its row.
    report = check(world, bundle_of(world, forged, certified, found, forged))
    assert not report.ok
    assert "leaderboard" in report.refusal["check"] or "time_ms" in told
