"""Recorded leaderboards (B6): what stands, as every voter recomputes it, and later readers too."""

import json
from dataclasses import replace

import pytest
from contest import A, B, C, Contest, both, score
from rules_world import World, named_key

from tilth_ledger import limits
from tilth_ledger.blocks import NOTARIZE, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.evidence import Evidence
from tilth_ledger.leaf import LEADERBOARD, Leaf
from tilth_ledger.merkle import leaf_hash, verify_inclusion
from tilth_ledger.standing import standing


@pytest.fixture
def contest():
    made = Contest(World())
    made.world.time_ms += limits.BOARD_PAUSE_MS
    return made


def ask(contest, **fields):
    return {"op": "leaderboard.record", "objective": contest.objective, **fields}


def record(contest, by=A, **fields):
    """Record the board as it stands; what its leaf states."""
    contest.world.time_ms += limits.BOARD_PAUSE_MS
    built = contest.world.submit(by, ask(contest, **fields))
    leaf = Leaf.decode(built.leaves[-1])
    assert leaf.type == LEADERBOARD
    assert leaf.signatures == ()
    return json.loads(leaf.payload)


def rows_at(contest, size=None):
    world = contest.world
    found = standing(world.rows, contest.objective, 1, world.state.size if size is None else size)
    return [json.loads(row) for row in found.rows]


@pytest.mark.rule("B6")
def test_a_recorded_board_commits_to_the_rows_that_stand(contest):
    contest.enter(both("0.8"))
    contest.enter(both("0.9"))
    contest.enter({A: score("0.99")})  # partial: not ranked
    contest.enter(both("0.95"), final=False)  # not on the default board
    size = contest.world.state.size
    stated = record(contest, by=C)

    assert (stated["size"], stated["count"]) == (size, 2)
    assert stated["net"] == contest.world.genesis.net
    assert stated["time_ms"] == contest.world.time_ms
    found = standing(contest.world.rows, contest.objective, 1, size)
    assert found.root.hex() == stated["root"]
    for place, row in enumerate(found.rows):
        path = found.path(place)
        verify_inclusion(leaf_hash(row), place, 2, path, bytes.fromhex(stated["root"]))
    row = contest.world.row(f"board/{contest.objective}/000001")
    assert (row["root"], row["index"]) == (stated["root"], size + 1)


@pytest.mark.rule("B6")
@pytest.mark.parametrize(
    ("combine", "direction"), [("by_count", "maximize"), ("by_site", "minimize")]
)
def test_ranks_and_values_are_those_of_the_board_that_people_read(combine, direction):
    contest = Contest(World(), combine=combine, direction=direction)
    for number, value in enumerate(("0.7", "0.9", "0.70", "0.8", "0.9")):
        contest.enter({A: score(value, 10 + number), B: score("0.5", 30)})
    shown = contest.board().rows

    for row, other in zip(rows_at(contest), shown, strict=True):
        names = ("rank", "value", "count", "plan", "organization", "model", "model_task")
        assert {name: row[name] for name in names} == {n: getattr(other, n) for n in names}
        assert (row["algo_key"], row["certified"]) == (other.algo, list(other.certified))


@pytest.mark.rule("B6")
@pytest.mark.parametrize("what", ["algo", "dataset", "sample"])
def test_a_row_does_not_stand_once_something_behind_it_is_withdrawn(contest, what):
    contest.enter(both("0.8"))
    before = contest.world.state.size
    [row] = rows_at(contest)
    key = {
        "algo": row["algo_key"],
        "dataset": contest.digits.datasets[B],
        "sample": next(
            name.rpartition(f"{contest.digits.test_sets[B]}/")[2]
            for name, _ in contest.world.rows.scan(f"set-sample/{contest.digits.test_sets[B]}/")
        ),
    }[what]
    contest.world.submit(key.partition("/")[0], {"op": f"{what}.withdraw", "key": key})

    assert rows_at(contest) == []
    assert record(contest)["count"] == 0
    # The board of before is what it was: whoever proves that the row stood then still can.
    assert rows_at(contest, before) == [row]


@pytest.mark.rule("B6")
def test_a_sample_withdrawn_later_does_not_move_the_day_its_set_retired(contest):
    contest.enter(both("0.8"))
    held = f"set-sample/{contest.digits.test_sets[B]}/"
    samples = [name.removeprefix(held) for name, _ in contest.world.rows.scan(held)]
    contest.world.submit(B, {"op": "sample.withdraw", "key": samples[0]})
    between = contest.world.state.size
    contest.world.submit(B, {"op": "sample.withdraw", "key": samples[1]})

    assert rows_at(contest, between) == []


