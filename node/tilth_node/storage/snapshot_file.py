"""A ledger's file that begins in the middle: filled beside the old one, put in its place whole.

- While rows come in, the file is `ledger.joining`. Each part is one transaction with how far it
  came, and no sync: what a killed process leaves is gone on with; after a start of the machine,
  which may have lost some of it, all begins anew. It is durable before it gets its next name.
- `ledger.snapshot` is a whole one whose rows gave the digest of a certified header. `adopt`, at the
  next start, makes it the ledger: the old log goes first, since SQLite would write it into the new
  file. A crash at any point in between is finished by the next start.

Leaves to others: what comes in, and from whom (tilth_node.joining).
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from tilth_ledger.epochs import newest
from tilth_ledger.errors import InvalidInput
from tilth_ledger.lthash import LtHash
from tilth_ledger.snapshot_rows import Part, Place, Taken
from tilth_ledger.snapshots import Milestone, Offer, grown
from tilth_node.errors import StorageFailed
from tilth_node.folder import sync_folder
from tilth_node.storage.ledger_store import (
    INSERT_NODE,
    SCHEMA,
    VERSION,
    write_blocks,
)
from tilth_node.storage.stored_rows import StoredRows

CACHE_KIB = 32_768  # of a file that is being filled
LOGS = ("-wal", "-shm")
BOOT = Path("/proc/sys/kernel/random/boot_id")
# A draft of before the place was proven has another table, and begins anew.
JOINING = """
CREATE TABLE taken (
  one INTEGER PRIMARY KEY CHECK (one = 1), net BLOB NOT NULL, boot TEXT NOT NULL,
  size INTEGER NOT NULL, key TEXT NOT NULL,
  rows INTEGER NOT NULL, row_bytes INTEGER NOT NULL, sum BLOB NOT NULL, givers TEXT NOT NULL
)
"""


def bounds_of(path: Path) -> tuple[int, int]:
    """How many rows, and bytes in them, a ledger's file holds at most; found without a scan."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        (rows,) = reader.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
        (pages,) = reader.execute("PRAGMA page_count").fetchone()
        (page,) = reader.execute("PRAGMA page_size").fetchone()
    return int(rows), int(pages) * int(page)


