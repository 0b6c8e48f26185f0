"""Is a database what this node wrote? Damage in words: which file it is, and what to run.

- SQLite notices a page that makes no sense, and nothing else: pages have no checksums. What hashes
  cover is compared with them when it is read: leaves with the tree's nodes, the end of the ledger
  with its certificate, its root and the digest of its rows.
- A reader's error of that kind is StorageFailed with the file's name and the remedy, and
  `on_damage` is told, so that a node ends whoever asked.

Not seen here: one row that was changed in a way that leaves sense. The scrub reads all rows and
compares them with the certified digest; a small ledger is scrubbed whole at every start.

Leaves to others: looking at everything (tilth_node.scrubbing), repair (tilth_node.scrub_part).
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.errors import InvalidInput, TilthError
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier, leaf_hash
from tilth_ledger.rows import Row, parse_row
from tilth_node.errors import StorageFailed

# An error of a query itself too: all are written here, so the file's tables are not what they were.
DAMAGE = frozenset(
    (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR)
)

_REMEDIES = {
    "ledger.db": (
        "Stop the node, move {path} (with its -wal and -shm) out of the folder, leave journal/"
        " where it is, and start the node: it gets the ledger from the others; where there are"
        " none, restore it from a copy. What is damaged: tilth node scrub {folder}. Look at the"
        " disk."
    ),
    "cosignatures.db": (
        "Stop the node, move {path} (with its -wal and -shm) out of the folder, and start the node:"
        " it signs the newest head again and asks the others for theirs. Look at the disk."
    ),
    "worker.db": (
        "Stop the node and restore {path} from its backup: it holds salts that nobody else has"
        " (The folder, in node/README.md). Look at the disk."
    ),
}


def remedy_of(path: Path) -> str:
    """What to do about a damaged database."""
    words = _REMEDIES.get(path.name, "Restore {path} from its backup. Look at the disk.")
    return words.format(path=path, folder=path.parent)


def damaged(path: Path, found: object, expected: object = "what this node wrote") -> StorageFailed:
    """The error that names a file and what to run."""
    return StorageFailed(
        f"{path} is damaged", found=found, expected=expected, remedy=remedy_of(path)
    )


def is_damage(error: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    """Whether an error says that the file is not what was written, or cannot be read."""
    code = getattr(error, "sqlite_errorcode", None)  # none: a text that is none
    return code is None or code & 0xFF in DAMAGE


class Reading(sqlite3.Connection):
    """A reader whose errors name the file."""

    path: Path
    on_damage: Callable[[StorageFailed], None] = staticmethod(lambda failed: None)

    def execute(self, *words: Any) -> "_Cursor":
        """As that of sqlite3."""
        return self.cursor(_Cursor).execute(*words)

    def failed(self, error: sqlite3.DatabaseError | UnicodeDecodeError) -> Exception:
        """What to raise instead of an error of SQLite."""
        if not is_damage(error):
            return error
        failed = damaged(self.path, f"{type(error).__name__}: {error}")
        self.on_damage(failed)
        return failed


class _Cursor(sqlite3.Cursor):
    connection: Reading

    def execute(self, *words: Any) -> "_Cursor":
        try:
            super().execute(*words)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self.connection.failed(error) from error
        return self

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self.connection.failed(error) from error

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self.connection.failed(error) from error


def parsed(reader: sqlite3.Connection, key: str, value: bytes) -> Row:
    """The row of a stored value."""
    try:
        return parse_row(value)
    except (InvalidInput, ValueError) as error:
        if not isinstance(reader, Reading):
            raise
        failed = damaged(reader.path, f"row {key}: {error}")
        reader.on_damage(failed)
        raise failed from error


class Ended(Protocol):
    """Where a ledger ends (ledger_store.Tip)."""

    @property
    def header(self) -> Header: ...

    @property
    def certificate(self) -> Certificate: ...

    @property
    def frontier(self) -> Frontier: ...

    @property
    def accumulator(self) -> bytes: ...


def check_tip(path: Path, tip: Ended, void: Sequence[bytes]) -> None:
    """The last header is the certified one, tree and set hash are those that it states."""
    header, final = tip.header, tip.certificate.block
    last = header.hash
    for data in void:
        above = Block.decode(data).header
        last = above.hash if above.parent == last else b""
    if last != final:
        raise damaged(path, f"last block {last.hex()}", f"{final.hex()}, as certified")
    if tip.frontier.root() != header.root:
        raise damaged(path, f"root {tip.frontier.root().hex()}", header.root.hex())
    try:
        digest = LtHash.from_state(tip.accumulator).digest()
    except TilthError as error:
        raise damaged(path, f"set hash: {error}") from error
    if digest != header.state:
        raise damaged(path, f"digest of the rows {digest.hex()}", header.state.hex())


def check_leaves(path: Path, start: int, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> None:
    """Leaves are those that the tree was made of."""
    found = [leaf_hash(leaf) for leaf in leaves]
    if found != list(hashes):
        same = [a == b for a, b in zip(found, hashes, strict=False)]
        index = start + (same.index(False) if False in same else len(same))
        raise damaged(path, f"another leaf {index} than its hash in the tree says")
