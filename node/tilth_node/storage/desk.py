"""The worker's own database, FOLDER/worker.db: everything it must remember beside the ledger.

A file of its own, so that a large import never makes the ledger's writer wait. It is opened like
the ledger's (write-ahead log, synchronous=FULL) and used from the event loop's thread only.

- `outbox`: what must be said until it is final. `runs`: handles of what runs.
- `samples`: where data lie, their salts and digests. `secret`: the tag secret. This table cannot
  be rebuilt from anything: back it up with the keys.
"""

from dataclasses import dataclass
from pathlib import Path

from tilth_node.storage import outbox, runs, samples
from tilth_node.storage.database import Database
from tilth_node.storage.faults import as_unavailable
from tilth_node.storage.outbox import Outbox, Statement
from tilth_node.storage.runs import Runs
from tilth_node.storage.samples import Samples

VERSION = 1


@dataclass(frozen=True, slots=True)
class Desk:
    """The tables of one worker."""

    database: Database
    outbox: Outbox
    runs: Runs
    samples: Samples

    def settle(self, statement: Statement) -> Statement:
        """An attempt is over: keep what must be said and forget what ran, in one transaction.
        Returns the statement that stands."""
        with as_unavailable(), self.database.transaction() as connection:
            connection.execute(outbox.INSERT, outbox.values(statement))
            connection.execute(runs.DELETE, (statement.task,))
        # A crash from here on: the restarted worker finds the statement and sends these bytes.
        standing = self.outbox.get(statement.task, statement.attempt)
        return statement if standing is None else standing

    def close(self) -> None:
        self.database.close()


def open_desk(path: Path) -> Desk:
    """Open or create the worker's database."""
    database = Database(path, outbox.SCHEMA + runs.SCHEMA + samples.SCHEMA, VERSION)
    return Desk(database, Outbox(database), Runs(database), Samples(database))
