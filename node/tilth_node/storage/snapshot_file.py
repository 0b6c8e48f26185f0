"""A ledger's file that begins in the middle: filled beside the old one, put in its place whole.

- While rows come in, the file is `ledger.joining`: a crash leaves it, and the next start removes
  it. It costs no syncs; it is durable before it gets its next name.
- `ledger.snapshot` is a whole one whose rows gave the digest of a certified header. `adopt`, at the
  next start, makes it the ledger: the old log goes first, since SQLite would write it into the new
  file. A crash at any point in between is finished by the next start.

Leaves to others: what comes in (tilth_node.joining), serving rows (`rows_of`: read in one
transaction, so that they are of one block).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tilth_ledger.epochs import newest
from tilth_ledger.errors import InvalidInput
from tilth_ledger.snapshots import Milestone, Offer, grown
from tilth_node.errors import StorageFailed
from tilth_node.folder import sync_folder
from tilth_node.storage.ledger_store import (
    INSERT_NODE,
    SCHEMA,
    VERSION,
    write_blocks,
)
from tilth_node.storage.row_tables import ALL_ROWS
from tilth_node.storage.stored_rows import StoredRows

CACHE_KIB = 32_768  # of a file that is being filled
PAGE_BYTES = 256 << 10
READ_ROWS = 128
LOGS = ("-wal", "-shm")


def rows_of(path: Path, size: int) -> Iterator[list[tuple[str, bytes]]]:
    """All rows of the ledger of so many leaves, in pages, beside the node that writes it.

    Begun at once, they are of the newest block at that time; raises InvalidInput when that is
    another. The log grows as long as they are read.
    """
    reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    found = reader.execute("SELECT max(size) FROM blocks").fetchone()[0] or 0
    if found != size:
        reader.close()
        raise InvalidInput("the ledger has grown meanwhile", found=found, expected=size)
    return _pages(reader)


def _pages(reader: sqlite3.Connection) -> Iterator[list[tuple[str, bytes]]]:
    with closing(reader):
        rows = reader.execute(ALL_ROWS)
        page: list[tuple[str, bytes]] = []
        size = 0
        while some := rows.fetchmany(READ_ROWS):
            page += some
            size += sum(len(key) + len(value) for key, value in some)
            if size >= PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page


def bounds_of(path: Path) -> tuple[int, int]:
    """How many rows, and bytes in them, a ledger's file holds at most; found without a scan."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        (rows,) = reader.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
        (pages,) = reader.execute("PRAGMA page_count").fetchone()
        (page,) = reader.execute("PRAGMA page_size").fetchone()
    return int(rows), int(pages) * int(page)


class SnapshotFile:
    """A ledger's file that is being filled."""

    def __init__(self, draft: Path, whole: Path) -> None:
        self._draft, self._whole = draft, whole
        self._count = 0
        try:
            discard(draft)
            # Neither syncs nor a rollback: nothing of a draft is worth keeping by itself.
            self._connection = sqlite3.connect(draft, isolation_level=None)
            self._connection.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                f"PRAGMA cache_size = -{CACHE_KIB};"
                f"{SCHEMA}; PRAGMA user_version = {VERSION:d}; BEGIN"
            )
        except (sqlite3.Error, OSError) as error:
            raise _failed(draft, error) from error

    def add(self, rows: list[tuple[str, bytes]]) -> None:
        """Rows as they come. Raises InvalidInput when one comes twice."""
        try:
            values, keys = [], []
            for number, (key, value) in enumerate(rows, self._count + 1):
                values.append((number, value))
                keys.append((key, number))
            self._connection.executemany("INSERT INTO rows (id, value) VALUES (?, ?)", values)
            self._connection.executemany("INSERT INTO keys (key, id) VALUES (?, ?)", keys)
            self._count += len(rows)
        except sqlite3.IntegrityError as error:
            raise InvalidInput("a row comes twice", found=str(error)) from error
        except sqlite3.Error as error:
            raise _failed(self._draft, error) from error

    def finish(self, offer: Offer, accumulator: bytes) -> None:
        """Make the file whole and durable, under the name by which the next start finds it."""
        try:
            self._put(offer, accumulator)
            self._connection.execute("COMMIT")
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
        """Let go of the file."""
        self._connection.close()

    def _put(self, offer: Offer, accumulator: bytes) -> None:
        tip, connection = offer.tip, self._connection
        header = tip.block.header
        connection.execute("INSERT INTO accumulator VALUES (1, ?)", (accumulator,))
        connection.execute("UPDATE merging SET done = ?, last = ?", (self._count, self._count))
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
    discard(draft)
    if not whole.exists():
        return False
    for log in LOGS:
        ledger.with_name(ledger.name + log).unlink(missing_ok=True)
    sync_folder(ledger.parent)
    # A crash before the rename leaves the old ledger without its log, and the snapshot: it is taken
    # at the next start.
    whole.replace(ledger)
    sync_folder(ledger.parent)
    return True


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
