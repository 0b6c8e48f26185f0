"""Every built-in metric gives scikit-learn's value, on random rows and on degenerate ones."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tilth_metrics
from tilth_metrics import Undefined

pytestmark = pytest.mark.filterwarnings("ignore")
small = settings(max_examples=60, deadline=None)

rows = st.integers(1, 60)
seeds = st.integers(0, 2**32 - 1)
classes = st.integers(1, 6)


def labels(rows, classes, seed, right=0.5):
    """Truth and predictions that agree in about `right` of the rows."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    guess = random.integers(0, classes, rows)
    return truth, np.where(random.random(rows) < right, truth, guess)


def value(metric, y_true, y_pred):
    return tilth_metrics.score(metric, y_true, y_pred)["all"]


class TestClasses:
    @small
    @given(rows, classes, seeds, st.sampled_from([0.0, 0.5, 1.0]))
    def test_accuracy(self, rows, classes, seed, right):
        y, p = labels(rows, classes, seed, right)

        assert value("accuracy", y, p) == pytest.approx(reference.accuracy_score(y, p), abs=1e-15)

    @small
    @given(rows, classes, seeds, st.sampled_from([0.0, 0.5, 1.0]))
    def test_balanced_accuracy(self, rows, classes, seed, right):
        y, p = labels(rows, classes, seed, right)

        expected = reference.balanced_accuracy_score(y, p)
        assert value("balanced_accuracy", y, p) == pytest.approx(expected, abs=1e-12)

    @small
    @given(rows, classes, seeds, st.sampled_from([0.0, 0.5, 1.0]))
    def test_macro_f1(self, rows, classes, seed, right):
        y, p = labels(rows, classes, seed, right)

        expected = reference.f1_score(y, p, average="macro", zero_division=0)
        assert value("f1", y, p) == pytest.approx(expected, abs=1e-12)

    @small
    @given(rows, st.integers(1, 2), seeds, st.sampled_from([0.0, 0.5, 1.0]))
    def test_binary_f1(self, rows, classes, seed, right):
        y, p = labels(rows, classes, seed, right)

        expected = reference.f1_score(y, p, average="binary", zero_division=0)
        assert value("f1_binary", y, p) == pytest.approx(expected, abs=1e-12)

    @small
    @given(rows, classes, seeds, st.sampled_from([0.0, 0.5, 1.0]))
    def test_kappa(self, rows, classes, seed, right):
        y, p = labels(rows, classes, seed, right)
        assume(len(set(y) | set(p)) > 1)

        expected = reference.cohen_kappa_score(y, p)
        assert value("kappa", y, p) == pytest.approx(expected, abs=1e-12)

    def test_kappa_of_one_single_class_is_undefined_not_a_nan(self):
        with pytest.raises(Undefined, match="at least two classes"):
            tilth_metrics.score("kappa", [3, 3], [3, 3])

    def test_text_labels_are_labels(self):
        y, p = np.array(["cat", "dog", "dog"]), np.array(["cat", "cat", "dog"])

        assert value("f1", y, p) == pytest.approx(reference.f1_score(y, p, average="macro"))


class TestScores:
    @small
    @given(st.integers(2, 60), seeds, st.integers(1, 20))
    def test_binary_auc_with_ties(self, rows, seed, levels):
        random = np.random.default_rng(seed)
        y = random.integers(0, 2, rows)
        assume(0 < y.sum() < rows)
        scores = random.integers(0, levels, rows) / levels

        expected = reference.roc_auc_score(y, scores)
        assert value("roc_auc", y, scores) == pytest.approx(expected, abs=1e-12)

    @small
    @given(st.integers(6, 60), st.integers(3, 5), seeds)
    def test_one_against_the_rest(self, rows, classes, seed):
        random = np.random.default_rng(seed)
        y = random.integers(0, classes, rows)
        assume(len(set(y)) == classes)
        table = random.dirichlet(np.ones(classes), rows)

        expected = reference.roc_auc_score(y, table, multi_class="ovr", average="macro")
        assert value("roc_auc_ovr", y, table) == pytest.approx(expected, abs=1e-12)

    def test_auc_of_a_single_class_is_undefined_not_a_nan(self):
        with pytest.raises(Undefined, match="one class is missing"):
            tilth_metrics.score("roc_auc", [1, 1], [0.2, 0.8])

    @small
    @given(st.integers(1, 60), st.integers(2, 5), seeds)
    def test_log_loss(self, rows, classes, seed):
        random = np.random.default_rng(seed)
        y = random.integers(0, classes, rows)
        table = random.dirichlet(np.ones(classes), rows)

        expected = reference.log_loss(y, table, labels=list(range(classes)))
        assert value("log_loss", y, table) == pytest.approx(expected, rel=1e-9)

    def test_log_loss_of_a_certain_and_wrong_row_is_finite_as_the_reference_has_it(self):
        table = np.array([[1.0, 0.0], [0.5, 0.5]])

        expected = reference.log_loss([1, 0], table)
        assert value("log_loss", [1, 0], table) == pytest.approx(expected, rel=1e-9)

    def test_log_loss_takes_the_probability_of_class_one(self):
        p = np.array([0.1, 0.7, 0.6])

        expected = reference.log_loss([0, 1, 0], p)
        assert value("log_loss", [0, 1, 0], p) == pytest.approx(expected, rel=1e-12)


numbers = st.lists(
    st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)),
    min_size=1,
    max_size=50,
)


class TestNumbers:
    @small
    @given(numbers)
    def test_mae_and_rmse(self, pairs):
        y, p = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))

        assert_allclose(value("mae", y, p), reference.mean_absolute_error(y, p), rtol=1e-9)
        assert_allclose(value("rmse", y, p), reference.root_mean_squared_error(y, p), rtol=1e-9)

    @small
    @given(numbers)
    def test_r2(self, pairs):
        y, p = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
        assume(len(y) > 1)
        assume(y.var() > 1e-12 * (1 + y.mean() ** 2))

        assert_allclose(value("r2", y, p), reference.r2_score(y, p), rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize(
        ("y", "p"), [([2, 2, 2], [2, 2, 2]), ([2, 2, 2], [1, 2, 3]), ([0.1] * 3, [0.1] * 3)]
    )
    def test_r2_of_a_constant_target_is_one_when_met_and_zero_otherwise(self, y, p):
        expected = 1.0 if y == p else 0.0

        assert value("r2", y, p) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert reference.r2_score(y, p) == expected

    def test_r2_of_one_row_is_undefined_not_a_nan(self):
        assert math.isnan(reference.r2_score([1.0], [1.0]))

        with pytest.raises(Undefined, match="single row"):
            tilth_metrics.score("r2", [1.0], [1.0])
