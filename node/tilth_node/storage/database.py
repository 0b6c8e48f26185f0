"""Opening SQLite, the one way: write-ahead log, synchronous=FULL, one writer, readers beside it.

- A transaction is `with database.transaction() as connection:`; it commits at the end or leaves no
  trace.
- Readers are read-only connections and see only what is committed. Who asks much may hold the
  reader's view with BEGIN, which locks once: the next transaction of this process lets go of it.
- The schema's version stands in the file; one of another version is brought up to date where the
  caller knows how, or refused, never guessed at.

Leaves to others: tables, and what a failed write means (the ledger's store stops the process).
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_node.errors import StorageFailed

# Keys are random, so a page is written many times: the longer the log, the fewer times it is
# copied into the file (32 MB, read back in a tenth of a second at a start).
LOG_BYTES = 32 << 20
CACHE_KIB = 16_384


class Database:
    """One SQLite file with its writer and one reader, for use from one thread."""

    def __init__(
        self, path: Path, schema: str, version: int, upgrades: Mapping[int, str] | None = None
    ) -> None:
        """`upgrades`: what makes a file of an older version one of this version."""
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._log_bytes = LOG_BYTES
        self._writer = sqlite3.connect(path, isolation_level=None)
        self._writer.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
            f"PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -{CACHE_KIB};"
        )
        self._prepare(schema, version, upgrades or {})
        # Read-only, but for temporary tables of its own.
        self.reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        # The inner pages of a large ledger's index must fit, or each look-up reads two.
        self.reader.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write through the yielded connection; all of it is durable at the end, or none."""
        if self.reader.in_transaction:
            self.reader.execute("COMMIT")  # what it reads next is what is written here
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")
        self._copy_log()

    def _copy_log(self) -> None:
        """Copy a long log into the file and begin another. SQLite would do it by itself, and tell
        nobody when that fails (F7)."""
        size = self._log.stat().st_size
        if size < self._log_bytes:
            return
        busy_ms = self._writer.execute("PRAGMA busy_timeout").fetchone()[0]
        self._writer.execute("PRAGMA busy_timeout = 0")
        busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._writer.execute(f"PRAGMA busy_timeout = {busy_ms:d}")
        # Somebody who reads an old state, such as an audit, keeps it from ending: later, then.
        self._log_bytes = LOG_BYTES + (size if busy else 0)

    def give_up(self) -> None:
        """After a write that failed: nothing is written any more. The reader stays, for the last
        connection to a file copies the log into it when it is closed, which would be trying again;
        one that only reads does not."""
        self._writer.close()

    def close(self) -> None:
        self.reader.close()
        self._writer.close()

    def _prepare(self, schema: str, version: int, upgrades: Mapping[int, str]) -> None:
        (found,) = self._writer.execute("PRAGMA user_version").fetchone()
        if found == 0:
            # A crash in here leaves version 0 and no tables: it is done again.
            script = f"BEGIN; {schema}; PRAGMA user_version = {version:d}; COMMIT;"
            self._writer.executescript(script)
        elif found in upgrades:
            # One transaction: a crash in here leaves the old version.
            try:
                script = f"BEGIN; {upgrades[found]}; PRAGMA user_version = {version:d}; COMMIT;"
                self._writer.executescript(script)
                self._copy_log()
            except sqlite3.Error as error:
                self._writer.close()
                raise StorageFailed(
                    f"{self.path} could not be brought up to date",
                    found=f"{type(error).__name__}: {error}",
                    remedy="make room for a second copy of it, then start the node again",
                ) from error
        elif found != version:
            raise InvalidInput(
                f"{self.path} is of another version of this software",
                found=f"schema {found}",
                expected=f"schema {version}",
                remedy="run the version that wrote it, or start from an empty folder and catch up",
            )
