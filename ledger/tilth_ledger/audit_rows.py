"""The rows and the set hash that a copy stores, against those that follow from its blocks.

Invariants: every row is compared, byte by byte; when no rows follow, because a block does not
execute, the stored ones are held against the last header's digest. Left to others: executing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.findings import Counts, Finding, finding
from tilth_ledger.lthash import LtHash


@dataclass(frozen=True, slots=True)
class Stored:
    """What a copy holds beside its blocks; `rows` in any order, as stored."""

    rows: Iterable[tuple[str, bytes]]
    accumulator: bytes | None
    leaves: int
    nodes: int
    promised: int = 0  # blocks that the journal beside it says were stored (F8)


def against_rows(
    stored: Stored, missing: dict[str, bytes], accumulator: bytes, counts: Counts
) -> Iterator[Finding]:
    """What differs from the rows that follow from the blocks, which are used up: a large ledger's
    fill the memory, and are not held twice."""
    for key, value in stored.rows:
        counts.rows += 1
        wanted = missing.pop(key, b"")
        if value != wanted:
            found, wanted_text = _excerpts(value, wanted)
            yield finding("row", f"row {key}", found, wanted_text or "no such row")
    for key, value in sorted(missing.items()):
        yield finding("row", f"row {key}", "no such row", _text(value))
    if stored.accumulator != accumulator:
        yield _accumulator(stored, LtHash.from_state(accumulator))


def against_digest(stored: Stored, digest: bytes, counts: Counts) -> Iterator[Finding]:
    """What differs from a header's digest, and from each other."""
    total = LtHash()
    for key, value in stored.rows:
        counts.rows += 1
        total = total.add(key, value)
    if total.digest() != digest:
        yield finding("state", "stored rows", total.digest(), digest)
    if stored.accumulator != total.state:
        yield _accumulator(stored, total)


def _accumulator(stored: Stored, expected: LtHash) -> Finding:
    return finding("state", "stored accumulator", _digest(stored.accumulator), expected.digest())


def _digest(accumulator: bytes | None) -> object:
    try:
        return LtHash.from_state(accumulator or b"").digest()
    except InvalidInput as error:
        return error


def _excerpts(found: bytes, expected: bytes) -> tuple[str, str]:
    """Both from just before where they part."""
    pairs = enumerate(zip(found, expected, strict=False))
    parting = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
    start = max(0, parting - 40)
    return _text(found[start:]), _text(expected[start:])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
