"""The folder of a node: what lies where, who may hold it, and how a file in it comes to be.

- One process at a time: the lock is taken before anything else is opened and falls with the
  process.
- Nobody but the node's user looks into it: samples, models, predictions and secrets lie below.
- A file that must survive a crash is written beside its name, synced, renamed, and the folder
  synced (F6).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tilth_ledger.errors import InvalidInput

SECRET = 0o600
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths below a node's folder."""

    path: Path

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def genesis(self) -> Path:
        return self.path / "genesis.json"

    @property
    def peers(self) -> Path:
        """Introductions, of a node whose ledger does not tell where the others are."""
        return self.path / "peers.json"

    @property
    def member(self) -> Path:
        return self.path / "member.json"

    @property
    def database(self) -> Path:
        return self.path / "ledger.db"

    @property
    def joining(self) -> Path:
        """A snapshot that is being fetched."""
        return self.path / "ledger.joining"

    @property
    def snapshot(self) -> Path:
        """One that is whole, and becomes the ledger at the next start."""
        return self.path / "ledger.snapshot"

    @property
    def cosignatures(self) -> Path:
        return self.path / "cosignatures.db"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def ready(self) -> Path:
        return self.run / "ready.json"

    @property
    def waiting(self) -> Path:
        """What tasks of this node wait for, while it runs."""
        return self.run / "waiting.json"

    @property
    def notices(self) -> Path:
        """Alarms, and what was refused from peers, while it runs."""
        return self.run / "notices.json"

    @property
    def scrub(self) -> Path:
        """When the disk was last looked through, and what was found."""
        return self.run / "scrub.json"

    def close_to_others(self) -> None:
        """Keep other users of the machine out, whatever the umask was when it was made."""
        with suppress(PermissionError):  # a volume that another user owns: its owner decides
            self.path.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. Raises InvalidInput when another one has it."""
        self.close_to_others()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise InvalidInput(
                    f"another node runs on {self.path}",
                    found=f"its lock is held by process {holder or 'unknown'}",
                    expected="one node for one folder",
                    remedy="stop that process first; a copy of a folder must never run beside it",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def write_file(path: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Put `content` at `path`, whole or not at all, and durably."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # A crash here leaves a `.new` file that the next write of the same name replaces.
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
