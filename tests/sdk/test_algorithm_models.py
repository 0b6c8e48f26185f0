"""Models: a dict of arrays with one byte form, and the mean of several."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tilth.algorithm import Algorithm, Opener, mean, weights
from tilth.algorithm.errors import WrongShape
from tilth.algorithm.opener import read_rows
from tilth_ledger.canonical import sha256_hex


def a_model():
    return {"W": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.float32), "n": np.int64(4)}


def test_a_model_comes_back_as_it_was(tmp_path):
    weights.save(a_model(), tmp_path)

    found = weights.load(tmp_path)

    assert sorted(found) == ["W", "b", "n"]
    for name, array in a_model().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert np.shape(found[name]) == np.shape(array)


def test_equal_models_have_equal_bytes_whatever_the_order_of_their_names():
    backwards = dict(reversed(a_model().items()))

    assert weights.write(a_model()) == weights.write(backwards)


def test_the_bytes_do_not_depend_on_memory_layout():
    model = a_model()
    strided = {**model, "W": np.asfortranarray(model["W"])}

    assert weights.write(model) == weights.write(strided)


def test_other_values_have_other_bytes():
    other = {**a_model(), "b": np.ones(3, np.float32)}

    assert sha256_hex(weights.write(a_model())) != sha256_hex(weights.write(other))


def test_nested_names_and_empty_models_are_models(tmp_path):
    weights.save({"layer/0/W": np.ones(2), "layer/1/W": np.ones(0)}, tmp_path)

    assert sorted(weights.load(tmp_path)) == ["layer/0/W", "layer/1/W"]
    assert weights.write({}) == weights.write({})


@pytest.mark.parametrize("model", [[1, 2], None, {"x": object()}, {1: np.ones(2)}, {"x": "text"}])
def test_what_is_no_dict_of_arrays_is_refused_with_a_remedy(tmp_path, model):
    with pytest.raises(WrongShape, match="save"):
        weights.save(model, tmp_path)


def test_an_input_of_another_form_is_named(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"x")

    with pytest.raises(WrongShape, match=r"weights\.bin"):
        weights.load(tmp_path)


def test_the_mean_is_weighted_by_rows():
    models = [{"w": np.array([0.0])}, {"w": np.array([10.0])}]

    assert mean(models, [1, 3])["w"] == 7.5
    assert mean(models, [30, 10])["w"] == 2.5


@pytest.mark.parametrize("counts", [[None, 5], [0, 0]])
def test_the_mean_is_equal_where_rows_are_unknown(counts):
    assert mean([{"w": np.zeros(1)}, {"w": np.ones(1)}], counts)["w"] == 0.5


def test_the_mean_keeps_the_type_of_floats_and_makes_floats_of_integers():
    models = [
        {"f": np.float32([1]), "i": np.int64([1])},
        {"f": np.float32([2]), "i": np.int64([2])},
    ]

    found = mean(models, [1, 1])

    assert (found["f"].dtype, found["i"].dtype) == (np.float32, np.float64)
    assert found["i"] == 1.5


def test_the_same_models_in_the_same_order_give_the_same_bytes():
    rng = np.random.default_rng(0)
    models = [{"w": rng.normal(size=99)} for _ in range(5)]

    assert weights.write(mean(models, [1, 2, 3, 4, 5])) == weights.write(
        mean(models, [1, 2, 3, 4, 5])
    )


@pytest.mark.parametrize("other", [{"w": np.zeros(2)}, {"v": np.zeros(1)}, {}])
def test_models_of_different_shapes_are_not_averaged(other):
    with pytest.raises(WrongShape, match="different shapes"):
        mean([{"w": np.zeros(1)}, other], [1, 1])


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(WrongShape, match="no model"):
        mean([], [])


def test_capabilities_are_what_is_overridden():
    class Mine(Algorithm):
        def start(self, task):
            return {}

        def predict(self, features, model, task):
            return []

    assert Mine.capabilities() == ["aggregate", "init", "predict"]
    assert Algorithm.capabilities() == ["aggregate"]


def test_a_file_is_written_where_the_contract_says(tmp_path):
    weights.save({"w": np.ones(1)}, tmp_path)

    assert [p.name for p in Path(tmp_path).iterdir()] == ["model.h5"]


def external(path, elsewhere):
    """An array whose bytes HDF5 reads out of another file: labels where a test is scored."""
    elsewhere.write_bytes(np.arange(3).tobytes())
    with h5py.File(path, "w") as file:
        storage = [(str(elsewhere), 0, 24)]
        file.create_dataset("y", shape=(3,), dtype="i8", external=storage)


def virtual(path, elsewhere):
    """An array that is a view of an array in another file."""
    with h5py.File(elsewhere, "w") as file:
        file["y"] = np.arange(3)
    layout = h5py.VirtualLayout(shape=(3,), dtype="i8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "y", shape=(3,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("y", layout)


@pytest.mark.parametrize("write", [external, virtual])
def test_a_file_that_takes_its_arrays_from_another_file_is_refused(write, tmp_path):
    for name in ("model.h5", "predictions.h5"):
        write(tmp_path / name, tmp_path / "labels")
    with pytest.raises(WrongShape, match="another file"):
        weights.load(tmp_path)
    with pytest.raises(WrongShape, match="another file"):
        read_rows(tmp_path, "predictions")


def test_a_file_of_anything_but_numbers_is_refused(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["words"] = ["a", "b"]
    with pytest.raises(WrongShape, match="numbers"):
        weights.load(tmp_path)


# Files made by hostile code: a predict step that wants the score step to read the labels for it.


def crafted(tmp_path, make):
    """An HDF5 file made by hand, beside a file of labels."""
    labels = tmp_path / "y.bin"
    labels.write_bytes(np.arange(4, dtype=np.int64).tobytes())
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["x"] = np.arange(4)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        make(file, tmp_path)
    return tmp_path


def external_storage(file, folder):
    storage = [(str(folder / "y.bin"), 0, 32)]
    file.create_dataset("x", (4,), np.int64, external=storage)


def virtual_dataset(file, folder):
    layout = h5py.VirtualLayout((4,), np.int64)
    layout[:] = h5py.VirtualSource(str(folder / "labels.h5"), "x", (4,))
    file.create_virtual_dataset("x", layout)


def external_link(file, folder):
    file["x"] = h5py.ExternalLink(str(folder / "labels.h5"), "x")


def soft_link(file, folder):
    file["y"] = np.ones(1)
    file["x"] = h5py.SoftLink("/y")


def nested_external_link(file, folder):
    file.create_group("a/b")["x"] = h5py.ExternalLink(str(folder / "labels.h5"), "x")


def text(file, folder):
    file["x"] = "text"


def references(file, folder):
    file["y"] = np.ones(1)
    file.create_dataset("x", data=file["y"].ref, dtype=h5py.ref_dtype)


def a_loop(file, folder):
    file.create_group("a")["again"] = file["/"]


@pytest.mark.parametrize(
    "make",
    [
        *(external_storage, virtual_dataset, external_link, soft_link, nested_external_link),
        *(text, references, a_loop),
    ],
)
def test_a_file_that_refers_to_anything_else_is_refused(tmp_path, make):
    folder = crafted(tmp_path, make)

    with pytest.raises(WrongShape):
        weights.load(folder)


@pytest.mark.parametrize("make", [external_storage, virtual_dataset, external_link])
def test_predictions_cannot_read_the_labels_in_the_score_step(tmp_path, make):
    (crafted(tmp_path, make) / "model.h5").rename(tmp_path / "predictions.h5")

    with pytest.raises(WrongShape):
        Opener().get_predictions(tmp_path)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"not at all")

    with pytest.raises(WrongShape, match="no HDF5"):
        weights.load(tmp_path)


def test_predictions_in_an_archive_of_numpy_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    (tmp_path / "x.npz").rename(tmp_path / "predictions.npy")

    with pytest.raises(WrongShape, match="cannot be read"):
        Opener().get_predictions(tmp_path)
