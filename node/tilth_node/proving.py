"""Proofs of entries, made from a node's stores: bundles and proof files.

- A proof stands on a head that k members cosigned; if none holds the entry yet, the members are
  asked for one, once, for a bounded time.

Leaves to others: the forms (tilth_ledger.bundle, tilth_ledger.proofs), gathering (cosigning).
"""

from collections.abc import Sequence
from dataclasses import replace

from tilth_ledger import bundle
from tilth_ledger.bundle import Finality, Proven
from tilth_ledger.cosigning import Head
from tilth_ledger.epoch_chain import EpochEnd, epoch_chain
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import ENTRY, leaf_type
from tilth_ledger.merkle import inclusion_proof
from tilth_ledger.mldsa import MlDsaKey
from tilth_ledger.notes import MLDSA_COSIGNATURE
from tilth_ledger.proofs import TlogProof
from tilth_ledger.standing import Standing, standing
from tilth_node.cosigning import Cosigning
from tilth_node.storage.cosignatures import Held
from tilth_node.storage.ledger_store import LedgerStore

GATHER_SECONDS = 5.0


class Prover:
    """Makes proofs from one node's copy of the ledger."""

    def __init__(self, genesis: Genesis, store: LedgerStore, cosigning: Cosigning) -> None:
        self._genesis = genesis
        self._store = store
        self._cosigning = cosigning
        self._newest_board: tuple[tuple[str, int, int], Standing] | None = None

    async def bundle(
        self, index: int, also: tuple[int, ...] = (), since: int | None = None
    ) -> bytes:
        """The proof bundle of entries, on the newest head that k members cosigned; while they are
        away, on the votes of q. `since`: the size of a tree that the reader knows. Of a row it says
        too how it stood on the newest recorded leaderboard.

        Raises `InvalidInput` when an entry is not final, or no ledger was as large as `since`.
        """
        wanted = tuple(dict.fromkeys((index, *also)))
        if len(wanted) > bundle.MAX_LEAVES:  # before each of them is looked up
            raise InvalidInput(
                "too many entries are asked for in one proof bundle",
                found=len(wanted),
                expected=f"at most {bundle.MAX_LEAVES}",
                remedy="Ask for several bundles.",
            )
        for each in wanted:
            self._check(each)
        stood = bundle.stood(self._store.rows, self._leaf, wanted, self._board)
        held = await self._held(wanted if stood is None else (*wanted, stood.index))
        if held is None and stood is not None:
            # The board may be younger than all that k members cosigned: then without it.
            held = self._cosigning.newest_complete(max(wanted))
            stood = stood if held is None else None
        proven = replace(self._of_tip() if held is None else self._of_head(held), stood=stood)
        if since is not None and not 0 < since <= proven.size:
            raise InvalidInput(
                "no proof leads there",
                found=f"from size {since}",
                expected=f"1 to {proven.size}",
                remedy="name the size of a checkpoint of this ledger",
            )
        return bundle.make(
            self._genesis,
            proven,
            wanted,
            self._leaf,
            self._store.node,
            self._store.rows,
            since,
        )

    def _board(self, objective: str, revision: int, size: int) -> Standing:
        """The rows of a recorded board, made again at most once while others ask for it."""
        wanted = objective, revision, size
        if self._newest_board is None or self._newest_board[0] != wanted:
            self._newest_board = wanted, standing(self._store.rows, *wanted)
        return self._newest_board[1]

    async def _held(self, wanted: Sequence[int]) -> Held | None:
        """The newest complete head above these entries: for system leaves one that is signed with
        ML-DSA-44 as well, for others one that a witness outside cosigned, if there is one."""
        last = max(wanted)
        held = await self._cosigning.gather(last, GATHER_SECONDS)
        if all(leaf_type(self._leaf(index)) == ENTRY for index in wanted):
            return self._cosigning.newest_witnessed(last) or held
        return self._cosigning.newest_complete(last, MLDSA_COSIGNATURE) or held

    def _of_head(self, held: Held) -> Proven:
        size = held.head.size
        keys = self._later_keys(held)
        return Proven(
            size,
            self._cosigning.publisher.checkpoint(held),
            self._final(size),
            self._ends(size),
            keys,
        )

    def _of_tip(self) -> Proven:
        """The newest final block, with the cosignatures that its tree has so far."""
        tip = self._store.tip()
        if tip is None:
            raise InvalidInput("nothing is final yet")
        size = tip.header.size
        held = self._cosigning.store.held(size)
        finality = self._final(size)
        if held is None or held.head != Head.of(tip.header):
            return Proven(size, None, finality, self._ends(size))
        keys = self._later_keys(held)
        return Proven(
            size, self._cosigning.publisher.checkpoint(held), finality, self._ends(size), keys
        )

    def _final(self, size: int) -> Finality | None:
        found = self._store.final_of_size(size)
        return None if found is None else Finality(*found)

    def _ends(self, size: int) -> list[EpochEnd]:
        """How the epochs ended whose last tree is smaller than `size`."""
        store = self._store
        links = epoch_chain(store.rows, self._leaf, store.node, store.final_with)
        return [link for link in links if link.header.size < size]

    def _leaf(self, index: int) -> bytes:
        return self._store.leaves(index, 1)[0]

    def _later_keys(self, held: Held) -> dict[str, MlDsaKey]:
        """ML-DSA-44 keys of those that signed the head and that genesis does not list so."""
        listed = {each.organization: each.cosign_mldsa for each in self._genesis.everyone()}
        signers = self._cosigning.signers_of(held.head.epoch)
        return {
            member.organization: member.mldsa
            for member in (() if signers is None else signers.members)
            if member.mldsa is not None
            and member.mldsa != listed.get(member.organization)
            and (member.organization, MLDSA_COSIGNATURE) in held.signatures
        }

    async def proof(self, index: int) -> bytes:
        """The proof file of one entry, with the entry as its extra data."""
        self._check(index)
        held = await self._held([index])
        if held is None:
            raise Unavailable(
                "no head with enough cosignatures holds that entry yet",
                found=f"index {index}",
                remedy="ask again when more members are connected",
            )
        path = inclusion_proof(index, held.head.size, self._store.node)
        leaf = self._leaf(index)
        return TlogProof(
            index, tuple(path), self._cosigning.publisher.checkpoint(held), leaf
        ).encode()

    def _check(self, index: int) -> None:
        size = self._store.size
        if not 0 <= index < size:
            raise InvalidInput(
                "there is no such entry to prove",
                found=f"index {index}",
                expected=f"less than {size}, the number of final entries",
                remedy="Look at them with: tilth ledger list",
            )
