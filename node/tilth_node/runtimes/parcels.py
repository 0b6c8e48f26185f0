"""Files to and from an engine, as the tar streams that it speaks.

Invariants
- Streamed: no file is held in memory, however large.
- What comes back was written by hostile code: only regular files and folders below one name are
  taken, each within the bytes that are allowed; a link, a device, a path that climbs is refused.
- All that goes in belongs to the user that runs steps, and says no time.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import TreeEntry, check_path, tree_digest
from tilth_node.storage import walk

NOBODY: Final = 65534
_CHUNK: Final = 1 << 18
_FOLDER, _FILE, _PROGRAM = 0o755, 0o644, 0o755


def outgoing(
    files: Mapping[str, bytes | Path],
    folders: Iterable[str] = (),
    seen: list[TreeEntry] | None = None,
) -> Iterator[bytes]:
    """A tar stream of `files` with all folders on the way, and of the empty `folders`; `seen` gets
    an entry for each file as it was sent."""
    for folder in sorted({*folders, *_parents(files)}):
        yield _head(folder, 0, _FOLDER, tarfile.DIRTYPE)
    for path, content in sorted(files.items()):
        digest, size = hashlib.sha256(), 0
        executable = isinstance(content, Path) and os.access(content, os.X_OK)
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            yield _head(path, length, _PROGRAM if executable else _FILE, tarfile.REGTYPE)
            while piece := file.read(min(_CHUNK, length - size)):
                digest.update(piece)
                size += len(piece)
                yield piece
        if size != length:
            raise InvalidInput("a file shrank while it was sent", found=path)
        yield bytes(-size % tarfile.BLOCKSIZE)
        if seen is not None:
            seen.append(TreeEntry(path, executable, size, digest.hexdigest()))
    yield bytes(2 * tarfile.BLOCKSIZE)


def tree(folder: Path) -> dict[str, bytes | Path]:
    """All files of a folder by their path in it. Raises InvalidInput on anything else in it."""
    return {item.path: folder / item.path for item in walk.listing(folder)}


Take = Callable[[str, int, bool, IO[bytes]], None]  # path, size, executable, content


def incoming(stream: Iterable[bytes], max_bytes: int, max_files: int, take: Take) -> None:
    """Hand each file of an engine's tar stream to `take`, its path without the first part.

    Raises InvalidInput on what is no plain file or folder, or more than allowed."""
    count = total = 0
    with tarfile.open(fileobj=_Chunks(stream), mode="r|") as archive:
        for member in archive:
            path = member.name.partition("/")[2].rstrip("/")
            if member.isdir():
                continue
            check_path(path)
            count, total = count + 1, total + member.size
            if not member.isreg() or member.sparse is not None:
                raise InvalidInput("neither a file nor a folder came back", found=path)
            if count > max_files or total > max_bytes:
                raise InvalidInput(
                    "more came back than allowed",
                    found=f"{count} files, {total} bytes",
                    expected=f"at most {max_files} files, {max_bytes} bytes",
                )
            content = archive.extractfile(member)
            if content is not None:
                take(path, member.size, bool(member.mode & 0o100), content)


def digest_of(stream: Iterable[bytes]) -> str:
    """The tree digest of what an engine holds."""
    entries: list[TreeEntry] = []

    def take(path: str, size: int, executable: bool, content: IO[bytes]) -> None:
        digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
        entries.append(TreeEntry(path, executable, size, digest))

    incoming(stream, 1 << 60, walk.MAX_FILES, take)
    return tree_digest(sorted(entries, key=lambda entry: entry.path.encode()))


def digest_sent(entries: list[TreeEntry]) -> str:
    """The tree digest of what `outgoing` sent."""
    return tree_digest(sorted(entries, key=lambda entry: entry.path.encode()))


def save(folder: Path, path: str, executable: bool, content: IO[bytes]) -> int:
    """Write one incoming file below `folder`, following no link; returns its size."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    size = 0
    with open(os.open(target, flags, _PROGRAM if executable else _FILE), "wb") as file:
        while piece := content.read(_CHUNK):
            size += file.write(piece)
    return size


def _parents(files: Mapping[str, object]) -> set[str]:
    parts = [path.split("/")[:-1] for path in files]
    return {"/".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}


def _head(path: str, size: int, mode: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.type = size, mode, kind
    info.uid = info.gid = NOBODY
    return info.tobuf(tarfile.PAX_FORMAT)


class _Chunks(io.RawIOBase):
    """A stream of pieces as a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            missing -= len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
