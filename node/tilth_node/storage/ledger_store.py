"""The ledger as this node keeps it: leaves, tree, rows, blocks and certificates, in SQLite.

- `apply` is one transaction (F4): leaves, tree nodes, rows, blocks and the finality certificate
  become durable together, before any receipt, event or read shows them.
- The last block of an epoch may have become final through empty blocks above it: these are no part
  of the ledger, and kept in `void` as its proof; the certificate is then of the last of them.
- A ledger that began with a snapshot lacks what came before, until it was fetched: the one line of
  `history` says from which block and leaf on everything is here. What is asked of the rest is
  Unavailable, never wrong.
- Blocks hold no second copy of their leaves: their bytes are put together when a peer asks.
- A write that fails raises StorageFailed, and the process must stop (F7).

Leaves to others: whether a block is final (replica), what its rows mean (execution).
"""

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tilth_ledger.blocks import Block, Certificate, Header, Justification
from tilth_ledger.epochs import Membership, membership_of, newest
from tilth_ledger.errors import Fatal, InvalidInput, Unavailable
from tilth_ledger.merkle import Frontier, NewNode
from tilth_ledger.reader import Reader
from tilth_ledger.rows import Row
from tilth_node.errors import StorageFailed
from tilth_node.storage import soundness
from tilth_node.storage.database import Database
from tilth_node.storage.row_tables import ROWS_SCHEMA, UPGRADES
from tilth_node.storage.stored_rows import StoredRows

VERSION = 5
SCHEMA = f"""
CREATE TABLE leaves (position INTEGER PRIMARY KEY, leaf BLOB NOT NULL);
CREATE TABLE nodes (
  level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (level, position)
) WITHOUT ROWID;
{ROWS_SCHEMA};
CREATE TABLE blocks (
  height INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  header BLOB NOT NULL,
  justification BLOB NOT NULL,
  certificate BLOB,
  void BLOB
);
CREATE INDEX blocks_by_size ON blocks (size);
CREATE TABLE accumulator (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
CREATE TABLE history (
  id INTEGER PRIMARY KEY CHECK (id = 1), height INTEGER NOT NULL, size INTEGER NOT NULL
)
"""
NO_PROOF = None, None
INSERT_NODE = "INSERT INTO nodes (level, position, hash) VALUES (?, ?, ?)"

_Proof = tuple[bytes | None, bytes | None]  # a certificate, and the blocks that it needs


@dataclass(frozen=True, slots=True)
class Tip:
    """The last final block: all that is needed to go on from it."""

    header: Header
    certificate: Certificate
    frontier: Frontier
    accumulator: bytes  # the state of the set hash over all rows


class Changes(Protocol):
    """What executing a block left behind (tilth_ledger.execution's state)."""

    @property
    def changes(self) -> Mapping[str, bytes | None]: ...

    @property
    def new_nodes(self) -> Sequence[NewNode]: ...

    @property
    def accumulator(self) -> bytes: ...


