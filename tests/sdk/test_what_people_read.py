"""What people read while and after a plan runs: states, curves, boards, checks."""

import dataclasses

import pytest

from tilth import InvalidInput, Refused
from tilth.assets import PlanStatus, TaskStatus
from tilth.checks import PlanCheck, Work
from tilth.cli.status import _joining
from tilth.curve import curve_of
from tilth.leaderboard import Leaderboard, LeaderboardRow
from tilth.rights import Right
from tilth.run import Outcome, View, _failures

PLAN = "hospital-a/" + "1" * 32


def task(number, state="done", **more):
    row = {"plan": PLAN, "kind": "train", "worker": "hospital-a", "rank": number, "state": state}
    return f"hospital-a/{number:032x}", {**row, **more}


def plan(status="closed", tasks=3, **more):
    facts = {"name": "p", "owner": "hospital-a", "status": status, "tasks": tasks, "stops": 0}
    return {**facts, "expires_ms": 1_000, **more}


def status(row, done=0, failed=0, work=(), time_ms=500):
    return PlanStatus.from_row(PLAN, row, {"done": done, "failed": failed}, work, time_ms)


@pytest.mark.parametrize(
    ("done", "failed", "work", "word"),
    [
        (3, 0, (), "done"),
        (2, 0, ("doing",), "doing"),
        (0, 1, ("waiting", "todo"), "todo"),
        (1, 1, ("waiting",), "waiting"),
        (2, 1, (), "failed"),
        (1, 1, (), "failed"),  # the third was canceled with the second
        (2, 0, (), "canceled"),  # one task was canceled by itself
    ],
)
def test_a_plan_says_what_is_open_of_it_and_else_how_it_ended(done, failed, work, word):
    assert status(plan(), done, failed, work).status == word


def test_a_plan_of_failed_done_and_canceled_tasks_is_over_and_counts_them_all():
    ended = status(plan(tasks=6), 2, 1)

    assert ended.over
    assert (ended.done, ended.failed, ended.canceled) == (2, 1, 3)
    assert not status(plan(tasks=6), 2, 1, ("waiting",)).over


def test_an_expired_plan_is_over_although_rows_of_open_tasks_stand():
    assert status(plan(), 1, 0, ("waiting", "waiting"), time_ms=1_001).status == "canceled"
    assert status(plan("unsealed"), time_ms=1_001).status == "canceled"
    assert status(plan(), 1, 0, ("waiting", "waiting"), time_ms=1_000).status == "waiting"


def test_a_plan_that_was_canceled_or_stopped_is_over_with_work_left():
    assert status(plan("canceled"), 1, 1, ("todo",)).status == "canceled"
    assert status(plan("stopped"), 1, 1, ("todo",)).status == "failed"


def test_a_plan_that_can_be_extended_is_not_over():
    assert status(plan("open"), 3).status == "waiting"
    assert status(plan("unsealed")).status == "unsealed"


def view(*tasks, status="closed", stops=0, time_ms=500):
    row = plan(status, stops=stops)
    made = View(row, frozenset(key for key, _ in tasks), time_ms=time_ms)
    made.take((f"task/{key}", row) for key, row in tasks)
    return made


def test_a_view_is_over_when_nothing_is_open():
    assert view(task(1), task(2, "failed"), task(3, "canceled")).over


def test_a_view_is_not_over_while_a_task_is_missing_or_open():
    missing = View({"status": "closed"}, frozenset([task(1)[0], task(2)[0]]))
    missing.take([(f"task/{task(1)[0]}", task(1)[1])])

    assert not missing.over
    assert not view(task(1), task(2, "waiting")).over


def test_a_view_of_an_expired_plan_is_over():
    assert view(task(1, "doing", stops=0), time_ms=1_001).over
    assert not view(task(1, "doing", stops=0), time_ms=1_000).over


def test_a_canceled_plan_is_over_without_a_word_about_its_tasks():
    watched = view(task(1), task(2, "todo"))
    watched.take([(f"plan/{PLAN}", {"status": "canceled", "stops": 1})])

    assert watched.over
    assert [each.state for each in watched.tasks] == ["done", "canceled"]


def test_rows_of_other_plans_are_left_alone():
    watched = view(task(1))
    watched.take([(f"task/{task(9)[0]}", task(9, "todo")[1])])

    assert watched.over


def validation(number, worker, value, count):
    score = {"value": value, "count": count}
    more = {"kind": "test", "worker": worker, "score": score, "tag": f"round {number}"}
    return TaskStatus.from_row(*task(number, **more))


