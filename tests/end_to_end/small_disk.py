"""Small disks for tests: a file system of its own in a file, mounted where a test wants it."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lacking import lacks


class SmallDisk:
    """A mounted disk that can be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Write until only about `leave` bytes are free."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, max(1, self._free() - leave - (1 << 20)))
            os.lseek(file, 0, os.SEEK_END)
            while self._free() > leave or not leave:
                os.write(file, bytes(4_096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(file)

    def _free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of that size mounted on `folder`, where one can be."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        lacks("a disk of its own needs root and mkfs.ext4")
    image = folder.parent / f"{folder.name}.disk"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=False)
    if mounted.returncode != 0:
        lacks("a disk of its own cannot be mounted here")
    (folder / "lost+found").rmdir()
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        image.unlink()
