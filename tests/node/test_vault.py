"""The vault: content under its digest, resumed after a cut, never more than stated, floor kept."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lacking import lacks

from tilth_ledger.errors import InvalidInput
from tilth_node.storage.vault import NoSpace, Vault, free_bytes


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", floor_bytes=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tilth-test", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        lacks("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_blob_is_kept_under_its_digest_and_read_only(vault: Vault) -> None:
    blob = vault.write(b"model")
    assert (blob.digest, blob.size) == (name(b"model"), 5)
    assert vault.load(blob.digest) == b"model"
    assert stat.S_IMODE(vault.path(blob.digest).stat().st_mode) == 0o444


def test_a_blob_with_another_byte_is_set_aside_and_can_come_again(tmp_path: Path) -> None:
    vault = Vault(tmp_path, floor_bytes=0)
    data = bytes(range(256)) * 9_000
    for at in (0, 1 << 20, len(data) - 1):
        digest = vault.write(data).digest
        assert vault.sound(digest)
        changed = bytearray(data)
        changed[at] ^= 1
        vault.path(digest).chmod(0o644)
        vault.path(digest).write_bytes(changed)
        assert not vault.sound(digest)
        assert not vault.has(digest)
        assert [path.read_bytes() for path in vault.damaged()] == [changed]
    assert list(Vault(tmp_path, floor_bytes=0).damaged()) != []  # nobody brought it yet
    vault.write(data)
    assert list(Vault(tmp_path, floor_bytes=0).damaged()) == []


def test_a_blob_that_is_not_here_is_not_sound(vault: Vault) -> None:
    assert not vault.sound(name(b"x"))
    assert list(vault.damaged()) == []


def test_what_is_not_here_is_not_pretended(vault: Vault) -> None:
    assert not vault.has(name(b"x"))
    assert vault.size(name(b"x")) is None
    with pytest.raises(FileNotFoundError):
        vault.load(name(b"x"))


@pytest.mark.parametrize("digest", ["", "../etc/passwd", "A" * 64, "a" * 63])
def test_a_malformed_digest_names_no_file(vault: Vault, digest: str) -> None:
    with pytest.raises(InvalidInput):
        vault.path(digest)


def test_a_cut_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    with Vault(tmp_path, floor_bytes=0).writer(name(data), len(data)) as writer:
        writer.write(data[:10_000])
    with Vault(tmp_path, floor_bytes=0).writer(name(data), len(data)) as writer:
        assert writer.offset == 10_000
        writer.write(data[10_000:])
        writer.finish()
    assert Vault(tmp_path, floor_bytes=0).load(name(data)) == data


def test_bytes_at_hand_are_stored_although_a_crash_left_some_of_them_or_all(tmp_path: Path) -> None:
    for left in (b"mod", b"model", b"other"):
        folder = tmp_path / left.decode()
        with Vault(folder, floor_bytes=0).writer(name(b"model"), 5) as writer:
            writer.write(left)
        after = Vault(folder, floor_bytes=0)
        assert after.partial_size(name(b"model")) == len(left)
        assert after.write(b"model").digest == name(b"model")
        assert b"".join(after.read(name(b"model"))) == b"model"
        assert Vault(folder, floor_bytes=0).partial_size(name(b"model")) == 0


def test_other_bytes_than_the_digest_says_are_never_stored(vault: Vault) -> None:
    with vault.writer(name(b"good"), 4) as writer:
        writer.write(b"evil")
        with pytest.raises(InvalidInput, match="do not have its digest"):
            writer.finish()
    assert not vault.has(name(b"good"))
    with vault.writer(name(b"good"), 4) as writer:
        assert writer.offset == 0
        writer.write(b"good")
        writer.finish()
    assert vault.has(name(b"good"))


def test_more_bytes_than_stated_are_refused(vault: Vault) -> None:
    with vault.writer(name(b"abc"), 3) as writer, pytest.raises(InvalidInput, match="larger"):
        writer.write(b"abcd")


def test_fewer_bytes_than_stated_are_not_a_blob(vault: Vault) -> None:
    with vault.writer(name(b"abc"), 3) as writer:
        writer.write(b"ab")
        with pytest.raises(InvalidInput, match="ended early"):
            writer.finish()
    assert not vault.has(name(b"abc"))


def test_two_writers_of_one_blob_do_not_disturb_each_other(vault: Vault) -> None:
    with vault.writer(name(b"abcd"), 4) as first, vault.writer(name(b"abcd"), 4) as second:
        first.write(b"ab")
        second.write(b"abcd")
        second.finish()
        first.write(b"cd")
        first.finish()
    assert vault.load(name(b"abcd")) == b"abcd"


def test_a_left_over_of_a_second_writer_is_swept_at_start(tmp_path: Path) -> None:
    Vault(tmp_path, floor_bytes=0)
    left = tmp_path / "partial" / f"{name(b'x')}.7"
    left.write_bytes(b"half")
    Vault(tmp_path, floor_bytes=0)
    assert not left.exists()


def test_an_output_file_is_moved_in(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    inode = (tmp_path / "model").stat().st_ino
    digest = vault.adopt(tmp_path / "model", max_bytes=7).digest
    assert vault.load(digest) == b"weights"
    assert vault.path(digest).stat().st_ino == inode
    assert stat.S_IMODE(vault.path(digest).stat().st_mode) == 0o444


def test_an_output_larger_than_its_limit_is_refused(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    with pytest.raises(InvalidInput, match="too large"):
        vault.adopt(tmp_path / "model", max_bytes=6)


def test_an_output_that_is_a_link_or_a_pipe_is_refused(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic links"):
        vault.adopt(tmp_path / "link", max_bytes=1 << 20)
    with pytest.raises(InvalidInput, match="not a plain file"):
        vault.adopt(tmp_path / "pipe", max_bytes=1 << 20)


def test_writers_at_the_same_time_share_what_is_free(tmp_path: Path) -> None:
    """Each alone would fit; together they would fill the ledger's disk."""
    free = free_bytes(tmp_path)
    vault = Vault(tmp_path, floor_bytes=free // 2)
    first, second = name(b"first"), name(b"second")
    with vault.writer(first, free // 3) as writer:
        writer.write(b"some")
        with pytest.raises(NoSpace):
            vault.writer(second, free // 3)
        vault.check_space(1)
    with vault.writer(second, free // 3):
        pass
    with vault.writer(second, free // 3):
        pass


def test_the_floor_of_free_space_is_kept_for_the_ledger(tmp_path: Path) -> None:
    vault = Vault(tmp_path, floor_bytes=1 << 60)
    with pytest.raises(NoSpace, match="kept free for the ledger"):
        vault.write(b"anything")


def test_a_full_disk_is_said_so_and_the_blob_is_resumed_later(small_disk: Path) -> None:
    vault = Vault(small_disk / "vault", floor_bytes=-(4 << 20))  # look at the disk, not the floor
    data = os.urandom(2 << 20)
    with vault.writer(name(data), len(data)) as writer, pytest.raises(NoSpace, match="is full"):
        writer.write(data)
    assert not vault.has(name(data))
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    with vault.writer(name(data), len(data)) as writer:
        assert 0 < writer.offset < len(data)
        writer.write(data[writer.offset :])
        writer.finish()
    assert vault.load(name(data)) == data


def test_what_somebody_holds_is_not_removed_before_all_let_go(vault: Vault) -> None:
    digest = vault.write(b"model", holder="first").digest
    vault.write(b"model", holder="second")
    assert not vault.remove(digest)
    vault.let_go("first")
    assert not vault.remove(digest)
    vault.let_go("second")
    assert vault.remove(digest)


def test_an_output_that_is_here_already_is_held_too(vault: Vault, tmp_path: Path) -> None:
    digest = vault.write(b"weights").digest
    (tmp_path / "model").write_bytes(b"weights")
    vault.adopt(tmp_path / "model", max_bytes=7, holder="task")
    assert not vault.remove(digest)


def test_a_blob_still_to_come_may_be_held(vault: Vault) -> None:
    assert not vault.hold(name(b"later"), "task")
    vault.write(b"later")
    assert not vault.remove(name(b"later"))
