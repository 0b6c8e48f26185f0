"""Kept features: found by what they were made from and how, and hashed before they certify."""

from dataclasses import replace
from pathlib import Path

import pytest

from tilth_node.runtimes import StepResult, Usage
from tilth_node.worker.features import Features

MADE_FROM = {"opener": ["d" * 64], "set": "h/s", "grade": "B", "strict": False, "content": True}


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return Features(tmp_path / "features")


def exported(tmp_path: Path, text: str = "rows") -> StepResult:
    folder = tmp_path / "collect" / text
    (folder / "one").mkdir(parents=True)
    (folder / "one" / "X.bin").write_text(text)
    outputs = {"features": folder}
    return StepResult(0, None, "", outputs, b"", 0, Usage(9), True, "C", "sandbox", "image")


def test_kept_features_come_with_what_made_them(features: Features, tmp_path: Path) -> None:
    kept = features.keep(MADE_FROM, exported(tmp_path))
    found = features.find(MADE_FROM, content=True)
    assert found == replace(kept, usage=Usage())
    assert found is not None
    assert (found.grade, found.warm, found.runtime, found.image) == ("C", True, "sandbox", "image")
    assert (found.outputs["features"] / "one" / "X.bin").read_text() == "rows"


@pytest.mark.parametrize(
    "other",
    [{"grade": "D"}, {"strict": True}, {"content": False}, {"opener": ["e" * 64]}, {"set": "h/t"}],
)
def test_features_made_otherwise_are_not_taken(
    features: Features, tmp_path: Path, other: dict[str, object]
) -> None:
    features.keep(MADE_FROM, exported(tmp_path))
    assert features.find(MADE_FROM | other, content=False) is None


@pytest.mark.rule("D2")
@pytest.mark.parametrize("harm", ["changed", "added", "linked", "facts"])
def test_features_that_changed_are_refused_to_a_certified_test_and_made_again(
    features: Features, tmp_path: Path, harm: str
) -> None:
    tree = features.keep(MADE_FROM, exported(tmp_path)).outputs["features"]
    match harm:
        case "changed":
            (tree / "one" / "X.bin").write_text("soar")
        case "added":
            (tree / "one" / "Y.bin").write_text("labels")
        case "linked":
            (tree / "one" / "Y.bin").symlink_to("X.bin")
        case _:
            (tree.parent / "made.json").write_text("")
    assert features.find(MADE_FROM, content=True) is None
    features.keep(MADE_FROM, exported(tmp_path, "again"))
    found = features.find(MADE_FROM, content=True)
    assert found is not None
    assert (found.outputs["features"] / "one" / "X.bin").read_text() == "again"


def test_two_tasks_that_export_at_once_do_not_harm_each_other(
    features: Features, tmp_path: Path
) -> None:
    features.keep(MADE_FROM, exported(tmp_path))
    mine = features.keep(MADE_FROM, exported(tmp_path, "mine"))
    assert (mine.outputs["features"] / "one" / "X.bin").read_text() == "mine"
