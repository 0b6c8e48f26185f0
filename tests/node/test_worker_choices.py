"""The worker's pure choices: what is its own, what is over, what may be closed, who has a blob."""

from typing import Any

import pytest

from tilth_ledger.canonical import dumps
from tilth_ledger.errors import PeerFault, Refused, Unavailable
from tilth_ledger.rows import MemoryRows
from tilth_node.runtimes import NodeFault
from tilth_node.worker.attempt import check_own
from tilth_node.worker.closing import due_ms
from tilth_node.worker.failure import Dropped
from tilth_node.worker.holders import wanted
from tilth_node.worker.patience import patiently
from tilth_node.worker.residue import digest_is_over, plan_is_over

DIGEST = "d" * 64
OTHER = "e" * 64
AGGREGATE = {
    "state": "waiting",
    "missing": 1,
    "skipped": [],
    "inputs": [{}, {}, {}],
    "first_input_ms": 1_000,
    "need": {"at_least": 2, "within_ms": 500},
}


def rows(**changes: Any) -> MemoryRows:
    """A closed plan at a: init makes a model (at x), train takes it (at y), nothing is final."""
    found: dict[str, Any] = {
        "organization/x": {},
        "organization/y": {},
        "plan/a/p": {"key": "a/p", "status": "closed", "final": [], "tasks": 2, "expires_ms": 9},
        "progress/a/p": {"done": 2, "failed": 0},
        "task/a/init": {"plan": "a/p", "state": "done", "worker": "x", "inputs": []},
        "task/a/train": {
            "plan": "a/p",
            "state": "done",
            "worker": "y",
            "inputs": [{"task": "a/init"}],
        },
        "child/a/init/a/train": {},
        "model/a/init/model": {"digest": DIGEST, "size": 5, "worker": "x", "owner": "a"},
        f"blob/{DIGEST}/model/a/init": {"output": "model"},
    }
    for key, value in changes.items():
        found[key.replace("__", "/")] = value
    return MemoryRows({key: dumps(value) for key, value in found.items() if value is not None})


@pytest.mark.rule("R2")
def test_a_task_on_own_data_or_on_none_is_the_node_s_own() -> None:
    ledger = rows(dataset__x__data={"owner": "x"})
    check_own(ledger, "x", {"worker": "x"})
    check_own(ledger, "x", {"worker": "x", "data": {"dataset": "x/data"}})


@pytest.mark.rule("R2")
@pytest.mark.parametrize(
    "task",
    [
        {"worker": "y"},
        {"worker": "y", "data": {"dataset": "x/data"}},
        {"worker": "x", "data": {"dataset": "y/data"}},
        {"worker": "x", "data": {"dataset": "x/unknown"}},
    ],
)
def test_a_node_never_works_for_another_organization(task: dict[str, Any]) -> None:
    ledger = rows(dataset__x__data={"owner": "x"}, dataset__y__data={"owner": "y"})
    with pytest.raises(Dropped, match="R2"):
        check_own(ledger, "x", task)


@pytest.mark.rule("L6")
def test_a_model_is_over_when_all_who_took_it_are_done() -> None:
    assert digest_is_over(rows(), DIGEST)


@pytest.mark.rule("L6")
@pytest.mark.parametrize(
    "change",
    [
        {"task__a__train": {"plan": "a/p", "state": "doing", "worker": "y", "inputs": []}},
        {"task__a__train": {"plan": "a/p", "state": "failed", "worker": "y", "inputs": []}},
        {"plan__a__p": {"key": "a/p", "status": "open", "final": []}},
        {"plan__a__p": {"key": "a/p", "status": "closed", "final": ["a/init"]}},
        {"child__a__init__a__train": None},
        {f"blob__{DIGEST}__model__a__imported": {}},
        {f"blob__{DIGEST}__archive__a__algo": {}},
    ],
    ids=["in use", "may be retried", "plan open", "final", "unused", "imported", "also code"],
)
def test_a_model_that_may_be_asked_for_again_stays(change: dict[str, Any]) -> None:
    assert not digest_is_over(rows(**change), DIGEST)


def test_bytes_that_no_asset_names_are_not_judged() -> None:
    assert not digest_is_over(rows(), OTHER)


@pytest.mark.rule("L5")
def test_a_plan_is_over_when_it_takes_no_more_and_all_is_done() -> None:
    plan = rows().get("plan/a/p") or {}
    assert plan_is_over(rows(), plan, now_ms=1)
    assert not plan_is_over(rows(progress__a__p={"done": 1, "failed": 1}), plan, now_ms=1)
    assert not plan_is_over(rows(), plan | {"status": "open"}, now_ms=1)


@pytest.mark.rule("L5")
def test_a_plan_is_over_when_it_was_canceled_or_has_expired() -> None:
    plan = (rows().get("plan/a/p") or {}) | {"tasks": 9}
    assert not plan_is_over(rows(), plan, now_ms=9)
    assert plan_is_over(rows(), plan, now_ms=10)
    assert plan_is_over(rows(), plan | {"status": "canceled"}, now_ms=1)


def test_an_aggregate_may_be_closed_once_its_time_to_wait_has_passed() -> None:
    assert due_ms(AGGREGATE) == 1_500


@pytest.mark.parametrize(
    "change",
    [
        {"state": "doing"},
        {"missing": 0},
        {"missing": 2},
        {"need": {"at_least": 2}},
        {"skipped": ["c"]},
    ],
    ids=["begun", "complete", "too few", "no time stated", "too few came"],
)
def test_an_aggregate_that_need_not_or_cannot_be_closed_has_no_time(
    change: dict[str, Any],
) -> None:
    assert due_ms(AGGREGATE | change) is None


def test_a_model_is_at_its_worker_first_then_where_it_was_used() -> None:
    found = wanted(rows(), DIGEST, max_bytes=10)
    assert (found.holders, found.size) == (("x", "y"), 5)


def test_an_archive_is_at_its_owner_first_then_anywhere() -> None:
    found = wanted(rows(**{f"blob__{OTHER}__archive__y__algo": {}}), OTHER, max_bytes=10)
    assert (found.holders, found.size) == (("y", "x"), None)


class Trouble:
    """Work that fails a few times before it succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def work(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_the_node_s_own_trouble_is_waited_out_and_told() -> None:
    words: list[str] = []
    trouble = Trouble(Unavailable("disk full"), PeerFault("silent"), NodeFault("engine gone"))
    assert await patiently(trouble.work, words.append) == "done"
    assert words == ["disk full", "silent", "engine gone", ""]


async def test_what_is_not_the_node_s_trouble_passes_through_at_once() -> None:
    with pytest.raises(Refused):
        await patiently(Trouble(Refused("P6", "no")).work, lambda words: None)


def test_who_left_the_consortium_holds_nothing_any_more() -> None:
    named = {f"blob/{DIGEST}/model/a/init": {"output": "model"}}
    named["model/a/init/model"] = {"worker": "x", "size": 7, "owner": "a"}
    assert wanted(rows(**named), DIGEST, 10).holders[0] == "x"
    gone = {f"organization/{name}": {"removed": True} for name in ("x", "y", "a")}
    left = rows(**named, **{"organization/x": {"removed": True}})
    assert "x" not in wanted(left, DIGEST, 10).holders
    assert wanted(rows(**named, **gone), DIGEST, 10).holders == ()
