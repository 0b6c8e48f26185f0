"""Statistics of parts combine to the statistics of the whole; intervals hold what they promise."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tilth_metrics
from tilth_metrics import Undefined, intervals

few = settings(max_examples=40, deadline=None)


def example(name, rows, random):
    """Rows fit for the metric of that name."""
    if name in ("f1_binary", "roc_auc"):
        y = random.integers(0, 2, rows)
        return y, random.integers(0, 2, rows) if name == "f1_binary" else random.random(rows)
    if name in ("roc_auc_ovr", "log_loss"):
        return random.integers(0, 3, rows), random.dirichlet(np.ones(3), rows)
    if name in ("mae", "rmse", "r2"):
        return random.normal(1e4, 1, rows), random.normal(1e4, 1, rows)
    y = random.integers(0, 4, rows)
    return y, np.where(random.random(rows) < 0.7, y, random.integers(0, 4, rows))


@pytest.mark.parametrize("name", tilth_metrics.names())
@few
@given(rows=st.integers(2, 50), seed=st.integers(0, 10**6), cuts=st.integers(1, 5))
def test_parts_combine_to_the_whole(name, rows, seed, cuts):
    random, metric = np.random.default_rng(seed), tilth_metrics.get(name)
    y, p = example(name, rows, random)
    edges = np.unique(np.concatenate([[0, rows], random.integers(0, rows, cuts)]))
    slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
    whole = metric.statistics(y, p)

    joined = metric.combine([metric.statistics(y[part], p[part]) for part in slices])

    assert metric.count(joined) == rows
    if metric.pools:
        assert joined == whole
    try:
        expected = metric.reduce(whole)
    except Undefined:
        assume(False)
    assert metric.reduce(joined) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert metric.interval(joined) == pytest.approx(metric.interval(whole), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", tilth_metrics.names())
def test_statistics_are_plain_json_and_integers_where_they_pool(name):
    metric = tilth_metrics.get(name)
    stats = metric.statistics(*example(name, 30, np.random.default_rng(1)))

    assert json.loads(json.dumps(stats, allow_nan=False)) == stats
    if metric.pools:
        assert all(type(cell) is int for row in stats["matrix"] for cell in row)


@pytest.mark.parametrize("name", tilth_metrics.names())
def test_interval_surrounds_the_value_and_covers_the_truth_about_as_often_as_it_says(name):
    """The truth is the value on 200,000 rows; 95 % of intervals of 120 rows should hold it."""
    random, metric = np.random.default_rng(7), tilth_metrics.get(name)
    truth = metric.reduce(metric.statistics(*example(name, 200_000, random)))
    held, tries = 0, 300
    for _ in range(tries):
        stats = metric.statistics(*example(name, 120, random))
        low, high = metric.interval(stats)
        assert low <= metric.reduce(stats) <= high
        held += low <= truth <= high

    # One-vs-rest errs on the wide side by design, so only the lower end binds it.
    assert held / tries >= 0.90
    if name != "roc_auc_ovr":
        assert held / tries <= 0.99


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1", "f1_binary", "kappa"])
def test_a_perfect_score_still_has_an_interval_with_width(name):
    metric = tilth_metrics.get(name)
    low, high = metric.interval(metric.statistics([0, 1, 1, 0], [0, 1, 1, 0]))

    assert high == 1.0
    assert 0 < low < 1


def test_wilson_gives_the_published_example():
    """Newcombe (1998), 81 of 263: 0.2553 to 0.3662."""
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_stays_in_the_unit_interval_at_its_ends():
    assert intervals.wilson(0, 10)[0] == 0.0
    assert intervals.wilson(10, 10)[1] == 1.0


def test_auc_interval_of_a_perfect_ranking_is_open_below_only():
    low, high = intervals.auc_score(1.0, 20, 20)

    assert high == 1.0
    assert 0.8 < low < 1.0


def test_r2_interval_survives_targets_far_from_zero():
    random = np.random.default_rng(3)
    y = random.normal(1e6, 1.0, 500)
    stats = tilth_metrics.get("r2").statistics(y, y + random.normal(0, 0.5, 500))

    low, high = tilth_metrics.get("r2").interval(stats)

    assert 0.05 < high - low < 0.15
    assert math.isfinite(low)