def test_the_curve_is_the_mean_over_sites_weighted_by_rows():
    tests = [
        validation(2, "hospital-a", "0.9", 30),
        validation(2, "hospital-b", "0.6", 10),
        validation(1, "hospital-a", "0.5", 30),
    ]

    curve = curve_of(tests)

    assert curve.values == [0.5, 0.825]
    assert [point.round for point in curve.points] == ["round 1", "round 2"]
    assert "hospital-b" in str(curve)


def test_certified_and_unfinished_tests_are_no_part_of_the_curve():
    certified = dataclasses.replace(validation(1, "hospital-a", "1", 5), certified=True)
    running = dataclasses.replace(validation(1, "hospital-a", "1", 5), state="doing")

    assert curve_of([certified, running]).points == ()


def row(rank, name, value="0.963889", **more):
    facts = {
        "algo": "Softmax",
        "organization": "hospital-a",
        "count": 360,
        "interval": ("0.938889", "0.980556"),
        "per_site": {"hospital-a": "0.97", "hospital-b": "0.95"},
        "attempts": 3,
        "notes": (),
        "plan": PLAN,
        "model": "m",
        "index": 7,
    }
    return LeaderboardRow(rank=rank, name=name, value=value, **{**facts, **more})


def test_a_board_prints_rank_score_interval_count_sites_attempts_and_notes(goal):
    shown = str(Leaderboard(goal, 1, (row(1, "ours", notes=("a training site owns test data",)),)))

    for word in ("1 ", "ours", "0.9638", "0.9388 - 0.9805", "360", "0.9700", "3", "training site"):
        assert word in shown


def test_a_row_without_all_test_sets_has_no_rank(goal):
    board = Leaderboard(goal, 1, (row(None, "half"),))

    assert "-" in str(board).splitlines()[3]
    with pytest.raises(InvalidInput, match="rank 1"):
        board.row(1)


def test_the_row_of_a_rank(goal):
    board = Leaderboard(goal, 1, (row(1, "first"), row(2, "second")))

    assert board.row(2).name == "second"


def test_a_board_as_json_holds_every_digit(goal):
    [found] = Leaderboard(goal, 1, (row(1, "ours"),)).as_dict()["rows"]

    assert found["value"] == "0.963889"
    assert "net" not in found


def test_a_page_names_the_next_and_a_past_board_its_size(goal):
    shown = str(Leaderboard(goal, 1, (row(1, "ours"),), size=12, next=7))

    assert "as of 12 entries" in shown
    assert "--page 7" in shown


def test_a_check_names_what_is_missing_and_the_command_that_gives_it():
    command = "hospital-c runs: tilth data grant digits --train hospital-a"
    problem = Refused("R3", "no right to train", found="a", expected="b", remedy=command)
    right = Right("train", "hospital-c", "hospital-a", "nobody")
    check = PlanCheck("p", (Work("hospital-c", "train", 10),), (right,), (problem,))

    assert not check.ok
    assert "10 tasks" in str(check)
    assert command in str(check)


def test_a_check_without_problems_says_so():
    check = PlanCheck("p", (), (), (), warnings=("hospital-b has not accepted",))

    assert check.ok
    assert "nothing is missing" in str(check)
    assert "note: hospital-b has not accepted" in str(check)


def test_an_outcome_says_what_failed_and_how_to_repeat_it():
    outcome = Outcome(PLAN, "p", False, {"done": 3, "failed": 1}, ("train at x failed: exit",))

    assert "3 done, 1 failed" in str(outcome)
    assert f"tilth plan retry {PLAN}" in str(outcome)


def test_an_unfinished_outcome_says_how_to_follow_it():
    assert f"tilth plan watch {PLAN}" in str(Outcome(PLAN, "p", False, {"todo": 1}))


def test_a_task_whose_worker_left_says_so_and_names_no_log():
    def failed(reason):
        key, row = task(1, "failed", reason=reason, worker="hospital-c")
        return TaskStatus.from_row(key, row)

    [left] = _failures([failed("worker_removed")])
    assert left == (
        "train at hospital-c failed: worker_removed (hospital-c left the consortium: plan again"
        " without it)"
    )
    assert "tilth task log" in _failures([failed("exit")])[0]


def test_status_says_what_a_node_that_joined_still_lacks():
    assert _joining({"joined_rows": 0, "missing": 0}) == []
    assert _joining({"joined_rows": 7, "missing": 0}) == ["snapshot: 7 rows have come"]
    [line] = _joining({"joined_rows": 0, "missing": 9})
    assert "the first 9 entries" in line
