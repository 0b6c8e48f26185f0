"""Data as algorithms see them: lazy, aligned, cut to the selection."""

import numpy as np
import pytest

from tilth.algorithm import Data, Opener, Parameter, Task
from tilth.algorithm.data import Features
from tilth.algorithm.errors import WrongShape
from tilth.algorithm.parameters import values
from tilth.algorithm.task import MOST_POINTS
from tilth_ledger.errors import InvalidInput
from tilth_ledger.schema import DECIMAL


class Counting(Opener):
    """A sample named "3" has three rows; says how often it was asked."""

    def __init__(self):
        self.asked = []

    def get_X(self, folders):  # noqa: N802
        self.asked.append("X")
        rows = [int(f.name) * 10 + i for f in folders for i in range(int(f.name))]
        return np.array(rows, dtype=float).reshape(-1, 1)

    def get_y(self, folders):
        self.asked.append("y")
        return [i % 2 for f in folders for i in range(int(f.name))]


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / name for name in ("3", "1", "4")]
    for folder in made:
        folder.mkdir()
    return made


def test_nothing_is_read_before_it_is_asked_for(folders):
    opener = Counting()

    data = Data(opener, folders)

    assert opener.asked == []
    assert data.folders == folders
    assert len(data.X) == len(data.X) == 8
    assert opener.asked == ["X"]


def test_counting_reads_what_is_there_already(folders):
    opener = Counting()
    data = Data(opener, folders)
    assert len(data.X) == 8

    assert data.count == 8
    assert opener.asked == ["X"]


def test_a_selection_cuts_features_and_targets_alike(folders):
    selection = {"kind": "fold", "index": 1, "of": 3, "seed": 1}
    whole, part = Data(Counting(), folders), Data(Counting(), folders, selection)

    pairs = {(float(x[0]), y) for x, y in zip(part.X, part.y, strict=True)}

    assert pairs < {(float(x[0]), y) for x, y in zip(whole.X, whole.y, strict=True)}
    assert part.count == len(pairs)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("selection", [{}, {"kind": "first", "count": 6}])
def test_batches_hold_every_row_once_and_in_order(folders, n, selection):
    data = Data(Counting(), folders, selection)

    batches = list(data.batches(n))

    assert [len(b.X) for b in batches[:-1]] == [n] * (len(batches) - 1)
    assert np.concatenate([b.X for b in batches]).tolist() == data.X.tolist()
    assert [y for b in batches for y in b.y] == list(data.y)


def test_batches_of_a_stratified_fold_are_its_rows(folders):
    selection = {"kind": "fold", "index": 0, "of": 2, "by": "stratified"}
    data = Data(Counting(), folders, selection)

    assert np.concatenate([b.X for b in data.batches(2)]).tolist() == data.X.tolist()


def test_features_have_no_targets(folders):
    features = Features(Counting(), folders, exported=False)

    assert not hasattr(features, "y")
    assert features.counts == [3, 1, 4]
    assert [len(b) for b in features.batches(5)] == [5, 3]


def test_predictions_are_split_by_sample(folders):
    features = Features(Counting(), folders, exported=False)

    assert features.split(list(range(8))) == [[0, 1, 2], [3], [4, 5, 6, 7]]


def test_one_prediction_per_folder_is_enough_for_code_that_reads_folders(folders):
    opener = Counting()
    features = Features(opener, folders, exported=False)

    assert features.split([7, 8, 9]) == [[7], [8], [9]]
    assert opener.asked == []


def test_a_wrong_number_of_predictions_is_refused(folders):
    features = Features(Counting(), folders, exported=False)
    assert len(features.X) == 8

    with pytest.raises(WrongShape, match="7 predictions"):
        features.split(np.zeros(7))


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(6.0).reshape(3, 2),
        [1, 2, 3],
        ["a", "b", "c"],
        {"x": np.ones(3), "z": np.ones((3, 2))},
    ],
)
def test_features_and_predictions_survive_their_files(tmp_path, rows):
    opener = Opener()

    opener.export(rows, tmp_path)
    opener.save_predictions(rows, tmp_path)

    for found in (opener.get_features(tmp_path), opener.get_predictions(tmp_path)):
        if isinstance(rows, dict):
            assert {k: v.tolist() for k, v in found.items()} == {
                k: v.tolist() for k, v in rows.items()
            }
        else:
            assert found.tolist() == (rows.tolist() if hasattr(rows, "tolist") else rows)


@pytest.mark.parametrize(
    "rows",
    [
        [np.arange(3.0), np.arange(5.0), np.zeros((2, 2))],
        [[1, 2], [3]],
        [np.ones(n % 3) for n in range(12)],
    ],
)
def test_rows_of_different_lengths_survive_their_files(tmp_path, rows):
    opener = Opener()

    opener.export(rows, tmp_path)

    found = opener.get_features(tmp_path)
    assert [np.asarray(row).tolist() for row in rows] == [row.tolist() for row in found]


def test_objects_are_never_pickled(tmp_path):
    with pytest.raises(WrongShape, match="neither numbers nor text"):
        Opener().export([object()], tmp_path)


def test_a_pickle_made_by_hand_is_not_loaded(tmp_path):
    np.save(tmp_path / "predictions.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(WrongShape, match="cannot be read"):
        Opener().get_predictions(tmp_path)


# Parameters and reports


def test_parameters_come_in_their_types_with_defaults():
    declared = [
        Parameter("rate", float, 0.5),
        Parameter("steps", int, 5),
        Parameter("on", bool, True),
    ]

    assert values(declared, {"rate": "0.25"}) == {"rate": 0.25, "steps": 5, "on": True}


@pytest.mark.parametrize("number", [0.5, 1e-7, 1e-13, 123456.75, -0.0, 3, 0.1 + 0.2])
def test_floats_travel_as_decimals(number):
    text = Parameter("rate", float, number).schema()["default"]

    DECIMAL.check(text, "default")
    assert abs(float(text) - number) < 1e-12


def test_a_schema_holds_no_floats():
    schema = Parameter(
        "rate", float, 0.5, low=0, high=10, choices=[0.5, 1], help="step size"
    ).schema()

    assert schema == {
        "name": "rate",
        "type": "float",
        "default": "0.5",
        "low": "0",
        "high": "10",
        "choices": ["0.5", "1"],
        "help": "step size",
    }


def test_a_parameter_of_another_type_is_refused():
    with pytest.raises(InvalidInput, match="int, float, bool or str"):
        Parameter("x", list)


def test_a_value_that_cannot_be_read_names_its_parameter():
    with pytest.raises(InvalidInput, match="steps"):
        Parameter("steps", int).read("many")


@pytest.fixture
def task(tmp_path):
    facts = dict.fromkeys(("kind", "task", "plan", "organization"), "x")
    return Task({**facts, "seed": 0, "rank": 1, "inputs": []}, {}, tmp_path)


def test_a_long_curve_is_thinned_and_stays_a_curve(task):
    for value in range(10_000):
        task.report(loss=value)

    series = task.reported()["series"]["loss"]
    assert len(series["values"]) < MOST_POINTS
    assert series["values"] == [series["stride"] * i for i in range(len(series["values"]))]
    assert task.reported()["scalars"] == {"loss": 9_999}


def test_a_report_has_a_bounded_number_of_names(task):
    for n in range(1_000):
        task.report(**{f"name_{n}": n})

    assert len(task.reported()["series"]) == 64
