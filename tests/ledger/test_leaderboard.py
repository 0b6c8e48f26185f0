"""The leaderboard: B1 to B5, and combined scores (T5)."""

import pytest
from contest import A, B, C, Contest, both, score
from rules_world import World, digest, named_key

from tilth_ledger import leaderboard
from tilth_ledger.blocks import NOTARIZE, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.evidence import Evidence


@pytest.fixture
def contest():
    return Contest(World())


# ---- B1: a pure function, at any size ----


@pytest.mark.rule("B1")
def test_two_readers_of_the_same_rows_see_the_same_board(contest):
    contest.enter(both("0.8"))
    contest.enter(both("0.9"))
    voter = contest.world.voter[0].rows

    assert leaderboard.board(voter, contest.objective) == contest.board()


@pytest.mark.rule("B1")
def test_the_board_as_it_was_at_a_size(contest):
    contest.enter(both("0.8"))
    size = contest.world.state.size
    before = contest.board()
    contest.enter(both("0.9"))

    assert contest.board(size=size) == before
    assert len(contest.board().rows) == 2


@pytest.mark.rule("B1")
def test_the_board_of_last_month_knows_no_later_revision_and_no_later_withdrawal(contest):
    contest.enter(both("0.8"))
    size, before = contest.world.state.size, contest.board()
    sets = [{"dataset": contest.digits.datasets[A], "set": contest.digits.test_sets[A]}]
    contest.world.submit(A, {"op": "objective.revise", "key": contest.objective, "sets": sets})
    contest.world.submit(B, {"op": "dataset.withdraw", "key": contest.digits.datasets[B]})
    samples = [key for key, _ in contest.world.rows.scan(f"set-sample/{sets[0]['set']}/")]
    withdrawn = samples[0].removeprefix(f"set-sample/{sets[0]['set']}/")
    contest.world.submit(A, {"op": "sample.withdraw", "key": withdrawn})

    assert contest.board(size=size) == before
    assert contest.board().revision == 2
    notes = contest.board(revision=1).rows[0].notes
    for words in ("was withdrawn", "is retired"):
        assert any(words in note for note in notes)
    with pytest.raises(InvalidInput, match="no such leaderboard"):
        contest.board(size=1)


@pytest.mark.rule("B1")
def test_a_board_that_does_not_exist_is_an_error(contest):
    with pytest.raises(InvalidInput, match="no such leaderboard"):
        contest.board(revision=7)


# ---- B2: ranks ----


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("direction", "order"),
    [("maximize", ["0.900000", "0.800000"]), ("minimize", ["0.800000", "0.900000"])],
)
def test_ranks_follow_the_direction(direction, order):
    contest = Contest(World(), direction=direction)
    contest.enter(both("0.8"))
    contest.enter(both("0.9"))

    assert [row.value for row in contest.board().rows] == order
    assert [row.rank for row in contest.board().rows] == [1, 2]


@pytest.mark.rule("B2")
def test_equal_scores_share_a_rank_and_stand_in_the_ledger_s_order(contest):
    plans = [contest.enter(both(value)) for value in ("0.8", "0.9", "0.80", "0.7")]

    rows = contest.board().rows
    assert [row.rank for row in rows] == [1, 2, 2, 4]
    assert [row.plan for row in rows] == [plans[1], plans[0], plans[2], plans[3]]


@pytest.mark.rule("B2")
def test_a_partial_or_failed_result_never_ranks(contest):
    contest.enter({A: score("0.99")})
    contest.enter(both("0.5"))
    train = contest.digits.train(A)
    test = contest.test(A, train)
    contest.world.plan(A, [train, test], final=[train["key"]], on_failure="continue")
    contest.world.run(train)
    contest.world.doing(test)
    contest.world.failed(test, "score")

    rows = contest.board().rows
    assert [(row.rank, row.value) for row in rows] == [(1, "0.500000"), (None, "0.990000")]
    assert rows[1].notes[0] == "partial: 1 of 2 test sets"


