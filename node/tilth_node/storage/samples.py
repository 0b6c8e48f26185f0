"""The samples that this node holds: where their bytes lie, what they were, and their secrets.

Invariants
- Salts and the tag secret never leave this table: from the ledger alone nobody can test whether
  some bytes are a sample of this organization (rule D3).
- A sample is written once; its label and its bytes never change (rule D1). What can be dropped
  is only a sample that the ledger never heard of.
- Copied samples are read-only files under `folder`; in-place ones stay where the operator has
  them. Both can be checked cheaply (metadata) and fully (hash), rule D2.

Leaves to others: importing (`tilth_node.worker.data`), trees that tasks see
(`tilth_node.storage.sets`).
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import TreeEntry, tree_digest
from tilth_node.storage import walk
from tilth_node.storage.checksums import whole
from tilth_node.storage.database import Database
from tilth_node.storage.walk import Listed, Seen

SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    root TEXT NOT NULL,
    single INTEGER NOT NULL,
    in_place INTEGER NOT NULL,
    digest TEXT NOT NULL,
    tag TEXT NOT NULL UNIQUE,
    salt BLOB NOT NULL,
    files TEXT NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID;
"""
_VALUES = ", ".join(f"?{number}" for number in range(1, 11))
INSERT = f"INSERT INTO samples VALUES ({_VALUES}, checksum('samples', {_VALUES}))"  # noqa: S608
SALT_BYTES = 32
METADATA, HASHED = "metadata", "hashed"


class DataChanged(InvalidInput):
    """A sample's bytes are not what was registered: the task that wants them fails (rule D2)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: `root` is the folder that its files' paths are relative to; `single` means
    that of `root` only that one file belongs to it."""

    key: str
    name: str
    label: str
    root: Path
    single: bool
    in_place: bool
    digest: str
    tag: str
    salt: bytes
    files: tuple[Seen, ...]

    @property
    def commitment(self) -> str:
        """What the ledger holds instead of the digest."""
        return hashlib.sha256(b"tilth-sample-1\n" + self.salt + self.digest.encode()).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(seen.entry.size for seen in self.files)


class Samples:
    """The samples table of the worker's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def secret(self, fresh: bytes) -> bytes:
        """The organization's tag secret; `fresh` becomes it when there is none yet."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO secret VALUES ('tag', ?1, checksum('secret', 'tag', ?1))",
                (fresh,),
            )
            row = connection.execute("SELECT * FROM secret WHERE name = 'tag'").fetchone()
        return bytes(whole(self._database, "secret", row)[1])

    def add(self, samples: list[Sample]) -> None:
        """Keep new samples, all or none. A crash before leaves copied files that nothing names."""
        rows = [_to_row(sample) for sample in samples]
        with self._database.transaction() as connection:
            connection.executemany(INSERT, rows)

    def get(self, key: str) -> Sample | None:
        row = self._database.reader.execute(
            "SELECT * FROM samples WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else self._sample(row)

    def with_tag(self, tag: str) -> Sample | None:
        """The sample with the same bytes, if there is one."""
        row = self._database.reader.execute(
            "SELECT * FROM samples WHERE tag = ?", (tag,)
        ).fetchone()
        return None if row is None else self._sample(row)

    def forget(self, key: str) -> None:
        """Drop a sample that the ledger never heard of."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM samples WHERE key = ?", (key,))

    def keys(self) -> list[str]:
        rows = self._database.reader.execute("SELECT key FROM samples ORDER BY key")
        return [key for (key,) in rows]

    def _sample(self, row: tuple[Any, ...]) -> Sample:
        return of_row(*whole(self._database, "samples", row))


def duplicate_tag(secret: bytes, files: tuple[Seen, ...]) -> str:
    """HMAC of the content (rule D4): of the files' digests, so that another name for the same
    bytes does not make another sample."""
    content = "\n".join(sorted(seen.entry.digest for seen in files))
    return hmac.new(secret, b"tilth-tag-1\n" + content.encode(), "sha256").hexdigest()


def check_metadata(sample: Sample) -> None:
    """Look at each file without reading it; raises DataChanged (rule D2's cheap check)."""
    found = {item.path: item for item in _present(sample)}
    for seen in sample.files:
        item = found.pop(seen.entry.path, None)
        if item is None:
            raise _changed(sample, seen.entry.path, "missing")
        if (item.size, item.mtime_ns, item.inode) != (
            seen.entry.size,
            seen.mtime_ns,
            seen.inode,
        ):
            raise _changed(sample, seen.entry.path, "other size, time or inode")
    if found:
        raise _changed(sample, min(found), "a file that was not registered")


def check_hash(sample: Sample) -> None:
    """Read and hash every byte; raises DataChanged (rule D2's full check)."""
    listed = _present(sample)
    entries = [walk.hash_file(sample.root, item).entry for item in listed]
    if tree_digest(entries) != sample.digest:
        changed = {seen.entry for seen in sample.files} ^ set(entries)
        raise _changed(sample, min(entry.path for entry in changed), "other bytes")


def _present(sample: Sample) -> list[Listed]:
    """The files that are there now; of a single-file sample only that one is looked at."""
    first = sample.files[0].entry.path
    try:
        return walk.listing(sample.root / first if sample.single else sample.root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _changed(sample, first, "missing") from error
    except InvalidInput as error:
        raise _changed(sample, first, str(error)) from error


def _changed(sample: Sample, path: str, found: str) -> DataChanged:
    return DataChanged(
        f"sample {sample.key} ({sample.name}) is not what was registered",
        found=f"{path}: {found}",
        expected="the bytes of its import",
        remedy="restore the files, or withdraw the sample and import it again",
    )


def _to_row(sample: Sample) -> tuple[object, ...]:
    files = [
        [s.entry.path, s.entry.executable, s.entry.size, s.entry.digest, s.mtime_ns, s.inode]
        for s in sample.files
    ]
    return (
        sample.key,
        sample.name,
        sample.label,
        str(sample.root),
        int(sample.single),
        int(sample.in_place),
        sample.digest,
        sample.tag,
        sample.salt,
        json.dumps(files),
    )


def of_row(
    key: str,
    name: str,
    label: str,
    root: str,
    single: int,
    in_place: int,
    digest: str,
    tag: str,
    salt: bytes,
    files: str,
) -> Sample:
    seen = tuple(
        Seen(TreeEntry(path, bool(executable), size, content), mtime, inode)
        for path, executable, size, content, mtime, inode in json.loads(files)
    )
    return Sample(
        key, name, label, Path(root), bool(single), bool(in_place), digest, tag, bytes(salt), seen
    )
