"""A second process for an audit: it reads blocks and checks the form and the signatures of their
entries, ahead of the process that executes them.

    with ReadingAhead(database, genesis) as ahead:
        for stored in ahead.blocks(): ...      # in order, marked: what was found good
        copy.go_on_from(ahead.place)           # what is left, a running node's newest blocks too

- Every block comes over with its bytes, so that what is executed is what was checked. A block with
  an entry that is not well formed or signed comes unmarked: the audit looks again, and finds what
  is wrong.
- Where reading fails, or a block holds what no ledger does, the process stops and says how far it
  came; whoever reads on from there meets the same file.
- A process that ends without saying so is an error, never the end of the ledger.

Leaves to others: what is checked (tilth_ledger.audit), reading SQLite (storage.ledger_copy), the
process and its pipes (beside).
"""

import gc
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from tilth_ledger.audit import StoredBlock
from tilth_ledger.audit_entries import Preview
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.reader import Reader
from tilth_node.beside import COLLECTIONS, MOST_BYTES, Beside, write_frame
from tilth_node.errors import StorageFailed
from tilth_node.storage.ledger_copy import LedgerCopy

_BLOCK, _END = 1, 2
_PLACE: Final = struct.Struct(">qq")
_FACTS: Final = struct.Struct(">qq???IIII")
_NODE: Final = struct.Struct(">qq32s")


class ReadingAhead(Beside):
    """The process, as the one that executes sees it."""

    def __init__(self, database: Path, genesis: Path) -> None:
        super().__init__(__name__, database, genesis)
        self.place = (0, 0)

    def blocks(self) -> Iterator[StoredBlock]:
        """Blocks in order of height; `place` says how far they went, afterwards. Raises
        `Unavailable` when the process ends before it says so."""
        while True:
            kind, body = self.receive()
            if kind == _END:
                self.place = _PLACE.unpack(body)
                return
            yield read_block(body)


def write_block(stored: StoredBlock) -> bytes:
    """A block as bytes. Raises `InvalidInput` where it holds what no ledger does."""
    certificate = stored.certificate
    parts = [stored.header, stored.justification, certificate or b"", *stored.void, *stored.leaves]
    counts = len(stored.void), len(stored.leaves), len(stored.nodes), len(parts)
    try:
        facts = _FACTS.pack(
            *(stored.height, stored.size, stored.formed, stored.signed),
            *(certificate is not None, *counts),
        )
        nodes = [_NODE.pack(*node) for node in stored.nodes if len(node[2]) == 32]
    except struct.error as error:
        raise InvalidInput("a block holds numbers that are none", found=error) from error
    lengths = struct.pack(f">{len(parts)}I", *map(len, parts))
    data = b"".join((facts, lengths, *nodes, *parts))
    if len(nodes) != len(stored.nodes) or len(data) > MOST_BYTES:
        raise InvalidInput("a block is too large", found=f"{len(data)} bytes")
    return data


def read_block(data: bytes) -> StoredBlock:
    """What `write_block` wrote. Raises `InvalidInput`."""
    reader = Reader(data, "block")
    height, size, formed, signed, certified, voids, leaves, nodes, count = reader.unpack(_FACTS)
    if count != 3 + voids + leaves:
        raise InvalidInput("a block's parts do not add up", found=count)
    lengths = reader.unpack(struct.Struct(f">{count}I")) if reader.left >= 4 * count else ()
    tree = tuple(_NODE.iter_unpack(reader.take(nodes * _NODE.size)))
    parts = [reader.take(length) for length in lengths]
    if len(parts) != count:
        raise InvalidInput("a block is cut short", found=f"{len(parts)} parts", expected=count)
    reader.end()
    header, why, certificate = parts[:3]
    return StoredBlock(
        height,
        size,
        header,
        why,
        tuple(parts[3 + voids :]),
        certificate if certified else None,
        tree,
        tuple(parts[3 : 3 + voids]),
        formed,
        signed,
    )


def main(database: Path, genesis: Path, out: BinaryIO) -> None:
    """Write every block of the ledger to `out`, and how far that went."""
    preview = Preview(Genesis.parse(genesis.read_bytes()))
    with LedgerCopy(database) as copy:
        place = copy.place
        try:
            for stored in copy.more_blocks():
                formed, signed = preview.of(stored.leaves)
                seen = replace(stored, formed=formed, signed=signed)
                write_frame(out, _BLOCK, write_block(seen))
                place = copy.place
        except (StorageFailed, InvalidInput):
            pass  # whoever reads on from `place` meets it, and reports it
    write_frame(out, _END, _PLACE.pack(*place))
    out.flush()


if __name__ == "__main__":
    gc.set_threshold(*COLLECTIONS)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.stdout.buffer)
    except BrokenPipeError:
        sys.stderr.close()  # the audit has ended
