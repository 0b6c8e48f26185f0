"""The journal's file: records appended with one sync, or replaced as a whole.

- `append` returns when the bytes are durable; nothing that they promise may leave the node before.
- `note` writes one behind them that no sync waits for: it marks that all before it was synced.
- `replace` makes a new file, syncs it, renames it over the old one and syncs the folder (F6).
- The file is longer than its records: zeros are written behind them, `STEP_BYTES` at a time and
  under the sync of the batch that came to their end, so that all other syncs change no size and
  wait for no journal of the file system (a third of their time where three nodes share a disk). A
  closed journal has none. The last 256 KB of a full disk are lost to this, and no record: a step
  that fails is an error as any other.
- Any error is StorageFailed: after a failed sync nobody knows what is on disk, so nothing is tried
  again (F7).
- A torn tail is cut off before the first append; so is a damaged one, and `damaged` says that
  votes may be lost with it. A bad record with a mark behind it stops the node.

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
STEP_BYTES = 256 << 10
PAGE_BYTES = 4096  # written one by one: what the kernel keeps as one large page costs more to sync


def begin(folder: Path) -> None:
    """The first record, written where the keys are born: they have signed nothing. A folder into
    which keys alone were restored has none, and asks every member what it signed before."""
    folder.mkdir(mode=0o700, exist_ok=True)
    write_file(folder / NAME, frame([Promised(0, 0, 0).encode()], 0), SECRET)


class JournalFile:
    """The one open journal of a node."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._broken = False
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self.missing = not self.path.exists()
            if self.missing:
                write_file(self.path, b"", SECRET)
            data = self.path.read_bytes()
            found = read(self.path, data)
            self.cut_bytes = found.bad_bytes
            """At its end, of no record: torn by a crash, or damaged."""
            self.damaged = found.damaged
            self.records = found.bodies
            """The bodies found at opening, oldest first."""
            self._next = found.sequence
            self._descriptor = self._open()
            self._end = self._size = found.good_bytes
            os.ftruncate(self._descriptor, self._end)
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, bodies: Sequence[bytes]) -> None:
        """Make records durable behind the others, with one sync."""
        if not bodies:
            return
        try:
            self._write(bodies)
            if self._end > self._size:
                self._lengthen()
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error

    def note(self, body: bytes) -> None:
        """Write a record behind the others; it is durable with the next sync, or when the kernel
        gets to it."""
        try:
            self._write((body,))
        except OSError as error:
            raise self._failed(error) from error

    def promise(self, promise: bytes | None, compact: Sequence[bytes] | None) -> None:
        """Carry out what the replica says of the journal when the store holds what became final."""
        if compact is not None:
            self.replace(compact)
        elif promise is not None:
            self.note(promise)

    def replace(self, bodies: Sequence[bytes]) -> None:
        """Make these records the whole journal."""
        try:
            data = frame(bodies, 0)
            write_file(self.path, data, SECRET)
            # A crash before the rename leaves the old journal, which holds as much and more.
            os.close(self._descriptor)
            self._descriptor = self._open()
        except OSError as error:
            raise self._failed(error) from error
        self._next, self._end, self._size = len(bodies), len(data), len(data)

    def close(self) -> None:
        """Let go of the file, without its zeros, the mark at its end synced; after an error nothing
        is tried again. Raises StorageFailed."""
        try:
            if not self._broken:
                os.ftruncate(self._descriptor, self._end)
                os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            os.close(self._descriptor)

    def _write(self, bodies: Sequence[bytes]) -> None:
        data = frame(bodies, self._next)
        _write(self._descriptor, data, self._end)
        self._next += len(bodies)
        self._end += len(data)

    def _lengthen(self) -> None:
        """Write zeros behind the records, for the next ones to be written over."""
        at, self._size = self._end, (self._end // STEP_BYTES + 1) * STEP_BYTES
        while at < self._size:
            border = at + PAGE_BYTES - at % PAGE_BYTES
            _write(self._descriptor, bytes(border - at), at)
            at = border

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)

    def _failed(self, error: OSError) -> StorageFailed:
        self._broken = True
        return StorageFailed(
            "the journal of votes could not be read or written",
            found=f"{self.path}: {error.strerror}",
            remedy="look at the disk, then start the node again",
        )


def read(path: Path, data: bytes) -> Journal:
    """The journal that these bytes of a file are. Raises StorageFailed, which names the file, when
    it is damaged in its middle."""
    try:
        return read_journal(data)
    except Fatal as error:
        raise StorageFailed(
            f"{path} is damaged, so this node does not start and does not vote",
            found=error.found,
            expected=error.expected,
            remedy=remedy_of(path),
        ) from error


def remedy_of(path: Path) -> str:
    """What to do about a damaged journal."""
    folder = path.parent.parent
    return (
        f"Run: tilth node scrub {folder}. Then move {path} out of the folder, keep it, and start"
        " the node: it votes when every other member has shown what it holds of it, or after tilth"
        " member rotate. Look at the disk."
    )


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
