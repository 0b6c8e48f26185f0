"""The docket: evidence that was seen and does not stand on the ledger yet.

Invariants:
- A pair stands here once, by its name, and leaves when it is recorded.
- Bounded: what one member is accused of fills its own share only, so that nobody can hide another's
  pair behind its own.

Left to others: whether the signatures hold (whoever adds), making it durable and known (core), the
leaf (evidence).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tilth_ledger.evidence import Evidence, Name

MOST_OF_ONE_MEMBER = 32
MOST_IN_A_BLOCK = 64


@dataclass(slots=True)
class Docket:
    """Pairs by name, oldest first."""

    _waiting: dict[Name, Evidence] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Evidence]:
        return iter(self._waiting.values())

    def __contains__(self, evidence: Evidence) -> bool:
        return evidence.name in self._waiting

    def has_room(self, evidence: Evidence) -> bool:
        """Whether this pair is new, and its member's share is not full."""
        mine = sum(other.member == evidence.member for other in self)
        return evidence not in self and mine < MOST_OF_ONE_MEMBER

    def add(self, evidence: Evidence) -> None:
        self._waiting.setdefault(evidence.name, evidence)

    def drop(self, settled: Callable[[Evidence], bool]) -> None:
        """Forget what is settled."""
        self._waiting = {n: each for n, each in self._waiting.items() if not settled(each)}
