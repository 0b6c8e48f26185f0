"""The journal's file: records appended with one sync, or replaced as a whole.

- `append` returns when the bytes are durable; nothing that they promise may leave the node before.
- `replace` makes a new file, syncs it, renames it over the old one and syncs the folder (F6).
- Any error is StorageFailed: after a failed sync nobody knows what is on disk, so nothing is tried
  again (F7).
- A torn tail is cut off before the first append; a bad record with a good one behind it raises
  Fatal.

Leaves to others: what records say and how they are framed (tilth_ledger.journal_records), when they
are written (replica).
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tilth_ledger.errors import Fatal
from tilth_ledger.journal_records import Journal, Promised, frame, read_journal
from tilth_node.errors import StorageFailed
from tilth_node.folder import SECRET, write_file

NAME = "votes"


def begin(folder: Path) -> None:
    """The first record, written where the keys are born: they have signed nothing. A folder into
    which keys alone were restored has none, and asks every member what it signed before."""
    folder.mkdir(mode=0o700, exist_ok=True)
    write_file(folder / NAME, frame([Promised(0, 0, 0).encode()], 0), SECRET)


class JournalFile:
    """The one open journal of a node."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if not self._path.exists():
                write_file(self._path, b"", SECRET)
            data = self._path.read_bytes()
            found = self._read(data)
            self.cut_bytes = len(data) - found.good_bytes
            """At its end, of no record: torn by a crash, or damaged."""
            self.records = found.bodies
            """The bodies found at opening, oldest first."""
            self._next = found.sequence
            self._descriptor = self._open()
            os.ftruncate(self._descriptor, found.good_bytes)
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error

    def _read(self, data: bytes) -> Journal:
        try:
            return read_journal(data)
        except Fatal as error:
            raise StorageFailed(
                f"{self._path} is damaged, so this node does not start and does not vote",
                found=error.found,
                expected=error.expected,
                remedy="Keep it; run: tilth node scrub FOLDER, which says what to do",
            ) from error

    def append(self, bodies: Sequence[bytes]) -> None:
        """Make records durable behind the others, with one sync."""
        if not bodies:
            return
        try:
            _write(self._descriptor, frame(bodies, self._next))
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        self._next += len(bodies)

    def replace(self, bodies: Sequence[bytes]) -> None:
        """Make these records the whole journal."""
        try:
            write_file(self._path, frame(bodies, 0), SECRET)
            # A crash before the rename leaves the old journal, which holds as much and more.
            os.close(self._descriptor)
            self._descriptor = self._open()
        except OSError as error:
            raise self._failed(error) from error
        self._next = len(bodies)

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _failed(self, error: OSError) -> StorageFailed:
        return StorageFailed(
            "the journal of votes could not be read or written",
            found=f"{self._path}: {error.strerror}",
            remedy="look at the disk, then start the node again",
        )


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
