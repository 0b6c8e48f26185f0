"""The journal's file: what survives a crash at any byte, and what stops the node."""

import errno
import os
from pathlib import Path

import pytest
from cosigning_net import GENESIS

from tilth_ledger.errors import Fatal
from tilth_ledger.journal_records import Promised, frame
from tilth_node import running
from tilth_node.errors import StorageFailed
from tilth_node.folder import Folder
from tilth_node.storage.journal import NAME, STEP_BYTES, JournalFile

RECORDS = [b"\x01first", b"\x02second record", b"\x03" + bytes(40)]


def records_in(folder: Path) -> list[bytes]:
    journal = JournalFile(folder)
    journal.close()
    return list(journal.records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = JournalFile(tmp_path / "journal")
    journal.append(RECORDS[:1])
    journal.append(RECORDS[1:])
    journal.close()
    return tmp_path / "journal"


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    assert records_in(tmp_path / "journal") == []


@pytest.mark.rule("F7")
def test_what_was_appended_is_found_again(folder: Path) -> None:
    assert records_in(folder) == RECORDS


@pytest.mark.rule("F8")
def test_a_tail_torn_at_any_byte_is_cut_off_and_written_over(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    ends = [len(frame(RECORDS[:count], 0)) for count in range(len(RECORDS) + 1)]
    for length in range(len(whole)):
        (folder / NAME).write_bytes(whole[:length])
        kept = sum(end <= length for end in ends) - 1
        journal = JournalFile(folder)
        assert list(journal.records) == RECORDS[:kept]
        journal.append([b"\x09after"])
        journal.close()
        assert records_in(folder) == [*RECORDS[:kept], b"\x09after"]


def killed(folder: Path) -> list[bytes]:
    """A journal of many batches that nobody closed; its records."""
    journal = JournalFile(folder)
    sent = [bytes((number,)) * 5_000 for number in range(1, 61)]
    for number, body in enumerate(sent):
        if number == 30:
            journal.replace(sent[:number])
        journal.append([body])
    return sent


def test_records_are_written_over_zeros_so_that_most_syncs_change_no_size(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    sizes = set()
    for number in range(1, 61):
        journal.append([bytes((number,)) * 5_000])
        sizes.add(journal.path.stat().st_size)
    assert len(sizes) == 2
    assert not any(size % STEP_BYTES for size in sizes)
    journal.close()
    assert journal.path.stat().st_size == len(frame([bytes(5_000)] * 60, 0))


@pytest.mark.rule("F8")
def test_a_journal_that_nobody_closed_holds_all_its_records_and_was_not_torn(
    tmp_path: Path,
) -> None:
    sent = killed(tmp_path)
    journal = JournalFile(tmp_path)
    assert list(journal.records) == sent
    assert (journal.cut_bytes, journal.damaged) == (0, False)
    journal.append([b"\x09after"])
    journal.close()
    assert records_in(tmp_path) == [*sent, b"\x09after"]


@pytest.mark.rule("F8")
def test_a_flipped_byte_before_the_zeros_is_told_as_damage(tmp_path: Path) -> None:
    sent = killed(tmp_path)
    whole = (tmp_path / NAME).read_bytes()
    last = len(frame(sent[:-1], 0))
    for position in (last, last + 3, last + 11, last + 27, last + 28, last + 5_027):
        (tmp_path / NAME).write_bytes(
            whole[:position] + bytes((whole[position] ^ 0x10,)) + whole[position + 1 :]
        )
        journal = JournalFile(tmp_path)
        assert (list(journal.records), journal.damaged) == (sent[:-1], True)
        journal.close()


@pytest.mark.rule("F7")
def test_a_disk_that_has_no_room_for_the_zeros_stops_the_node_and_costs_no_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        if not any(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, at)

    journal = JournalFile(folder)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFailed, match="No space left"):
        journal.append([b"\x09unsaid"])
    journal.close()
    monkeypatch.undo()
    assert records_in(folder)[: len(RECORDS)] == RECORDS


def test_a_write_that_takes_a_part_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1_000], at))
    sent = killed(tmp_path)
    monkeypatch.undo()
    assert records_in(tmp_path) == sent


MARK = Promised(1, 1, 1).encode()


@pytest.mark.rule("F8")
def test_a_flipped_byte_before_the_mark_stops_the_node_which_names_the_file_and_what_to_run(
    folder: Path,
) -> None:
    journal = JournalFile(folder)
    journal.note(MARK)
    journal.close()
    whole = (folder / NAME).read_bytes()
    for position in range(len(frame(RECORDS, 0))):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (folder / NAME).write_bytes(bytes(damaged))
        with pytest.raises(Fatal, match="does not start and does not vote") as caught:
            JournalFile(folder)
        assert str(folder / NAME) in str(caught.value)
        assert f"tilth node scrub {folder.parent}" in caught.value.remedy
        assert f"move {folder / NAME} out of the folder" in caught.value.remedy


def test_the_status_of_a_folder_with_a_damaged_journal_says_what_to_do(folder: Path) -> None:
    journal = JournalFile(folder)
    journal.note(MARK)
    journal.close()
    data = bytearray((folder / NAME).read_bytes())
    data[30] ^= 1
    (folder / NAME).write_bytes(data)
    said = running._never_again(Folder(folder.parent), GENESIS, "a")["damaged"]
    assert str(folder / NAME) in said
    assert "tilth node scrub" in said


@pytest.mark.rule("F8")
def test_a_damaged_end_without_a_mark_behind_it_is_cut_off_and_told(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    journal = JournalFile(folder)
    assert (list(journal.records), journal.damaged) == (RECORDS[:-1], True)
    journal.close()
    journal = JournalFile(folder)
    assert (list(journal.records), journal.damaged) == (RECORDS[:-1], False)
    journal.close()


def test_a_note_waits_for_no_sync_and_is_found_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalFile(folder)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal.note(MARK)
    assert synced == []
    journal.append([b"\x09after"])
    assert len(synced) == 1
    journal.close()
    assert records_in(folder) == [*RECORDS, MARK, b"\x09after"]


@pytest.mark.rule("F7")
def test_after_an_error_nothing_is_asked_of_the_file_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fail(descriptor: int) -> None:
        asked.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = JournalFile(folder)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageFailed):
        journal.append([b"\x09lost"])
    journal.close()
    assert len(asked) == 1


@pytest.mark.rule("F6")
def test_a_replaced_journal_holds_exactly_the_new_records(folder: Path) -> None:
    journal = JournalFile(folder)
    journal.replace([b"\x07new"])
    journal.append([b"\x08newer"])
    journal.close()
    assert records_in(folder) == [b"\x07new", b"\x08newer"]


@pytest.mark.rule("F6")
def test_a_crash_before_the_rename_leaves_the_old_records(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*names: object) -> None:
        raise OSError(errno.EIO, "crash")

    journal = JournalFile(folder)
    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StorageFailed):
        journal.replace([b"\x07new"])
    monkeypatch.undo()
    assert records_in(folder) == RECORDS


@pytest.mark.rule("F7")
def test_a_failed_sync_stops_the_process_and_says_where_to_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = JournalFile(folder)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageFailed, match="No space left") as caught:
        journal.append([b"\x09lost"])
    assert isinstance(caught.value, Fatal)
    assert "disk" in caught.value.remedy


def test_others_cannot_read_it(folder: Path) -> None:
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
