"""The store: one transaction for what is final, rows in order, nothing after a torn write."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header, Justification
from tilth_ledger.errors import Fatal, InvalidInput
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier, NewNode, leaf_hash, root_of
from tilth_ledger.rows import MemoryRows, Overlay
from tilth_node.errors import StorageFailed
from tilth_node.storage.ledger_store import LedgerStore, StoredRows, peek

NET = bytes(range(32))


@dataclass
class Changes:
    """What executing a block left behind."""

    changes: dict[str, bytes | None] = field(default_factory=dict)
    new_nodes: tuple[NewNode, ...] = ()
    accumulator: bytes = bytes(2048)


def certificate_of(block: Block) -> Certificate:
    return Certificate(FINALIZE, 0, block.header.view, block.hash, 1, (0,), (bytes(64),))


def chain(*bodies: tuple[bytes, ...]) -> list[tuple[Block, Changes]]:
    """Blocks with these leaves, each on the one before."""
    made: list[tuple[Block, Changes]] = []
    frontier, parent, leaves = Frontier(), NET, []
    for height, body in enumerate(bodies, 1):
        nodes: list[NewNode] = []
        for leaf in body:
            frontier, new = frontier.append(leaf_hash(leaf))
            nodes += new
            leaves.append(leaf)
        why = Justification(None)
        header = Header(
            *(NET, 0, height, height, parent, height - 1, why.skips_digest, len(body)),
            *(frontier.size, frontier.root(), LtHash().digest(), height, 0),
        )
        block = Block(header, body, why)
        changes = Changes({f"row/{height}": b'{"h":%d}' % height}, tuple(nodes))
        made.append((block, changes))
        parent = block.hash
    return made


@pytest.fixture
def store(tmp_path: Path) -> LedgerStore:
    return LedgerStore(tmp_path / "ledger.db")


def test_an_empty_store_has_no_tip(store: LedgerStore) -> None:
    assert store.tip() is None
    assert (store.size, store.seeded) == (0, False)


def test_the_rows_of_genesis_are_there_before_the_first_block(store: LedgerStore) -> None:
    store.seed({"organization/a": b'{"name":"A"}'}, bytes(2048))
    assert store.rows.get("organization/a") == {"name": "A"}
    assert store.seeded


@pytest.mark.rule("F4")
def test_blocks_leaves_tree_rows_and_certificate_come_together(
    store: LedgerStore, tmp_path: Path
) -> None:
    blocks = chain((b"one", b"two"), (), (b"three",))
    last = blocks[-1][0]
    store.apply(blocks, certificate_of(last))
    store.close()
    again = LedgerStore(tmp_path / "ledger.db")
    tip = again.tip()
    assert tip is not None
    assert (tip.header, tip.certificate) == (last.header, certificate_of(last))
    assert tip.frontier.root() == root_of([leaf_hash(x) for x in (b"one", b"two", b"three")])
    assert again.leaves(0, 10) == [b"one", b"two", b"three"]
    assert again.rows.get("row/3") == {"h": 3}
    assert [again.block(height) for height in (1, 2, 3)] == [b.encode() for b, _ in blocks]
    assert [again.certificate(height) is not None for height in (1, 2, 3)] == [False, False, True]
    assert again.block(4) is None
    assert peek(tmp_path / "ledger.db") == last.header


@pytest.mark.rule("F4")
def test_a_write_that_fails_in_its_middle_leaves_nothing(store: LedgerStore) -> None:
    blocks = chain((b"one",), (b"two",))
    twice = [blocks[0], blocks[1], blocks[1]]
    with pytest.raises(StorageFailed) as caught:
        store.apply(twice, certificate_of(blocks[1][0]))
    assert isinstance(caught.value, Fatal)
    assert (store.tip(), store.size, store.rows.get("row/1")) == (None, 0, None)
    with pytest.raises(StorageFailed):
        store.apply(blocks, certificate_of(blocks[1][0]))  # what is on disk is unknown
    store.close()
    again = LedgerStore(store.path)
    again.apply(blocks, certificate_of(blocks[1][0]))
    assert again.size == 2
    again.close()


@pytest.mark.rule("A2")
def test_a_leaf_s_size_is_that_of_its_own_block_however_long_the_ledger(store: LedgerStore) -> None:
    blocks = chain((b"one", b"two"), (), (b"three",))
    store.apply(blocks, certificate_of(blocks[-1][0]))
    assert [store.size_with(index) for index in range(3)] == [2, 2, 3]
    with pytest.raises(Fatal, match="no block"):
        store.size_with(3)


def test_a_hole_in_the_tree_stops_the_node(store: LedgerStore) -> None:
    with pytest.raises(Fatal, match="hole"):
        store.node(0, 5)


def test_a_file_of_another_version_is_refused(store: LedgerStore, tmp_path: Path) -> None:
    import sqlite3

    store.close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InvalidInput, match="another version"):
        LedgerStore(tmp_path / "ledger.db")


def some_rows() -> dict[str, bytes]:
    keys = ["a/1", "a/10", "a/2", "b/1", "a", "a/é", "a/\U0001f600", "a/\uffee", "c%/1", "c_/1"]
    keys += [f"many/{i:05}" for i in range(600)]
    return {key: b'{"key":%d}' % i for i, key in enumerate(keys)}


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "b/", "many/", "c%", "z"])
@pytest.mark.parametrize("after", ["", "a/1", "a/2", "many/00255", "zzz"])
@pytest.mark.parametrize("limit", [None, 1, 256, 300])
def test_stored_rows_scan_like_rows_in_memory(
    store: LedgerStore, prefix: str, after: str, limit: int | None
) -> None:
    rows = some_rows()
    store.seed(rows, bytes(2048))
    expected = list(MemoryRows(rows).scan(prefix, after, limit))
    assert list(store.rows.scan(prefix, after, limit)) == expected


def test_an_overlay_on_stored_rows_reads_through(store: LedgerStore) -> None:
    store.seed(some_rows(), bytes(2048))
    stored: StoredRows = store.rows
    overlay = Overlay(stored)
    overlay.delete("a/1")
    overlay.put("a/11", {"new": True})
    assert [key for key, _ in overlay.scan("a/1")] == ["a/10", "a/11"]
    assert stored.get("a/1") is not None


def test_void_blocks_are_kept_beside_the_block_that_they_prove(store: LedgerStore) -> None:
    end, above, higher = chain((b"end",), (), ())
    void = (above[0], higher[0])
    store.apply([end], certificate_of(void[-1]), void)
    assert store.void(1) == tuple(block.encode() for block in void)
    header, certificate = store.final_with(0)
    assert (header, certificate.block) == (void[-1].header, void[-1].hash)
    assert header.root == end[0].header.root
    assert store.block(2) is None


def test_a_block_with_a_certificate_of_its_own_needs_no_void_ones(store: LedgerStore) -> None:
    blocks = chain((b"end",), (b"next",))
    store.apply(blocks[:1], certificate_of(blocks[0][0]))
    assert (store.void(1), store.void(2)) == ((), ())
    assert store.final_with(0)[0] == blocks[0][0].header
    with pytest.raises(Fatal):
        store.final_with(1)
