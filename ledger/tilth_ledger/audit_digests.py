"""The digests of an audit: compared with what headers state, some blocks late, since the set hash
may be computed elsewhere meanwhile.

Invariants:
- Findings stand in the report where they would stand if nothing were late.
- A digest that disagrees is told where it begins, not at every block after it.

Left to others: executing (audit), where the set hash is computed (the node).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tilth_ledger.findings import Report, finding
from tilth_ledger.lthash import SetHash

LATE_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class _Late:
    where: str
    stated: bytes
    rows: SetHash
    place: int  # how many findings stand before what this one may find


class Digests:
    """Those of one ledger's blocks, in order."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._late: deque[_Late] = deque()
        self._agree = True
        self._found = 0

    def expect(self, where: str, stated: bytes, rows: SetHash) -> None:
        """Compare, soon: the digest of `rows` must be what a header states."""
        self._late.append(_Late(where, stated, rows, self._report.total - self._found))
        self.compare(LATE_BLOCKS)

    def compare(self, left: int = 0) -> None:
        """Compare all but the last `left`."""
        while len(self._late) > left:
            late = self._late.popleft()
            digest = late.rows.digest()
            if self._agree and late.stated != digest:
                found = finding("state", late.where, late.stated, digest)
                self._report.insert(late.place + self._found, found)
                self._found += 1
            self._agree = late.stated == digest
