"""The scrub: a changed byte of ledger or journal is found, named with file and remedy, and given
back by other nodes where they can."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from audited_chain import Chain
from test_joining import FAR, altering, fetch_the_past, founded, joined, noise, restarted, same

from tilth_ledger.blocks import NOTARIZE, Vote
from tilth_ledger.errors import Unavailable
from tilth_ledger.journal_records import OwnVote, Promised, frame
from tilth_ledger.snapshot_rows import Place
from tilth_node.clock import Clock
from tilth_node.errors import StorageFailed
from tilth_node.scrub_part import Scrub
from tilth_node.scrub_state import ALL, ROWS, ScrubState, load, save
from tilth_node.scrubbing import scrub, scrub_rows
from tilth_node.storage.desk import open_desk
from tilth_node.storage.journal import NAME, JournalFile
from tilth_node.storage.row_tables import ALL_ROWS
from tilth_node.storage.runs import Run
from tilth_node.storage.vault import Vault

STRIDE = int(os.environ.get("SCRUB_STRIDE", "499"))  # 1: every byte of the store, some minutes


@pytest.fixture(scope="module")
def chain():
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for _ in range(6):
        chain.samples(dataset, "train", 2)
    return chain


@pytest.fixture
def site(chain, tmp_path):
    site = founded(chain, tmp_path / "site", FAR)
    yield site
    site.store.close()


def changed(site, statement, *values):
    """What a bad disk does, said in SQL."""
    with closing(sqlite3.connect(site.folder.database)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def read(connection):
    """All that is read of the file."""
    tables = ("leaves", "nodes", "blocks", "accumulator", "history", "touched")
    found = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]
    return [*found, sorted(connection.execute(ALL_ROWS))]


def test_a_whole_folder_is_clean_and_counted(site, chain):
    found = scrub(site.folder.path)
    assert found.clean, found.damages
    assert (found.blocks, found.leaves) == (len(chain.blocks), site.store.size)
    assert found.rows == len(dict(site.store.rows.scan_bytes("")))


@pytest.mark.parametrize(
    ("statement", "height"),
    [
        ("UPDATE leaves SET leaf = leaf || x'00' WHERE position = 3", True),
        ("DELETE FROM leaves WHERE position = 3", True),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 2", True),
        ("DELETE FROM nodes WHERE level = 1 AND position = 0", True),
        ("UPDATE blocks SET header = zeroblob(234) WHERE height = 4", True),
        ("UPDATE blocks SET justification = x'0000' WHERE height = 4", True),
        ("UPDATE blocks SET size = size + 1 WHERE height = 4", True),
        ("UPDATE blocks SET certificate = substr(certificate, 2) WHERE height = 4", True),
        ("UPDATE rows SET value = x'7b7d' WHERE id = 5", False),
        ("DELETE FROM rows WHERE id = 5", False),
        ("UPDATE accumulator SET state = zeroblob(2048)", False),
    ],
)
def test_whatever_is_changed_is_named_with_its_file_and_what_to_run(site, statement, height):
    changed(site, statement)
    found = scrub(site.folder.path)
    assert found.damages
    for damage in found.damages:
        assert damage.file == str(site.folder.database)
        assert damage.what
        assert damage.remedy
    assert bool(found.damages[0].height) == height


def test_every_flipped_byte_of_the_store_is_found_or_changes_nothing_that_is_read(site, tmp_path):
    site.store.close()
    with closing(sqlite3.connect(site.folder.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
        before = read(connection)
    whole = site.folder.database.read_bytes()
    unseen = 0
    for at in range(0, len(whole), STRIDE):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        site.folder.database.write_bytes(data)
        if not scrub(site.folder.path).clean:
            continue
        unseen += 1
        with closing(sqlite3.connect(site.folder.database)) as connection:
            assert read(connection) == before, f"byte {at}"
    site.folder.database.write_bytes(whole)
    assert unseen < 0.75 * len(whole) / STRIDE  # the rest of a small file is empty space
    assert scrub(site.folder.path).clean


def journal():
    votes = [
        OwnVote(Vote(NOTARIZE, 0, view, bytes((view,)) * 32, 0, bytes((view,)) * 64))
        for view in range(1, 4)
    ]
    return [*(vote.encode() for vote in votes), Promised(0, 0, 0).encode()]


def test_every_flipped_byte_of_the_journal_is_found_and_no_record_of_it_is_believed(
    chain, tmp_path
):
    bodies = journal()
    whole = frame(bodies, 0)
    last = len(frame(bodies[:-1], 0))
    folder = tmp_path / "site" / "journal"
    folder.mkdir(parents=True)
    (tmp_path / "site" / "genesis.json").write_bytes(chain.genesis.bytes)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        (folder / NAME).write_bytes(data)
        [damage] = scrub(tmp_path / "site").damages
        assert damage.file == str(folder / NAME)
        assert "tilth member rotate" in damage.remedy
        if at < last:
            with pytest.raises(StorageFailed, match=r"does not vote.*tilth node scrub"):
                JournalFile(folder)
        else:  # the mark itself, as a crash leaves it: no vote was lost
            opened = JournalFile(folder)
            assert list(opened.records) == bodies[:-1]
            assert (opened.cut_bytes, opened.damaged) == (len(whole) - last, False)
            opened.close()


def test_a_damaged_block_comes_back_from_another_node(chain, tmp_path):
    broken, whole = founded(chain, tmp_path / "a", FAR), founded(chain, tmp_path / "b", FAR)
    broken.links = {"b": whole}
    changed(broken, "UPDATE leaves SET leaf = x'00' WHERE position = 3")
    changed(broken, "UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 3")
    alarms = []
    part = Scrub(broken.folder.path, broken.past.repair, Clock())
    part.share = "100"
    part.on_alarm = lambda kind, words: alarms.append(words)
    assert asyncio.run(part.once())
    assert alarms == [""]
    assert scrub(broken.folder.path).clean
    assert broken.store.leaves(0, 100) == whole.store.leaves(0, 100)
    broken.store.close()
    whole.store.close()


def test_what_nobody_can_give_back_is_told_to_the_operator(chain, tmp_path):
    broken, liar = founded(chain, tmp_path / "a", FAR), founded(chain, tmp_path / "b", FAR)
    broken.links = {"b": liar}
    altering(liar, "past", noise)
    changed(broken, "UPDATE leaves SET leaf = x'00' WHERE position = 3")
    changed(broken, "UPDATE rows SET value = x'7b7d' WHERE id = 5")
    alarms = []
    part = Scrub(broken.folder.path, broken.past.repair, Clock())
    part.share = "100"
    part.on_alarm = lambda kind, words: alarms.append(words)
    assert not asyncio.run(part.once())
    assert [name for name, _ in broken.faults] == ["b"]
    assert "ledger.db" in alarms[0]
    assert f"move {broken.folder.database}" in alarms[0]
    broken.store.close()
    liar.store.close()


ROWS_CHANGED = "UPDATE rows SET value = x'7b7d' WHERE rowid = 5"


def test_damaged_rows_are_replaced_by_a_snapshot_from_another_node(chain, tmp_path):
    broken, whole = founded(chain, tmp_path / "a", FAR), founded(chain, tmp_path / "b", FAR)
    broken.links = {"b": whole}
    changed(broken, ROWS_CHANGED)
    part = Scrub(broken.folder.path, broken.past.repair, Clock())
    part.share = "100"
    part.on_damage = broken.joining.begin_anew
    assert not asyncio.run(part.once())
    assert str(broken.folder.database) in broken.held[0]
    assert "does not vote" in broken.held[0]
    with pytest.raises(Unavailable):
        asyncio.run(anext(broken.joining.serve("b", Place().encode())))
    assert joined(broken, "b", height=len(chain.blocks))  # no higher than itself
    restarted(broken, chain)
    same(broken, whole)
    fetch_the_past(broken)
    assert scrub(broken.folder.path).clean
    broken.store.close()
    whole.store.close()


def test_what_a_second_look_does_not_find_stops_nobody(chain, tmp_path):
    site = founded(chain, tmp_path / "a", FAR)
    told, looks = [], []
    part = Scrub(site.folder.path, site.past.repair, Clock())
    part.on_damage = told.append
    look = part._look
    damage = {
        "file": str(site.folder.database),
        "what": "x",
        "remedy": "y",
        "height": 0,
        "blob": "",
    }

    async def once_wrong(what):
        looks.append(1)
        return [damage] if len(looks) == 1 else await look(what)

    part._look, part.share = once_wrong, "100"
    assert not asyncio.run(part.once())
    assert (len(looks), told) == (2, [])
    site.store.close()


def test_what_the_worker_keeps_is_looked_at_too(site):
    vault = Vault(site.folder.path / "vault", floor_bytes=0)
    blob, other = vault.write(b"a model"), vault.write(b"another")
    desk = open_desk(site.folder.path / "worker.db")
    desk.runs.put(Run("a/1", 1, "train", "{}"))
    found = scrub(site.folder.path)
    assert (found.damages, found.blobs) == ([], 2)
    vault.path(blob.digest).chmod(0o644)
    vault.path(blob.digest).write_bytes(b"b model")
    with closing(sqlite3.connect(site.folder.path / "worker.db")) as connection, connection:
        connection.execute("UPDATE runs SET handle = '{ }'")
    database, model = scrub(site.folder.path).damages
    assert database.file.endswith("worker.db")
    assert "restore" in database.remedy
    assert (model.file, model.blob) == (str(vault.path(blob.digest)), blob.digest)
    desk.close()

    part = Scrub(site.folder.path, site.past.repair, Clock())
    part.share, part.on_blob = "100", vault.sound
    assert not asyncio.run(part.once())
    assert (vault.has(blob.digest), vault.has(other.digest)) == (False, True)
    [_, aside] = scrub(site.folder.path).damages
    assert aside.file.endswith(f"damaged/{blob.digest}")


def test_what_is_made_of_blobs_is_looked_at_too(site):
    home = site.folder.path
    open_desk(home / "worker.db").close()
    (home / "code" / ("ab" * 32)).mkdir(parents=True)
    (home / "local" / "a+1" / "a+2").mkdir(parents=True)
    [code] = scrub(home).damages
    assert code.file == str(home / "code" / ("ab" * 32))
    assert "unpacked again" in code.remedy


class Noon(Clock):
    def wall_ms(self):
        return 43_200_000


def test_a_look_at_the_rows_alone_finds_a_changed_row_and_no_changed_block(site):
    seen = []
    assert scrub_rows(site.folder.path, lambda worked, percent: seen.append(percent)).clean
    assert seen == sorted(seen)
    changed(site, "UPDATE leaves SET leaf = x'00' WHERE position = 3")
    assert scrub_rows(site.folder.path).clean
    changed(site, ROWS_CHANGED)
    [damage] = scrub_rows(site.folder.path).damages
    assert damage.file == str(site.folder.database)


def test_what_a_look_found_and_when_outlives_the_process(site):
    part = Scrub(site.folder.path, site.past.repair, Noon())
    part.share = "100"
    assert part.state == ScrubState()
    assert asyncio.run(part.once(ROWS))
    assert part.state == ScrubState(0, 43_200_000, 0, 0)
    changed(site, "UPDATE leaves SET leaf = x'00' WHERE position = 3")
    assert not asyncio.run(part.once(ALL))  # there is nobody who gives it back
    assert asyncio.run(part.once(ROWS))  # which says nothing of leaves
    again = Scrub(site.folder.path, site.past.repair, Noon())
    assert again.state == ScrubState(43_200_000, 43_200_000, 1, 1)
    assert again.percent is None


def test_a_look_that_does_not_come_to_its_end_found_nothing_and_says_nothing(site):
    part = Scrub(site.folder.path, site.past.repair, Noon())
    part.share = "none"
    alarms = []
    part.on_alarm = lambda kind, words: alarms.append(words)
    assert not asyncio.run(part.once())
    assert (part.state, alarms) == (ScrubState(), [])


def test_how_far_a_look_is_can_be_seen_while_it_runs(site):
    seen = []

    class Watched(Scrub):
        def __setattr__(self, name, value):
            if name == "percent":
                seen.append(value)
            super().__setattr__(name, value)

    watched = Watched(site.folder.path, site.past.repair, Noon())
    watched.share = "100"
    assert asyncio.run(watched.once())
    assert seen[:2] == [None, 0]
    assert seen[2:-1] == sorted(seen[2:-1])
    assert seen[-2] > 50
    assert seen[-1] is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"all_ms":-1}', b"\xff", b"9" * 9000])
def test_a_file_of_looks_that_makes_no_sense_is_as_none(tmp_path, data):
    file = tmp_path / "run" / "scrub.json"
    assert load(file) == ScrubState()
    save(file, ScrubState(5, 6, 1, 0))
    assert load(file) == ScrubState(5, 6, 1, 0)
    file.write_bytes(data)
    assert load(file) == ScrubState()


def test_a_read_that_finds_damage_ends_the_node_whoever_asked(chain, tmp_path):
    site = founded(chain, tmp_path / "a", FAR)
    part = Scrub(site.folder.path, site.past.repair, Clock())
    site.store.on_damage(part.fail)
    changed(site, "UPDATE leaves SET leaf = x'00' WHERE position = 3")
    with pytest.raises(StorageFailed, match="another leaf 3") as caught:
        site.store.leaves(0, 10)
    assert f"tilth node scrub {site.folder.path}" in caught.value.remedy
    changed(site, "UPDATE rows SET value = x'7b' WHERE rowid = 5")
    with pytest.raises(StorageFailed):
        list(site.store.rows.scan(""))
    with pytest.raises(StorageFailed, match="is damaged"):
        asyncio.run(part.run())
    site.store.close()


def test_the_command_ends_with_one_when_something_is_damaged(site):
    def scrubbed():
        return subprocess.run(
            [sys.executable, "-m", "tilth.cli", "node", "scrub", str(site.folder.path)],
            capture_output=True,
            text=True,
            check=False,
        )

    done = scrubbed()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "clean")
    changed(site, "DELETE FROM leaves WHERE position = 2")
    done = scrubbed()
    assert done.returncode == 1
    assert f"damaged {site.folder.database}" in done.stdout


def test_a_folder_without_a_node_is_refused(tmp_path: Path):
    with pytest.raises(Exception, match="not the folder of a node"):
        scrub(tmp_path)
