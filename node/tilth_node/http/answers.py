"""What each page is: its bytes, its type, and how long it may be kept.

- A tile or entry bundle never changes: it may be kept for a year (partial ones, which a full one
  replaces, for a day). All else must be asked for again, and answers 304 to an entity tag it knows.
- The genesis decides what is public: `organizations` shows heads and policies, and no entry.

Leaves to others: which page (routes), bytes on the wire (listener).
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.genesis import Genesis
from tilth_ledger.tiles import WIDTH, Tile, entry_bundle
from tilth_node.cosigning import Cosigning
from tilth_node.http.routes import (
    FIXED,
    OPEN,
    BundlePage,
    CheckpointPage,
    GenesisFile,
    Index,
    Page,
    PolicyPage,
    ProofPage,
    TilePage,
)
from tilth_node.storage.ledger_store import LedgerStore

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"
IMMUTABLE = "public, max-age=31536000, immutable"
FOR_A_DAY = "public, max-age=86400, immutable"
ASK_AGAIN = "no-cache"
NEVER = "no-store"
GZIP_BYTES = 512 << 10  # compressing more would hold up the loop: some 10 ms for so much

Bundle = Callable[[int, tuple[int, ...], int | None], Awaitable[bytes]]  # index, also, since
Proof = Callable[[int], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body with its type, and how long caches may keep it."""

    status: int
    body: bytes
    type: str = TEXT
    caching: str = NEVER
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """An entity tag: the same for the same bytes, and for no others."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def refusal(status: int, words: str, **more: str) -> Answer:
    """An answer that says what was wrong, in one line."""
    return Answer(
        status, f"{words}\n".encode(), more={k.replace("_", "-"): v for k, v in more.items()}
    )


class Answers:
    """Answers from one node's stores."""

    def __init__(
        self,
        genesis: Genesis,
        ledger: LedgerStore,
        cosigning: Cosigning,
        bundle: Bundle,
        proof: Proof,
    ) -> None:
        self._genesis = genesis
        self._ledger = ledger
        self._cosigning = cosigning
        self._bundle = bundle
        self._proof = proof

    async def answer(self, page: Page | None, gzipped: bool) -> Answer:
        """The answer to a request for a page; `gzipped`: the client takes that."""
        if page is None:
            return refusal(404, f"nothing is here; there is {', '.join(FIXED)}")
        if self._genesis.publication != "public" and not isinstance(page, OPEN):
            return refusal(
                403, "this ledger is read by its organizations: ask one of them for a proof bundle"
            )
        match page:
            case TilePage(tile):
                return self._tile(tile, gzipped=gzipped)
            case BundlePage(index, since):
                return await _proven(self._bundle(index, (), since), JSON)
            case ProofPage(index):
                return await _proven(self._proof(index), TEXT)
            case CheckpointPage():
                return self._checkpoint()
            case PolicyPage(epoch):
                return self._policy(epoch)
            case GenesisFile():
                return Answer(200, self._genesis.bytes, JSON, ASK_AGAIN)
            case Index():
                return self._index()

    def _index(self) -> Answer:
        lines = [f"{self._cosigning.origin}: a ledger of Tilth", *sorted(FIXED)[1:]]
        lines += ["/policy/EPOCH", "/tile/LEVEL/N[.p/W]", "/tile/entries/N[.p/W]"]
        lines += ["/bundle/INDEX", "/bundle/INDEX/since/SIZE", "/proof/INDEX.tlog-proof"]
        return Answer(200, "".join(f"{line}\n" for line in lines).encode(), TEXT, ASK_AGAIN)

    def _checkpoint(self) -> Answer:
        held = self._cosigning.newest_complete()
        if held is None:
            return refusal(404, "no head has enough cosignatures yet")
        return Answer(200, self._cosigning.publisher.checkpoint(held), TEXT, ASK_AGAIN)

    def _policy(self, epoch: int | None) -> Answer:
        if epoch is None:
            tip = self._ledger.tip()
            epoch = 0 if tip is None else tip.header.epoch
        policy = self._cosigning.publisher.policy(epoch)
        if policy is None:
            return refusal(404, f"there is no epoch {epoch} yet")
        return Answer(200, policy, TEXT, ASK_AGAIN)

    def _tile(self, tile: Tile, *, gzipped: bool) -> Answer:
        if not tile.fits(self._ledger.size):
            return refusal(404, f"the ledger of {self._ledger.size} entries has no such tile")
        caching = IMMUTABLE if tile.width == WIDTH else FOR_A_DAY
        if tile.level is not None:
            hashes = self._ledger.nodes(8 * tile.level, tile.start, tile.width)
            return Answer(200, b"".join(hashes), BYTES, caching)
        body = entry_bundle(self._ledger.leaves(tile.start, tile.width))
        more = {"vary": "accept-encoding"}
        if gzipped and len(body) <= GZIP_BYTES:
            body, more["content-encoding"] = gzip.compress(body, 1, mtime=0), "gzip"
        return Answer(200, body, BYTES, caching, more)


async def _proven(made: Awaitable[bytes], kind: str) -> Answer:
    try:
        return Answer(200, await made, kind, ASK_AGAIN)
    except InvalidInput as error:
        return refusal(404, str(error))
    except Unavailable as error:
        return refusal(503, str(error), retry_after="5")
