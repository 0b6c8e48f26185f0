"""Opening SQLite, the one way: write-ahead log, synchronous=FULL, one writer, readers beside it.

- A transaction is `with database.transaction() as connection:`; it commits at the end or leaves no
  trace.
- Readers are read-only connections and see only what is committed. Who asks much may hold the
  reader's view with BEGIN, which locks once: the next transaction of this process lets go of it.
- The log is written over itself when it is begun anew, and over zeros while it grows, where its
  owner makes room for that.
- The schema's version stands in the file; one of another version is brought up to date where the
  caller knows how, or refused, never guessed at.

Leaves to others: tables, and what a failed write means (the ledger's store stops the process).
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_node.errors import StorageFailed
from tilth_node.storage.soundness import Reading, damaged, is_damage, remedy_of

# Keys are random, so a page is written many times: the longer the log, the fewer times it is
# copied into the file (32 MB, read back in a tenth of a second at a start).
LOG_BYTES = 32 << 20
LOG_HEADER_BYTES = 32
CACHE_KIB = 16_384
# Zeros ahead in a log that grows; written one page at a time, since what the kernel keeps as one
# large page costs more to sync.
ROOM = 4  # a log of which so small a part is in use is made twice as long
SLICE_BYTES = 64 << 10  # at once: a twentieth of a millisecond
PAGE_BYTES = 4096


class Database:
    """One SQLite file with its writer and one reader, for use from one thread."""

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        upgrades: Mapping[int, str] | None = None,
        functions: Mapping[str, Callable[..., bytes]] | None = None,
    ) -> None:
        """`upgrades`: what makes a file of an older version one of this version; `functions`: what
        statements that write may call, by name."""
        self.path = path
        self._functions = functions or {}
        try:
            self._open(schema, version, upgrades or {})
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                raise StorageFailed(
                    f"{path} cannot be written",
                    found=f"{type(error).__name__}: {error}",
                    expected="a file that this user may write",
                    remedy=f"Look at its owner and mode. If they are right: {remedy_of(path)}",
                ) from error
            if not is_damage(error):
                raise
            raise damaged(path, f"{type(error).__name__}: {error}") from error

    def _open(self, schema: str, version: int, upgrades: Mapping[int, str]) -> None:
        path = self.path
        self._log_bytes = LOG_BYTES
        self._synced = True
        self._room = 0  # how long the log shall be
        self._writer = sqlite3.connect(path, isolation_level=None)
        for name, function in self._functions.items():
            self._writer.create_function(name, -1, function, deterministic=True)
        self._writer.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
            f"PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -{CACHE_KIB};"
        )
        self._prepare(schema, version, upgrades)
        # A file, by its mode or by a changed byte, may be only readable.
        self._writer.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {version:d}; ROLLBACK")
        self._frame_bytes = int(self._writer.execute("PRAGMA page_size").fetchone()[0]) + 24
        # SQLite locks its other two files: closing one of them here would let go of its locks.
        self._log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        self.reader = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, factory=Reading
        )
        self.reader.path = path
        self.reader.execute("PRAGMA query_only = ON")
        # The inner pages of a large ledger's index must fit, or each look-up reads two.
        self.reader.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Write through the yielded connection; all of it is durable at the end, or none. One that
        is not `synced` is durable with the next one that is: a power cut before may undo it."""
        if self.reader.in_transaction:
            self.reader.execute("COMMIT")  # what it reads next is what is written here
        if synced != self._synced:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced
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
        """Copy a long log into the file and begin it anew. SQLite would do it by itself, and tell
        nobody when that fails (F7). The log keeps its length: writing over it costs two thirds of
        writing a new one, and its sync need not tell the file system of a new size."""
        # Two reads tell that it is not yet long; how long it is takes ten.
        if not self._is_used(-(-self._log_bytes // self._frame_bytes)):
            return
        size = self._log_size()
        mode = "RESTART" if size < 2 * LOG_BYTES else "TRUNCATE"  # somebody kept it from ending
        busy_ms = self._writer.execute("PRAGMA busy_timeout").fetchone()[0]
        self._writer.execute("PRAGMA busy_timeout = 0")
        busy, _, _ = self._writer.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        self._writer.execute(f"PRAGMA busy_timeout = {busy_ms:d}")
        # Somebody who reads an old state, such as an audit, keeps it from ending: later, then.
        self._log_bytes = LOG_BYTES + (size if busy else 0)

    def make_room(self) -> bool:
        """Write some zeros behind a log that grows, when there is time; whether more are wanted.
        Commits then change bytes and no size, and their syncs wait for no journal of the file
        system. SQLite takes zeros for the log's end (they are of no page's number), as it does
        pages of an older salt. They promise nothing, so a full disk goes without: it is the commit
        that must find room. Raises StorageFailed for any other failure."""
        size = os.fstat(self._log).st_size
        most = self._log_bytes + SLICE_BYTES
        if not 0 < size < most:
            return False
        if size >= self._room:
            if not self._is_used(size // ROOM // self._frame_bytes):
                return False
            self._room = min(2 * size, most)
        end = min(size + SLICE_BYTES, self._room)
        try:
            while size < end:
                border = min(end, size + PAGE_BYTES - size % PAGE_BYTES)
                size += os.pwrite(self._log, bytes(border - size), size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                self.give_up()
                raise StorageFailed(
                    f"{self.path}-wal could not be written",
                    found=error.strerror,
                    remedy=f"look at the disk of {self.path}, then start the node again",
                ) from error
            return False
        return True

    def _log_size(self) -> int:
        """Bytes of the log that are in use: of its pages, those with the salt of its header
        (sqlite.org/fileformat2.html#walformat). They stand before all others."""
        frames, step = 0, 1
        while self._is_used(frames + step):
            frames += step
            step *= 2
        while step := step // 2:
            if self._is_used(frames + step):
                frames += step
        return frames * self._frame_bytes

    def _is_used(self, count: int) -> bool:
        """Whether the log holds so many pages."""
        if count <= 0:
            return True
        salt = os.pread(self._log, 8, 16)
        at = LOG_HEADER_BYTES + (count - 1) * self._frame_bytes + 8
        return len(salt) == 8 and os.pread(self._log, 8, at) == salt

    def give_up(self) -> None:
        """After a write that failed: nothing is written any more. The reader stays, for the last
        connection to a file copies the log into it when it is closed, which would be trying again;
        one that only reads does not."""
        self._writer.close()

    def close(self) -> None:
        self.reader.close()
        self._writer.close()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

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
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
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
