"""`tilth demo` as people type it: what stands on the screen, and what is left when it is over."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "tilth.cli", "demo", "--rounds", "2")
NODE = re.compile(r"hospital-[abc]  node at \S+, process (\d+)")


@pytest.fixture
def place(tmp_path):
    """Where the demo makes its folder when nobody names one."""
    made = tmp_path / "temporary"
    made.mkdir()
    return made


def begin(place):
    """The demo, in a session of its own, as a terminal starts it."""
    return subprocess.Popen(
        COMMAND,
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def runs_below(place):
    """Processes that name a folder below this one: nodes, their tasks, the session."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().decode("utf-8", "replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or somebody else's
        if str(place) in words:
            found.append(words)
    return found


def test_the_screen_shows_grade_keys_chart_board_and_what_comes_next(place):
    demo = begin(place)
    try:
        shown, complaints = demo.communicate()
    finally:
        demo.kill()

    assert demo.returncode == 0, complaints
    assert re.search(r"Its grade here is [ABC]: of \d+\n|cannot isolate tasks: .* grade D", shown)
    assert "The demo made all keys itself. Real sites make their own: tilth node init" in shown
    assert re.search(r"^\s+0\.\d{3} \|.*o", shown, re.MULTILINE), "the chart has no mark"
    assert re.search(r"^\s+round\s+1\s+2$", shown, re.MULTILINE)
    assert "o Softmax   x HiddenLayer" in shown
    assert re.search(r"^\s+1\s.*Perfect", shown, re.MULTILINE)
    assert "Next: tilth demo --keep" in shown
    assert "\033" not in shown
    assert_nothing_is_left(shown, place)


def test_ctrl_c_ends_the_nodes_and_removes_the_folder(place):
    demo = begin(place)
    shown = ""
    try:
        for line in demo.stdout:
            shown += line
            if "Two algorithms" in line:
                break
        assert runs_below(place)
        os.killpg(demo.pid, signal.SIGINT)  # what a terminal does: to all but the nodes
        rest, complaints = demo.communicate()
    finally:
        demo.kill()

    assert demo.returncode == 130, complaints
    assert "Traceback" not in complaints
    assert_nothing_is_left(shown + rest, place)


def assert_nothing_is_left(shown, place):
    assert len(NODE.findall(shown)) == 3
    assert runs_below(place) == []
    assert list(place.iterdir()) == []
