"""Proofs of entries, made from a node's stores: bundles and proof files.

- A proof stands on a head that k members cosigned; if none holds the entry yet, the members are
  asked for one, once, for a bounded time.

Leaves to others: the forms (tilth_ledger.bundle, tilth_ledger.proofs), gathering (cosigning).
"""

from tilth_ledger import bundle
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.merkle import inclusion_proof
from tilth_ledger.proofs import TlogProof
from tilth_node.cosigning import Cosigning
from tilth_node.storage.ledger_store import LedgerStore

GATHER_SECONDS = 5.0


class Prover:
    """Makes proofs from one node's copy of the ledger."""

    def __init__(self, genesis: Genesis, store: LedgerStore, cosigning: Cosigning) -> None:
        self._genesis = genesis
        self._store = store
        self._cosigning = cosigning

    async def bundle(self, index: int, also: tuple[int, ...] = ()) -> bytes:
        """The proof bundle of entries. Raises `InvalidInput` when one is not final."""
        self._check(max((index, *also)))
        self._check(min((index, *also)))
        tip = self._store.tip()
        if tip is None:
            raise InvalidInput("nothing is final yet")
        return bundle.make(
            self._genesis,
            tip.header,
            tip.certificate,
            (index, *also),
            lambda at: self._store.leaves(at, 1)[0],
            self._store.node,
            self._store.rows,
        )

    async def proof(self, index: int) -> bytes:
        """The proof file of one entry, with the entry as its extra data."""
        self._check(index)
        held = await self._cosigning.gather(index, GATHER_SECONDS)
        if held is None:
            raise Unavailable(
                "no head with enough cosignatures holds that entry yet",
                found=f"index {index}",
                remedy="ask again when more members are connected",
            )
        path = inclusion_proof(index, held.head.size, self._store.node)
        leaf = self._store.leaves(index, 1)[0]
        return TlogProof(index, tuple(path), self._cosigning.checkpoint(held), leaf).encode()

    def _check(self, index: int) -> None:
        size = self._store.size
        if not 0 <= index < size:
            raise InvalidInput(
                "there is no such entry to prove",
                found=f"index {index}",
                expected=f"less than {size}, the number of final entries",
                remedy="Look at them with: tilth ledger list",
            )
