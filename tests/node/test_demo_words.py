"""What the demo says at its end can be typed as it stands."""

import sys
from pathlib import Path

import pytest

from tilth_node.demo import play

KEPT = play.Options(Path("/kept"), own_folder=True, keep=True, quiet=False, rounds=None)


def test_a_shell_that_does_not_find_the_command_is_told_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    play._farewell(KEPT, 1.0)
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in capsys.readouterr().out


def test_a_shell_that_finds_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = tmp_path / "tilth"
    command.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    play._farewell(KEPT, 1.0)
    assert "export PATH" not in capsys.readouterr().out
