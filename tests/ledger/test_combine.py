"""Combined scores are exact (T5): integers in, one decimal out, the same everywhere."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.combine import METRICS, Confusion, check_statistics, combine, write


def score(matrix, labels=None):
    count = sum(map(sum, matrix))
    names = labels or list(range(len(matrix)))
    return {"count": count, "statistics": {"labels": names, "matrix": matrix}}


@pytest.mark.rule("T5")
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # By hand from [[3, 1], [2, 4]]: 7 of 10 are right, recalls are 3/4 and 2/3, F1 is 6/9 and
        # 8/11, chance is one half.
        ("accuracy", Fraction(7, 10)),
        ("balanced_accuracy", Fraction(17, 24)),
        ("f1", (Fraction(6, 9) + Fraction(8, 11)) / 2),
        ("kappa", Fraction(2, 5)),
    ],
)
def test_metrics_of_a_confusion_matrix(metric, expected):
    halves = [score([[2, 0], [1, 1]]), score([[1, 1], [1, 3]])]

    assert combine("pooled", metric, halves) == expected


@pytest.mark.rule("T5")
def test_labels_are_aligned_by_value_whatever_their_order():
    first = score([[3, 1], [2, 4]], ["cat", "dog"])
    second = score([[4, 2], [1, 3]], ["dog", "cat"])

    assert combine("pooled", "accuracy", [first, second]) == Fraction(7, 10)


@pytest.mark.rule("T5")
def test_a_label_that_one_site_lacks_is_no_obstacle():
    first = score([[5]], ["cat"])
    second = score([[0, 1], [0, 4]], ["cat", "dog"])

    assert combine("pooled", "accuracy", [first, second]) == Fraction(9, 10)


@pytest.mark.rule("T5")
def test_the_number_one_and_the_text_one_are_two_labels():
    confusion = Confusion.of({"labels": [1, "1"], "matrix": [[2, 1], [0, 3]]})

    assert METRICS["accuracy"](confusion) == Fraction(5, 6)


@pytest.mark.rule("T5")
def test_kappa_of_one_label_is_not_defined():
    assert combine("pooled", "kappa", [score([[9]])]) is None


@pytest.mark.rule("T5")
def test_statistics_must_add_up():
    good = score([[3, 1], [2, 4]]) | {"value": "0.7"}

    assert check_statistics("accuracy", good) is None
    assert "sum is the count" in check_statistics("accuracy", good | {"count": 9})
    assert "value 0.700000" in check_statistics("accuracy", good | {"value": "0.71"})
    assert "statistics" in check_statistics("accuracy", {"value": "0.7", "count": 10})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(1, 3), "0.333333"),
        (Fraction(-2, 3), "-0.666667"),
        (Fraction(1), "1.000000"),
        (Fraction(5, 10_000_000), "0.000000"),  # a half goes to even
        (Fraction(15, 10_000_000), "0.000002"),
        (Fraction(1234567, 10), "123456.700000"),
    ],
)
def test_a_decimal_has_six_digits_rounded_half_to_even(value, text):
    assert write(value) == text


matrices = (
    st.integers(1, 4)
    .flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 50), min_size=n, max_size=n), min_size=n, max_size=n
        )
    )
    .filter(lambda matrix: sum(map(sum, matrix)) > 0)
)


@given(st.lists(matrices, min_size=1, max_size=4), st.randoms())
def test_the_order_of_sites_never_matters(found, random):
    scores = [score(matrix) for matrix in found]
    shuffled = random.sample(scores, len(scores))

    for metric in METRICS:
        assert combine("pooled", metric, scores) == combine("pooled", metric, shuffled)


@given(matrices)
def test_metrics_stay_within_their_range(matrix):
    confusion = Confusion.of(score(matrix)["statistics"])
    for name, low in (("accuracy", 0), ("balanced_accuracy", 0), ("f1", 0), ("kappa", -1)):
        value = METRICS[name](confusion)
        assert value is None or low <= value <= 1
