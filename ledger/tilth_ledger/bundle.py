"""Proof bundles: one file that proves leaves of the ledger to a stranger who has the genesis file.

Version 1 is JSON: format, genesis (net), header and certificate (hex of their bytes), and leaves,
each with its index, its bytes in base64, and its inclusion path (hex) in the tree of the header's
size.

Invariants:
- All leaves are proven against one header, and the certificate makes that header final.
- Beside a certified result stand the entries it names (the worker's `task.done` among them), and
  beside each entry the `identity.add` that made its author known, if genesis does not.

Left to others: finding the newest final header (the node), verifying (`tilth.verifier`, which
shares no code with this).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, Certificate, Header
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import CERTIFIED_RESULT, ENTRY, MAX_LEAF_BYTES, Leaf
from tilth_ledger.merkle import NodeReader, inclusion_proof
from tilth_ledger.rows import Rows

FORMAT = "tilth-bundle-1"
MAX_LEAVES = 256

LeafReader = Callable[[int], bytes]


def make(
    genesis: Genesis,
    header: Header,
    certificate: Certificate,
    wanted: Iterable[int],
    leaf_at: LeafReader,
    node: NodeReader,
    rows: Rows,
) -> bytes:
    """The bundle that proves the leaves at the `wanted` indexes, and what a reader needs beside
    them.

    `header` is of a block with its own finality certificate, and its tree holds all of them.
    """
    if certificate.kind is not FINALIZE or certificate.block != header.hash:
        raise InvalidInput(
            "a bundle stands on a final block",
            found=f"{certificate.kind.name} of {certificate.block.hex()[:16]}",
            expected=f"FINALIZE of {header.hash.hex()[:16]}",
        )
    leaves = _closure(wanted, header.size, leaf_at, rows)
    return canonical.dumps(
        {
            "format": FORMAT,
            "genesis": genesis.net,
            "header": header.encode().hex(),
            "certificate": certificate.encode().hex(),
            "leaves": [
                {
                    "index": index,
                    "leaf": b64encode(leaves[index]).decode(),
                    "path": [step.hex() for step in inclusion_proof(index, header.size, node)],
                }
                for index in sorted(leaves)
            ],
        }
    )


def _closure(wanted: Iterable[int], size: int, leaf_at: LeafReader, rows: Rows) -> dict[int, bytes]:
    """The wanted leaves and all that they lean on, by index."""
    found: dict[int, bytes] = {}
    open_indexes = list(wanted)
    while open_indexes:
        index = open_indexes.pop()
        if index in found:
            continue
        if not 0 <= index < size:
            raise InvalidInput("no such leaf", found=f"index {index}", expected=f"below {size}")
        found[index] = leaf_at(index)
        if len(found) > MAX_LEAVES:
            raise InvalidInput("a bundle would be too large", expected=f"{MAX_LEAVES} leaves")
        open_indexes += _leans_on(Leaf.decode(found[index]), rows)
    return found


def _leans_on(leaf: Leaf, rows: Rows) -> Iterator[int]:
    payload = canonical.loads(leaf.payload, max_bytes=MAX_LEAF_BYTES)
    if leaf.type == CERTIFIED_RESULT:
        entries: dict[str, Any] = payload["predicate"].get("entries", {})
        yield from entries.values()
    if leaf.type == ENTRY:
        identity = rows.get(f"identity/{payload['author']}") or {}
        if "index" in identity:  # identities of the genesis file have no entry
            yield identity["index"]
