"""Archives and real folders: unpack what came from somewhere, pack what a step left.

Invariants
- `unpack` writes only below its folder, only regular files, readable by the user that runs steps;
  the archive was read whole and found canonical before the first file is written.
- `pack` refuses links and devices; equal folders give equal bytes.
"""

import os
import stat
from pathlib import Path

from tilth_ledger.archive import ArchiveBounds, ArchiveFile, read, write
from tilth_ledger.errors import InvalidInput


def unpack(data: bytes, folder: Path, bounds: ArchiveBounds | None = None) -> None:
    """Write an archive's files below `folder`, which must be empty or absent."""
    files = read(data, bounds)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        mode = 0o755 if file.executable else 0o644
        with open(os.open(target, flags, mode), "wb") as out:
            out.write(file.data)
            os.fchmod(out.fileno(), mode)  # whatever the umask of the node
    _make_readable(folder)


def pack(folder: Path) -> bytes:
    """The archive of a folder."""
    files = []
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            name = path.relative_to(folder).as_posix()
            files.append(ArchiveFile(name, bool(mode & stat.S_IXUSR), path.read_bytes()))
        elif not stat.S_ISDIR(mode):
            raise InvalidInput("a folder to pack holds something else than files", found=path.name)
    return write(files)


def _make_readable(folder: Path) -> None:
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        path.chmod(0o755)