@pytest.mark.rule("B2")
def test_a_metric_that_is_not_defined_never_ranks():
    contest = Contest(World(), metric={"builtin": "kappa"}, combine="pooled")
    one_label = {"labels": [0, 1], "matrix": [[10, 0], [0, 0]]}
    contest.enter({site: score("0", statistics=one_label) for site in (A, B)})

    row = contest.board().rows[0]
    assert (row.rank, row.value) == (None, "")
    assert "not defined" in row.notes[0]


# ---- B3: finals, and best of n ----


@pytest.mark.rule("B3")
def test_the_default_board_shows_final_models(contest):
    contest.enter(both("0.9"), final=False)
    plan = contest.enter(both("0.8"))

    assert [row.plan for row in contest.board().rows] == [plan]
    assert contest.board().rows[0].rank == 1


@pytest.mark.rule("B3")
def test_other_models_appear_as_the_best_of_n(contest):
    plan = contest.world.key(A)
    add = {"op": "plan.add", "key": plan, "name": "sweep", "parts": 0, "open": True}
    contest.world.submit(A, add)
    for number, value in enumerate(("0.7", "0.9", "0.8")):
        contest.enter(both(value), final=False, owner_plan=plan, seed=number)

    rows = contest.board(finals_only=False).rows
    assert [(row.value, row.notes[0]) for row in rows] == [("0.900000", "best of 3")]


@pytest.mark.rule("B3")
def test_every_attempt_counts_though_only_one_is_shown(contest):
    contest.enter(both("0.7"), final=False)
    contest.enter(both("0.9"))

    assert contest.board().rows[0].attempts == 4


# ---- B4: what a row shows ----


@pytest.mark.rule("B4")
def test_a_row_shows_counts_sites_and_who_owns_the_test_data(contest):
    contest.enter({A: score("0.8", 30), B: score("0.6", 10)})

    row = contest.board().rows[0]
    assert (row.value, row.count) == ("0.750000", 40)
    assert {each.owner: each.value for each in row.per_set} == {A: "0.8", B: "0.6"}
    assert row.certified == tuple(each.index for each in row.per_set)
    assert f"submitted by {A}, which owns test data" in row.notes
    assert f"trained at {A}, which own test data" in row.notes


@pytest.mark.rule("B4")
def test_a_row_says_what_it_descends_from(contest):
    world, key = contest.world, contest.world.key(C)
    operation = {"op": "model.import", "key": key, "origin": "elsewhere"}
    world.submit(C, operation | world.file("weights") | {"grants": {"use": "public"}})
    tests = [
        {**contest.test(site, {"key": ""}), "inputs": [{"name": "model", "model": key}]}
        for site in (A, B)
    ]
    world.plan(A, tests)
    world.run(*tests)

    row = contest.board(finals_only=False).rows[0]
    assert f"descends from imported models: {key}" in row.notes
    assert row.model == digest("weights")


@pytest.mark.rule("B4")
def test_a_re_run_is_told_but_changes_no_rank(contest):
    world = contest.world
    train = contest.digits.train(A)
    tests = [contest.test(site, train) for site in (A, B, B)]
    world.plan(A, [train, *tests], final=[train["key"]])
    world.run(train, tests[0], tests[1])
    world.doing(tests[2])
    world.done(tests[2], score=score("0.1"))

    row = contest.board().rows[0]
    assert row.value == "0.900000"
    assert "1 re-runs, 1 disagree" in row.notes


@pytest.mark.rule("B4")
def test_a_retired_test_set_is_told(contest):
    contest.enter(both("0.8"))
    test_set = contest.digits.test_sets[A]
    prefix = f"set-sample/{test_set}/"
    sample = next(key.removeprefix(prefix) for key, _ in contest.world.rows.scan(prefix))
    contest.world.submit(A, {"op": "sample.withdraw", "key": sample})

    assert any("retired" in note for note in contest.board().rows[0].notes)


@pytest.mark.rule("A4")
def test_what_depended_on_a_withdrawn_asset_is_marked_and_stays(contest):
    contest.enter(both("0.8"))
    digits, world = contest.digits, contest.world
    world.submit(A, {"op": "algo.withdraw", "key": digits.algo})
    world.submit(B, {"op": "dataset.withdraw", "key": digits.datasets[B]})

    row = contest.board().rows[0]
    assert row.rank == 1
    assert f"the algo {digits.algo} was withdrawn" in row.notes
    assert f"the dataset {digits.datasets[B]} was withdrawn" in row.notes


