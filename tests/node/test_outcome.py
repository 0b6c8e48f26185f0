"""What a worker says: finite decimals only, receipts with the worst grade."""

from dataclasses import replace

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
