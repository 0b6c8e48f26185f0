"""`tilth audit FOLDER`: a node's file as it lies on a disk, whole or with any byte changed."""

import json
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from audited_chain import Chain

from tilth.cli import main
from tilth_ledger.errors import InvalidInput
from tilth_ledger.findings import Report
from tilth_ledger.journal_records import Blank, Promised, frame
from tilth_node import auditing
from tilth_node.storage.ledger_store import LedgerStore

Shell = Callable[..., SimpleNamespace]


def stored(folder: Path, chain: Chain, blocks: slice = slice(None)) -> LedgerStore:
    """A node's folder with (some of) a ledger, and the store that a node holds open."""
    folder.mkdir(exist_ok=True)
    (folder / "genesis.json").write_bytes(chain.genesis.bytes)
    store = LedgerStore(folder / "ledger.db")
    if not store.seeded:
        first = chain.proposer[0].genesis_state()
        store.seed(first.changes, first.accumulator)
    for (block, certificate), state in list(zip(chain.blocks, chain.states, strict=True))[blocks]:
        store.apply([(block, state)], certificate)
    return store


@pytest.fixture(scope="module")
def chain() -> Chain:
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for _ in range(6):
        chain.samples(dataset, "train", 2)
    leaves = [
        chain.entry("hospital-b", chain.dataset_operation("hospital-b", name=f"data {number}"))
        for number in range(9)
    ]
    chain.record(*leaves)
    return chain


@pytest.fixture
def folder(tmp_path: Path, chain: Chain) -> Path:
    stored(tmp_path / "node", chain).close()
    return tmp_path / "node"


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def kinds(report: Report) -> set[str]:
    return {each.what for each in report.findings}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_whole_folder_is_clean_and_stays_as_it_is(folder: Path, chain: Chain) -> None:
    before = files(folder)
    report = auditing.audit(folder)
    assert report.clean, report.findings
    assert (report.height, report.size) == (len(chain.blocks), len(chain.leaves))
    after = files(folder)
    assert {name: after[name] for name in before} == before


def test_a_folder_that_nobody_may_write_is_audited(folder: Path) -> None:
    (folder / "ledger.db").chmod(0o400)
    folder.chmod(0o500)
    try:
        assert auditing.audit(folder).clean
    finally:
        folder.chmod(0o700)


def test_a_ledger_is_audited_beside_the_node_that_writes_it(tmp_path: Path, chain: Chain) -> None:
    half = len(chain.blocks) // 2
    store = stored(tmp_path / "node", chain, slice(None, half))
    assert auditing.audit(tmp_path / "node").height == half
    went_on = False

    def go_on(_counts: object, _height: int) -> None:
        nonlocal went_on
        if not went_on:
            went_on = True
            stored(tmp_path / "node", chain, slice(half, None)).close()

    report = auditing.audit(tmp_path / "node", show=go_on)
    store.close()
    assert report.clean, report.findings
    assert report.height == len(chain.blocks)


def test_a_copy_of_a_live_folder_with_its_log_is_audited(tmp_path: Path, chain: Chain) -> None:
    store = stored(tmp_path / "node", chain)
    assert (tmp_path / "node" / "ledger.db-wal").stat().st_size > 0
    shutil.copytree(tmp_path / "node", tmp_path / "copy")
    store.close()
    report = auditing.audit(tmp_path / "copy")
    assert (report.clean, report.height) == (True, len(chain.blocks))


def test_an_audit_can_be_interrupted_and_leaves_nothing_running(folder: Path) -> None:
    before = files(folder)
    # What runs in the background of a shell ignores the signal.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(_counts: object, _height: int) -> None:
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            auditing.audit(folder, show=interrupt)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not [each for each in threading.enumerate() if each.name.startswith("verify")]
    assert {name: data for name, data in files(folder).items() if name in before} == before
    assert auditing.audit(folder).clean


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_one_flipped_byte_of_a_leaf_in_the_file_is_found(
    folder: Path, chain: Chain, place: float
) -> None:
    leaf = chain.leaves[-1]
    data = bytearray((folder / "ledger.db").read_bytes())
    tail = leaf[-200:]  # what a page holds in one piece
    at = data.index(tail) + int(place * len(tail))
    data[at] ^= 1
    (folder / "ledger.db").write_bytes(data)
    report = auditing.audit(folder)
    assert "tree" in kinds(report)
    assert {"signature", "rule"} & kinds(report)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE rows SET value = '{}' WHERE id = 9", "row"),
        ("DELETE FROM recent WHERE key LIKE 'entry/%'", "row"),
        ("UPDATE recent SET key = 'task/invented' WHERE id = 9", "row"),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE level = 1 AND position = 2", "tree"),
        ("DELETE FROM nodes WHERE level = 2", "tree"),
        ("INSERT INTO nodes VALUES (40, 7, zeroblob(32))", "storage"),
        ("INSERT INTO leaves VALUES (9999, x'00')", "storage"),
        ("DELETE FROM leaves WHERE position = 3", "header"),
        ("UPDATE leaves SET leaf = 5 WHERE position = 3", "tree"),
        ("UPDATE blocks SET certificate = zeroblob(150)", "certificate"),
        ("UPDATE blocks SET certificate = NULL", "certificate"),
        ("UPDATE blocks SET justification = x'00' WHERE height = 4", "justification"),
        ("UPDATE blocks SET size = 'many' WHERE height = 4", "header"),
        ("UPDATE blocks SET size = 1 << 60 WHERE height = 4", "header"),
        ("DELETE FROM blocks WHERE height = 5", "chain"),
        ("UPDATE accumulator SET state = zeroblob(2048)", "state"),
        ("DELETE FROM accumulator", "state"),
    ],
)
def test_what_was_changed_in_a_table_is_found(folder: Path, statement: str, what: str) -> None:
    change(folder, statement)
    assert what in kinds(auditing.audit(folder))


