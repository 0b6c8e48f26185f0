"""A ledger's file as an auditor reads it: verbatim, read-only, beside a node or far from one.

- Nothing is written: neither into the file nor, where it can be helped, beside it.
- Blocks are read in pages, each a query of its own, so that a running node's checkpoint waits for
  nobody; what must belong together (the newest blocks, all rows) is read inside `still()`.
- Values come as the file holds them: a value of another type than was written is shown as bytes,
  never believed.

Leaves to others: what any of it means (tilth_ledger.audit).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tilth_ledger.audit import StoredBlock
from tilth_ledger.audit_rows import Stored
from tilth_ledger.blocks import Header
from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import Frontier, NewNode
from tilth_node.errors import StorageFailed
from tilth_node.storage.ledger_store import SCHEMA, VERSION, read_blocks
from tilth_node.storage.row_tables import ALL_KEYS, ALL_ROWS, FRESH, touched_digest

# A text as it stands, its bad bytes as backslashes: one call into C for each.
_TEXT = partial(str, encoding="utf-8", errors="backslashreplace")

BLOCKS_PER_PAGE = 64
MOST_LEAVES = 65_536  # of one block, whatever a broken file says
# Each counts what is not as it should be, in one query: of one moment beside a node that runs.
ROW_CHECKS = (
    (
        "some values of rows are named by no key, or by two",
        "SELECT (SELECT count(*) + total(id) FROM rows)"  # noqa: S608
        f" IS NOT (SELECT count(*) + total(id) FROM ({ALL_KEYS}))",
    ),
    (
        "some keys of rows are listed as merged and are not, or as another row's",
        f"SELECT count(*) FROM recent, merging WHERE NOT {FRESH}"  # noqa: S608
        " AND recent.id IS NOT (SELECT id FROM keys WHERE keys.key = recent.key)",
    ),
    (
        "some keys of rows are listed for another lap than theirs",
        f"SELECT count(*) FROM recent, merging WHERE {FRESH}"  # noqa: S608
        " AND recent.lap IS NOT merging.lap + (recent.key <= merging.place)",
    ),
    ("`merging` has not one line", "SELECT count(*) - 1 FROM merging"),
)


class LedgerCopy:
    """One ledger file. Raises InvalidInput when it cannot be opened, StorageFailed when it cannot
    be read on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _opened(path)
        self._height = self._size = 0

    def __enter__(self) -> "LedgerCopy":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    def check_whole(self) -> None:
        """Raise InvalidInput when the copy began with a snapshot and lacks blocks before it."""
        found = self._read("SELECT height, size FROM history")
        if found:
            height, size = found[0]
            raise InvalidInput(
                f"{self.path} does not hold the whole ledger yet",
                found=f"blocks from height {height} and leaves from {size} on",
                expected="everything since genesis",
                remedy="Let its node run until `tilth node status` tells of no missing past.",
            )

    def begin_at_history(self) -> tuple[int, int]:
        """Read blocks from the first one that is here; its height, and the leaves below it."""
        found = self._read("SELECT height, size FROM history")
        height, size = found[0] if found else (1, 0)
        self._height, self._size = height - 1, size
        return height, size

    @property
    def place(self) -> tuple[int, int]:
        """Height and size up to which blocks were read."""
        return self._height, self._size

    def go_on_from(self, place: tuple[int, int]) -> None:
        """Read blocks above `place`, the place of another reader of this file."""
        self._height, self._size = place

    def frontier(self, size: int) -> Frontier | None:
        """The tree of so many leaves, by its stored nodes; None when one is missing."""
        peaks: list[bytes] = []
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                found = self._read(
                    "SELECT hash FROM nodes WHERE level = ? AND position = ?",
                    *(level, (size >> level) - 1),
                )
                peaks += [_bytes(hashed) for (hashed,) in found]
        return Frontier(size, tuple(peaks)) if len(peaks) == size.bit_count() else None

    def check_schema(self) -> None:
        """Raise InvalidInput unless the file's tables are those that this release makes."""
        query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(SCHEMA)
            expected = fresh.execute(query).fetchall()
        if (found := self._read(query)) != expected:
            raise InvalidInput(
                "the file's tables are not those of a ledger",
                found="; ".join(str(each[1]) for each in found if each not in expected)[:200],
            )

    def newest(self) -> tuple[Header, bytes] | None:
        """The header of the newest block, and the set hash's state beside it; None before the first
        block. Raises InvalidInput when they can't be read."""
        found = self._read("SELECT header FROM blocks ORDER BY height DESC LIMIT 1")
        state = self._read("SELECT state FROM accumulator")
        if not found:
            return None
        return Header.decode(_bytes(found[0][0])), _bytes(state[0][0]) if state else b""

    def counts(self) -> tuple[int, int]:
        """About how many rows there are, and how many leaves, from their newest numbers."""
        query = "SELECT coalesce(max(id), 0), (SELECT coalesce(max(size), 0) FROM blocks) FROM rows"
        ((rows, leaves),) = self._read(query)
        whole = isinstance(rows, int) and isinstance(leaves, int)
        return (rows, leaves) if whole else (0, 0)

    def height(self) -> int:
        """The height of the newest block now."""
        ((found,),) = self._read("SELECT coalesce(max(height), 0) FROM blocks")
        return int(found)

    def more_blocks(self) -> Iterator[StoredBlock]:
        """Blocks above those that were read before."""
        query = (
            "SELECT height, size, header, justification, certificate, void FROM blocks"
            " WHERE height > ? ORDER BY height LIMIT ?"
        )
        while page := self._read(query, self._height, BLOCKS_PER_PAGE):
            for row in page:
                yield self._block(*row)

    def _block(
        self,
        height: int,
        size: object,
        header: object,
        why: object,
        certificate: object,
        void: object,
    ) -> StoredBlock:
        start, end = self._size, size if isinstance(size, int) else self._size
        leaves = self._read(
            "SELECT leaf FROM leaves WHERE position >= ? AND position < ? ORDER BY position"
            " LIMIT ?",
            *(start, end, MOST_LEAVES),
        )
        self._height, self._size = height, max(start, min(end, start + MOST_LEAVES))
        return StoredBlock(
            height,
            end,
            _bytes(header),
            _bytes(why),
            tuple(_bytes(leaf) for (leaf,) in leaves),
            None if certificate is None else _bytes(certificate),
            tuple(self._nodes(start, self._size)),
            () if void is None else _void(_bytes(void)),
        )

    def _nodes(self, start: int, end: int) -> Iterator[NewNode]:
        """The complete subtrees that leaves [start, end) completed."""
        level = 0
        while start >> level < end >> level:
            found = self._read(
                "SELECT position, hash FROM nodes WHERE level = ? AND position >= ?"
                " AND position < ?",
                *(level, start >> level, end >> level),
            )
            yield from ((level, position, _bytes(hashed)) for position, hashed in found)
            level += 1

    @contextmanager
    def still(self) -> Iterator[None]:
        """Everything read inside is of one moment, whatever a node writes meanwhile."""
        self._read("BEGIN")
        try:
            yield
        finally:
            self._reader.rollback()

    def beside(self) -> Stored:
        """What is stored beside the blocks."""
        ((leaves,),) = self._read("SELECT count(*) FROM leaves")
        ((nodes,),) = self._read("SELECT count(*) FROM nodes")
        accumulator = self._read("SELECT state FROM accumulator")
        state = _bytes(accumulator[0][0]) if accumulator else None
        return Stored(self.rows(), state, leaves, nodes)

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Every row, as it is stored."""
        try:
            for key, value in self._reader.execute(ALL_ROWS):
                whole = type(key) is str and type(value) is bytes
                yield (key, value) if whole else (str(key), _bytes(value))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def row(self, key: str) -> bytes | None:
        """One row's value, as it is stored."""
        found = self._read(f"{ALL_ROWS} WHERE key = ?", key)
        return _bytes(found[0][1]) if found else None

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong with its pages and indexes, and what no hash covers."""
        found = [str(line) for (line,) in self._read("PRAGMA integrity_check(10)")]
        problems = [] if found == ["ok"] else found
        for words, query in ROW_CHECKS:
            ((count,),) = self._read(query)
            if count:
                problems.append(words)
        lines = self._read("SELECT size, first, last, keys, digest FROM touched")
        bad = [size for size, *rest, digest in lines if touched_digest(size, *rest) != digest]
        if bad:
            problems.append(f"what changed is not as it was written, at size {bad[0]}")
        return problems

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(query, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StorageFailed:
        return StorageFailed(
            "the ledger's file cannot be read on",
            found=f"{type(error).__name__}: {error}",
            remedy=f"look at the disk of {self.path}; the other nodes hold the same ledger",
        )


def _void(data: bytes) -> tuple[bytes, ...]:
    """The void blocks; what cannot be taken apart is handed on whole, as one unreadable block."""
    try:
        return read_blocks(data)
    except InvalidInput:
        return (data,)


def _opened(path: Path) -> sqlite3.Connection:
    """A read-only connection; on a read-only disk without a write-ahead log, one that asks for no
    lock."""
    refusal: Exception | None = None
    for options in ["mode=ro"] if _has_log(path) else ["mode=ro", "mode=ro&immutable=1"]:
        try:
            reader = sqlite3.connect(
                f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None
            )
            reader.text_factory = _TEXT
            ((version,),) = reader.execute("PRAGMA user_version").fetchall()
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except sqlite3.Error as error:
            refusal = error
            continue
        if version == VERSION:
            return reader
        reader.close()
        raise InvalidInput(
            f"{path} is of another version of this software",
            found=f"schema {version}",
            expected=f"schema {VERSION}",
        )
    raise InvalidInput(
        f"{path} cannot be opened",
        found=str(refusal),
        expected="a ledger's file, with its -wal beside it if there is one",
    )


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else f"not bytes: {value!r}".encode()
