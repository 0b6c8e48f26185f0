"""In CI what a test needs and the machine lacks is a failure, and engines end with their run."""

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine import ROOT, why_not
from lacking import lacks

SKIPS = re.compile(
    r"pytest\.(skip|xfail|importorskip)\(|mark\.(skip|xfail)\b|mark\.skipif\((?!not r)"
)
STARTS = """
from engine import Engine
engine = Engine()
engine.start()
print(engine.process.pid, engine.data, engine.folder, flush=True)
input()
"""
SECONDS = 200  # an engine takes as long as a busy machine lets it


@pytest.mark.parametrize("ci", ["true", "1"])
def test_what_a_machine_lacks_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match="needs a disk; with CI"):
        lacks("needs a disk")


@pytest.mark.parametrize("ci", ["", "0", "false"])
def test_and_elsewhere_a_skip_that_says_why(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="needs a disk"):
        lacks("needs a disk")


def test_no_test_is_left_out_in_another_way() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "lacking.py"]
    found = [path.name for path in files if SKIPS.search(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.docker
def test_an_engine_ends_with_the_run_that_started_it_and_holds_its_data_until_then(
    tmp_path: Path,
) -> None:
    """Regression: killed test runs left engines, whose data folder passed for free."""
    if reason := why_not():
        lacks(f"no container engine: {reason}")
    with subprocess.Popen(
        [sys.executable, "-c", STARTS],
        env={**os.environ, "TILTH_CACHE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        number, data, folder = run.stdout.readline().split()
        ended = os.pidfd_open(int(number))
        os.kill(int(number), signal.SIGSTOP)  # as if it took long to end
        run.kill()
    with (Path(data) / "lock").open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(number), signal.SIGCONT)
        assert select.select([ended], [], [], SECONDS)[0]
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.close(ended)
    shutil.rmtree(folder)
