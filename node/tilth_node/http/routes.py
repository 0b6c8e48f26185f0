"""What the target of a request names: a table of the routes, and nothing is read or opened here.

    /                              what there is, as text
    /checkpoint                    the newest head with k cosignatures (c2sp.org/tlog-checkpoint)
    /tile/<L>/<N>[.p/<W>]          hashes (c2sp.org/tlog-tiles)
    /tile/entries/<N>[.p/<W>]      entries
    /policy, /policy/<epoch>       the policy of the newest epoch, or of one (c2sp.org/tlog-policy)
    /genesis.json                  the consortium's genesis file
    /bundle/<index>                the proof bundle of an entry
    /bundle/<index>/since/<size>   the same, and that the ledger extends the one of that size
    /proof/<index>.tlog-proof      its proof file (c2sp.org/tlog-proof)

Invariants: every target has one form; what is not in the table, or has a query, names nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tiles import Tile

_NUMBER = r"(0|[1-9][0-9]{0,15})"
_ORIGIN = re.compile(r"https?://[^/?#]*")


@dataclass(frozen=True, slots=True)
class Index:
    """A list of the routes."""


@dataclass(frozen=True, slots=True)
class CheckpointPage:
    """The newest head."""


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """The policy of an epoch; None is the newest."""

    epoch: int | None


@dataclass(frozen=True, slots=True)
class GenesisFile:
    """The genesis."""


@dataclass(frozen=True, slots=True)
class TilePage:
    """A tile or an entry bundle."""

    tile: Tile


@dataclass(frozen=True, slots=True)
class BundlePage:
    """The proof bundle of an entry; `since` is the size of a tree that the reader knows."""

    index: int
    since: int | None = None


@dataclass(frozen=True, slots=True)
class ProofPage:
    """The proof file of an entry."""

    index: int


Page = Index | CheckpointPage | PolicyPage | GenesisFile | TilePage | BundlePage | ProofPage

FIXED: dict[str, Page] = {
    "/": Index(),
    "/checkpoint": CheckpointPage(),
    "/policy": PolicyPage(None),
    "/genesis.json": GenesisFile(),
}
NUMBERED = (
    (re.compile(f"/policy/{_NUMBER}"), PolicyPage),
    (re.compile(f"/bundle/{_NUMBER}"), BundlePage),
    (re.compile(f"/bundle/{_NUMBER}/since/{_NUMBER}"), BundlePage),
    (re.compile(rf"/proof/{_NUMBER}\.tlog-proof"), ProofPage),
)
# What may be read when the genesis keeps the ledger to its organizations: no entry, nothing hashed
# of one but the root that a witness has to see.
OPEN = (Index, CheckpointPage, PolicyPage)


def page(target: str) -> Page | None:
    """What the target of a request names; None is nothing."""
    path = _ORIGIN.sub("", target, count=1) if _ORIGIN.match(target) else target
    if path in FIXED:
        return FIXED[path]
    for pattern, make in NUMBERED:
        if found := pattern.fullmatch(path):
            return make(*map(int, found.groups()))
    if path.startswith("/tile/"):
        try:
            return TilePage(Tile.parse(path[1:]))
        except InvalidInput:
            return None
    return None
