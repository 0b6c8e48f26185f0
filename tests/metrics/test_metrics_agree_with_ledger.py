"""What a node computes in floats, the ledger computes exactly from the same statistics."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tilth_metrics
from tilth_ledger import combine
from tilth_ledger.shapes import BUILTIN_METRICS

POOLED = sorted(combine.METRICS)


def scores_of(metric, sites, rows, classes, seed):
    """perf.json of several sites whose labels differ, some sites missing some."""
    random = np.random.default_rng(seed)
    for _ in range(sites):
        y = random.integers(0, random.integers(1, classes + 1), rows)
        p = np.where(random.random(rows) < 0.6, y, random.integers(0, classes, rows))
        yield tilth_metrics.get(metric).statistics(y, p)


@pytest.mark.rule("T5")
@pytest.mark.parametrize("name", POOLED)
@given(
    sites=st.integers(1, 4),
    rows=st.integers(1, 40),
    classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_pooled_on_the_ledger_is_the_metric_of_all_rows(name, sites, rows, classes, seed):
    metric = tilth_metrics.get(name)
    stats = list(scores_of(name, sites, rows, classes, seed))

    exact = combine.combine("pooled", name, [{"statistics": each} for each in stats])

    try:
        expected = metric.reduce(metric.combine(stats))
    except tilth_metrics.Undefined:
        assert exact is None
        return
    assert float(exact) == pytest.approx(expected, abs=1e-12)


@pytest.mark.rule("T5")
@pytest.mark.parametrize("name", POOLED)
@given(seed=st.integers(0, 10**6))
def test_the_ledger_takes_the_statistics_of_a_score(name, seed):
    stats = next(iter(scores_of(name, 1, 30, 4, seed)))
    metric = tilth_metrics.get(name)
    assume(np.asarray(stats["matrix"]).max() < 30)
    score = {
        "count": metric.count(stats),
        "value": f"{metric.reduce(stats):.6f}",
        "statistics": stats,
    }

    assert combine.check_statistics(name, score) is None


@pytest.mark.rule("T5")
def test_the_ledger_refuses_a_value_that_its_statistics_do_not_give():
    stats = tilth_metrics.get("accuracy").statistics([0, 1, 1], [0, 1, 0])

    assert (
        combine.check_statistics("accuracy", {"count": 3, "value": "0.666667", "statistics": stats})
        is None
    )
    assert "0.666667" in str(
        combine.check_statistics("accuracy", {"count": 3, "value": "0.7", "statistics": stats})
    )


def test_what_pools_here_pools_on_the_ledger():
    here = {name for name in tilth_metrics.names() if tilth_metrics.get(name).pools}

    assert set(POOLED) <= here


def test_an_objective_may_name_every_metric_that_exists():
    assert set(BUILTIN_METRICS) == set(tilth_metrics.names())