class LedgerStore:
    """One node's copy of the ledger. Reads see what is committed, and only that."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, VERSION, UPGRADES)
        self._reader = self._database.reader
        try:
            self.rows = StoredRows(self._reader)
        except (TypeError, ValueError) as error:  # values of other kinds than were written
            raise soundness.damaged(path, error) from error

    @property
    def path(self) -> Path:
        return self._database.path

    def on_damage(self, told: Callable[[StorageFailed], None]) -> None:
        """Whom to tell of a file that does not return what was written: the process must stop."""
        self._reader.on_damage = told

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction of the writer, for the modules of this folder."""
        return self._database.transaction()

    def apply(
        self,
        blocks: Iterable[tuple[Block, Changes]],
        certificate: Certificate,
        void: Sequence[Block] = (),
    ) -> None:
        """Make final blocks durable, in order; `certificate` finalizes the last one, or the last of
        the `void` ones above it."""
        blocks = list(blocks)
        rows: dict[str, bytes | None] = {}
        for _, changes in blocks:
            rows |= changes.changes
        try:
            written = self.rows.plan(rows)
            with self._database.transaction() as connection:
                for block, changes in blocks:
                    last = block is blocks[-1][0]
                    _insert_block(
                        connection, block, _proof(certificate, void) if last else NO_PROOF
                    )
                    connection.executemany(INSERT_NODE, changes.new_nodes)
                if blocks:
                    self.rows.write(connection, blocks[-1][0].header.size, written)
                    _put_accumulator(connection, blocks[-1][1].accumulator)
        except sqlite3.Error as error:
            self._database.give_up()
            raise StorageFailed(
                "the ledger could not be written",
                found=f"{type(error).__name__}: {error}",
                remedy=f"look at the disk of {self._database.path}, then start the node again",
            ) from error
        # A crash before the commit leaves the journal, which holds the blocks: they are applied
        # again at the restart. A crash after it leaves a journal that is compacted then.
        self.rows.committed(written)

    def make_room(self) -> bool:
        """Some of what makes commits quicker, when there is time; whether there is more."""
        return self._database.make_room()

    def seed(self, rows: Mapping[str, bytes], accumulator: bytes) -> None:
        """Write the rows of the genesis block into an empty store."""
        written = self.rows.plan(rows)
        with self._database.transaction() as connection:
            self.rows.write(connection, None, written)
            _put_accumulator(connection, accumulator)
        self.rows.committed(written)

    @property
    def seeded(self) -> bool:
        return self.accumulator is not None

    @property
    def accumulator(self) -> bytes | None:
        found = self._one("SELECT state FROM accumulator")
        return None if found is None else bytes(found[0])

    def tip(self) -> Tip | None:
        """Where the ledger ends; None before the first block."""
        found = self._one("SELECT header, certificate FROM blocks ORDER BY height DESC LIMIT 1")
        if found is None:
            return None
        header, certificate = Header.decode(found[0]), Certificate.decode(found[1])
        accumulator = self.accumulator
        if accumulator is None:
            raise Fatal("the ledger's file has blocks but no accumulator")
        frontier = Frontier.read(header.size, self.node)
        tip = Tip(header, certificate, frontier, accumulator)
        soundness.check_tip(self.path, tip, self.void(header.height))
        return tip

    @property
    def size(self) -> int:
        """How many leaves are final."""
        found = self._one("SELECT size FROM blocks ORDER BY height DESC LIMIT 1")
        return 0 if found is None else int(found[0])

    @property
    def history(self) -> tuple[int, int] | None:
        """The first block and the first leaf that are here, if some are missing before them."""
        found = self._one("SELECT height, size FROM history")
        return None if found is None else (int(found[0]), int(found[1]))

    def _need(self, index: int) -> None:
        """Raise Unavailable unless the leaf is here, or is none of this ledger."""
        if (held := self.history) is not None and index < held[1]:
            raise _not_yet(f"leaf {index}", held[1])

    def size_with(self, index: int) -> int:
        """The ledger's size after the block that made this leaf final."""
        self._need(index)
        found = self._one("SELECT min(size) FROM blocks WHERE size > ?", (index,))
        if found[0] is None:
            raise Fatal("no block of the ledger holds a leaf that was recorded", found=f"{index}")
        return int(found[0])

    def height_with(self, index: int) -> int:
        """The height of the block that holds a leaf."""
        found = self._one(
            "SELECT height FROM blocks WHERE size > ? ORDER BY height LIMIT 1", (index,)
        )
        if found is None:
            raise Fatal("no block of the ledger holds a leaf that was recorded", found=f"{index}")
        return int(found[0])

    def touched_after(self, size: int) -> Iterator[list[str]] | None:
        """Keys of the rows that blocks after this size put or deleted, block by block; None if it
        is too long ago to know."""
        oldest = self.rows.touched_since
        if size < self.size and (oldest is None or size < oldest):
            return None
        return self.rows.touched(size)

    def node(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree."""
        found = self._one(
            "SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)
        )
        if found is None:
            self._need(position << level)
            raise Fatal("the ledger's tree has a hole", found=f"no node {level}/{position}")
        return bytes(found[0])

    def nodes(self, level: int, start: int, count: int) -> list[bytes]:
        """The hashes of consecutive complete subtrees of a level, as many as there are."""
        found = self._reader.execute(
            "SELECT hash FROM nodes WHERE level = ? AND position >= ? AND position < ?"
            " ORDER BY position",
            (level, start, start + count),
        ).fetchall()
        if len(found) < min(count, (self.size >> level) - start):
            self._need(start << level)
        return [bytes(hashed) for (hashed,) in found]

    def header_of_size(self, size: int) -> Header | None:
        """The header of the block that made the tree this large; None if none ends there."""
        query = "SELECT header FROM blocks WHERE size = ? ORDER BY height LIMIT 1"
        found = self._one(query, (size,))
        return None if found is None else Header.decode(found[0])

    def final_of_size(self, size: int) -> tuple[Header, Certificate] | None:
        """A header whose tree is this large, with the certificate of exactly it; None if none is
        stored. At an epoch's end it may be of an empty block above the last one."""
        found = self._one(
            "SELECT header, certificate, height FROM blocks"
            " WHERE size = ? AND certificate IS NOT NULL ORDER BY height LIMIT 1",
            (size,),
        )
        if found is None:
            return None
        void = self.void(found[2])
        header = Block.decode(void[-1]).header if void else Header.decode(found[0])
        return header, Certificate.decode(found[1])

    def leaves(self, start: int, limit: int) -> list[bytes]:
        """Up to `limit` leaves from an index on, verbatim."""
        self._need(start)
        found = self._reader.execute(
            "SELECT leaf FROM leaves WHERE position >= ? ORDER BY position LIMIT ?", (start, limit)
        )
        leaves = [bytes(leaf) for (leaf,) in found.fetchall()]
        soundness.check_leaves(self.path, start, leaves, self.nodes(0, start, len(leaves)))
        return leaves

    def block(self, height: int) -> bytes | None:
        """The encoded block at a height; None if it is not here."""
        found = self._one("SELECT header, justification FROM blocks WHERE height = ?", (height,))
        if found is None or ((held := self.history) is not None and height < held[0]):
            return None
        header = Header.decode(found[0])
        reader = Reader(found[1], "justification")
        justification = Justification.read(reader)
        reader.end()
        leaves = self.leaves(header.size - header.leaf_count, header.leaf_count)
        return Block(header, tuple(leaves), justification).encode()

    def header(self, height: int) -> Header | None:
        """The header of the block at a height, or None above the last one."""
        found = self._one("SELECT header FROM blocks WHERE height = ?", (height,))
        return None if found is None else Header.decode(found[0])

    def certificate(self, height: int) -> bytes | None:
        """The finality certificate of exactly the block at a height, if it has one."""
        found = self._one("SELECT certificate FROM blocks WHERE height = ?", (height,))
        return None if found is None or found[0] is None else bytes(found[0])

    def void(self, height: int) -> tuple[bytes, ...]:
        """The encoded blocks through which the last block of an epoch became final."""
        found = self._one("SELECT void FROM blocks WHERE height = ?", (height,))
        return () if found is None or found[0] is None else read_blocks(bytes(found[0]))

    def final_with(self, index: int) -> tuple[Header, Certificate]:
        """The header, of the tree after the block of a leaf that ended an epoch, that its finality
        certificate is of; and that certificate."""
        query = (
            "SELECT header, certificate, void FROM blocks WHERE size > ? ORDER BY height LIMIT 1"
        )
        found = self._one(query, (index,))
        if found is None or found[1] is None:
            raise Fatal("no certificate of the ledger makes this leaf final", found=f"{index}")
        void = () if found[2] is None else read_blocks(bytes(found[2]))
        header = Block.decode(void[-1]).header if void else Header.decode(found[0])
        return header, Certificate.decode(found[1])

    def epoch_start(self) -> Header | None:
        """The header of the block on which the epoch in force starts; None in the first one."""
        _, epoch = newest(self.rows)
        if "index" not in epoch:
            return None
        query = "SELECT header FROM blocks WHERE size > ? ORDER BY height LIMIT 1"
        found = self._one(query, (epoch["index"],))
        if found is None:
            raise Fatal("no block of the ledger holds the leaf that began the epoch")
        return Header.decode(found[0])

    def close(self) -> None:
        self._database.close()

    def _one(self, query: str, values: Sequence[object] = ()) -> Any:
        return self._reader.execute(query, values).fetchone()


@contextmanager
def peeking(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger's file at one moment, read beside a node that may be running. Raises InvalidInput
    when another version of this software wrote it."""
    # Read-only: a second writer on one write-ahead log would checkpoint beside the node's own.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        (found,) = reader.execute("PRAGMA user_version").fetchone()
        if found != VERSION:
            raise InvalidInput(
                f"{path} is of another version of this software",
                found=f"schema {found}",
                expected=f"schema {VERSION}",
                remedy="a node brings an older file up to date when it starts",
            )
        reader.execute("BEGIN")
        yield reader


def peek(path: Path) -> Header | None:
    """The header of the last final block, read beside a node that may be running."""
    with peeking(path) as reader:
        query = "SELECT header FROM blocks ORDER BY height DESC LIMIT 1"
        found = reader.execute(query).fetchone()
    return None if found is None else Header.decode(found[0])


def peek_end(path: Path) -> tuple[Header, Certificate, Membership] | None:
    """The last final block's header and certificate, and who votes after it, read beside a node
    that may be running. Of one that ended an epoch through void blocks, the last of these: the
    certificate is its, and the tree and the rows are the same."""
    with peeking(path) as reader:
        query = "SELECT header, certificate, void FROM blocks ORDER BY height DESC LIMIT 1"
        found = reader.execute(query).fetchone()
        if found is None or found[1] is None:
            return None
        members = membership_of(StoredRows(reader))
        void = read_blocks(bytes(found[2])) if found[2] is not None else ()
        header = Block.decode(void[-1]).header if void else Header.decode(found[0])
        return header, Certificate.decode(found[1]), members


def peek_missing(path: Path) -> int:
    """How many of the first leaves are not here yet, read beside a node that may be running."""
    with peeking(path) as reader:
        found = reader.execute("SELECT size FROM history").fetchone()
    return 0 if found is None else int(found[0])


def peek_rows(path: Path, prefix: str) -> list[tuple[str, Row]]:
    """Rows under a prefix, read beside a node that may be running."""
    with peeking(path) as reader:
        return list(StoredRows(reader).scan(prefix))


def _not_yet(what: str, size: int) -> Unavailable:
    return Unavailable(
        f"{what} is not here yet: this node began with a snapshot, and fetches what came before",
        found=f"leaves from {size} on",
        remedy="ask again later, or another node",
    )


def _insert_block(connection: sqlite3.Connection, block: Block, proof: _Proof) -> None:
    header = block.header
    connection.execute(
        "INSERT INTO blocks (height, size, header, justification, certificate, void)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (header.height, header.size, header.encode(), block.justification.encode(), *proof),
    )
    first = header.size - header.leaf_count
    connection.executemany(
        "INSERT INTO leaves (position, leaf) VALUES (?, ?)", enumerate(block.leaves, first)
    )


def _proof(certificate: Certificate, void: Sequence[Block]) -> _Proof:
    """What makes the last block final: the certificate of it, or of the last `void` one."""
    return certificate.encode(), write_blocks([each.encode() for each in void]) if void else None


def _put_accumulator(connection: sqlite3.Connection, state: bytes) -> None:
    connection.execute(
        "INSERT INTO accumulator (id, state) VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        (state,),
    )


def write_blocks(blocks: Sequence[bytes]) -> bytes:
    """Encoded blocks as one: length u32 and bytes of each."""
    return b"".join(struct.pack(">I", len(block)) + block for block in blocks)


def read_blocks(data: bytes) -> tuple[bytes, ...]:
    """What `write_blocks` wrote; raises `InvalidInput`."""
    reader, blocks = Reader(data, "blocks"), []
    while reader.left:
        blocks.append(reader.take(reader.number(4)))
    return tuple(blocks)
