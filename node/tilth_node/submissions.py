"""Entries that callers wait for, and what became of them.

Leaves to others: when they are settled (replication).
"""

import asyncio
from dataclasses import dataclass, field

from tilth_ledger.errors import TilthError, Unavailable


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a final entry stands."""

    id: str
    index: int
    size: int  # of the tree after its block


Outcome = Receipt | TilthError


@dataclass(slots=True)
class Submission:
    """Entries that one caller waits for together."""

    outcomes: list[Outcome | None]
    open: int = 0
    done: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, place: int, outcome: Outcome) -> None:
        self.outcomes[place] = outcome
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


def standing_still(words: str) -> Unavailable:
    """The outcome of an entry at a node that takes none now."""
    return Unavailable(words, remedy="submit the same bytes to another node, or here later")
