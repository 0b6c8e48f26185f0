"""The vault: a node's blobs, each a read-only file named by the SHA-256 of its bytes.

Invariants
- A file under its final name is complete and durable: bytes are synced before the rename, the
  folder after it. What a crash leaves lies in `partial/` and is resumed or swept, never read.
- Nothing is stored under a digest that its bytes do not have.
- A floor of free space is kept, so that tasks never starve the ledger on the same disk; what
  writers under way have still to write counts as used.
- Bounded: a writer states the size beforehand and cannot exceed it.
- Bytes that are no longer those of their name are set aside in `damaged/` when somebody looks
  (`sound`), so that a fetch brings them again; they stay there until it has.
- What somebody holds is not removed: an output that the ledger does not name yet may have the same
  bytes as one that nobody needs any more.

Leaves to others: who may read a blob (rule P6, `tilth_ledger.permissions`), where to fetch one
(`tilth_node.worker.blobs`), when one is no longer needed (`tilth_node.worker.residue`).
All calls block; callers on the event loop hand large ones to a thread.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock

from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_node.folder import sync_folder

CHUNK_BYTES = 1 << 20
UNSYNCED_BYTES = 8 << 20  # of a blob on its way in
FLOOR_BYTES = 512 << 20
DAMAGED = "damaged"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class NoSpace(Unavailable):
    """The disk is full, or the rest is kept for the ledger."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob: `digest` SHA-256 hex, `size` in bytes."""

    digest: str
    size: int


