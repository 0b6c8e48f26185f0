"""Proof files (c2sp.org/tlog-proof): one entry, its place, and the checkpoint that holds it.

    c2sp.org/tlog-proof@v1
    extra <base64>                      optional; ours is the leaf itself
    index <number>
    <base64 of each hash, from the leaf's sibling upwards>

    <the checkpoint, verbatim>

Invariants: `TlogProof.decode(b).encode() == b` for every `b` that decodes; decoding is bounded.
Left to others: whether the proof holds (merkle), whose signatures count (policies).
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import HASH_BYTES
from tilth_ledger.notes import MAX_NOTE_BYTES, unbase64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_EXTRA_BYTES = 1 << 20
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES
MAX_HASHES = 64

_INDEX = re.compile(r"0|[1-9][0-9]{0,19}")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Where an entry stands in the tree of a checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines += [f"index {self.index}", *(b64encode(step).decode() for step in self.path), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint

    @staticmethod
    def decode(data: bytes) -> TlogProof:
        """The proof in `data`; neither it nor its checkpoint is verified. Raises `InvalidInput`."""
        if len(data) > MAX_PROOF_BYTES:
            raise InvalidInput("proof is too large", found=len(data), expected=MAX_PROOF_BYTES)
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            first, *lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise InvalidInput("proof is not ASCII before its checkpoint", found=error) from None
        if first != HEADER or not separator or not lines or not checkpoint:
            raise InvalidInput("not a proof file", found=repr(first)[:80], expected=HEADER)
        extra = None
        if lines[0].startswith("extra "):
            extra = unbase64(lines.pop(0).removeprefix("extra "), "proof's extra data")
        if extra is not None and len(extra) > MAX_EXTRA_BYTES:
            raise InvalidInput("proof's extra data is too large", found=len(extra))
        index, path = _index(lines), tuple(map(_hash, lines[1:]))
        return TlogProof(index, path, checkpoint, extra)


def _index(lines: list[str]) -> int:
    word, _, number = (lines or [""])[0].partition(" ")
    if word != "index" or not _INDEX.fullmatch(number) or int(number) >= 2**64:
        raise InvalidInput("proof has no index", found=repr(lines[:1])[:80], expected="index N")
    if len(lines) > 1 + MAX_HASHES:
        raise InvalidInput("proof is too long", found=len(lines) - 1, expected=MAX_HASHES)
    return int(number)


def _hash(line: str) -> bytes:
    step = unbase64(line, "proof's hash")
    if len(step) != HASH_BYTES:
        raise InvalidInput("proof's hash has the wrong length", found=len(step), expected=32)
    return step
