"""The log that SQLite writes before the file: how long it is, and that it is begun anew."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tilth_node.errors import StorageFailed
from tilth_node.storage import database
from tilth_node.storage.database import Database

SCHEMA = "CREATE TABLE things (id INTEGER PRIMARY KEY, body BLOB)"
FRAME = 4096 + 24


@pytest.fixture
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOG_BYTES", 100 * FRAME)


def put(store: Database, number: int) -> None:
    with store.transaction() as connection:
        connection.execute("INSERT INTO things VALUES (?, randomblob(9000))", (number,))


def log_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


@pytest.mark.usefixtures("small_logs")
def test_a_log_is_written_over_again_and_again_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    store = Database(path, SCHEMA, 1)
    for number in range(300):
        put(store, number)
        assert log_bytes(path) <= 110 * FRAME
    assert log_bytes(path) >= 100 * FRAME  # it keeps its length
    assert store.reader.execute("SELECT count(*) FROM things").fetchone() == (300,)
    store.close()
    again = Database(path, SCHEMA, 1)
    assert again.reader.execute("SELECT sum(id) FROM things").fetchone() == (sum(range(300)),)
    again.close()


@pytest.mark.usefixtures("small_logs")
def test_a_reader_of_an_old_state_keeps_the_log_which_is_cut_when_it_has_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "things.db"
    store = Database(path, SCHEMA, 1)
    put(store, 0)
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("BEGIN")
    assert old.execute("SELECT count(*) FROM things").fetchone() == (1,)
    for number in range(1, 400):
        put(store, number)
    assert log_bytes(path) > 500 * FRAME
    old.close()
    for number in range(400, 800):
        put(store, number)
    assert log_bytes(path) <= 300 * FRAME
    store.close()


def put_and_rest(store: Database, number: int) -> None:
    put(store, number)
    while store.make_room():
        pass


def numbers(path: Path) -> list[int]:
    """What a copy of the files holds, as they are, when somebody opens it."""
    to = path.with_name("copy")
    to.mkdir()
    for each in (path, Path(f"{path}-wal")):
        shutil.copy(each, to / each.name)
    store = Database(to / path.name, SCHEMA, 1)
    found = [number for (number,) in store.reader.execute("SELECT id FROM things ORDER BY id")]
    store.close()
    shutil.rmtree(to)
    return found


def test_a_log_grows_over_zeros_so_that_most_commits_change_no_size(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    store = Database(path, SCHEMA, 1)
    sizes = []
    for number in range(60):
        put_and_rest(store, number)
        sizes.append(log_bytes(path))
    assert len(set(sizes)) < 10
    assert sizes[0] < 200_000  # little for who writes little
    assert sizes[-1] > 2 * 60 * 3 * FRAME
    store.close()


def test_what_was_killed_over_zeros_holds_every_commit(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    store = Database(path, SCHEMA, 1)
    for number in range(20):
        put_and_rest(store, number)
        assert numbers(path) == list(range(number + 1))
    store.close()


def test_a_commit_that_was_torn_over_zeros_is_gone_and_those_before_it_are_not(
    tmp_path: Path,
) -> None:
    path, log = tmp_path / "things.db", tmp_path / "things.db-wal"
    store = Database(path, SCHEMA, 1)
    for number in range(20):
        put_and_rest(store, number)
    before = log.read_bytes()
    put_and_rest(store, 20)
    after = log.read_bytes()
    before = before.ljust(len(after), b"\0")
    places = range(0, len(after), 512)
    changed = [at for at in places if after[at : at + 512] != before[at : at + 512]]
    store.close()
    assert len(changed) > 10
    for at in changed[:: max(1, len(changed) // 8)]:
        log.write_bytes(after[:at] + before[at : at + 512] + after[at + 512 :])
        assert numbers(path) == list(range(20))
    log.write_bytes(after)
    assert numbers(path) == list(range(21))


def test_zeros_that_find_no_room_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "things.db"
    store = Database(path, SCHEMA, 1)
    monkeypatch.setattr(os, "pwrite", full)
    for number in range(5):
        put_and_rest(store, number)
    assert numbers(path) == list(range(5))
    store.close()


@pytest.mark.rule("F7")
def test_any_other_error_of_writing_them_stops_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, data: bytes, at: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    store = Database(tmp_path / "things.db", SCHEMA, 1)
    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(StorageFailed, match=r"things\.db-wal could not be written"):
        put_and_rest(store, 0)
    store.close()
