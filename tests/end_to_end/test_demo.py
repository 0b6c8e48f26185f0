"""The demo does what it shows, and a second source agrees: the same training without any node."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics

import tilth
import tilth_node.demo
from tilth.algorithm.selection import rows_of

USER_CODE = Path(tilth_node.demo.__file__).parent / "user-code"
README = Path(__file__).parents[2] / "README.md"
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
PLACES = Decimal("0.000001")


def tilth_command(*words, **options):
    """One command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tilth.cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        **options,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(result, folder) of `tilth demo --keep`; its nodes are stopped afterwards."""
    folder = tmp_path_factory.mktemp("demo") / "network"
    try:
        done = tilth_command("demo", "--json", "--keep", "--folder", str(folder))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TILTH_HOME", str(folder / "home"))
            yield json.loads(done.stdout), folder
    finally:
        tilth_command("demo", "--stop", str(folder))


@pytest.fixture(scope="module")
def user_code():
    """The demo's digits.py and algos.py, as modules."""
    modules = {}
    for name in ("digits", "algos"):
        spec = importlib.util.spec_from_file_location(f"demo_{name}", USER_CODE / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    return modules


def test_the_leaderboard_is_identical_on_the_three_nodes(demo):
    result, _ = demo
    boards = result["boards"]

    assert set(boards) == set(HOSPITALS)
    assert boards["hospital-a"] == boards["hospital-b"] == boards["hospital-c"]


def test_four_models_rank_and_the_baselines_stand_at_the_ends(demo):
    rows = board_rows(demo)

    assert [rows[0]["name"], rows[3]["name"]] == ["Perfect", "Majority"]
    assert {rows[1]["name"], rows[2]["name"]} == {"Softmax", "HiddenLayer"}
    values = [Decimal(row["value"]) for row in rows]
    assert values[0] == 1
    assert Decimal("0.92") < values[2] <= values[1] < 1
    assert values[3] < Decimal("0.2")
    assert {row["count"] for row in rows} == {455}


def test_every_interval_holds_its_value_and_stays_a_proportion(demo):
    for row in board_rows(demo):
        low, high = map(Decimal, row["interval"])

        assert 0 <= low <= Decimal(row["value"]) <= high <= 1


def test_the_row_was_accepted_and_its_changed_copy_refused(demo):
    result, folder = demo

    assert result["proof"]["accepted"]
    assert result["proof"]["changed_refused"]
    assert tilth.verify(folder / "row.json", genesis=folder / "genesis.json").ok
    assert not tilth.verify(folder / "row-changed.json", genesis=folder / "genesis.json").ok


def test_certified_softmax_is_what_the_same_training_gives_without_any_node(demo, user_code):
    row = row_of(demo, "Softmax")
    algo = user_code["algos"].Softmax()
    task = SimpleNamespace(
        parameters={each.name: each.default for each in algo.parameters},
        report=lambda **values: None,
    )

    model = federated(algo, task, [held_back(stored(demo, name, "train")) for name in HOSPITALS])

    tests = [stored(demo, name, "test") for name in HOSPITALS]
    truth = np.concatenate([y for _, y in tests])
    predicted = np.concatenate([algo.predict(SimpleNamespace(X=X), model, task) for X, _ in tests])
    expected = sklearn.metrics.accuracy_score(truth, predicted)
    assert Decimal(row["value"]) == Decimal(expected).quantize(PLACES)


def test_the_majority_baseline_is_what_counting_gives(demo, user_code):
    row = row_of(demo, "Majority")
    parts = [user_code["digits"].parts(name) for name in HOSPITALS]
    train, test = (np.concatenate([d for p in parts for _, d in p[k]]) for k in ("train", "test"))

    expected = np.mean(test == np.bincount(train).argmax())
    assert Decimal(row["value"]) == Decimal(expected).quantize(PLACES)


def test_the_commands_of_the_readme_work_on_the_network_that_keep_leaves(demo):
    _, folder = demo
    block = next(text for text in readme_blocks("sh") if "tilth status" in text)

    for line in block.splitlines():
        command, *words = shlex.split(line)

        assert command == "tilth"
        assert tilth_command(*words, cwd=folder, env=at_home(folder)).stdout


def test_the_script_of_the_readme_works_on_the_network_that_keep_leaves(demo):
    _, folder = demo
    script = folder / "scientist.py"
    script.write_text(readme_blocks("python")[0], encoding="utf-8")

    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env=at_home(folder),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "PROVEN" in done.stdout


def readme_blocks(language):
    """The README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)


def at_home(folder):
    """The environment of a shell that works with the kept network."""
    return os.environ | {"TILTH_HOME": str(folder / "home"), "TILTH_PROFILE": "hospital-a"}


def stored(demo, name, label):
    """(X, y) of a hospital's sample set, read from its disk in the order of sample keys."""
    _, folder = demo
    with tilth.connect(name) as net:
        dataset = net.datasets.one(name="digits", owner=name)
        key = dataset.set_of(label).key.rpartition("/")[2]
    samples = sorted((folder / name / "sets" / key / "data").iterdir())
    X = np.concatenate([np.load(each / "images.npy") for each in samples])
    return X.reshape(-1, 64), np.concatenate([np.load(each / "digits.npy") for each in samples])


def held_back(rows):
    """Train rows without the fifth that FedAvg keeps for validation."""
    X, y = rows
    chosen = {"kind": "fraction", "fraction": "0.2", "seed": 0, "complement": True}
    index = rows_of(chosen, len(y))
    return X[index], y[index]


def federated(algo, task, sites, rounds=10):
    """Federated averaging in a few lines of numpy."""
    model = algo.start(task)
    weights = [len(y) / sum(len(y) for _, y in sites) for _, y in sites]
    for _ in range(rounds):
        copies = [{name: array.copy() for name, array in model.items()} for _ in sites]
        trained = [
            algo.train(SimpleNamespace(X=X, y=y), copy, task)
            for (X, y), copy in zip(sites, copies, strict=True)
        ]
        model = {
            name: sum(w * each[name] for w, each in zip(weights, trained, strict=True))
            for name in model
        }
    return model


def board_rows(demo):
    """Rows of the leaderboard, with the name of their plan."""
    return demo[0]["boards"]["hospital-a"]["rows"]


def row_of(demo, plan):
    """The leaderboard row of the plan of that name."""
    key = demo[0]["plans"][plan]
    return next(row for row in board_rows(demo) if row["plan"] == key)
