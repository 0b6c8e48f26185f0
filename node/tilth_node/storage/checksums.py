"""A checksum at the end of each row of the worker's database: nobody else has what stands there.

- It is of the table's name and of all other values, made by SQLite itself as it writes
  (`checksum(...)` is a function of the writer's) and compared at every read.
- A row that is not as it was written ends the node, which names the file (StorageFailed).

Not seen: a row whose key was changed is missing under its right one; a sample that the ledger names
is then said to be missing, and a run is run again. A small file is looked through at every start
(desk), any by the scrub.
"""

import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

from tilth_node.errors import StorageFailed
from tilth_node.storage.database import Database
from tilth_node.storage.soundness import damaged

BYTES = 8

Value = str | bytes | int | float | None


def checksum(table: Value, *values: Value) -> bytes:
    """The checksum of a row."""
    found = sha256(str(table).encode())
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        found.update(type(value).__name__[:1].encode() + len(data).to_bytes(8) + data)
    return found.digest()[:BYTES]


def whole(database: Database, table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row's values without the checksum. Raises StorageFailed when it is not theirs."""
    if checksum(table, *row[:-1]) != row[-1]:
        failed = unlike(database.path, table, row)
        database.reader.on_damage(failed)
        raise failed
    return row[:-1]


def unlike(path: Path, table: str, row: tuple[Any, ...]) -> StorageFailed:
    """The words about a row that is not as it was written."""
    return damaged(path, f"a row of {table}, {str(row[0])[:80]}, does not have its checksum")


def problems(reader: sqlite3.Connection, schema: list[tuple[str, str]]) -> list[str]:
    """What is wrong with a file of such tables: pages, tables and rows; `schema` is what
    `schema_of` says of a new one."""
    found = [str(line) for (line,) in reader.execute("PRAGMA integrity_check(10)")]
    problems = [] if found == ["ok"] else found
    if schema_of(reader) != schema:
        return [*problems, "the file's tables are not those of this software"]
    for name, _ in schema:
        if not name.startswith("sqlite_"):
            rows = reader.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - names of our schema
            bad = [row for row in rows if checksum(name, *row[:-1]) != row[-1]]
            problems += [f"a row of {name} does not have its checksum" for _ in bad[:1]]
    return problems


def schema_of(reader: sqlite3.Connection) -> list[tuple[str, str]]:
    """Tables by name, each with the words that made it."""
    query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    return reader.execute(query).fetchall()
