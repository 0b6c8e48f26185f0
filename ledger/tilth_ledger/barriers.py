"""Barriers: fresh nonces of readers that wait for a block made after they asked.

A block that lists a nonce was proposed after the nonce was drawn; when it is final, whoever drew it
has applied every block that was final anywhere before. That is a linearizable read, without a clock
and without a leaf.

Invariants:
- A nonce stands here once, and not again when a final block listed it a short while ago.
- Bounded, each party's share as well: an honest node has one on its way and one that waits.
- Another's nonce is work as long as its party repeats it, which an honest one does to everybody:
  one that a liar told to some members only does not keep these talking for ever.

Left to others: drawing nonces, one for all readers of a moment (the node), listing them in a block
(proposing), telling the other members (replica).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tilth_ledger.blocks import MAX_BARRIERS, NONCE_BYTES
from tilth_ledger.errors import InvalidInput, Refused

MOST_OF_ONE_PARTY = 4
REMEMBERED = 4_096
MOST_RETRIES = 16  # of mine, through which another's nonce is kept that nobody repeats: 100 s


@dataclass(slots=True)
class Barriers:
    """Nonces that no final block lists, oldest first; each with the party that asked."""

    _waiting: dict[bytes, int] = field(default_factory=dict)
    _final: dict[bytes, None] = field(default_factory=dict)
    _retries: dict[bytes, int] = field(default_factory=dict)  # since a nonce was told

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, nonce: bytes, party: int) -> bool:
        """Keep a nonce; whether it is new. Raises `InvalidInput`, or `Refused` when the party has
        too many that wait."""
        if len(nonce) != NONCE_BYTES:
            raise InvalidInput("barrier is no nonce", found=len(nonce), expected=NONCE_BYTES)
        if nonce in self._waiting or nonce in self._final:
            self._retries.pop(nonce, None)
            return False
        if sum(other == party for other in self._waiting.values()) >= MOST_OF_ONE_PARTY:
            raise Refused(
                "busy",
                "too many barriers of one node wait",
                expected=f"at most {MOST_OF_ONE_PARTY}",
                remedy="Ask again in a moment.",
            )
        self._waiting[nonce] = party
        return True

    def of(self, party: int) -> tuple[bytes, ...]:
        """Those that a party asked for."""
        return tuple(nonce for nonce, asker in self._waiting.items() if asker == party)

    def body(self, excluded: Collection[bytes]) -> tuple[bytes, ...]:
        """For a block: the oldest that none of its ancestors lists."""
        return tuple(n for n in self._waiting if n not in excluded)[:MAX_BARRIERS]

    def lapse(self, me: int) -> None:
        """I am about to repeat myself: forget what others asked for and do not ask for any more."""
        for nonce in [nonce for nonce, asker in self._waiting.items() if asker != me]:
            self._retries[nonce] = self._retries.get(nonce, 0) + 1
            if self._retries[nonce] >= MOST_RETRIES:
                del self._waiting[nonce], self._retries[nonce]

    def settle(self, nonces: Iterable[bytes]) -> None:
        """A final block lists these."""
        for nonce in nonces:
            self._waiting.pop(nonce, None)
            self._retries.pop(nonce, None)
            self._final[nonce] = None
        while len(self._final) > REMEMBERED:
            del self._final[next(iter(self._final))]
