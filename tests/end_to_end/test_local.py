"""`tilth.local()`: real nodes on this machine that end with whoever holds them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tilth
from tilth.local_consortium import missing, required

SCRIPT = """
import sys, tilth
net = tilth.local(1)
print(net.folder, flush=True)
{then}
"""


def holder(then):
    """A process that holds a local consortium of one; its keeper writes to the same errors."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def node_of(folder):
    """The process of hospital-a's node."""
    return int((folder / "hospital-a" / "lock").read_text())


def runs(pid):
    """Whether a process is there and is more than a zombie."""
    words = Path(f"/proc/{pid}/cmdline")
    return words.exists() and words.read_bytes() != b""


def test_a_local_consortium_is_one_ledger_with_a_person_at_each_organization(tmp_path):
    with tilth.local(["north", "south"], folder=tmp_path / "here") as net:
        assert net.organization == "north"
        assert net.at("north") is net
        south = net.at("south")
        made = south.environments.add("bare", {"python": ">=3.11", "requirements": []})
        net.rows.at_least(south.status()["size"])
        assert net.environments.one(name="bare") == made
        assert net.grade in {"A", "B", "C", "D"}
        with pytest.raises(tilth.InvalidInput, match="expected north, south"):
            net.at("west")

    assert (tmp_path / "here" / "genesis.json").exists()
    assert not (tmp_path / "here" / "north" / "run" / "ready.json").exists()
    with pytest.raises(tilth.InvalidInput, match="a folder of its own"):
        tilth.local(1, folder=tmp_path / "here")


def test_it_ends_when_its_block_fails():
    def block():
        with tilth.local(1) as net:
            raise ValueError(net.folder, node_of(net.folder))

    with pytest.raises(ValueError, match="tilth-local") as raised:
        block()
    folder, node = raised.value.args

    assert not folder.exists()
    assert not runs(node)


def test_a_plain_object_ends_when_it_is_closed_and_again_is_harmless():
    net = tilth.local(1)
    node = node_of(net.folder)
    assert runs(node)

    net.close()
    net.close()

    assert not runs(node)


def test_it_ends_with_the_interpreter():
    with holder(then="") as process:
        folder, errors = process.communicate()

    assert process.returncode == 0, errors
    assert folder.strip()
    assert not Path(folder.strip()).exists()


def test_it_ends_when_its_holder_is_killed():
    with holder(then="sys.stdin.read()") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        folder = Path(process.stdout.readline().strip())
        node = node_of(folder)
        os.kill(process.pid, signal.SIGKILL)
        process.stderr.read()  # to its end: the keeper has closed it too

    assert not folder.exists()
    assert not runs(node)


@pytest.mark.parametrize("organizations", [0, [], ["north", "north"], ["Not A Slug"]])
def test_organizations_that_cannot_be_are_refused(organizations):
    with pytest.raises(tilth.InvalidInput):
        tilth.local(organizations)


def test_what_the_node_needs_is_read_from_the_distribution():
    assert {"structlog", "sqlite-utils"} <= set(required("node"))
    assert missing(required("node")) == []
    assert missing(["grpcio", "tilth-does-not-need-this"]) == ["tilth-does-not-need-this"]


def test_without_the_node_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("tilth.local_consortium.EXTRA", "no-such-extra")
    monkeypatch.setattr("tilth.local_consortium.ENGINES", "tilth.nobody")

    with pytest.raises(tilth.InvalidInput, match="pip install 'tilth"):
        tilth.local()
