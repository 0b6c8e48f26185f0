"""Local folders: versioned by task; a retry and a sibling see what the first try saw."""

from pathlib import Path

import pytest

from tilth_node.storage.folders import Folders

PLAN, FIRST, SECOND = "a/plan", "a/first", "a/second"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "local")


def run(folders: Folders, tmp_path: Path, task: str, attempt: int, text: str) -> str:
    """A task that leaves `text` as its state."""
    collected = tmp_path / "collected"
    collected.mkdir()
    (collected / "state").write_text(text)
    return folders.keep(PLAN, task, attempt, collected)


def state(folders: Folders, task: str) -> str:
    current = folders.current(PLAN, task)
    return "" if current is None else (current / "state").read_text()


def test_a_task_that_left_nothing_has_no_folder(folders: Folders) -> None:
    assert folders.current(PLAN, FIRST) is None


def test_a_finished_task_leaves_its_folder_to_the_next(folders: Folders, tmp_path: Path) -> None:
    run(folders, tmp_path, FIRST, 1, "one")
    folders.commit(PLAN, FIRST, 1)
    assert state(folders, FIRST) == "one"


def test_a_result_counts_only_when_done_is_final(folders: Folders, tmp_path: Path) -> None:
    run(folders, tmp_path, FIRST, 1, "one")
    assert folders.current(PLAN, FIRST) is None
    assert folders.digest(PLAN, FIRST) is None


def test_a_retry_finds_nothing_of_the_first_try(folders: Folders, tmp_path: Path) -> None:
    run(folders, tmp_path, FIRST, 1, "one")
    folders.commit(PLAN, FIRST, 1)
    run(folders, tmp_path, SECOND, 1, "spoiled")
    folders.discard(PLAN, SECOND, 1)
    assert (state(folders, FIRST), state(folders, SECOND)) == ("one", "")
    run(folders, tmp_path, SECOND, 2, "two")
    folders.commit(PLAN, SECOND, 2)
    assert state(folders, SECOND) == "two"


def test_keeping_again_after_a_crash_replaces_what_was_kept(
    folders: Folders, tmp_path: Path
) -> None:
    run(folders, tmp_path, FIRST, 1, "half")
    run(folders, tmp_path, FIRST, 1, "whole")
    folders.commit(PLAN, FIRST, 1)
    assert state(folders, FIRST) == "whole"


def test_committing_again_changes_nothing(folders: Folders, tmp_path: Path) -> None:
    digest = run(folders, tmp_path, FIRST, 1, "one")
    folders.commit(PLAN, FIRST, 1)
    folders.commit(PLAN, FIRST, 1)
    assert folders.digest(PLAN, FIRST) == digest


@pytest.mark.rule("L5")
def test_a_closed_plan_leaves_nothing(folders: Folders, tmp_path: Path) -> None:
    run(folders, tmp_path, FIRST, 1, "one")
    folders.commit(PLAN, FIRST, 1)
    assert list(folders.plans()) == [PLAN]
    folders.drop(PLAN)
    assert list(folders.plans()) == []
