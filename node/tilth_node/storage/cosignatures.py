"""Signatures on heads of the tree, in SQLite: mine before they leave, others' once verified.

- The newest head that this member signed is durable before its signature leaves, and never shrinks
  (F5): `sign` is one synced transaction and refuses a smaller size.
- Heads at agreed sizes stay for ever; of those signed in a quiet moment the newest few, the newest
  that is complete, the newest that is complete in ML-DSA-44, and the newest that somebody outside
  cosigned: each covers all leaves before it.
- Two roots of one size are never both stored; a signature on another root is kept apart, as proof.

Leaves to others: verifying signatures (tilth_ledger.cosigning), when to sign (cosigning).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tilth_ledger.cosigning import OUTSIDE, Head, Signatures
from tilth_ledger.errors import Fatal
from tilth_ledger.notes import COSIGNATURE, MLDSA_COSIGNATURE
from tilth_node.errors import StorageFailed
from tilth_node.storage.database import Database

VERSION = 1
SCHEMA = """
CREATE TABLE heads (
  size INTEGER PRIMARY KEY, root BLOB NOT NULL, epoch INTEGER NOT NULL, agreed INTEGER NOT NULL
);
CREATE INDEX quiet_heads ON heads (size) WHERE agreed = 0;
CREATE TABLE signatures (
  size INTEGER NOT NULL, organization TEXT NOT NULL, type INTEGER NOT NULL,
  signature BLOB NOT NULL,
  PRIMARY KEY (size, organization, type)
) WITHOUT ROWID;
CREATE TABLE newest (
  id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, root BLOB NOT NULL
);
CREATE TABLE conflicts (
  organization TEXT NOT NULL, size INTEGER NOT NULL, message BLOB NOT NULL,
  PRIMARY KEY (organization, size)
) WITHOUT ROWID
"""
KEPT_QUIET_HEADS = 8
MAX_CONFLICTS = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """A head with the signatures on it that are stored, all verified."""

    head: Head
    signatures: Signatures

    @property
    def cosigned(self) -> int:
        """By how many members, with Ed25519."""
        return self.count(COSIGNATURE)

    def count(self, wanted: int) -> int:
        """How many signatures of a type are stored."""
        return sum(kind == wanted for _, kind in self.signatures)


class CosignatureStore:
    """One node's record of heads and of who signed them."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, VERSION)
        self._reader = self._database.reader
        # Told of a write that failed, whoever wanted it: the process must stop (F7).
        self.on_failure: Callable[[StorageFailed], None] = lambda failed: None

    @property
    def newest(self) -> tuple[int, bytes]:
        """Size and root of the newest head that this member signed; size 0 before the first."""
        found = self._reader.execute("SELECT size, root FROM newest").fetchone()
        return (0, b"") if found is None else (int(found[0]), bytes(found[1]))

    def sign(self, head: Head, mine: Signatures, *, agreed: bool) -> None:
        """Record my signatures on a head, newest from now on, before they leave."""
        with self._writing() as connection:
            size, root = self.newest
            if (head.size, head.root) != (size, root) and head.size <= size:
                raise Fatal(
                    "a head was about to be signed beside a newer one",
                    found=f"size {head.size} after {size}",
                    remedy="Keep the folder and report this.",
                )
            _put(connection, head, mine, agreed)
            connection.execute(
                "INSERT INTO newest VALUES (1, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root",
                (head.size, head.root),
            )
        # A crash before this left no signature; a crash after it leaves one that nobody has seen:
        # it is told again on the next connection.

    def add(
        self, head: Head, theirs: Signatures, *, agreed: bool, k: int, synced: bool = True
    ) -> None:
        """Keep verified signatures of others; `k` completes a head. Those that are not `synced`
        hold after a crash of this process, and a power cut may take them."""
        with self._writing(synced=synced) as connection:
            _put(connection, head, theirs, agreed)
            _forget(connection, k)

    def forget(self, size: int, organization: str, kind: int) -> None:
        """Drop a signature that the disk gives back changed: its signer is asked for it again."""
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM signatures WHERE size = ? AND organization = ? AND type = ?",
                (size, organization, kind),
            )

    def add_conflict(self, organization: str, size: int, message: bytes) -> None:
        """Keep what a member signed of another history, for ever; one for each size."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO conflicts SELECT ?, ?, ? WHERE (SELECT count(*) FROM conflicts) < ?"
                " ON CONFLICT DO NOTHING",
                (organization, size, message, MAX_CONFLICTS),
            )

    def conflicts(self) -> list[tuple[str, int, bytes]]:
        """Whose signatures on which sizes contradict the ledger, with the message that did."""
        found = self._reader.execute("SELECT organization, size, message FROM conflicts")
        return [(name, size, bytes(message)) for name, size, message in found.fetchall()]

    def held(self, size: int) -> Held | None:
        """The head of a size, if any signature on it is stored."""
        query = "SELECT size, root, epoch FROM heads WHERE size = ?"
        found = self._reader.execute(query, (size,)).fetchone()
        return None if found is None else self._with_signatures(found)

    def newest_first(self, limit: int = 64) -> Iterator[Held]:
        """Stored heads from the newest on."""
        query = "SELECT size, root, epoch FROM heads ORDER BY size DESC LIMIT ?"
        for found in self._reader.execute(query, (limit,)).fetchall():
            yield self._with_signatures(found)

    def counts(self, kind: int) -> Iterator[tuple[int, int, int]]:
        """Size, epoch and number of signatures of a type, of all heads from the newest on."""
        query = (
            "SELECT size, epoch, count(*) FROM signatures JOIN heads USING (size) WHERE type = ?"
            " GROUP BY size ORDER BY size DESC"
        )
        yield from self._reader.execute(query, (kind,))

    def close(self) -> None:
        self._database.close()

    def _with_signatures(self, found: tuple[int, bytes, int]) -> Held:
        size, root, epoch = found
        query = "SELECT organization, type, signature FROM signatures WHERE size = ?"
        signatures = {
            (name, kind): bytes(signature)
            for name, kind, signature in self._reader.execute(query, (size,)).fetchall()
        }
        return Held(Head(size, bytes(root), epoch), signatures)

    @contextmanager
    def _writing(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.transaction(synced=synced) as connection:
                yield connection
        except sqlite3.Error as error:
            self._database.give_up()
            failed = StorageFailed(
                "cosignatures could not be written",
                found=f"{type(error).__name__}: {error}",
                remedy=f"look at the disk of {self._database.path}, then start the node again",
            )
            self.on_failure(failed)
            raise failed from error


def _put(connection: sqlite3.Connection, head: Head, signatures: Signatures, agreed: bool) -> None:
    connection.execute(
        "INSERT INTO heads VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (head.size, head.root, head.epoch, agreed),
    )
    (root,) = connection.execute("SELECT root FROM heads WHERE size = ?", (head.size,)).fetchone()
    if bytes(root) != head.root:
        raise Fatal(
            "two roots of one size were about to be stored",
            found=f"size {head.size}: {head.root.hex()}",
            expected=bytes(root).hex(),
            remedy="Keep the folder and run: tilth audit FOLDER",
        )
    connection.executemany(
        "INSERT INTO signatures VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(head.size, name, kind, data) for (name, kind), data in signatures.items()],
    )


def _forget(connection: sqlite3.Connection, k: int) -> None:
    """Heads of quiet moments that newer ones replace."""
    query = "SELECT size FROM heads WHERE agreed = 0 ORDER BY size DESC LIMIT -1 OFFSET ?"
    old = connection.execute(query, (KEPT_QUIET_HEADS,)).fetchall()
    if not old:
        return
    query = (
        "SELECT size FROM signatures WHERE type = ? GROUP BY size HAVING count(*) >= ?"
        " ORDER BY size DESC LIMIT 1"
    )
    least = {COSIGNATURE: k, MLDSA_COSIGNATURE: k}
    least |= {COSIGNATURE | OUTSIDE: 1, MLDSA_COSIGNATURE | OUTSIDE: 1}
    kept = [connection.execute(query, each).fetchone() for each in least.items()]
    gone = [each for each in old if each not in kept]
    connection.executemany("DELETE FROM heads WHERE size = ?", gone)
    connection.executemany("DELETE FROM signatures WHERE size = ?", gone)
