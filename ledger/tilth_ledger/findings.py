"""What an audit says: findings, each with its place, and the report that holds them.

Invariants:
- A finding names what is wrong (one of `KINDS`), where, what stands there and what should.
- A report keeps the first `KEPT` findings and counts all; it is clean only if there is none.

Left to others: looking for them (audit), showing them (the node's command).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT = 100
SHOWN_CHARACTERS = 240

KINDS = {
    "genesis": "the ledger is of another genesis",
    "header": "a block's header",
    "chain": "a block does not follow the block before it",
    "leader": "a block is not of its view's leader",
    "justification": "the proof that a block may stand where it does",
    "certificate": "the votes that made a block final",
    "leaf": "a leaf's form",
    "signature": "an author's signature",
    "rule": "a block does not execute by the rules",
    "tree": "the Merkle tree",
    "state": "the digest of all rows",
    "row": "a row of the state",
    "storage": "the file itself",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    what: str
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return (
            f"{self.what:13} {self.where}: {KINDS[self.what]}\n"
            f"{'':13}   found {self.found}\n{'':13}   expected {self.expected}"
        )

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def finding(what: str, where: str, found: object, expected: object) -> Finding:
    """A finding with its facts as text of bounded length; a kind that is none is a KeyError."""
    KINDS[what]
    return Finding(what, _shown(where), _shown(found), _shown(expected))


@dataclass(slots=True)
class Counts:
    """What has been checked so far."""

    blocks: int = 0
    leaves: int = 0
    operations: int = 0
    signatures: int = 0
    certificates: int = 0
    rows: int = 0


@dataclass(slots=True)
class Report:
    """What an audit came to; `stopped` says why not everything could be checked, if so."""

    net: str
    rules_version: int  # the newest that it follows
    height: int = 0
    size: int = 0
    root: str = ""
    counts: Counts = field(default_factory=Counts)
    findings: list[Finding] = field(default_factory=list)
    total: int = 0
    stopped: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing was found, and everything was checked."""
        return self.total == 0 and not self.stopped

    def add(self, *found: Finding) -> None:
        """Count findings, and keep them while there is room."""
        self.extend(found)

    def insert(self, place: int, found: Finding) -> None:
        """Count a finding that belongs behind the first `place` ones."""
        self.total += 1
        self.findings.insert(place, found)
        del self.findings[KEPT:]

    def extend(self, found: Iterable[Finding]) -> None:
        for each in found:
            self.total += 1
            if len(self.findings) < KEPT:
                self.findings.append(each)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "clean": self.clean,
            "net": self.net,
            "rules_version": self.rules_version,
            "height": self.height,
            "size": self.size,
            "root": self.root,
            "checked": asdict(self.counts),
            "stopped": list(self.stopped),
            "total": self.total,
            "findings": [each.as_dict() for each in self.findings],
        }


def _shown(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."
