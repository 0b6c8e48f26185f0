"""Walk and hash a real folder into the entries that the tree digest is made of.

Invariants
- Nothing outside the folder is read: links, devices and sockets are refused, never followed;
  every file is opened with O_NOFOLLOW below an already opened folder.
- What is returned can be checked again cheaply: size, modification time and inode of each file
  stand beside its digest (rule D2's metadata check).

Leaves to others: the digest's form (`tilth_ledger.tree`), what the digests are for.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import TreeEntry, check_path, tree_digest

CHUNK_BYTES = 1 << 20
MAX_FILES = 1_000_000
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Seen:
    """One file as found: its entry, and what a cheap look at it shows (`mtime_ns`, `inode`)."""

    entry: TreeEntry
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One file before hashing: `path` relative to the folder, `size` in bytes."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    executable: bool


def ignore(_: int) -> None:
    """The progress report of who does not want one."""


def listing(folder: Path) -> list[Listed]:
    """Every regular file below `folder` (or `folder` itself when it is a file), sorted by path.

    Raises InvalidInput on anything that is neither a plain file nor a folder."""
    if folder.is_symlink() or folder.is_file():
        return [_listed(folder.name, os.lstat(folder))]
    files: list[Listed] = []
    for item in _walk(folder, "", 0):
        files.append(item)
        if len(files) > MAX_FILES:
            raise InvalidInput(
                "too many files in one folder",
                found=f"more than {MAX_FILES}",
                expected=f"at most {MAX_FILES}",
                remedy="pack them into fewer, larger files",
            )
    return sorted(files, key=lambda item: item.path.encode())


def scan(folder: Path, progress: Callable[[int], None] = ignore) -> list[Seen]:
    """List and hash; `progress` is told the bytes of each piece read."""
    root = folder if folder.is_dir() else folder.parent
    return [hash_file(root, item, progress) for item in listing(folder)]


def entries(folder: Path) -> list[TreeEntry]:
    """The entries of a folder, for its tree digest."""
    return [seen.entry for seen in scan(folder)]


def digest_of(folder: Path) -> str:
    """The tree digest of a folder on disk."""
    return tree_digest(entries(folder))


def hash_file(
    root: Path,
    item: Listed,
    progress: Callable[[int], None] = ignore,
    copy: Callable[[bytes], object] | None = None,
) -> Seen:
    """Hash one listed file, handing each piece to `copy` too; refuses one that changed since."""
    digest = hashlib.sha256()
    size = 0
    with open_plain(root, item.path) as file:
        status = os.fstat(file.fileno())
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
            if copy is not None:
                copy(piece)
            progress(len(piece))
    if size != item.size or status.st_ino != item.inode:
        raise InvalidInput(
            f"{item.path!r} changed while it was read",
            found=f"{size} bytes",
            expected=f"{item.size} bytes",
            remedy="import again when nothing writes there",
        )
    entry = TreeEntry(item.path, item.executable, size, digest.hexdigest())
    return Seen(entry, status.st_mtime_ns, status.st_ino)


def open_plain(root: Path, path: str) -> FileIO:
    """Open a regular file below `root` without following a link anywhere on the way."""
    parent = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *folders, name = path.split("/")
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(folder, flags, dir_fd=parent)
            os.close(parent)
            parent = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return open(os.open(name, flags, dir_fd=parent), "rb", buffering=0)
    finally:
        os.close(parent)


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[Listed]:
    if depth > MAX_DEPTH:
        raise InvalidInput(
            "folders nest too deep", found=prefix, expected=f"at most {MAX_DEPTH} levels"
        )
    with os.scandir(folder) as found:
        for item in found:
            path = prefix + item.name
            check_path(path)
            status = item.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(Path(item.path), path + "/", depth + 1)
            else:
                yield _listed(path, status)


def _listed(path: str, status: os.stat_result) -> Listed:
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
        raise InvalidInput(
            f"{path!r} is {kind}",
            expected="plain files and folders",
            remedy="replace it with the file itself, or remove it",
        )
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Listed(path, status.st_size, status.st_mtime_ns, status.st_ino, executable)
