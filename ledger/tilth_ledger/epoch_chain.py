"""The chain of epochs: what a stranger with the genesis file needs to learn who votes now.

Each link is the leaf that began an epoch, with proof that the members of the epoch before made it
final: a header whose tree holds the leaf, and their finality certificate of it. It takes q of the
old members and never k, so that one who is lost for good orphans no later proof.

The header may be of an empty block above the one that holds the leaf: it states the same tree.

Left to others: the form of a bundle, verifying (the verifier shares no code with this).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilth_ledger.blocks import Certificate, Header
from tilth_ledger.epochs import epoch_key, newest
from tilth_ledger.merkle import NodeReader, inclusion_proof
from tilth_ledger.rows import Rows

LeafReader = Callable[[int], bytes]
FinalReader = Callable[[int], tuple[Header, Certificate]]


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """One link: the leaf stands at `index` of the header's tree, `certificate` is of the header."""

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    header: Header
    certificate: Certificate


def epoch_chain(
    rows: Rows, leaf_at: LeafReader, node: NodeReader, final_with: FinalReader
) -> list[EpochEnd]:
    """The links from genesis to the epoch in force, oldest first; none in the first epoch.

    `final_with` gives the header that made a leaf's block final, and its certificate.
    """
    number, _ = newest(rows)
    links = []
    for epoch in range(1, number + 1):
        index = int((rows.get(epoch_key(epoch)) or {})["index"])
        header, certificate = final_with(index)
        path = tuple(inclusion_proof(index, header.size, node))
        links.append(EpochEnd(leaf_at(index), index, path, header, certificate))
    return links
