"""Sending what the outbox holds until the ledger has decided it, and drawing the consequences.

Invariants
- The same signed bytes are sent every time: the ledger knows them and gives the same receipt. Only
  bytes that nobody can record any more, because the key that signed them was replaced, are signed
  again, by the key that the ledger lists now.
- A statement leaves the outbox only after its outcome is final and its local folder settled; a
  crash in between repeats both, with the same effect.
"""

import json
from collections.abc import Callable

from tilth_ledger.errors import InvalidInput, Refused, TilthError, Unavailable
from tilth_ledger.leaf import Leaf
from tilth_ledger.transitions import effective_state
from tilth_node.logs import logger
from tilth_node.storage.outbox import Statement
from tilth_node.worker import outcome
from tilth_node.worker.patience import patiently
from tilth_node.worker.site import Site

_OUT_OF_TIME = "L3"  # a task whose plan has expired, as one that was canceled
_NO_AUTHOR = "A1"  # the key that this node holds does not count


async def deliver(site: Site, statement: Statement, tell: Callable[[str], None]) -> None:
    """Return when the statement is final or refused for good."""
    log = logger("worker")
    task = site.rows.get(f"task/{statement.task}")
    plan = "" if task is None else task["plan"]
    statement = _with_present_key(site, statement)
    try:
        await patiently(
            lambda: say(site, statement.leaf, lambda: _still_doing(site, statement)), tell
        )
    except (Refused, InvalidInput) as error:
        if signed_anew(site, statement.leaf) != statement.leaf:  # rotated while it waited
            await deliver(site, statement, tell)
            return
        if getattr(error, "rule", "") == _NO_AUTHOR:
            # Kept for a start at which the folder holds the key that the ledger lists.
            log.error("statement waits for this node's key", task=statement.task, reason=str(error))
            return
        # Cancelled meanwhile (rule L3), decided by an earlier life of this node, or not accepted.
        log.warning("statement refused", task=statement.task, reason=str(error))
        site.folders.discard(plan, statement.task, statement.attempt)
        site.desk.outbox.remove(statement.task, statement.attempt)
        if statement.done and _still_doing(site, statement):
            await deliver(site, _instead(site, statement, error), tell)
        return
    if statement.done:
        site.folders.commit(plan, statement.task, statement.attempt)
    log.info("task settled", task=statement.task, done=statement.done)
    # A crash here sends it once more: it is answered as before.
    site.desk.outbox.remove(statement.task, statement.attempt)


async def say(site: Site, leaf: bytes, wanted: Callable[[], bool]) -> None:
    """Submit an entry about a task. Raises Unavailable when it is refused as too late although the
    ledger, by its own time, wants it still: this node's clock is ahead of the others'."""
    try:
        await site.submit(leaf)
    except Refused as refusal:
        if refusal.rule == _OUT_OF_TIME and wanted():
            raise Unavailable(
                "this node's clock is ahead of the ledger's time",
                found=str(refusal),
                expected="a task that is still wanted",
                remedy="set this machine's clock; the task goes on by itself",
            ) from refusal
        raise


def signed_anew(site: Site, leaf: bytes) -> bytes:
    """The same bytes while their author's key counts or they are recorded; else what they say,
    signed by this node's present key. A key that was revoked never comes back, so only one of the
    two can ever be recorded."""
    decoded = Leaf.decode(leaf)
    entry = json.loads(decoded.payload)
    if _counts(site, entry["author"]) or site.rows.get(f"entry/{decoded.id}") is not None:
        return leaf
    if not _counts(site, site.signer().key_id):
        return leaf  # removed from the ledger, or its new keys are not in this folder
    return site.sign(entry["operations"][0])


def _counts(site: Site, key_id: str) -> bool:
    row = site.rows.get(f"identity/{key_id}")
    return row is not None and row["status"] == "active"


def _with_present_key(site: Site, statement: Statement) -> Statement:
    leaf = signed_anew(site, statement.leaf)
    return statement if leaf == statement.leaf else site.desk.outbox.replace(statement, leaf)


def named_blobs(statement: Statement) -> list[str]:
    """Digests of the blobs that a statement names: they must stay until it is final."""
    entry = json.loads(Leaf.decode(statement.leaf).payload)
    found: list[str] = []
    for operation in entry["operations"]:
        files = [*operation.get("outputs", {}).values(), operation.get("report")]
        found += [file["digest"] for file in (*files, operation.get("log")) if file]
        found += [operation["receipt"]["log"]] if "log" in operation.get("receipt", {}) else []
    return found


def _still_doing(site: Site, statement: Statement) -> bool:
    task = site.rows.get(f"task/{statement.task}")
    plan = None if task is None else site.rows.get(f"plan/{task['plan']}")
    if task is None or plan is None or task["attempt"] != statement.attempt:
        return False
    return effective_state(task, plan, site.ledger_ms()) == "doing"


def _instead(site: Site, statement: Statement, error: TilthError) -> Statement:
    """A result that the ledger does not take is a failure: the task must not stay open."""
    reason = "too_large" if getattr(error, "rule", "") == "P6" else "wrong_shape"
    words = f"== refused by the ledger ==\n{error}\n".encode()
    log = site.vault.write(words, holder=statement.task)
    operation = outcome.failed(statement.task, statement.attempt, reason, log)
    return site.desk.settle(
        Statement(statement.task, statement.attempt, site.sign(operation), done=False)
    )
