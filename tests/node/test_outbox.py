"""The outbox: the first statement about an attempt stands, and survives the process."""

from pathlib import Path

from tilth_node.storage.desk import open_desk
from tilth_node.storage.outbox import Statement
from tilth_node.storage.runs import Run

DONE = Statement("a/1", 1, b"signed bytes", True)


def test_a_statement_waits_over_a_restart(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.settle(DONE)
    desk.close()
    assert open_desk(tmp_path / "worker.db").outbox.all() == [DONE]


def test_a_second_result_of_one_attempt_is_never_said(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.settle(DONE)
    assert desk.settle(Statement("a/1", 1, b"another result", True)) == DONE
    assert desk.outbox.all() == [DONE]


def test_another_attempt_is_another_statement(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.settle(DONE)
    retry = Statement("a/1", 2, b"signed again", False)
    assert desk.settle(retry) == retry
    assert desk.outbox.all() == [DONE, retry]


def test_a_final_statement_is_forgotten_and_forgetting_again_changes_nothing(
    tmp_path: Path,
) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.settle(DONE)
    desk.outbox.remove("a/1", 1)
    desk.outbox.remove("a/1", 1)
    assert desk.outbox.all() == []


def test_the_handle_of_what_runs_is_found_after_a_crash(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.runs.put(Run("a/1", 1, "train", '{"pid": 7}'))
    desk.runs.put(Run("a/1", 1, "predict", '{"pid": 8}'))
    assert open_desk(tmp_path / "worker.db").runs.all() == [Run("a/1", 1, "predict", '{"pid": 8}')]


def test_what_was_said_about_a_task_no_longer_runs(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.runs.put(Run("a/1", 1, "train", "{}"))
    desk.settle(DONE)
    assert desk.runs.all() == []


def test_nothing_is_found_of_what_was_collected(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "worker.db")
    desk.runs.put(Run("a/1", 1, "train", "{}"))
    desk.runs.remove("a/1")
    assert desk.runs.all() == []
