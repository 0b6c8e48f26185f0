"""Archives of code on their way into a folder: refused before they are read into memory."""

import os
from pathlib import Path

import pytest

from tilth_ledger.archive import ArchiveBounds, ArchiveFile, write
from tilth_ledger.errors import InvalidInput
from tilth_ledger.rows import MemoryRows
from tilth_node.storage.desk import open_desk
from tilth_node.storage.folders import Folders
from tilth_node.storage.sets import Sets
from tilth_node.storage.vault import Vault
from tilth_node.worker.staging import Stage


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def stage(tmp_path: Path, vault: Vault) -> Stage:
    samples = open_desk(tmp_path / "worker.db").samples
    folders, sets = Folders(tmp_path / "local"), Sets(tmp_path / "sets")
    return Stage(vault, samples, sets, folders, tmp_path / "code", MemoryRows())


def test_ten_gigabytes_of_zeros_are_refused_unread(stage: Stage, vault: Vault) -> None:
    """A sparse file: neither the disk nor memory ever holds it."""
    blob = vault.write(b"as long as it will be")
    os.truncate(vault.path(blob.digest), 10 * 10**9)
    assert vault.path(blob.digest).stat().st_blocks * 512 < 1 << 20

    with pytest.raises(InvalidInput, match="larger than its bound"):
        stage.unpacked(blob.digest)


def test_the_longest_archive_within_bounds_is_unpacked(stage: Stage, vault: Vault) -> None:
    files = [ArchiveFile(f"file-{number}", False, bytes(513)) for number in range(20)]
    bounds = ArchiveBounds(files=20, total_bytes=20 * 513)
    blob = vault.write(write(files))

    folder = stage.unpacked(blob.digest, bounds)

    assert {path.name for path in folder.iterdir()} == {file.path for file in files}
