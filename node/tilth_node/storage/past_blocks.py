"""Blocks of the past in a ledger's file: read for others, and put where they were missing or
damaged.

- Each stretch is one transaction: what a crash leaves is a whole ledger with a shorter past.
- What is put was verified from a header that stands in the file already; it replaces what stands
  in its place.

Leaves to others: verifying (tilth_ledger.history), fetching (tilth_node.past).
"""

import sqlite3
from collections.abc import Sequence

from tilth_ledger.blocks import Block, Certificate
from tilth_ledger.history import STRETCH_BLOCKS, STRETCH_BYTES, Past, Stretch
from tilth_ledger.merkle import Frontier, NewNode
from tilth_ledger.snapshots import Milestone
from tilth_node.errors import StorageFailed
from tilth_node.storage.ledger_store import LedgerStore, write_blocks


def past_of(store: LedgerStore, height: int) -> Past | None:
    """A stored block with what proves it; None if it is not here."""
    data = store.block(height)
    if data is None:
        return None
    certificate = store.certificate(height)
    return Past(
        Block.decode(data),
        None if certificate is None else Certificate.decode(certificate),
        tuple(Block.decode(each) for each in store.void(height)),
    )


def milestone_of(store: LedgerStore, height: int) -> Milestone | None:
    """A stored block with the tree before it; None without it or its certificate."""
    past = past_of(store, height)
    if past is None or past.certificate is None:
        return None
    header = past.block.header
    before = Frontier.read(header.size - header.leaf_count, store.node)
    return Milestone(before, past.block, past.certificate, past.void)


def stretch_below(store: LedgerStore, height: int) -> Stretch | None:
    """Blocks that end right below a height, as many as fit; None if they are not here."""
    blocks: list[Past] = []
    size = 0
    while len(blocks) < STRETCH_BLOCKS and size < STRETCH_BYTES:
        past = past_of(store, height - 1 - len(blocks)) if height - 1 > len(blocks) else None
        if past is None:
            break
        blocks.append(past)
        size += past.block.header.leaf_count * 32 + sum(map(len, past.block.leaves))
    if not blocks:
        return None
    first = blocks[-1].block.header
    before = Frontier.read(first.size - first.leaf_count, store.node)
    return Stretch(before, tuple(reversed(blocks)))


def put(
    store: LedgerStore, blocks: Sequence[tuple[Past, Sequence[NewNode]]], *, extends: bool
) -> None:
    """Write verified blocks; `extends`: they end where the past of this ledger begins."""
    try:
        with store.transaction() as connection:
            for past, nodes in blocks:
                _put_block(connection, past, nodes)
            if extends:
                first = blocks[0][0].block.header
                _put_history(connection, first.height, first.size - first.leaf_count)
    except sqlite3.Error as error:
        raise StorageFailed(
            "the ledger's past could not be written",
            found=f"{type(error).__name__}: {error}",
            remedy=f"look at the disk of {store.path}, then start the node again",
        ) from error


def _put_block(connection: sqlite3.Connection, past: Past, nodes: Sequence[NewNode]) -> None:
    header = past.block.header
    certificate = None if past.certificate is None else past.certificate.encode()
    void = write_blocks([block.encode() for block in past.void]) if past.void else None
    connection.execute(
        "INSERT OR REPLACE INTO blocks (height, size, header, justification, certificate, void)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(header.height, header.size, header.encode(), past.block.justification.encode()),
            *(certificate, void),
        ),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO leaves (position, leaf) VALUES (?, ?)",
        enumerate(past.block.leaves, header.size - header.leaf_count),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO nodes (level, position, hash) VALUES (?, ?, ?)", nodes
    )


def _put_history(connection: sqlite3.Connection, height: int, size: int) -> None:
    connection.execute("DELETE FROM history")
    if height > 1:
        connection.execute("INSERT INTO history VALUES (1, ?, ?)", (height, size))
