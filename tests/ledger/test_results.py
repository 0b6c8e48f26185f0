"""perf.json and report.json, written by hostile code, read by the node."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.results import read_count, read_score
from tilth_ledger.schema import DECIMAL


def perf(**facts):
    return json.dumps({"all": 0.5, "count": 4, **facts}).encode()


@pytest.mark.parametrize(
    ("written", "decimal"),
    [
        ("0.9638888888888889", "0.963888888889"),
        ("1", "1"),
        ("1e-3", "0.001"),
        ("-0.0", "0"),
        ("1e-30", "0"),
        ("12345678.123456789012345", "12345678.123456789"),
        ("99999999.99999999999999", "100000000"),
        ("123456789012345678", "123456789012345678"),
    ],
)
def test_a_number_becomes_a_decimal_of_the_ledger(written, decimal):
    score = read_score(f'{{"all":{written},"count":4}}'.encode())

    assert score.value == decimal
    DECIMAL.check(score.value, "value")


@pytest.mark.parametrize(
    "written",
    [
        *("NaN", "Infinity", "-Infinity", '"nan"', '"0.5"', "null", "true", "[1]", "1e400"),
        *("1e999999999999", "1234567890123456789", "999999999999999999.9"),
    ],
)
def test_a_value_that_is_no_finite_number_is_told_apart(written):
    score = read_score(f'{{"all":{written},"count":4}}'.encode())

    assert score.value is None
    assert score.count == 4


@pytest.mark.parametrize("count", [0, -1, 1.0, "4", None, True, 1 << 60])
def test_a_count_must_be_a_positive_integer(count):
    with pytest.raises(InvalidInput, match="rows"):
        read_score(perf(count=count))


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 200_000, b'{"count":3}'])
def test_a_file_of_another_form_is_refused(data):
    with pytest.raises(InvalidInput):
        read_score(data)


def test_named_values_are_bounded_and_finite():
    named = {f"name_{n:02}": n for n in range(20)}

    score = read_score(perf(**named, **{"bad name": 1, "text": "x", "broken": float("nan")}))

    assert len(score.named) == 16
    assert set(score.named) <= set(named)


def test_integer_statistics_are_kept_for_pooling():
    statistics = {"labels": [0, "cat"], "matrix": [[3, 0], [1, 2]]}

    assert read_score(perf(statistics=statistics)).statistics == statistics


@pytest.mark.parametrize(
    "statistics",
    [
        {"labels": [0], "matrix": [[1.5]]},
        {"labels": [0], "matrix": [[-1]]},
        {"labels": [0], "matrix": [[True]]},
        {"labels": [0, 1], "matrix": [[1, 2]]},
        {"labels": [0], "matrix": [[1]], "more": 1},
        {"labels": [], "matrix": []},
        {"labels": list(range(500)), "matrix": [[0] * 500] * 500},
        [1],
    ],
)
def test_other_statistics_stay_off_the_ledger(statistics):
    assert read_score(perf(statistics=statistics)).statistics is None


def test_an_interval_has_two_finite_ends():
    assert read_score(perf(interval=[0.1, 0.9])).interval == ("0.1", "0.9")
    assert read_score(perf(interval=[0.1])).interval is None
    assert read_score(b'{"all":1,"count":1,"interval":[0,NaN]}').interval is None


def test_the_operation_holds_what_there_is():
    full = read_score(perf(interval=[0, 1], f1=0.25)).as_operation()

    assert full == {"value": "0.5", "count": 4, "interval": ["0", "1"], "named": {"f1": "0.25"}}
    assert read_score(perf()).as_operation() == {"value": "0.5", "count": 4}


@pytest.mark.parametrize(
    ("data", "count"),
    [
        *((b'{"count":7}', 7), (b'{"count":0}', 0), (b"{}", None), (b"broken", None)),
        *((b'{"count":-1}', None), (b'{"count":1.5}', None), (b'{"count":true}', None)),
    ],
)
def test_the_row_count_of_a_report(data, count):
    assert read_count(data) == count


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_is_a_decimal_of_the_ledger_or_none(number):
    value = read_score(json.dumps({"all": number, "count": 1}).encode()).value

    if value is not None:
        DECIMAL.check(value, "value")
        assert abs(float(value) - number) <= max(1e-12, abs(number) * 1e-15)