class Shelf:
    """Blobs under `folder`, only read: what a look beside a running node may do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob lies if it is here; raises InvalidInput on a malformed digest."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(
                "not a digest", found=repr(digest)[:80], expected="64 lower-case hex digits"
            )
        return self._folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int | None:
        """Bytes of the blob, None when it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, offset: int = 0, chunk: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces; raises FileNotFoundError when not here."""
        with self.path(digest).open("rb", buffering=0) as file:
            file.seek(offset)
            while piece := file.read(chunk):
                yield piece

    def load(self, digest: str) -> bytes:
        """All bytes of a small blob; raises FileNotFoundError when not here."""
        return self.path(digest).read_bytes()

    def found(self, digest: str, pace: Callable[[], None] = lambda: None) -> str:
        """The digest that its bytes really have, read from the disk as far as the system can tell;
        raises FileNotFoundError when not here. `pace` is called after each piece."""
        hashed = hashlib.sha256()
        with self.path(digest).open("rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                hashed.update(piece)
                pace()
        return hashed.hexdigest()

    def digests(self) -> Iterator[str]:
        """Every blob that is here."""
        for folder in self._folder.glob("[0-9a-f][0-9a-f]"):
            yield from (path.name for path in folder.iterdir())

    def damaged(self) -> Iterator[Path]:
        """Files that were set aside."""
        yield from (self._folder / DAMAGED).glob("*")


class Vault(Shelf):
    """Blobs under `folder`; keeps `floor_bytes` of its file system free."""

    def __init__(self, folder: Path, *, floor_bytes: int = FLOOR_BYTES) -> None:
        super().__init__(folder)
        self._partial = folder / "partial"
        self._floor = floor_bytes
        self._numbers = count()
        self._writing: set[str] = set()
        self._promised = 0
        self._held: dict[str, set[str]] = {}  # who holds -> digests
        self._lock = Lock()  # of the two above: large blobs and outputs come in threads
        self._partial.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def write(self, data: bytes, *, holder: str = "") -> Blob:
        """Store bytes held in memory; `holder` keeps them until it lets go."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.hold(digest, holder):
            # All of it is at hand: nothing of what a crash left is worth going on from.
            with self.writer(digest, len(data), resume=False) as writer:
                writer.write(data)
                writer.finish()
        return Blob(digest, len(data))

    def adopt(self, file: Path, *, max_bytes: int, holder: str = "") -> Blob:
        """Move in a file that a runtime collected on the same disk: hashed, never copied.
        `holder` keeps it until it lets go.

        Nobody else may hold it open. Raises InvalidInput when it is not a regular file or larger
        than `max_bytes`."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(file, flags), "r+b", buffering=0) as source:
            status = os.fstat(source.fileno())
            check_output(file.name, status.st_mode, status.st_size, max_bytes)
            self.check_space(0)
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            if not self.hold(digest, holder):
                settle(source.fileno(), file, self.path(digest))
        return Blob(digest, status.st_size)

    def writer(self, digest: str, size: int, *, resume: bool = True) -> "Writer":
        """Begin or resume the file of a blob whose digest and size are known beforehand.

        Two writers of one blob do not disturb each other; only the first resumes."""
        target = self.path(digest)
        self.check_space(size)
        first = resume and digest not in self._writing
        name = digest if first else f"{digest}.{next(self._numbers)}"
        if first:
            self._writing.add(digest)
        return Writer(self, self._partial / name, target, digest, size, resumable=first)

    def partial_size(self, digest: str) -> int:
        """How many bytes an interrupted writer left, from where the next one resumes."""
        if digest in self._writing:
            return 0
        try:
            return (self._partial / self.path(digest).name).stat().st_size
        except FileNotFoundError:
            return 0

    def check_space(self, size: int) -> None:
        """Raise NoSpace when `size` more bytes would eat into the floor."""
        status = os.statvfs(self._folder)
        free = status.f_bavail * status.f_frsize - self._promised
        if free - size < self._floor:
            raise NoSpace(
                "no room for a blob",
                found=f"{free} bytes free, {size} wanted",
                expected=f"{self._floor} bytes kept free for the ledger",
                remedy="free some space on the node's disk; the task goes on by itself",
            )

    def hold(self, digest: str, holder: str) -> bool:
        """Keep a blob, here or still to come, until `holder` lets go; whether it is here."""
        with self._lock:
            if holder:
                self._held.setdefault(holder, set()).add(digest)
            return self.has(digest)

    def let_go(self, holder: str) -> None:
        """What `holder` held is no longer kept on its account."""
        with self._lock:
            self._held.pop(holder, None)

    def promise(self, size: int) -> None:
        """A writer has so many more bytes to write, less when negative (called by the writer)."""
        with self._lock:
            self._promised += size

    def remove(self, digest: str) -> bool:
        """Remove a blob; False when it was not here or is held. A crash leaves it or not, both
        fine."""
        with self._lock:
            if any(digest in held for held in self._held.values()):
                return False
            try:
                self.path(digest).unlink()
            except FileNotFoundError:
                return False
            return True

    def sound(self, digest: str) -> bool:
        """Whether it is here with the bytes of its name; others are set aside. Reads all of it."""
        try:
            if self.found(digest) == digest:
                return True
        except FileNotFoundError:
            return False
        aside = self._folder / DAMAGED
        aside.mkdir(exist_ok=True)
        # A crash here leaves it where it was: it is found again.
        self.path(digest).replace(aside / digest)
        return False

    def release(self, digest: str) -> None:
        """A writer of this blob is closed (called by the writer)."""
        self._writing.discard(digest)

    def _sweep(self) -> None:
        """Remove partial files that nobody will resume: of second writers, and of blobs that came
        another way; and what was set aside and came again."""
        for path in (*self._partial.iterdir(), *self.damaged()):
            if not _DIGEST.fullmatch(path.name) or self.has(path.name):
                path.unlink()


class Writer:
    """One blob on its way in. `offset` says how many bytes an earlier attempt left.

    Leave the `with` block without `finish()` and the bytes so far wait to be resumed."""

    def __init__(
        self, vault: Vault, partial: Path, target: Path, digest: str, size: int, *, resumable: bool
    ) -> None:
        self._vault, self._partial, self._target = vault, partial, target
        self._digest, self._size, self._resumable = digest, size, resumable
        self._hash = hashlib.sha256()
        self._file = partial.open("a+b", buffering=0)
        self.offset = self._resume()
        self._left = max(0, size - self.offset)
        self._unsynced = 0
        vault.promise(self._left)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._vault.promise(-self._left)
        self._left = 0
        if self._resumable:
            self._vault.release(self._digest)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append; raises InvalidInput beyond the stated size, NoSpace on a full disk."""
        if self.offset + len(data) > self._size:
            self._discard()
            raise InvalidInput(
                "a blob is larger than stated",
                found=f"more than {self._size} bytes",
                expected=f"{self._size} bytes",
            )
        self._hash.update(data)
        view = memoryview(data)
        while view:
            written = self._write_some(view)
            view = view[written:]
            self.offset += written
            self._left -= written
            self._unsynced += written
            self._vault.promise(-written)

    @property
    def is_behind(self) -> bool:
        """Whether so much is unwritten that the ledger's next sync might wait for it: `sync`."""
        return self._unsynced >= UNSYNCED_BYTES

    def sync(self) -> None:
        """Wait until the disk has what was written so far."""
        os.fdatasync(self._file.fileno())
        self._unsynced = 0

    def finish(self) -> Blob:
        """Check size and digest, make the blob durable under its name."""
        if self.offset != self._size:
            raise InvalidInput(
                "a blob ended early",
                found=f"{self.offset} bytes",
                expected=f"{self._size} bytes",
                remedy="send the rest",
            )
        if self._hash.hexdigest() != self._digest:
            self._discard()
            raise InvalidInput(
                "a blob's bytes do not have its digest",
                found=self._hash.hexdigest(),
                expected=self._digest,
                remedy="fetch it again, from another node if it happens twice",
            )
        settle(self._file.fileno(), self._partial, self._target)
        return Blob(self._digest, self._size)

    def _write_some(self, view: memoryview) -> int:
        try:
            return self._file.write(view) or 0
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise NoSpace(
                    "the disk is full",
                    found=str(error),
                    remedy="free some space on the node's disk; the task goes on by itself",
                ) from error
            raise

    def _resume(self) -> int:
        self._file.seek(0)
        offset = 0
        while piece := self._file.read(CHUNK_BYTES):
            self._hash.update(piece)
            offset += len(piece)
        if offset > self._size:
            self._discard()
            return 0
        return offset

    def _discard(self) -> None:
        """Bytes that can never become the blob are not worth resuming."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.offset = 0


def settle(descriptor: int, file: Path, target: Path) -> None:
    """Make a complete file read-only and durable under its final name."""
    os.fchmod(descriptor, 0o444)
    os.fdatasync(descriptor)
    # A crash here leaves a complete file under its old name: a writer resumes and finishes it, a
    # collected one is collected again.
    target.parent.mkdir(exist_ok=True)
    os.replace(file, target)
    # A crash here may lose the name, not the bytes of anything the outbox refers to: the outbox
    # is written after this folder is synced.
    sync_folder(target.parent)


def check_output(name: str, mode: int, size: int, max_bytes: int) -> None:
    """Raise InvalidInput unless a file that user code left is regular and small enough."""
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"output {name!r} is not a plain file", expected="a regular file")
    if size > max_bytes:
        raise InvalidInput(
            f"output {name!r} is too large",
            found=f"{size} bytes",
            expected=f"at most {max_bytes} bytes",
            remedy="write less, or ask the dataset's owner for a larger limit",
        )


def free_bytes(folder: Path) -> int:
    """Bytes that a user other than root may still write beside `folder`."""
    return shutil.disk_usage(folder).free