def test_what_comes_later_changes_no_board_of_before(contest):
    contest.enter(both("0.8"))
    size = contest.world.state.size
    before = standing(contest.world.rows, contest.objective, 1, size)
    contest.enter(both("0.9"))

    assert standing(contest.world.rows, contest.objective, 1, size) == before
    assert len(rows_at(contest)) == 2


def test_a_row_says_whose_word_stands_accused(contest):
    contest.enter(both("0.8"))
    before = contest.world.state.size
    epoch = Epoch.first(contest.world.genesis)
    votes = [
        Vote.sign(epoch, named_key(f"{B} vote"), 1, NOTARIZE, 4, bytes([n]) * 32) for n in (1, 2)
    ]
    contest.world.record(Evidence.of(*votes).leaf(contest.world.genesis.net))

    assert rows_at(contest)[0]["accused"] == [B]
    assert rows_at(contest, before)[0]["accused"] == []


@pytest.mark.rule("B6")
def test_boards_are_recorded_a_second_apart(contest):
    record(contest)
    with pytest.raises(Refused, match="a moment ago") as refused:
        contest.world.submit(A, ask(contest))
    assert refused.value.rule == "B6"
    twice = [ask(contest), ask(contest)]
    contest.world.time_ms += limits.BOARD_PAUSE_MS
    with pytest.raises(Refused, match="a moment ago"):
        contest.world.submit(A, *twice)


@pytest.mark.rule("B6")
def test_a_board_that_does_not_exist_or_is_withdrawn_is_not_recorded(contest):
    with pytest.raises(Refused, match="no such revision") as refused:
        record(contest, revision=2)
    assert refused.value.rule == "B6"
    contest.world.submit(A, {"op": "objective.withdraw", "key": contest.objective})
    with pytest.raises(Refused, match="withdrawn"):
        record(contest)
    with pytest.raises(Refused, match="role"):
        contest.world.submit(A, ask(contest), role="node")


@pytest.mark.rule("B6")
def test_a_board_too_large_to_recompute_is_refused(contest, monkeypatch):
    contest.enter(both("0.8"))
    monkeypatch.setattr(limits, "BOARD_RESULTS", 2)
    assert record(contest)["count"] == 1
    contest.enter(both("0.9"))
    with pytest.raises(Refused, match="too large"):
        record(contest)


@pytest.mark.rule("B6")
def test_the_cells_of_pooled_matrices_are_counted(monkeypatch):
    contest = Contest(World(), combine="pooled")
    matrix = {"labels": [0, 1], "matrix": [[8, 2], [0, 0]]}
    contest.enter({site: score("0.8", statistics=matrix) for site in (A, B)})
    assert record(contest)["count"] == 1
    monkeypatch.setattr(limits, "BOARD_CELLS", 7)
    with pytest.raises(Refused, match="too large"):
        record(contest)


@pytest.mark.rule("B6")
def test_a_leader_cannot_forge_a_recorded_board(contest):
    """Whatever it writes in the leaf's place, leaves out or adds: no voter executes it."""
    contest.enter(both("0.8"))
    world = contest.world
    entry = world.entry(A, ask(contest))
    executor, parent = world.proposer
    now = world.time_ms + limits.BOARD_PAUSE_MS
    built = executor.build(parent, [entry], now)
    leaf = Leaf.decode(built.leaves[1])
    forged = [
        replace(leaf, payload=leaf.payload.replace(b'"count":1', b'"count":0')),
        replace(leaf, payload=leaf.payload.replace(b'"revision":1', b'"revision":2')),
        replace(leaf, type=0x0101),
    ]
    bodies = [[entry], [*built.leaves, built.leaves[1]], [built.leaves[1]]]
    for body in [*bodies, *([entry, each.encode()] for each in forged)]:
        with pytest.raises((Refused, InvalidInput)):
            world.voter[0].execute(world.voter[1], body, now)
    world.voter[0].execute(world.voter[1], built.leaves, now)


def test_a_board_and_a_result_of_one_entry_stand_where_they_say(contest):
    """System leaves of several kinds follow one entry, in the order of its operations."""
    world = contest.world
    train = contest.digits.train(A)
    test = contest.test(A, train)
    world.plan(A, [train, test], final=[train["key"]])
    world.run(train)
    world.doing(test)
    key = world.add_identity(A, "both", ("node", "scientist"))
    world.time_ms += limits.BOARD_PAUSE_MS
    built = world.submit(A, ask(contest), world.done_operation(test), key=key)
    size = world.state.size

    assert [Leaf.decode(leaf).type for leaf in built.leaves] == [1, 0x0104, 0x0101]
    assert world.row(f"board/{contest.objective}/000001")["index"] == size - 2
    assert world.row(f"certified/{contest.objective}/000001/{test['key']}")["index"] == size - 1
