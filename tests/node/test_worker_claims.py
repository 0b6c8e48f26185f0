"""Who names a blob must have it before this node uses the bytes for it (rule P6)."""

from typing import Any

import pytest

from tilth_ledger.canonical import dumps
from tilth_ledger.rows import MemoryRows
from tilth_ledger.steps import Folder, Kind, Source, Step, StepLimits
from tilth_node.worker import claims

DIGEST, REPORT, CODE = "d" * 64, "e" * 64, "c" * 64


def model(owner: str, key: str, use: list[str]) -> dict[str, Any]:
    cap = {"use": use, "download": use}
    return {"key": key, "owner": owner, "raw": [], "mixed": [], "imports": [key], "cap": cap}


def rows(*, stolen: bool = True, shared: bool = False) -> MemoryRows:
    """hospital-b's model, and thief's import under the same digest."""
    use = ["hospital-b", "thief"] if shared else ["hospital-b"]
    found: dict[str, Any] = {
        "model/hospital-b/1": model("hospital-b", "hospital-b/1", use),
        f"blob/{DIGEST}/model/hospital-b/1": {},
    }
    if stolen:
        found["model/thief/1"] = model("thief", "thief/1", ["hospital-b", "hospital-c", "thief"])
        found[f"blob/{DIGEST}/model/thief/1"] = {}
    return MemoryRows({key: dumps(value) for key, value in found.items()})


@pytest.mark.rule("P6")
@pytest.mark.parametrize("holder", ["hospital-b", "hospital-c"])
def test_a_claim_to_another_s_private_blob_is_doubted(holder: str) -> None:
    assert claims.doubtful(rows(), holder, DIGEST, "thief")


@pytest.mark.parametrize("holder", ["hospital-b", "hospital-c"])
def test_who_may_have_it_is_believed(holder: str) -> None:
    assert not claims.doubtful(rows(shared=True), holder, DIGEST, "thief")


@pytest.mark.parametrize("holder", ["hospital-b", "hospital-c"])
def test_the_only_one_who_names_it_is_believed(holder: str) -> None:
    assert not claims.doubtful(rows(stolen=False), holder, DIGEST, "hospital-b")


def test_own_claims_need_no_proof() -> None:
    assert not claims.doubtful(rows(), "thief", DIGEST, "thief")


def test_everything_that_a_step_takes_in_has_a_claimant() -> None:
    ledger = MemoryRows(
        {
            "task/a/t": dumps({"worker": "maker", "report": {"digest": REPORT}}),
            "model/b/m": dumps({"owner": "b"}),
        }
    )
    task = {
        "algo": "author/1",
        "data": {"dataset": "site/1"},
        "objective": "organizer/1",
        "inputs": [
            {"name": "made", "task": "a/t", "output": "model"},
            {"name": "imported", "model": "b/m"},
        ],
    }
    folders = (
        Folder("code", Source.ARCHIVE, digest=CODE),
        Folder("opener", Source.ARCHIVE, digest=CODE),
        Folder("metric", Source.ARCHIVE, digest=CODE),
        Folder("in/made", Source.MODEL, digest=DIGEST),
        Folder("in/imported", Source.MODEL, digest=DIGEST),
        Folder("data", Source.SAMPLES, set="site/2"),
    )
    step = Step("train", Kind.TRAIN, folders, (), StepLimits(), {}, "", False, ())
    assert claims.of_steps(ledger, task, [step]) == {
        (CODE, "author"),
        (CODE, "site"),
        (CODE, "organizer"),
        (DIGEST, "maker"),
        (REPORT, "maker"),
        (DIGEST, "b"),
    }
