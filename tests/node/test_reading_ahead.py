"""An audit with a second process that reads ahead says what an audit without it says."""

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from audited_chain import Chain
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.audit import StoredBlock
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.findings import Report
from tilth_node import auditing
from tilth_node.reading_ahead import ReadingAhead, read_block, write_block
from tilth_node.storage.ledger_copy import LedgerCopy
from tilth_node.storage.ledger_store import LedgerStore

numbers = st.integers(-(2**63), 2**63 - 1)
pieces = st.binary(max_size=40)
blocks = st.builds(
    StoredBlock,
    height=numbers,
    size=numbers,
    header=pieces,
    justification=pieces,
    leaves=st.lists(pieces, max_size=4).map(tuple),
    certificate=st.none() | pieces,
    nodes=st.lists(
        st.tuples(numbers, numbers, st.binary(min_size=32, max_size=32)), max_size=4
    ).map(tuple),
    void=st.lists(pieces, max_size=3).map(tuple),
    formed=st.booleans(),
    signed=st.booleans(),
)


@pytest.fixture(scope="module")
def chain() -> Chain:
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for _ in range(5):
        chain.samples(dataset, "train", 2)
    return chain


@pytest.fixture
def folder(tmp_path: Path, chain: Chain) -> Path:
    (tmp_path / "genesis.json").write_bytes(chain.genesis.bytes)
    store = LedgerStore(tmp_path / "ledger.db")
    first = chain.proposer[0].genesis_state()
    store.seed(first.changes, first.accumulator)
    for (block, certificate), state in zip(chain.blocks, chain.states, strict=True):
        store.apply([(block, state)], certificate)
    store.close()
    return tmp_path


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0


def audited(folder: Path, monkeypatch: pytest.MonkeyPatch, *, ahead: bool) -> Report:
    monkeypatch.setattr(auditing, "LARGE_BYTES", 0 if ahead else 1 << 60)
    return auditing.audit(folder)


@given(blocks)
def test_a_block_comes_over_as_it_was_sent(block: StoredBlock) -> None:
    assert read_block(write_block(block)) == block


@given(blocks, st.data())
def test_a_block_that_is_cut_or_changed_reads_or_is_refused(
    block: StoredBlock, data: st.DataObject
) -> None:
    whole = bytearray(write_block(block))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(whole), bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])):
        try:
            read_block(damaged)
        except InvalidInput:
            continue


@pytest.mark.parametrize(
    "node", [(1, 2, b"short"), ("one", 2, bytes(32)), (1 << 70, 2, bytes(32)), (1, None, bytes(32))]
)
def test_what_no_ledger_holds_is_not_sent(node: tuple[int, int, bytes]) -> None:
    with pytest.raises(InvalidInput):
        write_block(StoredBlock(1, 1, b"", b"", (), None, (node,)))


def test_every_block_comes_marked_and_the_place_is_the_end(folder: Path, chain: Chain) -> None:
    with ReadingAhead(folder / "ledger.db", folder / "genesis.json") as ahead:
        found = list(ahead.blocks())
    assert [each.leaves for each in found] == [block.leaves for block, _ in chain.blocks]
    assert all(each.formed and each.signed for each in found)
    assert ahead.place == (len(chain.blocks), len(chain.leaves))


@pytest.mark.parametrize(
    "statements",
    [
        (),
        ("UPDATE leaves SET leaf = 5 WHERE position = 3", "DELETE FROM nodes WHERE level = 2"),
        ("DELETE FROM leaves WHERE position = 4", "UPDATE blocks SET size = 1 << 60"),
        ("INSERT INTO nodes VALUES (0, 1.5, x'00')", "UPDATE blocks SET certificate = x'00'"),
        ("UPDATE leaves SET leaf = replace(leaf, 'train', 'trash')",),
        (
            "UPDATE leaves SET leaf = CAST(substr(leaf, 1, length(leaf) - 1) || x'00' AS BLOB)"
            " WHERE position >= 5",
        ),
    ],
)
def test_both_audits_find_the_same_in_the_same_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, statements: tuple[str, ...]
) -> None:
    change(folder, *statements)
    alone = audited(folder, monkeypatch, ahead=False)
    assert alone.clean == (not statements)
    assert audited(folder, monkeypatch, ahead=True).as_dict() == alone.as_dict()


def test_a_page_that_the_second_process_cannot_read_is_found_by_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((folder / "ledger.db").read_bytes())
    for page in range(4096 * 2, len(data), 4096):
        data[page] = 0x77  # no kind of page
    (folder / "ledger.db").write_bytes(data)
    alone = audited(folder, monkeypatch, ahead=False)
    assert "storage" in {each.what for each in alone.findings}
    assert audited(folder, monkeypatch, ahead=True).as_dict() == alone.as_dict()


def test_blocks_that_a_node_wrote_meanwhile_are_read_on(folder: Path, chain: Chain) -> None:
    change(folder, f"DELETE FROM blocks WHERE height = {len(chain.blocks)}")
    with LedgerCopy(folder / "ledger.db") as copy:
        whole = [each.height for each in copy.more_blocks()]
    with ReadingAhead(folder / "ledger.db", folder / "genesis.json") as ahead:
        assert [each.height for each in ahead.blocks()] == whole
    with LedgerCopy(folder / "ledger.db") as copy:
        copy.go_on_from((ahead.place[0] - 1, ahead.place[1] - 1))
        assert [each.height for each in copy.more_blocks()] == whole[-1:]


def test_a_second_process_that_is_killed_is_an_error_and_no_end(folder: Path) -> None:
    with ReadingAhead(folder / "ledger.db", folder / "genesis.json") as ahead:
        os.kill(ahead.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended early"):
            list(ahead.blocks())


def test_an_audit_whose_second_process_dies_is_no_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="exit code 1"):
        audited(folder, monkeypatch, ahead=True)


def test_an_audit_that_is_left_early_leaves_no_process(folder: Path) -> None:
    with ReadingAhead(folder / "ledger.db", folder / "genesis.json") as ahead:
        next(ahead.blocks())
    with pytest.raises(ProcessLookupError):
        os.kill(ahead.pid, 0)


def test_nothing_is_taken_from_the_folder_that_the_command_runs_in(
    folder: Path, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "struct.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(folder)
    with ReadingAhead(folder / "ledger.db", folder / "genesis.json") as ahead:
        assert len(list(ahead.blocks())) == len(chain.blocks)
