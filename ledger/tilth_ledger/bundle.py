"""Proof bundles: one file that proves leaves of the ledger to a stranger who has the genesis file.

Version 2 is JSON: format, genesis (net), and
- `checkpoint`: the signed note of the head that all leaves are proven against, or `header` and
  `certificate` (hex) that make a block with that head final, or both;
- `epochs`: for each change of members before that head, the leaf that states the new ones, and the
  old ones' certificate of a header whose tree ends with it: q old members, never k, so that one
  lost for good orphans no proof; and that this tree is the beginning of the head's;
- `leaves`: index, length, inclusion path;
- `content`: the bytes of all leaves, of `epochs` and then of `leaves`, compressed together (zlib)
  in base64: they are much alike;
- `hashes`: all hashes of paths, once, in base64: a path is a list of places in it;
- `keys`: ML-DSA-44 keys of cosigners of later epochs, whose digests their epoch's leaf states;
- `standing`: that a row stood on a recorded leaderboard, one of the leaves: the row's bytes, its
  place among the standing rows, and the path to their root;
- `consistency`: that the head extends the tree of a size that the reader knows, if one was named.

Invariants:
- All leaves are proven against one head.
- Beside a certified result stand the entries it names (the worker's `task.done` among them), and
  beside each entry the `identity.add` that made its author known, if neither genesis nor an epoch's
  leaf does.

Left to others: finding the newest cosigned head (the node), verifying (`tilth.verifier`, which
shares no code with this and reads version 1 as well).
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, Certificate, Header
from tilth_ledger.epoch_chain import EpochEnd
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.leaf import CERTIFIED_RESULT, ENTRY, MAX_LEAF_BYTES, Leaf
from tilth_ledger.merkle import NodeReader, consistency_proof, inclusion_proof
from tilth_ledger.mldsa import MlDsaKey
from tilth_ledger.rows import Rows
from tilth_ledger.rules_boards import board_key
from tilth_ledger.standing import Standing

FORMAT = "tilth-bundle-2"
MAX_LEAVES = 256

LeafReader = Callable[[int], bytes]
BoardReader = Callable[[str, int, int], Standing]  # objective, revision, size


@dataclass(frozen=True, slots=True)
class Finality:
    """A header, and the votes that make it final."""

    header: Header
    certificate: Certificate

    def __post_init__(self) -> None:
        if (self.certificate.kind, self.certificate.block) != (FINALIZE, self.header.hash):
            raise InvalidInput(
                "a bundle stands on a final block",
                found=f"{self.certificate.kind.name} of {self.certificate.block.hex()[:16]}",
                expected=f"FINALIZE of {self.header.hash.hex()[:16]}",
            )

    def as_dict(self) -> dict[str, str]:
        return {
            "header": self.header.encode().hex(),
            "certificate": self.certificate.encode().hex(),
        }


@dataclass(frozen=True, slots=True)
class Stood:
    """A row on a recorded leaderboard, whose leaf stands at `index`."""

    index: int
    place: int
    row: bytes
    path: Sequence[bytes]


def stood(
    rows: Rows, leaf_at: LeafReader, wanted: Sequence[int], board: BoardReader
) -> Stood | None:
    """How the row of these certified results stood on the newest recorded board of its revision.

    None when these leaves are no row, when no board was recorded, or when the row did not stand.
    """
    leaf = Leaf.decode(leaf_at(wanted[0]))
    if leaf.type != CERTIFIED_RESULT:
        return None
    result = canonical.loads(leaf.payload, max_bytes=MAX_LEAF_BYTES)["predicate"]
    key, revision = result["objective"], result["revision"]
    newest = rows.get(board_key(key, revision))
    if newest is None:
        return None
    found = board(key, revision, newest["size"])
    place = found.place(wanted)
    if place is None or found.root.hex() != newest["root"]:
        return None
    return Stood(newest["index"], place, found.rows[place], found.path(place))


@dataclass(frozen=True, slots=True)
class Proven:
    """The head that leaves are proven against, and all that makes a stranger believe it.

    `ends`: how the epochs before it ended, in order.
    """

    size: int
    checkpoint: bytes | None
    finality: Finality | None
    ends: Sequence[EpochEnd] = ()
    keys: Mapping[str, MlDsaKey] = field(default_factory=dict)
    stood: Stood | None = None


def make(
    genesis: Genesis,
    proven: Proven,
    wanted: Iterable[int],
    leaf_at: LeafReader,
    node: NodeReader,
    rows: Rows,
    since: int | None = None,
) -> bytes:
    """The bundle that proves the leaves at the `wanted` indexes, and what a reader needs beside
    them; `since` is the size of a tree that the reader knows."""
    size, hashes, content = proven.size, _Hashes(), bytearray()
    also = () if proven.stood is None else (proven.stood.index,)
    leaves = _closure((*wanted, *also), size, leaf_at, rows)
    value: dict[str, Any] = {
        "format": FORMAT,
        "genesis": genesis.net,
        "epochs": [_end(end, size, node, hashes, content) for end in proven.ends],
        "leaves": [],
    }
    for index in sorted(leaves):
        path = hashes.put(inclusion_proof(index, size, node))
        length = _add(content, leaves[index])
        value["leaves"].append({"index": index, "length": length, "path": path})
    value["content"] = _base64(zlib.compress(content, 9))
    if proven.checkpoint is not None:
        value["checkpoint"] = proven.checkpoint.decode()
    if proven.finality is not None:
        value |= proven.finality.as_dict()
    if proven.keys:
        value["keys"] = {name: _base64(key.raw) for name, key in proven.keys.items()}
    if proven.stood is not None:
        value["standing"] = {
            "index": proven.stood.index,
            "place": proven.stood.place,
            "row": proven.stood.row.decode(),
            "path": hashes.put(proven.stood.path),
        }
    if since is not None:
        path = hashes.put(consistency_proof(since, size, node))
        value["consistency"] = {"size": since, "path": path}
    value["hashes"] = hashes.written
    return canonical.dumps(value)


class _Hashes:
    """Hashes of many paths, each written once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}

    def put(self, path: Iterable[bytes]) -> list[int]:
        return [self._places.setdefault(step, len(self._places)) for step in path]

    @property
    def written(self) -> list[str]:
        return [_base64(step) for step in self._places]


def _add(content: bytearray, leaf: bytes) -> int:
    content += leaf
    return len(leaf)


def _end(
    end: EpochEnd, size: int, node: NodeReader, hashes: _Hashes, content: bytearray
) -> dict[str, Any]:
    final = Finality(end.header, end.certificate).as_dict()
    return final | {
        "index": end.index,
        "length": _add(content, end.leaf),
        "path": hashes.put(end.path),
        "consistency": hashes.put(consistency_proof(end.header.size, size, node)),
    }


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


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
        if "index" in identity:  # those of genesis and of epochs' ends have no entry
            yield identity["index"]
