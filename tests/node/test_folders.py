"""Local folders: versioned by task; a retry and a sibling see what the first try saw."""

from pathlib import Path

import pytest

from tilth_node.storage.folders import Folders

PLAN, FIRST, SECOND = "a/plan", "a/first", "a/second"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "local")


def run(folders: Folders, task: str, attempt: int, ancestor: str | None, text: str) -> str:
    """A task that appends `text` to its state."""
    work = folders.begin(PLAN, task, attempt, ancestor)
    with (work / "state").open("a") as state:
        state.write(text)
    return folders.ready(PLAN, task, attempt)


def test_a_task_without_ancestor_starts_empty(folders: Folders) -> None:
    assert list(folders.begin(PLAN, FIRST, 1, None).iterdir()) == []


def test_a_task_goes_on_from_its_ancestor(folders: Folders) -> None:
    run(folders, FIRST, 1, None, "one")
    folders.commit(PLAN, FIRST, 1)
    assert (folders.begin(PLAN, SECOND, 1, FIRST) / "state").read_text() == "one"


def test_a_result_counts_only_when_done_is_final(folders: Folders) -> None:
    run(folders, FIRST, 1, None, "one")
    assert folders.digest(PLAN, FIRST) is None
    assert list(folders.begin(PLAN, SECOND, 1, FIRST).iterdir()) == []


def test_a_retry_sees_what_the_first_try_saw(folders: Folders) -> None:
    run(folders, FIRST, 1, None, "one")
    folders.commit(PLAN, FIRST, 1)
    run(folders, SECOND, 1, FIRST, " spoiled")
    folders.discard(PLAN, SECOND, 1)
    assert (folders.begin(PLAN, SECOND, 2, FIRST) / "state").read_text() == "one"


def test_a_crash_in_the_middle_leaves_nothing_to_the_next_try(folders: Folders) -> None:
    (folders.begin(PLAN, FIRST, 1, None) / "half").write_text("half")
    assert list(folders.begin(PLAN, FIRST, 1, None).iterdir()) == []


def test_committing_again_changes_nothing(folders: Folders) -> None:
    digest = run(folders, FIRST, 1, None, "one")
    folders.commit(PLAN, FIRST, 1)
    folders.commit(PLAN, FIRST, 1)
    assert folders.digest(PLAN, FIRST) == digest


@pytest.mark.rule("L5")
def test_a_closed_plan_leaves_nothing(folders: Folders) -> None:
    run(folders, FIRST, 1, None, "one")
    folders.commit(PLAN, FIRST, 1)
    assert list(folders.plans()) == [PLAN]
    folders.drop(PLAN)
    assert list(folders.plans()) == []
