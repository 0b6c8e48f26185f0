"""What a worker says: finite decimals only, receipts with the worst grade."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.operations import check
from tilth_ledger.shapes import FAILURE_REASONS
from tilth_ledger.steps import Kind, Step, StepLimits
from tilth_node.runtimes import StepResult, Usage
from tilth_node.storage.vault import Blob
from tilth_node.worker import outcome

DIGEST = "0" * 64
TASK = "hospital-a/" + "1" * 32
RESULT = StepResult(0, None, "", {}, b"", 0, Usage(3, 2, 7, 1), True, "B", "sandbox")
STEP = Step("train", Kind.TRAIN, (), (), StepLimits(), {}, "", False, ())


def perf(**content: object) -> bytes:
    return json.dumps(content).encode()


def test_a_score_is_taken_digit_by_digit() -> None:
    found = outcome.score(perf(all=0.1, count=3, interval=[0, 0.5], f1=2))
    assert found == {"value": "0.1", "count": 3, "interval": ["0", "0.5"], "named": {"f1": "2"}}


def test_integer_statistics_pass_and_values_per_sample_stay_here() -> None:
    statistics = {"labels": [0, 1], "matrix": [[1, 0], [0, 2]]}
    found = outcome.score(perf(all=1, count=3, statistics=statistics, samples={"s": 1.0}))
    assert found == {"value": "1", "count": 3, "statistics": statistics}


@pytest.mark.rule("B2")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "0.5", None, True])
def test_what_is_not_a_finite_number_is_no_score(value: object) -> None:
    with pytest.raises(InvalidInput):
        outcome.score(perf(all=value, count=3))


@pytest.mark.parametrize("count", [0, -1, 1.0, "3", None, True, 2**53])
def test_a_score_without_rows_is_none(count: object) -> None:
    with pytest.raises(InvalidInput, match="count"):
        outcome.score(perf(all=0.5, count=count))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_object_is_no_score(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        outcome.score(data)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_becomes_a_decimal_of_the_ledger_or_is_refused(number: float) -> None:
    try:
        text = outcome.decimal(Decimal(repr(number)), "value")
    except InvalidInput:
        assert abs(number) >= 1e18
        return
    digits = text.lstrip("-").replace(".", "")
    assert len(digits) <= 18
    assert len(text.partition(".")[2]) <= 12
    assert abs(Decimal(text) - Decimal(repr(number))) <= max(
        Decimal("1e-12"), abs(Decimal(repr(number))) * Decimal("1e-16")
    )


def test_the_rows_of_a_report_are_found_and_nothing_else_is_believed() -> None:
    assert outcome.row_count(b'{"count": 12, "error": 0.5}') == 12
    assert outcome.row_count(b'{"count": -1}') is None
    assert outcome.row_count(b"not json") is None


def test_a_receipt_has_the_worst_grade_and_sums_what_was_used() -> None:
    evidence = outcome.Evidence(1, 2, labels="sealed", data_check="content", set_digest=DIGEST)
    cold = replace(RESULT, grade="D", warm=False)
    facts = outcome.receipt([STEP, STEP], [RESULT, cold], evidence)
    assert (facts["grade"], facts["mode"], facts["usage"]["wall_ms"]) == ("D", "warm", 6)
    assert "log" not in facts


def test_what_is_said_is_an_operation_of_the_ledger() -> None:
    facts = outcome.receipt([STEP], [RESULT], outcome.Evidence(1, 2))
    outputs = {"model": (Blob(DIGEST, 5), "hdf5")}
    report = {"digest": DIGEST, "size": 2, "count": 1}
    check(outcome.done(TASK, 1, outputs, facts, None, report))
    for reason in FAILURE_REASONS:
        check(outcome.failed(TASK, 1, reason, Blob(DIGEST, 1)))
        check(outcome.failed(TASK, 1, reason, None))
