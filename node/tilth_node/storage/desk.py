"""The worker's own database, FOLDER/worker.db: everything it must remember beside the ledger.

A file of its own, so that a large import never makes the ledger's writer wait. It is opened like
the ledger's (write-ahead log, synchronous=FULL) and used from the event loop's thread only.

- `outbox`: what must be said until it is final. `runs`: handles of what runs.
- `samples`: where data lie, their salts and digests. `secret`: the tag secret. This table cannot
  be rebuilt from anything: back it up with the keys.
- Each row has a checksum (checksums): a damaged one is never believed, and a result that was signed
  never taken for one that the ledger refused.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tilth_node.storage import outbox, runs, samples
from tilth_node.storage.checksums import checksum, problems, schema_of
from tilth_node.storage.database import Database
from tilth_node.storage.faults import as_unavailable
from tilth_node.storage.outbox import Outbox, Statement
from tilth_node.storage.runs import Runs
from tilth_node.storage.samples import Sample, Samples
from tilth_node.storage.soundness import damaged, is_damage

VERSION = 2
SCHEMA = outbox.SCHEMA + runs.SCHEMA + samples.SCHEMA
SMALL_BYTES = 2 << 20  # what is looked through at every start, in some tenths of a second

# Rows of before had no checksum: they get one as they are.
_COLUMNS = {
    "outbox": "task, attempt, leaf, done",
    "runs": "task, attempt, step, handle",
    "samples": "key, name, label, root, single, in_place, digest, tag, salt, files",
    "secret": "name, value",
}
_WITH_CHECKSUMS = ";".join(
    (
        *(f"ALTER TABLE {name} RENAME TO old_{name}" for name in _COLUMNS),
        SCHEMA,
        *(
            f"INSERT INTO {name} SELECT {of}, checksum('{name}', {of}) FROM old_{name}"  # noqa: S608
            for name, of in _COLUMNS.items()
        ),
        *(f"DROP TABLE old_{name}" for name in _COLUMNS),
    )
)


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
    """Open or create the worker's database. Raises StorageFailed when a small one is damaged; of a
    large one each row is looked at when it is read."""
    small = path.exists() and path.stat().st_size <= SMALL_BYTES
    database = Database(path, SCHEMA, VERSION, {1: _WITH_CHECKSUMS}, {"checksum": checksum})
    if small and (found := problems_of(path)):
        database.close()
        raise damaged(path, found[0])
    return Desk(database, Outbox(database), Runs(database), Samples(database))


def problems_of(path: Path) -> list[str]:
    """What is wrong with a worker's database; a node may run on it."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        expected = schema_of(fresh)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            (version,) = reader.execute("PRAGMA user_version").fetchone()
            return [] if version < VERSION else problems(reader, expected)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return [f"{type(error).__name__}: {error}"]


def samples_of(path: Path) -> Iterator[Sample]:
    """The samples of a worker's database whose rows are whole, one at a time; a node may run on
    it. None where the file is of before this release's schema, or damaged."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        try:
            (version,) = reader.execute("PRAGMA user_version").fetchone()
            if version == VERSION:
                for row in reader.execute("SELECT * FROM samples"):
                    if checksum("samples", *row[:-1]) == row[-1]:
                        yield samples.of_row(*row[:-1])
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):  # damage is told of the file itself (problems_of)
                raise
