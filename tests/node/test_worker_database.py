"""The worker's database: no changed byte of it is believed, and a file of before gets checksums."""

import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tilth_ledger.errors import TilthError
from tilth_ledger.tree import TreeEntry
from tilth_node.errors import StorageFailed
from tilth_node.storage.checksums import checksum
from tilth_node.storage.desk import Desk, open_desk, problems_of
from tilth_node.storage.outbox import Statement
from tilth_node.storage.runs import Run
from tilth_node.storage.samples import Sample
from tilth_node.storage.walk import Seen

ALL = os.environ.get("FLIPS") == "1"
STATEMENT = Statement("a/1", 1, b"signed bytes " * 20, True)
RUN = Run("a/2", 3, "train", '{"pid":8}')


def sample(number: int) -> Sample:
    entry = TreeEntry(f"image-{number}", False, 9, f"{number:064x}")
    return Sample(
        key=f"a/{number:032x}",
        name=f"image-{number}",
        label="train",
        root=Path("/data"),
        single=True,
        in_place=True,
        digest=f"{number + 1:064x}",
        tag=f"{number + 2:064x}",
        salt=number.to_bytes(32),
        files=(Seen(entry, 5, 6),),
    )


SAMPLES = [sample(number) for number in range(8)]


def fill(path: Path) -> None:
    desk = open_desk(path)
    desk.runs.put(RUN)
    desk.settle(STATEMENT)
    desk.samples.secret(b"s" * 32)
    desk.samples.add(SAMPLES)
    desk.close()


def read(desk: Desk) -> list[object]:
    """All that the worker may ask of it."""
    found = [desk.samples.get(each.key) for each in SAMPLES]
    tagged = [desk.samples.with_tag(each.tag) for each in SAMPLES]
    secret = desk.samples.secret(b"another")
    return [desk.outbox.all(), desk.runs.all(), found, tagged, desk.samples.keys(), secret]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "worker.db"
    fill(path)
    return path


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def test_what_was_written_is_read_and_sound(path: Path) -> None:
    desk = open_desk(path)
    found = read(desk)
    assert found[:2] == [[STATEMENT], [RUN]]
    assert found[2] == found[3] == SAMPLES
    assert found[5] == b"s" * 32
    desk.close()
    assert problems_of(path) == []


@pytest.mark.parametrize(
    ("table", "statement", "ask"),
    [
        ("outbox", "UPDATE outbox SET leaf = 'x'", lambda desk: desk.outbox.all()),
        ("outbox", "UPDATE outbox SET done = 0", lambda desk: desk.outbox.get("a/1", 1)),
        ("runs", "UPDATE runs SET handle = '{\"pid\":1}'", lambda desk: desk.runs.all()),
        ("secret", "UPDATE secret SET value = x'00'", lambda desk: desk.samples.secret(b"new")),
        (
            "samples",
            f"UPDATE samples SET salt = x'00' WHERE key = '{SAMPLES[3].key}'",
            lambda desk: desk.samples.get(SAMPLES[3].key),
        ),
        (
            "samples",
            f"UPDATE samples SET label = 'test' WHERE key = '{SAMPLES[3].key}'",
            lambda desk: desk.samples.with_tag(SAMPLES[3].tag),
        ),
    ],
)
def test_a_changed_row_is_named_at_the_read_and_at_a_start(path, table, statement, ask) -> None:
    desk = open_desk(path)
    changed(path, statement)
    told: list[StorageFailed] = []
    desk.database.reader.on_damage = told.append
    with pytest.raises(StorageFailed, match=rf"worker.db is damaged.*{table}") as caught:
        ask(desk)
    assert "Stop the node and restore" in caught.value.remedy
    assert told == [caught.value]
    desk.close()
    with pytest.raises(StorageFailed, match=r"worker.db is damaged"):
        open_desk(path)


def test_a_statement_under_another_key_is_as_sound_as_the_first(path: Path) -> None:
    desk = open_desk(path)
    desk.outbox.replace(STATEMENT, b"signed anew")
    assert desk.outbox.all() == [replace(STATEMENT, leaf=b"signed anew")]
    desk.close()
    assert problems_of(path) == []


def test_a_file_of_before_gets_checksums_and_loses_nothing(path: Path, tmp_path: Path) -> None:
    before = tmp_path / "old.db"
    with closing(sqlite3.connect(before)) as old:
        old.executescript(
            """
            CREATE TABLE outbox (task TEXT NOT NULL, attempt INTEGER NOT NULL, leaf BLOB NOT NULL,
                done INTEGER NOT NULL, PRIMARY KEY (task, attempt)) WITHOUT ROWID;
            CREATE TABLE runs (task TEXT PRIMARY KEY, attempt INTEGER NOT NULL, step TEXT NOT NULL,
                handle TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE samples (key TEXT PRIMARY KEY, name TEXT NOT NULL, label TEXT NOT NULL,
                root TEXT NOT NULL, single INTEGER NOT NULL, in_place INTEGER NOT NULL,
                digest TEXT NOT NULL, tag TEXT NOT NULL UNIQUE, salt BLOB NOT NULL,
                files TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
            PRAGMA user_version = 1;
            """
        )
        with closing(sqlite3.connect(path)) as new:
            for table in ("outbox", "runs", "samples", "secret"):
                for row in new.execute(f"SELECT * FROM {table}"):
                    marks = ", ".join("?" * (len(row) - 1))
                    old.execute(f"INSERT INTO {table} VALUES ({marks})", row[:-1])
        old.commit()
    assert problems_of(before) == []  # it has no checksums yet
    desk, new_desk = open_desk(before), open_desk(path)
    assert read(desk) == read(new_desk)
    desk.close()
    new_desk.close()
    assert problems_of(before) == []
    changed(before, "UPDATE runs SET step = 'x'")
    assert problems_of(before) != []


def test_values_that_join_to_the_same_bytes_or_are_of_another_type_have_other_checksums() -> None:
    assert checksum("t", "ab", "c") != checksum("t", "a", "bc")
    assert len({checksum("t", value) for value in (b"1", 1, "1", b"'1'", 1.0)}) == 5
    assert checksum("t", 1) != checksum("u", 1)


@pytest.mark.slow
def test_a_flipped_byte_of_the_file_is_named_or_changes_no_answer(path, tmp_path) -> None:
    data = path.read_bytes()
    desk = open_desk(path)
    before = read(desk)
    desk.close()
    some = [18, 60, *random.Random(1).sample(range(len(data)), 98)]  # 18: SQLite writes no more
    wrong: list[str] = []
    for at in range(len(data)) if ALL else some:
        folder = tmp_path / "site"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (folder / "worker.db").write_bytes(flipped)
        try:
            desk = open_desk(folder / "worker.db")
            try:
                if read(desk) != before:
                    wrong.append(f"byte {at}: silently wrong")
            finally:
                desk.close()
        except TilthError as error:
            if "worker.db" not in str(error) or not error.remedy:
                wrong.append(f"byte {at}: {error}")
        except Exception as error:
            wrong.append(f"byte {at}: no words: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
