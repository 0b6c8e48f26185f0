"""What a worker says: finite decimals only, receipts with the worst grade."""

from dataclasses import replace
from typing import Any

import pytest

from tilth_ledger.canonical import sha256_hex
from tilth_ledger.operations import builtin_digest, check
from tilth_ledger.shapes import FAILURE_REASONS
from tilth_ledger.steps import Folder, Kind, Source, Step, StepLimits
from tilth_node.runtimes import StepResult, Usage
from tilth_node.storage.vault import Blob
from tilth_node.worker import outcome

DIGEST = "0" * 64
TASK = "hospital-a/" + "1" * 32
RESULT = StepResult(0, None, "", {}, b"", 0, Usage(3, 2, 7, 1), True, "B", "sandbox")
STEP = Step("train", Kind.TRAIN, (), (), StepLimits(), {}, "", False, ())


def step(kind: Kind, *archives: str, **task_json: Any) -> Step:
    folders = tuple(Folder(path, Source.ARCHIVE, digest=digest(path)) for path in archives)
    return Step(kind.value, kind, folders, (), StepLimits(), task_json, "", False, ())


def digest(text: str) -> str:
    return sha256_hex(text.encode())


METRIC = {"builtin": "accuracy"}
A_TEST = [
    step(Kind.FEATURES, "opener", metric=METRIC),
    step(Kind.PREDICT, "opener", "code", metric=METRIC),
    step(Kind.SCORE, "opener", metric=METRIC),
]


def test_the_receipt_of_a_test_states_each_field_of_all_its_steps() -> None:
    evidence = outcome.Evidence(
        started_ms=1,
        ended_ms=9,
        inputs={"model": DIGEST},
        input_bytes=11,
        labels="sealed",
        data_check="content",
        set_digest=digest("set"),
        environments={"features": digest("a"), "predict": digest("b"), "score": digest("a")},
        predictions=digest("predictions"),
        log=digest("log"),
        report=digest("report"),
    )
    results = [
        replace(RESULT, image="one"),
        replace(RESULT, grade="D", warm=False, runtime="process", image="two", exit=3),
        replace(RESULT, warm=False, image="one"),
    ]
    assert outcome.receipt(A_TEST, results, evidence) == {
        "grade": "D",
        "runtime": "process",
        "mode": "warm",
        "exit": 3,
        "labels": "sealed",
        "data_check": "content",
        "inputs": {"model": DIGEST},
        "set": digest("set"),
        "codes": {
            "code": digest("code"),
            "opener": digest("opener"),
            "metric": builtin_digest("accuracy"),
        },
        "environments": {"features": digest("a"), "predict": digest("b"), "score": digest("a")},
        "images": {"features": "one", "predict": "two", "score": "one"},
        "predictions": digest("predictions"),
        "log": digest("log"),
        "report": digest("report"),
        "usage": {
            "wall_ms": 9,
            "cpu_ms": 6,
            "peak_memory_bytes": 7,
            "input_bytes": 11,
            "output_bytes": 3,
        },
        "started_ms": 1,
        "ended_ms": 9,
    }


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_step_anywhere_is_the_receipt_s(place: int) -> None:
    results = [replace(RESULT, warm=False) for _ in A_TEST]
    results[place] = replace(RESULT, grade="D", runtime="process", warm=True)
    facts = outcome.receipt(A_TEST, results, outcome.Evidence(1, 2))
    assert (facts["grade"], facts["runtime"], facts["mode"]) == ("D", "process", "warm")


def test_steps_that_were_all_strict_make_a_strict_receipt_without_empty_fields() -> None:
    results = [replace(RESULT, warm=False) for _ in A_TEST]
    facts = outcome.receipt(A_TEST, results, outcome.Evidence(1, 2))
    assert (facts["grade"], facts["mode"]) == ("B", "strict")
    assert not {"log", "set", "images", "environments", "predictions"} & facts.keys()


def test_built_in_code_is_named_by_its_well_known_digest() -> None:
    mean = step(Kind.AGGREGATE, algo={"builtin": "mean"})
    facts = outcome.receipt([mean], [RESULT], outcome.Evidence(1, 2))
    assert facts["codes"] == {"code": builtin_digest("mean")}


def test_what_is_said_is_an_operation_of_the_ledger() -> None:
    facts = outcome.receipt([STEP], [RESULT], outcome.Evidence(1, 2))
    outputs = {"model": (Blob(DIGEST, 5), "hdf5")}
    report = {"digest": DIGEST, "size": 2, "count": 1}
    check(outcome.done(TASK, 1, outputs, facts, None, report))
    for reason in FAILURE_REASONS:
        check(outcome.failed(TASK, 1, reason, Blob(DIGEST, 1)))
        check(outcome.failed(TASK, 1, reason, None))