class SnapshotFile:
    """A ledger's file that is being filled, from where an earlier one stopped if there is one."""

    def __init__(self, draft: Path, whole: Path, net: bytes) -> None:
        self._draft, self._whole, self._net = draft, whole, net
        self.taken = Taken()
        self.givers: frozenset[str] = frozenset()  # who gave what was taken
        try:
            if not self._go_on():
                self._begin()
        except (sqlite3.Error, OSError) as error:
            raise _failed(draft, error) from error

    def _go_on(self) -> bool:
        if not self._draft.exists():
            return False
        self._connection = sqlite3.connect(self._draft, isolation_level=None)
        try:
            _prepare(self._connection)
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            query = "SELECT size, key, rows, row_bytes, sum, givers FROM taken"
            query += " WHERE net = ? AND boot = ?"
            found = self._connection.execute(query, (self._net, _boot())).fetchone()
            query = "SELECT coalesce(max(id), 0) FROM rows"
            self._newest = self._connection.execute(query).fetchone()[0]
            if version == VERSION and found is not None:
                size, key, rows, row_bytes, state, givers = found
                self.taken = Taken(Place(size, key), rows, row_bytes, LtHash.from_state(state))
                self.givers = frozenset(givers.split())
                return True
        except (sqlite3.Error, InvalidInput):
            pass  # no draft of this ledger, or a spoiled one: it begins anew
        self._connection.close()
        return False

    def _begin(self) -> None:
        discard(self._draft)
        self._connection = sqlite3.connect(self._draft, isolation_level=None)
        _prepare(self._connection)
        script = f"BEGIN; {SCHEMA}; {JOINING}; PRAGMA user_version = {VERSION:d}; COMMIT"
        self._connection.executescript(script)
        self._newest = 0
        self.taken, self.givers = Taken(), frozenset()

    def clear(self) -> None:
        """Forget what was taken."""
        self._connection.close()
        try:
            self._begin()
        except (sqlite3.Error, OSError) as error:
            raise _failed(self._draft, error) from error

    def value_of(self, key: str) -> bytes | None:
        """A row that was taken."""
        query = "SELECT value FROM keys JOIN rows USING (id) WHERE key = ?"
        try:
            found = self._connection.execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise _failed(self._draft, error) from error
        return None if found is None else bytes(found[0])

    def write(self, part: Part, taken: Taken, giver: str) -> None:
        """A part that was checked, and how far all is with it."""
        givers = self.givers | {giver}
        try:
            if part.anew:
                self.clear()
                givers = frozenset((giver,))
            self._connection.execute("BEGIN")
            for key, value in part.changed:
                self._change(key, value)
            self._insert(part.rows)
            self._connection.execute(
                "INSERT OR REPLACE INTO taken VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self._net, _boot(), taken.place.size, taken.place.key),
                    *(taken.rows, taken.row_bytes),
                    *(taken.sum.state, " ".join(sorted(givers))),
                ),
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _failed(self._draft, error) from error
        self.taken, self.givers = taken, givers

    def _change(self, key: str, value: bytes | None) -> None:
        connection = self._connection
        found = connection.execute("SELECT id FROM keys WHERE key = ?", (key,)).fetchone()
        if found is None:
            self._insert(() if value is None else ((key, value),))
        elif value is None:
            connection.execute("DELETE FROM rows WHERE id = ?", found)
            connection.execute("DELETE FROM keys WHERE key = ?", (key,))
        else:
            connection.execute("UPDATE rows SET value = ? WHERE id = ?", (value, *found))

    def _insert(self, rows: Iterable[tuple[str, bytes]]) -> None:
        values, keys = [], []
        for key, value in rows:
            self._newest += 1
            values.append((self._newest, value))
            keys.append((key, self._newest))
        self._connection.executemany("INSERT INTO rows (id, value) VALUES (?, ?)", values)
        self._connection.executemany("INSERT INTO keys (key, id) VALUES (?, ?)", keys)

    def finish(self, offer: Offer) -> None:
        """Make the file whole and durable, under the name by which the next start finds it."""
        try:
            self._connection.execute("BEGIN")
            self._put(offer)
            self._connection.execute("COMMIT")
            # The log goes into the file here, and is no more.
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self.close()
            descriptor = os.open(self._draft, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._draft.replace(self._whole)
            sync_folder(self._whole.parent)
        except (sqlite3.Error, OSError) as error:
            raise _failed(self._draft, error) from error

    def close(self) -> None:
        """Let go of the file; what was taken stays."""
        with suppress(sqlite3.Error):  # a log that cannot be copied is copied later, or never
            self._connection.close()

    def _put(self, offer: Offer) -> None:
        tip, connection = offer.tip, self._connection
        header = tip.block.header
        connection.execute("DROP TABLE taken")
        connection.execute("INSERT INTO accumulator VALUES (1, ?)", (self.taken.sum.state,))
        _put_frontier(connection, tip)
        _, epoch = newest(StoredRows(connection))
        for each in offer.milestones:
            # Also the block on which the epoch in force stands: its leaves come with the rest.
            if each is tip or _holds(each, epoch.get("index", -1)):
                _put_block(connection, each)
        first = header.size - header.leaf_count
        connection.executemany(
            "INSERT INTO leaves (position, leaf) VALUES (?, ?)", enumerate(tip.block.leaves, first)
        )
        if header.height > 1:
            connection.execute("INSERT INTO history VALUES (1, ?, ?)", (header.height, first))


def discard(draft: Path) -> None:
    """Remove what a joining that did not end has left."""
    for path in (draft, *(draft.with_name(draft.name + log) for log in LOGS)):
        path.unlink(missing_ok=True)


def adopt(draft: Path, whole: Path, ledger: Path) -> bool:
    """At a start, before the ledger is opened: take the snapshot that was fetched, if there is
    one."""
    if not whole.exists():
        return False
    discard(draft)
    for log in LOGS:
        ledger.with_name(ledger.name + log).unlink(missing_ok=True)
    sync_folder(ledger.parent)
    # A crash before the rename leaves the old ledger without its log, and the snapshot: it is taken
    # at the next start.
    whole.replace(ledger)
    sync_folder(ledger.parent)
    return True


def _boot() -> str:
    """Which start of the machine this is."""
    return BOOT.read_text().strip()


def _prepare(connection: sqlite3.Connection) -> None:
    connection.executescript(
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;PRAGMA cache_size = -{CACHE_KIB};"
    )


def _put_frontier(connection: sqlite3.Connection, tip: Milestone) -> None:
    size = tip.before.size
    levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
    for level, peak in zip(levels, tip.before.peaks, strict=True):
        connection.execute(INSERT_NODE, (level, (size >> level) - 1, peak))
    connection.executemany(INSERT_NODE, grown(tip.before, tip.block)[1])


def _put_block(connection: sqlite3.Connection, each: Milestone) -> None:
    header = each.block.header
    void = write_blocks([block.encode() for block in each.void]) if each.void else None
    connection.execute(
        "INSERT INTO blocks (height, size, header, justification, certificate, void)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(header.height, header.size, header.encode(), each.block.justification.encode()),
            *(each.certificate.encode(), void),
        ),
    )


def _holds(each: Milestone, index: int) -> bool:
    return each.before.size <= index < each.block.header.size


def _failed(path: Path, error: Exception) -> StorageFailed:
    return StorageFailed(
        "the snapshot of the ledger could not be written",
        found=f"{type(error).__name__}: {error}",
        remedy=f"look at the disk of {path}, then start the node again",
    )
