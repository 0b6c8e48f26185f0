"""An algorithm is tried on made-up data before any node sees it."""

import numpy as np
import pytest

from tilth import InvalidInput
from tilth.algorithm import Algorithm, Parameter
from tilth.algorithm.errors import WrongShape
from tilth.cli import main
from tilth.trial import trial

OPENER = """
import numpy as np
from tilth.algorithm import Opener

class Flat(Opener):
    def fake_X(self, n=10):
        return np.random.default_rng(0).normal(size=(n, 4))

    def fake_y(self, n=10):
        return np.arange(n) % 2
"""
ALGO = """
import numpy as np
from tilth.algorithm import Algorithm

class Mean(Algorithm):
    def start(self, task):
        return {"m": np.zeros(4)}

    def train(self, data, model, task):
        return {"m": model["m"] + data.X.mean(axis=0)}

    def predict(self, features, model, task):
        return features.X @ model["m"] > 0
"""


class Good(Algorithm):
    parameters = [Parameter("rate", float, 0.5)]

    def start(self, task):
        return {"w": np.zeros(4), "rate": np.array(task.parameters["rate"])}

    def train(self, data, model, task):
        for X, y in data.batches(10):
            model["w"] += X.T @ y
        return model

    def predict(self, features, model, task):
        return (features.X @ model["w"] > 0).astype(int)


class Short(Good):
    def predict(self, features, model, task):
        return super().predict(features, model, task)[1:]


class Untrained(Algorithm):
    def start(self, task):
        return {}


@pytest.fixture
def opener(tmp_path):
    folder = tmp_path / "opener"
    folder.mkdir()
    (folder / "opener.py").write_text(OPENER)
    return folder


def test_every_step_runs_and_says_what_came_of_it(opener):
    found = trial(Good, opener)

    assert [step.name for step in found.steps] == [
        *("start", "save and load", "train", "save and load", "train"),
        *("aggregate", "save and load", "predict"),
    ]
    assert found.steps[0].result == "{w: 4, rate: one number}"
    assert "all steps work" in str(found)


def test_too_few_predictions_are_found_here(opener):
    with pytest.raises(InvalidInput, match="29 predictions"):
        trial(Short, opener)


def test_a_method_that_is_missing_is_found_here(opener):
    with pytest.raises(WrongShape, match="cannot train"):
        trial(Untrained, opener)


def test_the_command_tries_a_folder(opener, tmp_path, capsys):
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "algorithm.py").write_text(ALGO)

    assert main(["check", str(tmp_path / "algo"), "--opener", str(opener)]) == 0
    assert "predict" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_named(opener, tmp_path, capsys):
    assert main(["check", str(tmp_path / "none"), "--opener", str(opener)]) == 1
    assert "no such folder" in capsys.readouterr().err
