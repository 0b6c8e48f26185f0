"""The ten-minute guide, run as written: three real nodes, real digits, and a proof at the end."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from network import everywhere

import tilth
import tilth_node.demo
from tilth import profiles
from tilth.algorithm import weights

GUIDE = (Path(__file__).parents[2] / "sdk" / "README.md").read_text(encoding="utf-8")
USER_CODE = Path(tilth_node.demo.__file__).parent / "user-code"
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")


def block(language):
    """The only block of a language in the guide."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return found


def run(command, folder, profile=""):
    """A command as a person would type it, with the profile of an organization."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "TILTH_PROFILE": profile},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tilth_command(words, folder, profile):
    return run([sys.executable, "-m", "tilth.cli", *words], folder, profile)


@pytest.fixture(scope="module")
def digits():
    spec = importlib.util.spec_from_file_location("digits_of_demo", USER_CODE / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hospitals(network, tmp_path, monkeypatch, digits):
    """Three running nodes; at each a person who owns data, with digits and their opener at hand."""
    monkeypatch.setenv("TILTH_HOME", str(tmp_path / "home"))
    network.start()
    (tmp_path / "genesis.json").write_bytes(network.genesis.bytes)
    for site in network.sites:
        folder = tmp_path / site.organization
        digits.write(site.organization, folder / "data")
        (folder / "opener").symlink_to(USER_CODE / "opener")
        place = {
            "address": site.ready["client_address"],
            "organization": site.organization,
            "genesis": tmp_path / "genesis.json",
        }
        mine = profiles.add(site.organization, **place)
        profiles.add("admin", key=site.folder / "keys" / "admin.seed", **place)
        public = mine.signing_key().public.hex
        roles = [word for role in ("owner", "organizer", "scientist") for word in ("--role", role)]
        tilth_command(["identity", "add", public, *roles], folder, "admin")
    return tmp_path


@pytest.fixture
def network(networks, tmp_path):
    return networks(members=3, data_roots=[tmp_path])


@pytest.fixture
def agreed(hospitals, network):
    """Every owner did what the guide says, and accepted its test set into one objective."""
    for name in HOSPITALS:
        for line in block("sh").splitlines():
            tilth_command(line.removeprefix("tilth ").split(), hospitals / name, name)
    everywhere(network, (0, 1, 2))  # people take longer than nodes to hear of one another
    options = ["--metric", "accuracy", "--dataset", "digits", "--combine", "pooled", "--grade", "D"]
    goal = ["objective", "add", "digits accuracy", *options]
    tilth_command(goal, hospitals, "hospital-a")
    everywhere(network, (0, 1, 2))
    for name in HOSPITALS:
        tilth_command(["objective", "accept", "digits accuracy"], hospitals, name)
    everywhere(network, (0, 1, 2))
    return hospitals


def test_the_script_of_the_guide_ends_with_a_verified_row(agreed, network):
    (agreed / "script.py").write_text(block("python"), encoding="utf-8")

    printed = run([sys.executable, "script.py"], agreed)

    assert "nothing is missing" in printed
    assert "round 10" in printed
    report = tilth.verify(agreed / "row.json", genesis=agreed / "genesis.json")
    assert report.ok
    assert str(report) in printed

    everywhere(network, (0, 1, 2))
    shown = tilth_command(["leaderboard", "digits accuracy", "--json"], agreed, "hospital-c")
    [row] = json.loads(shown)["rows"]
    assert row["rank"] == 1
    assert float(row["value"]) > 0.8
    assert set(row["per_site"]) == set(HOSPITALS)

    options = [row["model_task"], "--out", "final"]
    tilth_command(["model", "download", *options], agreed, "hospital-c")
    model = weights.load(agreed / "final")
    assert {name: array.shape for name, array in model.items()} == {"W": (64, 10), "b": (10,)}

    plans = json.loads(tilth_command(["plan", "list", "--json"], agreed, "hospital-b"))
    assert [plan["status"] for plan in plans] == ["done"]
