"""Sending what the outbox holds until the ledger has decided it, and drawing the consequences.

Invariants
- The same signed bytes are sent every time: the ledger knows them and gives the same receipt.
- A statement leaves the outbox only after its outcome is final and its local folder settled; a
  crash in between repeats both, with the same effect.
"""

from collections.abc import Callable

from tilth_ledger.errors import InvalidInput, Refused
from tilth_node.logs import logger
from tilth_node.storage.outbox import Statement
from tilth_node.worker.patience import patiently
from tilth_node.worker.site import Site


async def deliver(site: Site, statement: Statement, tell: Callable[[str], None]) -> None:
    """Return when the statement is final or refused for good."""
    log = logger("worker")
    task = site.rows.get(f"task/{statement.task}")
    plan = "" if task is None else task["plan"]
    try:
        await patiently(lambda: site.submit(statement.leaf), tell)
    except (Refused, InvalidInput) as error:
        # Cancelled meanwhile (rule L3), or decided by an earlier life of this node.
        log.info("statement refused", task=statement.task, reason=str(error))
        site.folders.discard(plan, statement.task, statement.attempt)
    else:
        if statement.done:
            site.folders.commit(plan, statement.task, statement.attempt)
        log.info("task settled", task=statement.task, done=statement.done)
    # A crash here sends it once more: it is answered as before.
    site.desk.outbox.remove(statement.task, statement.attempt)