@pytest.mark.rule("B4")
def test_an_interval_stays_within_the_metric_s_range():
    contest = Contest(World(), combine="pooled")
    perfect = {"labels": [0, 1], "matrix": [[5, 0], [0, 5]]}
    sure = score("1", statistics=perfect, interval=["0.722", "1"])
    contest.enter({A: sure, B: sure})

    assert contest.board().rows[0].interval == ("0.838875", "1.000000")


@pytest.mark.rule("B4")
def test_an_interval_needs_one_of_every_set(contest):
    contest.enter({A: score("0.8", interval=["0.7", "0.9"]), B: score("0.8")})

    assert contest.board().rows[0].interval is None


@pytest.mark.rule("B4")
def test_views_of_a_board(contest):
    plans = [contest.enter(both(value)) for value in ("0.9", "0.9", "0.8", "0.7")]
    board = contest.board()

    assert len(board.top(1).rows) == 2  # a tie
    assert [row.plan for row in board.where(plan=plans[3]).rows] == [plans[3]]
    assert len(board.best_by("algo").rows) == 1
    assert len(board.best_by("plan").rows) == 4
    first, cursor = board.page(3)
    rest, end = board.page(3, cursor)
    assert [row.plan for row in (*first.rows, *rest.rows)] == plans
    assert end is None


@pytest.mark.rule("B4")
def test_a_curve_over_ranks_and_the_history_of_revisions(contest):
    world, digits = contest.world, contest.digits
    first = digits.train(A)
    second = digits.train(A, first)
    tests = [contest.test(site, model) for model in (first, second) for site in (A, B)]
    plan = world.plan(A, [first, second, *tests])
    world.run(first, second)
    for test, value in zip(tests, ("0.5", "0.5", "0.7", "0.9"), strict=True):
        world.doing(test)
        world.done(test, score=score(value))

    points = leaderboard.curve(world.rows, contest.objective, plan)

    assert points == ((1, "0.500000"), (2, "0.800000"))
    assert leaderboard.history(world.rows, contest.objective) == (1,)


# ---- B5: each row exports ----


@pytest.mark.rule("B5")
def test_a_row_names_the_leaves_that_prove_it(contest):
    contest.enter(both("0.8"))
    world, row = contest.world, contest.board().rows[0]

    for index, each in zip(row.certified, row.per_set, strict=True):
        assert each.set.encode() in world.leaves[index]
        assert b'"task.done"' in world.leaves[index - 1]


# ---- T5: sets together ----


@pytest.mark.rule("T5")
@pytest.mark.parametrize(("rule", "expected"), [("by_count", "0.750000"), ("by_site", "0.700000")])
def test_sets_are_combined_by_the_stated_rule(rule, expected):
    contest = Contest(World(), combine=rule)
    contest.enter({A: score("0.8", 30), B: score("0.6", 10)})

    assert contest.board().rows[0].value == expected


def accuse(world, member, view=3):
    key = named_key(f"{world.organizations[member]} vote")
    epoch = Epoch.first(world.genesis)
    votes = [Vote.sign(epoch, key, member, NOTARIZE, view, bytes([n]) * 32) for n in (1, 2)]
    world.record(Evidence.of(*votes).leaf(world.genesis.net))


@pytest.mark.rule("E1")
def test_evidence_stands_on_the_rows_of_its_member_and_on_those_it_scored(contest):
    contest.enter(both("0.8"))
    size = contest.world.state.size
    accuse(contest.world, 1)  # hospital-b owns one of the test sets
    [row] = contest.board().rows
    assert row.notes[0] == (
        f"EVIDENCE: hospital-b signed votes that exclude each other (entry {size})"
    )
    [before] = leaderboard.board(contest.world.rows, contest.objective, size=size).rows
    assert not any("EVIDENCE" in note for note in before.notes)


@pytest.mark.rule("E1")
def test_evidence_against_a_member_that_has_no_part_in_a_row_is_not_on_it(contest):
    contest.enter(both("0.8"))
    accuse(contest.world, 2)
    [row] = contest.board().rows
    assert not any("EVIDENCE" in note for note in row.notes)
