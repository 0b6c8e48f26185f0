"""What false signatures of one peer may cost: each is 40 us of every node that it is sent to.

- A peer may be wrong so often at once and then once a second, counted for each kind of message by
  itself. Beyond that, messages of that kind are not looked at until a second has passed.
- Who is told so is the peer that sent it, over a connection that proves who it is. Votes come from
  their signers only, and who hands on a certificate or evidence has verified it before: so nobody
  spends another's budget.
- Messages that are right cost nothing, so a member with an old key, whose votes are all refused,
  goes on following; its first votes with the new one count.

Left to others: verifying (votes, evidence), counting what was not looked at (faults).
"""

from __future__ import annotations

from dataclasses import dataclass, field

AT_ONCE = 100
REFILL_MS = 1_000  # until one more may be wrong


@dataclass(slots=True)
class Budget:
    """Of one epoch, whose parties are numbered; bounded by them and the kinds of messages."""

    # (party, kind) -> when its budget is whole again, in the node's monotonic time
    _whole_ms: dict[tuple[int, str], int] = field(default_factory=dict)

    def spend(self, party: int, kind: str, now_ms: int) -> None:
        """One more was false."""
        key = party, kind
        self._whole_ms[key] = max(self._whole_ms.get(key, now_ms), now_ms) + REFILL_MS

    def is_spent(self, party: int, kind: str, now_ms: int) -> bool:
        """Whether messages of this kind are not to be looked at now."""
        return self._whole_ms.get((party, kind), now_ms) - now_ms > (AT_ONCE - 1) * REFILL_MS
