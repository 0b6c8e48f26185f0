"""What tasks read beside blobs is looked at too: a changed file is named, with what to do."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tilth_ledger.archive import ArchiveFile, write
from tilth_ledger.tree import tree_digest
from tilth_node import scrub_trees
from tilth_node.runtimes.unpack import unpack
from tilth_node.scrub_trees import Finding
from tilth_node.storage import walk
from tilth_node.storage.desk import open_desk
from tilth_node.storage.samples import Sample
from tilth_node.storage.sets import Sets
from tilth_node.storage.vault import Vault

FILES = [ArchiveFile("algo.py", False, b"code"), ArchiveFile("in/run.sh", True, b"#!")]


def rest() -> None:
    """Nobody else has work."""


def named(findings: list[Finding]) -> list[str]:
    return [path.name for path, _, _ in findings]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An unpacked archive, under its digest."""
    packed = write(FILES)
    digest = Vault(tmp_path / "vault", floor_bytes=0).write(packed).digest
    unpack(packed, tmp_path / "code" / digest)
    (tmp_path / "code" / f"{digest}.part").mkdir()
    return tmp_path / "code" / digest


def test_unpacked_archives_as_they_were_are_clean(archive: Path, tmp_path: Path) -> None:
    assert list(scrub_trees.code(tmp_path, rest)) == []
    assert list(scrub_trees.code(tmp_path / "nowhere", rest)) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "algo.py").write_bytes(b"Code"),
        lambda folder: (folder / "algo.py").unlink(),
        lambda folder: (folder / "another.py").write_bytes(b""),
        lambda folder: (folder / "in/run.sh").chmod(0o644),
        lambda folder: (folder / "link").symlink_to("algo.py"),
    ],
)
def test_an_archive_that_was_changed_is_named(
    archive: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(archive)
    [(path, _, remedy)] = scrub_trees.code(tmp_path, rest)
    assert path == archive
    assert "unpacked again from its blob" in remedy


def test_a_folder_that_goes_meanwhile_is_no_damage(archive: Path, tmp_path: Path) -> None:
    (archive / "algo.py").write_bytes(b"Code")
    found = scrub_trees.code(tmp_path, lambda: shutil.rmtree(archive, ignore_errors=True))
    assert list(found) == []


def sample(root: Path, number: int) -> Sample:
    (root / f"{number}").mkdir(parents=True)
    (root / f"{number}" / "table").write_bytes(bytes([number]) * 9)
    seen = tuple(walk.scan(root / f"{number}"))
    digest = tree_digest([each.entry for each in seen])
    key, tag = f"a/{number:032x}", f"{number:064x}"
    place = root / f"{number}"
    return Sample(key, "n", "train", place, False, False, digest, tag, bytes(32), seen)


def test_copies_in_sample_sets_are_compared_with_what_was_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError("no hard links here")

    samples = [sample(tmp_path / "samples", number) for number in range(3)]
    desk = open_desk(tmp_path / "worker.db")
    desk.samples.add(samples)
    sets = Sets(tmp_path / "sets")
    linked = sets.data("a/1", samples)
    monkeypatch.setattr(os, "link", no_links)
    copied = sets.data("a/2", samples)
    look = (tmp_path, tmp_path / "worker.db", rest)
    assert list(scrub_trees.sets(*look)) == []

    changed = next(path for path in sorted(copied.rglob("table")))
    changed.chmod(0o644)
    changed.write_bytes(b"other")
    assert [path for path, _, _ in scrub_trees.sets(*look)] == [changed]
    original = samples[1].root / "table"
    original.write_bytes(b"another")
    assert next(linked.rglob("table")).exists()
    assert [path for path, _, _ in scrub_trees.sets(*look)] == [changed], "hashed where it lies"
    desk.close()


def test_local_folders_are_compared_with_what_their_receipts_state(tmp_path: Path) -> None:
    kept = tmp_path / "local" / "a+1" / "a+2"
    kept.mkdir(parents=True)
    (kept / "state").write_bytes(b"left")
    (tmp_path / "local" / "a+1" / "a+3.1").mkdir()  # its `done` is not final
    receipts = {"a/2": walk.digest_of(kept)}
    assert list(scrub_trees.local(tmp_path, receipts.get, rest)) == []
    (kept / "state").write_bytes(b"Left")
    assert named(list(scrub_trees.local(tmp_path, receipts.get, rest))) == ["a+2"]
    assert list(scrub_trees.local(tmp_path, {}.get, rest)) == [], "nothing is stated of it"
