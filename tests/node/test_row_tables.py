"""Rows that are merged late into the index of keys: whatever happens when, they read as rows in
memory do, and a file that is opened again reads the same."""

import random
import sqlite3
from contextlib import closing

import pytest
from test_ledger_store import Changes, certificate_of, chain

from tilth_ledger.errors import InvalidInput
from tilth_ledger.rows import MemoryRows
from tilth_node.errors import StorageFailed
from tilth_node.storage import ledger_store
from tilth_node.storage.fresh_keys import FreshKeys
from tilth_node.storage.key_filter import KeyFilter
from tilth_node.storage.ledger_copy import LedgerCopy
from tilth_node.storage.ledger_store import LedgerStore, peek_rows

COMMITS = 50
VERSION_3 = """
CREATE TABLE leaves (position INTEGER PRIMARY KEY, leaf BLOB NOT NULL);
CREATE TABLE nodes (
  level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (level, position)
) WITHOUT ROWID;
CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE touched (size INTEGER PRIMARY KEY, keys TEXT NOT NULL);
CREATE TABLE blocks (
  height INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  header BLOB NOT NULL,
  justification BLOB NOT NULL,
  certificate BLOB,
  void BLOB
);
CREATE INDEX blocks_by_size ON blocks (size);
CREATE TABLE accumulator (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
CREATE TABLE history (
  id INTEGER PRIMARY KEY CHECK (id = 1), height INTEGER NOT NULL, size INTEGER NOT NULL
);
PRAGMA user_version = 3;
"""

# Its tables of rows; the others are as they were.
VERSION_4 = """
DROP TABLE rows;
DROP TABLE touched;
CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE recent (id INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE merging (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  done INTEGER NOT NULL, last INTEGER NOT NULL, place TEXT NOT NULL
);
CREATE TABLE touched (
  size INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL,
  keys TEXT NOT NULL, digest BLOB NOT NULL
);
PRAGMA user_version = 4;
"""


@pytest.fixture(params=[1, 20])
def few(request, monkeypatch):
    """So many keys wait before they are merged."""
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", request.param)
    monkeypatch.setattr("tilth_node.storage.row_tables.FILTER_KEYS", 9)
    monkeypatch.setattr("tilth_node.storage.key_filter.LEAST_BITS", 64)  # it is soon too small
    monkeypatch.setattr("tilth_node.storage.fresh_keys.SHELF", 3)
    return request.param


@pytest.fixture
def blocks():
    return chain(*((b"leaf %d" % n,) for n in range(COMMITS)))


def some_changes(random_rows, known):
    """New rows, rows that change, rows that go and rows that come back."""
    names = [f"{family}/{random_rows.randrange(90)}" for family in "abc" for _ in range(3)]
    changes = {name: b'{"n":%d}' % random_rows.randrange(1000) for name in names}
    for name in random_rows.sample(sorted(known), min(3, len(known))):
        changes[name] = None
    return changes


def same(rows, expected):
    assert dict(rows.scan_bytes("")) == expected
    assert [key for key, _ in rows.scan("b/")] == sorted(
        key for key in expected if key.startswith("b/")
    )
    for key in (*list(expected)[:5], "a/none"):
        assert rows.get_bytes(key) == expected.get(key)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("seed", range(2))
def test_rows_read_as_those_in_memory_and_after_every_start(tmp_path, blocks, seed):
    random_rows = random.Random(seed)
    store = LedgerStore(tmp_path / "ledger.db")
    memory = MemoryRows()
    for block, _ in blocks:
        changes = some_changes(random_rows, dict(memory.items()))
        store.apply([(block, Changes(changes))], certificate_of(block))
        memory.apply(changes)
        expected = dict(memory.items())
        same(store.rows, expected)
        if random_rows.random() < 0.3:
            store.rows.get_ready()
        if random_rows.random() < 0.2:
            store.close()
            store = LedgerStore(tmp_path / "ledger.db")
            same(store.rows, expected)
            assert dict(peek_rows(store.path, "a/")).keys() == {
                key for key in expected if key.startswith("a/")
            }
            with LedgerCopy(store.path) as copy:
                assert dict(copy.rows()) == expected
                assert copy.problems() == []
    store.close()