def test_no_flipped_byte_of_the_file_makes_the_audit_fail(folder: Path) -> None:
    whole = (folder / "ledger.db").read_bytes()
    caught = 0
    places = range(0, len(whole), len(whole) // 80)
    for place in places:
        data = bytearray(whole)
        data[place] ^= 0x55
        (folder / "ledger.db").write_bytes(data)
        try:
            caught += not auditing.audit(folder).clean
        except InvalidInput:
            caught += 1
    assert caught > len(places) // 3  # the rest lies where SQLite keeps nothing


def test_a_page_that_cannot_be_read_is_a_finding_not_an_error(folder: Path) -> None:
    data = bytearray((folder / "ledger.db").read_bytes())
    for page in range(4096 * 2, len(data), 4096):
        data[page] = 0x77  # no kind of page
    (folder / "ledger.db").write_bytes(data)
    report = auditing.audit(folder)
    assert "storage" in kinds(report)
    assert report.stopped


@pytest.mark.rule("F8")
def test_a_ledger_shorter_than_its_journal_promises_is_found(folder: Path, chain: Chain) -> None:
    (folder / "journal").mkdir()
    height, size = len(chain.blocks), chain.state.size
    for promised, holds in ((height, True), (height + 1, False)):
        records = [Promised(height, height - 1, size).encode(), Promised(0, promised, 0).encode()]
        (folder / "journal" / "votes").write_bytes(frame(records, 0))
        assert auditing.audit(folder).clean is holds
    whole = frame(records, 0)
    (folder / "journal" / "votes").write_bytes(whole[:-1])  # a torn tail is no damage
    assert auditing.audit(folder).clean
    blank = Blank(False).encode()
    middle, end = frame([blank, records[0]], 0), frame([records[0], blank], 0)
    for damaged in (b"?" + middle[1:], end[:-1] + b"?"):
        (folder / "journal" / "votes").write_bytes(damaged)
        assert kinds(auditing.audit(folder)) == {"storage"}


@pytest.mark.parametrize("absent", ["genesis.json", "ledger.db"])
def test_a_folder_without_a_ledger_cannot_be_read(folder: Path, absent: str) -> None:
    (folder / absent).unlink()
    with pytest.raises(InvalidInput, match="no ledger"):
        auditing.audit(folder)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    def run(*words: str) -> SimpleNamespace:
        code = main(list(words))
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def test_the_command_says_clean_with_exit_code_0(folder: Path, chain: Chain, shell: Shell) -> None:
    said = shell("audit", str(folder))
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1] == "clean"
    facts = json.loads(shell("audit", str(folder), "--json", "--hash", chain.genesis.net).out)
    assert facts["clean"] is True
    assert facts["root"] == chain.state.root.hex()


def test_the_command_names_what_it_found_with_exit_code_1(folder: Path, shell: Shell) -> None:
    change(folder, "INSERT INTO rows VALUES (99999, x'7b7d')")
    change(folder, "INSERT INTO recent VALUES (99999, 1, 'task/\x1b[2Jinvented')")
    said = shell("audit", str(folder))
    assert said.code == 1
    assert "row task/?[2Jinvented" in said.out
    assert said.out.splitlines()[-1].startswith("NOT CLEAN: 1")
    facts = json.loads(shell("audit", str(folder), "--json").out)
    assert [each["what"] for each in facts["findings"]] == ["row"]


def test_the_command_ends_with_2_when_there_is_nothing_to_read(
    folder: Path, tmp_path: Path, shell: Shell
) -> None:
    assert shell("audit", str(tmp_path / "nowhere")).code == 2
    wrong = shell("audit", str(folder), "--hash", "0" * 64, "--json")
    assert wrong.code == 2
    assert json.loads(wrong.out)["error"]["expected"] == "0" * 64
    (folder / "ledger.db").write_bytes(b"not a database at all" * 100)
    assert shell("audit", str(folder)).code == 2
