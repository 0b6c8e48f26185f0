"""The signatures of an audit, as work that any thread may do: each check is a function of bytes.

Invariants: a check touches nothing but what it was made of, gives its finding or None, and raises
nothing. Left to others: which checks to make (audit), where they run (the node).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header, Justification
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.findings import Finding, finding
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import Leaf, verify_author
from tilth_ledger.reader import Reader

Check = Callable[[], Finding | None]
Outcome = Callable[[], Iterable[Finding]]
Verify = Callable[[Sequence[Check]], Outcome]


def at_once(checks: Sequence[Check]) -> Outcome:
    """Verify in this thread, when the outcome is asked for."""
    return lambda: [found for check in checks if (found := check()) is not None]


def read_justification(data: bytes) -> Justification:
    reader = Reader(data, "justification")
    justification = Justification.read(reader)
    reader.end()
    return justification


def proven_by(header: Header, void: Sequence[bytes]) -> Header:
    """The header that a finality certificate must be of: the block's, or that of the last of the
    empty blocks above it through which the last block of an epoch became final."""
    top = header
    for data in void:
        above = Block.decode(data)
        stated = (above.header.epoch, above.header.parent, above.leaves)
        if stated != (header.epoch, top.hash, ()) or above.header.view <= top.view:
            raise InvalidInput(
                "a void block does not stand on the one below it",
                found=f"epoch {above.header.epoch}, {len(above.leaves)} leaves",
                expected=f"an empty one of epoch {header.epoch} on {top.hash.hex()[:16]}",
            )
        top = above.header
    return top


def justified(where: str, justification: Justification, header: Header, epoch: Epoch) -> Check:
    def check() -> Finding | None:
        try:
            justification.verify(header, epoch)
        except InvalidInput as error:
            return finding("justification", where, error, "proof of its parent and skipped views")
        return None

    return check


def certified(where: str, final: Certificate, header: Header, epoch: Epoch) -> Check:
    def check() -> Finding | None:
        stated = (final.kind, final.view, final.block.hex())
        wanted = (FINALIZE, header.view, header.hash.hex())
        if stated != wanted:
            return finding("certificate", where, stated, wanted)
        try:
            final.verify(epoch)
        except InvalidInput as error:
            return finding("certificate", where, error, f"{epoch.q} votes of members")
        return None

    return check


def signed(where: str, leaf: Leaf, public: PublicKey) -> Check:
    def check() -> Finding | None:
        try:
            verify_author(leaf, public)
        except InvalidInput as error:
            return finding("signature", where, error, f"a signature of key {public.key_id}")
        return None

    return check