def test_what_changed_after_a_size_is_known_whole_or_not_at_all(tmp_path, blocks, few):
    random_rows = random.Random(5)
    store = LedgerStore(tmp_path / "ledger.db")
    changed = []
    for size, (block, _) in enumerate(blocks, 1):
        changes = some_changes(random_rows, dict(store.rows.scan_bytes("")))
        held = {key for key in changes if store.rows.get_bytes(key) is not None}
        store.apply([(block, Changes(changes))], certificate_of(block))
        changed.append({key for key, value in changes.items() if value is not None or key in held})
        for since in (0, size // 2, size - 2, size - 1, size):
            told = store.touched_after(since)
            if told is not None:
                assert set().union(*told) == set().union(*changed[since:])
    assert store.touched_after(COMMITS - 1) is not None or few == 1
    store.close()


def test_a_filter_denies_no_key_that_it_was_given_and_few_others():
    keys = [f"sample/hospital-a/{n:032x}" for n in range(20_000)]
    some = KeyFilter(len(keys))
    assert not any(some.may_hold(key) for key in keys)
    some.add(keys)
    assert all(some.may_hold(key) for key in keys)
    assert sum(some.may_hold(f"tag/{n}") for n in range(10_000)) < 700
    assert some.room(100_000)
    assert not some.room(200_000)
    assert KeyFilter(10**9).room(10**9)  # as large as it may be


def test_a_store_that_is_ready_looks_for_no_new_key_in_its_index(tmp_path, blocks, monkeypatch):
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 10)
    store = LedgerStore(tmp_path / "ledger.db")
    while not store.rows.get_ready():
        pass
    asked = []
    store.rows._reader.set_trace_callback(asked.append)
    for number, (block, _) in enumerate(blocks):
        key = f"{number * 7919 % 97}/{number}"
        assert store.rows.get_bytes(key) is None
        store.apply([(block, Changes({key: b"{}"}))], certificate_of(block))
    assert not [query for query in asked if "FROM keys JOIN" in query]
    assert store.rows.get_bytes("0/0") == b"{}"
    store.close()


def test_no_commit_merges_more_keys_than_it_adds(tmp_path, blocks, monkeypatch):
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 30)
    store = LedgerStore(tmp_path / "ledger.db")

    def count(table):
        with closing(sqlite3.connect(store.path)) as connection:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    merged = 0
    for number, (block, _) in enumerate(blocks):
        store.apply(
            [(block, Changes({f"{number * 7919 % 97}/{n}": b"{}" for n in range(5)}))],
            certificate_of(block),
        )
        assert count("keys") - merged <= 10
        merged = count("keys")
        assert count("rows") - merged <= 35
        assert count("recent") <= 2 * 35
    assert merged > 150
    store.close()


def test_a_lap_takes_along_what_comes_ahead_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 50)
    store = LedgerStore(tmp_path / "ledger.db")
    names = random.Random(3).sample(range(10**6), 1500)
    for number, (block, _) in enumerate(chain(*((b"leaf %d" % n,) for n in range(150)))):
        keys = [f"key/{name:06}" for name in names[10 * number : 10 * number + 10]]
        store.apply([(block, Changes(dict.fromkeys(keys, b"{}")))], certificate_of(block))
    with closing(sqlite3.connect(store.path)) as connection:
        (laps,) = connection.execute("SELECT lap - 1 FROM merging").fetchone()
        (lines,) = connection.execute("SELECT count(*) FROM recent").fetchone()
    assert 1450 / laps > 1.7 * 50  # keys a lap, of which 50 wait
    assert lines < 2.5 * 50
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys SET id = id + 1 WHERE id = 3",
        "UPDATE recent SET key = key || 'x' WHERE id = (SELECT max(id) FROM recent)",
        "UPDATE recent SET key = key || 'x' WHERE id = (SELECT min(id) FROM recent)",
        "DELETE FROM keys WHERE id = 3",
        "DELETE FROM merging",
        "UPDATE merging SET place = 'a'",
        "UPDATE merging SET lap = lap - 1",
        "UPDATE merging SET lap = lap + 1",
        "UPDATE recent SET lap = lap + 1 WHERE id = (SELECT max(id) FROM recent)",
        "UPDATE recent SET lap = lap - 1 WHERE id = (SELECT max(id) FROM recent)",
        "UPDATE recent SET lap = lap + 2 WHERE id = (SELECT min(id) FROM recent)",
        "INSERT INTO rows VALUES (99999, x'7b7d')",
        "UPDATE touched SET keys = '[]' WHERE size = (SELECT max(size) FROM touched)",
        "UPDATE touched SET last = last - 1 WHERE size = (SELECT max(size) FROM touched)",
    ],
)
def test_whatever_is_changed_beside_the_values_is_seen(tmp_path, blocks, monkeypatch, statement):
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 30)
    store = LedgerStore(tmp_path / "ledger.db")
    for number, (block, _) in enumerate(blocks):
        rows = {f"{number * 7919 % 23}/{n}": b"{}" for n in range(5)}
        store.apply([(block, Changes(rows))], certificate_of(block))
    before = dict(store.rows.scan_bytes(""))
    store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1
    with LedgerCopy(store.path) as copy:
        assert copy.problems() or dict(copy.rows()) != before


def test_a_line_of_what_changed_that_was_damaged_is_not_believed(tmp_path, blocks):
    store = LedgerStore(tmp_path / "ledger.db")
    for block, changes in blocks[:6]:
        store.apply([(block, changes)], certificate_of(block))
    store.close()
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE touched SET last = first - 1 WHERE size = 4")
    store = LedgerStore(store.path)
    assert list(store.touched_after(2)) == [["row/3"]]
    assert store.touched_after(2) is None
    assert list(store.touched_after(4)) == [["row/5"], ["row/6"]]
    store.close()


