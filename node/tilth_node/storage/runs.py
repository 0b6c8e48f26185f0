"""The journal of what runs: the handle of each started step, so that a restart finds it again.

Invariants
- A handle is durable before the step starts: nothing runs that a restarted node cannot find,
  and adopt or kill.
- At most one step of a task runs at a time.

Leaves to others: what a handle means (`tilth_node.runtimes`), adopting or killing
(`tilth_node.worker.worker`).
"""

from dataclasses import dataclass

from tilth_node.storage.checksums import whole
from tilth_node.storage.database import Database
from tilth_node.storage.faults import as_unavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    task TEXT PRIMARY KEY,
    attempt INTEGER NOT NULL,
    step TEXT NOT NULL,
    handle TEXT NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID;
"""
DELETE = "DELETE FROM runs WHERE task = ?"


@dataclass(frozen=True, slots=True)
class Run:
    """A started step; `handle` is the runtime's own JSON."""

    task: str
    attempt: int
    step: str
    handle: str


class Runs:
    """The runs table of the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run: Run) -> None:
        """Journal a step about to start. A crash after this and before the start leaves a handle
        of nothing: killing it is harmless."""
        with as_unavailable(), self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs (task, attempt, step, handle, checksum)"
                " VALUES (?1, ?2, ?3, ?4, checksum('runs', ?1, ?2, ?3, ?4))",
                (run.task, run.attempt, run.step, run.handle),
            )

    def remove(self, task: str) -> None:
        with as_unavailable(), self._database.transaction() as connection:
            connection.execute(DELETE, (task,))

    def all(self) -> list[Run]:
        query = "SELECT task, attempt, step, handle, checksum FROM runs"
        rows = self._database.reader.execute(query).fetchall()
        return [Run(*whole(self._database, "runs", row)) for row in rows]
