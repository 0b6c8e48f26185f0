"""Boards of a folder that no node runs on."""

import json
from pathlib import Path

import pytest
from contest import Contest, both
from rules_world import World

from tilth.cli import main
from tilth_node.storage.ledger_store import LedgerStore


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    made = Contest(World())
    made.enter(both("0.8"))
    made.enter(both("0.9"))
    store = LedgerStore(tmp_path / "ledger.db")
    store.seed(dict(made.world.rows.items()), made.world.state.accumulator)
    store.close()
    return made


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["node", "board", *map(str, words), "--json"]) == 0
    facts: dict = json.loads(capsys.readouterr().out)
    return facts


def test_a_board_is_the_same_without_a_node(
    contest: Contest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contest.objective in {each["key"] for each in told(capsys, tmp_path)["objectives"]}
    rows = told(capsys, tmp_path, contest.objective)["rows"]
    assert [(row["rank"], row["value"]) for row in rows] == [
        (row.rank, row.value) for row in contest.board().rows
    ]
    assert main(["node", "board", str(tmp_path), contest.objective]) == 0
    assert rows[0]["value"] in capsys.readouterr().out


@pytest.mark.usefixtures("contest")
def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "board", str(tmp_path), "another"]) == 1
    assert "digits accuracy" in capsys.readouterr().err
    assert main(["node", "board", str(tmp_path / "nowhere")]) == 1
    assert "no ledger.db" in capsys.readouterr().err