def test_a_file_of_version_3_is_brought_up_to_date_at_the_start(tmp_path):
    path = tmp_path / "ledger.db"
    rows = {f"{n * 7919 % 97}/{n}": b'{"n":%d}' % n for n in range(300)}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_3)
        connection.executemany("INSERT INTO rows VALUES (?, ?)", rows.items())
        connection.execute("DELETE FROM rows WHERE rowid = 17")
        connection.execute("INSERT INTO accumulator VALUES (1, zeroblob(2048))")
    del rows[list(rows)[16]]
    with pytest.raises(InvalidInput, match="another version"):
        peek_rows(path, "")
    store = LedgerStore(path)
    same(store.rows, rows)
    [(block, _)] = chain((b"one",))
    store.apply([(block, Changes({"new/1": b"{}"}))], certificate_of(block))
    store.close()
    with LedgerCopy(path) as copy:
        copy.check_schema()
        assert dict(copy.rows()) == rows | {"new/1": b"{}"}
        assert copy.problems() == []


@pytest.mark.parametrize(("done", "last", "place"), [(0, 0, ""), (0, 200, "4"), (100, 250, "7/7")])
def test_a_file_of_version_4_is_brought_up_to_date_wherever_its_merge_was(
    tmp_path, blocks, monkeypatch, done, last, place
):
    monkeypatch.setattr("tilth_node.storage.row_tables.MERGE_ROWS", 60)
    path = tmp_path / "ledger.db"
    rows = {f"{n * 7919 % 97}/{n}": b'{"n":%d}' % n for n in range(1, 301)}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_3 + VERSION_4)
        connection.execute("INSERT INTO merging VALUES (1, ?, ?, ?)", (done, last, place))
        for number, (key, value) in enumerate(rows.items(), 1):
            connection.execute("INSERT INTO rows VALUES (?, ?)", (number, value))
            connection.execute("INSERT INTO recent VALUES (?, ?)", (number, key))
            if number <= done or (number <= last and key <= place):
                connection.execute("INSERT INTO keys VALUES (?, ?)", (key, number))
        connection.execute("INSERT INTO accumulator VALUES (1, zeroblob(2048))")
    store = LedgerStore(path)
    same(store.rows, rows)
    for number, (block, _) in enumerate(blocks):
        new = {f"{number * 31 % 97}/new-{n}": b"{}" for n in range(10)}
        store.apply([(block, Changes(new))], certificate_of(block))
        rows |= new
    same(store.rows, rows)
    store.close()
    with LedgerCopy(path) as copy:
        copy.check_schema()
        assert dict(copy.rows()) == rows
        assert copy.problems() == []


@pytest.mark.rule("F7")
def test_an_update_that_has_no_room_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_3)
        connection.execute("INSERT INTO rows VALUES ('a/1', x'7b7d')")
    whole = dict(ledger_store.UPGRADES)
    broken = {3: whole[3].replace("DROP TABLE old_rows", "INSERT INTO keys VALUES ('a/1', 1)")}
    monkeypatch.setattr(ledger_store, "UPGRADES", broken)
    with pytest.raises(StorageFailed, match="brought up to date"):
        LedgerStore(path)
    monkeypatch.setattr(ledger_store, "UPGRADES", whole)
    store = LedgerStore(path)
    assert dict(store.rows.scan_bytes("")) == {"a/1": b"{}"}
    store.close()


@pytest.mark.parametrize("seed", range(3))
def test_fresh_keys_stand_in_order_whichever_come_and_go(monkeypatch, seed):
    monkeypatch.setattr("tilth_node.storage.fresh_keys.SHELF", 2)
    some = random.Random(seed)
    names = sorted(
        {"".join(some.choices("a/-~é\U0010ffff", k=some.randrange(1, 5))) for _ in range(200)}
    )
    expected = {name: number for number, name in enumerate(names[::3])}
    fresh = FreshKeys(expected.items())
    for _ in range(200):
        name = some.choice(names)
        if name not in expected:
            expected[name] = some.randrange(2**40)
            fresh.add([(name, expected[name])])
        gone = some.choices(names, k=2)
        fresh.remove(gone)
        for each in gone:
            expected.pop(each, None)
        low, high = sorted(some.choices(names, k=2))
        pairs = sorted(expected.items())
        assert len(fresh) == len(pairs)
        assert list(fresh.scan(low, high)) == [p for p in pairs if low <= p[0] <= high]
        assert list(fresh.scan(low + "\0", high)) == [p for p in pairs if low < p[0] <= high]
        front = fresh.front(low, 3)
        assert front == [p for p in pairs if p[0] > low][:3]
        assert fresh.number_of(name) == expected.get(name)
        if some.random() < 0.2:
            fresh.merged(low, front)
            expected = {
                key: number for key, number in expected.items() if (key, number) not in front
            }
