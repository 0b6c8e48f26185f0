"""The outbox: what this worker must say (`done`, `failed`) waits here until it is final.

Invariants
- One statement per task and attempt, ever: the first one written wins, and what is sent is
  always its exact bytes. So a crash between "said" and "final" cannot make a second result. Bytes
  that can never be final, their key being revoked, may be replaced by the same words.
- A statement is durable before it is sent anywhere (rule A5).

Leaves to others: writing, which is one transaction with the end of the run
(`tilth_node.storage.desk`), sending and removing (`tilth_node.worker.delivery`).
"""

from dataclasses import dataclass, replace
from typing import Any

from tilth_node.storage.checksums import whole
from tilth_node.storage.database import Database
from tilth_node.storage.faults import as_unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    done INTEGER NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (task, attempt)
) WITHOUT ROWID;
"""
INSERT = (
    "INSERT OR IGNORE INTO outbox (task, attempt, leaf, done, checksum)"
    " VALUES (?1, ?2, ?3, ?4, checksum('outbox', ?1, ?2, ?3, ?4))"
)
SELECT = "SELECT task, attempt, leaf, done, checksum FROM outbox"


@dataclass(frozen=True, slots=True)
class Statement:
    """A signed entry about one attempt at a task; `done` false means it reports a failure."""

    task: str
    attempt: int
    leaf: bytes
    done: bool


def values(statement: Statement) -> tuple[object, ...]:
    """What INSERT wants."""
    return (statement.task, statement.attempt, statement.leaf, int(statement.done))


class Outbox:
    """The outbox table of the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, task: str, attempt: int) -> Statement | None:
        row = self._database.reader.execute(
            f"{SELECT} WHERE task = ? AND attempt = ?", (task, attempt)
        ).fetchone()
        return None if row is None else self._statement(row)

    def replace(self, statement: Statement, leaf: bytes) -> Statement:
        """The same statement under another key. A crash before leaves the old bytes: they are
        signed again at the next start."""
        with as_unavailable(), self._database.transaction() as connection:
            connection.execute(
                "UPDATE outbox SET leaf = ?1,"
                " checksum = checksum('outbox', task, attempt, ?1, done)"
                " WHERE task = ?2 AND attempt = ?3",
                (leaf, statement.task, statement.attempt),
            )
        return replace(statement, leaf=leaf)

    def remove(self, task: str, attempt: int) -> None:
        """Forget a statement whose outcome is final. A crash before leaves it: it is sent again
        and answered with the same receipt."""
        with as_unavailable(), self._database.transaction() as connection:
            connection.execute("DELETE FROM outbox WHERE task = ? AND attempt = ?", (task, attempt))

    def all(self) -> list[Statement]:
        """Everything that waits, oldest task key first."""
        rows = self._database.reader.execute(f"{SELECT} ORDER BY task, attempt").fetchall()
        return [self._statement(row) for row in rows]

    def _statement(self, row: tuple[Any, ...]) -> Statement:
        task, attempt, leaf, done = whole(self._database, "outbox", row)
        return Statement(task, attempt, bytes(leaf), bool(done))
