"""What was refused from whom, by reason, since the start: counted, never remembered one by one.

Invariants:
- Bounded: so many reasons for each party, and one more for all others.
- A count decides nothing: no vote, no connection and no quorum depends on it.

Left to others: refusing (replica, the node's wire), showing the counts (the node).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_REASONS = 64
OTHER = "other"
# What honest peers cause as well: late, repeated, or told before one knew better.
HARMLESS = frozenset(
    (
        *("known", "repeated", "not asked for", "more than one at once", "of a later view"),
        *("of a view that is over", "of another epoch", "this node does not vote"),
        *("after the fork", "of an organization that is not listed"),
    )
)


def is_harmless(reason: str) -> bool:
    """Whether a counted reason says nothing against a peer."""
    return reason.partition(": ")[2] in HARMLESS


@dataclass(slots=True)
class Faults:
    """Counts by organization and reason."""

    total: int = 0
    _counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, organization: str, reason: str) -> int:
        """One more; how many there are now."""
        known = self._counts.setdefault(organization, {})
        if reason not in known and len(known) >= MOST_REASONS:
            reason = OTHER
        self.total += 1
        known[reason] = known.get(reason, 0) + 1
        return known[reason]

    @property
    def counts(self) -> Mapping[str, Mapping[str, int]]:
        return self._counts
