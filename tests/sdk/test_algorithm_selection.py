"""Selections: the same rows on every machine, for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.algorithm.errors import WrongShape
from tilth.algorithm.selection import cut, rows_of

FRACTION = {"kind": "fraction", "fraction": "0.25", "seed": 3}


def test_no_selection_is_every_row():
    assert rows_of({}, 4).tolist() == [0, 1, 2, 3]


def test_the_rows_are_pinned():
    assert rows_of(FRACTION, 20).tolist() == [0, 3, 6, 17, 18]
    fold = {"kind": "fold", "index": 1, "of": 4, "seed": 9}
    assert rows_of(fold, 12).tolist() == [3, 10, 11]


@given(st.integers(2, 300), st.integers(0, 2**40), st.integers(1, 99))
def test_a_fraction_and_its_complement_are_all_rows(count, seed, percent):
    selection = {"kind": "fraction", "fraction": f"0.{percent:02}", "seed": seed}
    try:
        part = rows_of(selection, count).tolist()
        rest = rows_of({**selection, "complement": True}, count).tolist()
    except WrongShape:
        return  # too few rows for such a part

    assert sorted(part + rest) == list(range(count))
    assert abs(len(part) - count * percent / 100) <= 0.5


@given(st.integers(10, 200), st.integers(2, 10), st.integers(0, 99))
def test_folds_are_disjoint_and_together_all_rows(count, folds, seed):
    parts = [
        rows_of({"kind": "fold", "index": i, "of": folds, "seed": seed}, count).tolist()
        for i in range(folds)
    ]

    assert sorted(row for part in parts for row in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_another_seed_is_another_part():
    assert rows_of(FRACTION, 200).tolist() != rows_of({**FRACTION, "seed": 4}, 200).tolist()


def test_a_fold_without_a_seed_deals_rows_in_order():
    assert rows_of({"kind": "fold", "index": 0, "of": 3}, 7).tolist() == [0, 3, 6]


def test_stratified_folds_hold_every_class_alike():
    labels = np.array([0] * 40 + [1] * 20)

    for index in range(4):
        selection = {"kind": "fold", "index": index, "of": 4, "by": "stratified", "seed": 1}
        chosen = rows_of(selection, 60, labels)
        assert np.bincount(labels[chosen]).tolist() == [10, 5]


def test_stratified_works_on_names_too():
    labels = ["cat", "dog"] * 5

    chosen = rows_of({"kind": "fold", "index": 0, "of": 5, "by": "stratified"}, 10, labels)

    assert sorted(labels[i] for i in chosen) == ["cat", "dog"]


def test_first_takes_the_first():
    assert rows_of({"kind": "first", "count": 2}, 5).tolist() == [0, 1]
    assert rows_of({"kind": "first", "count": 9}, 5).tolist() == [0, 1, 2, 3, 4]
    assert rows_of({"kind": "first", "count": 2, "complement": True}, 5).tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    "selection",
    [
        {"kind": "fold", "index": 7, "of": 8},
        {"kind": "fraction", "fraction": "0.01"},
        {"kind": "first", "count": 9, "complement": True},
        {"kind": "unknown"},
        {"kind": "fold", "index": 0, "of": 2, "by": "group"},
    ],
)
def test_a_selection_that_leaves_nothing_or_is_unknown_is_refused(selection):
    with pytest.raises(WrongShape):
        rows_of(selection, 5)


def test_chosen_rows_are_cut_into_the_parts_they_come_from():
    parts = cut(np.array([0, 1, 4, 5, 9]), [2, 2, 0, 3, 3])

    assert [part.tolist() for part in parts] == [[0, 1], [], [], [0, 1], [2]]
