"""The log that SQLite writes before the file: how long it is, and that it is begun anew."""

import os
import sqlite3
from pathlib import Path

import pytest

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
