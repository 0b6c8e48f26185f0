"""Linearizable reads: readers of a moment wait together for one block made after they asked.

- A nonce is drawn when no other of this node is on its way; readers that come meanwhile share the
  next one, since the one on its way may stand in a block made before they asked.
- Nobody's leaving ends the wait of the others.
- One identity asks so often and no more (`Turns`): each block stays for ever, and a flood of reads
  must not fill every member's disk.

Leaves to others: listing the nonce in a block (tilth_ledger.barriers), reading (storage).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection

from tilth_ledger.blocks import NONCE_BYTES
from tilth_ledger.errors import TilthError, TooMany

Answer = int | TilthError
SAVED_MS = 60_000
MOST_REMEMBERED = 4_096  # identities


class Turns:
    """How often each identity may have a linearizable read: `per_second` for long, and so many at
    once as add up in a minute."""

    def __init__(self, per_second: int, now_ms: Callable[[], int]) -> None:
        self._cost_ms = 1000 / per_second
        self._now_ms = now_ms
        self._paid: OrderedDict[str, float] = OrderedDict()  # until when, in ms

    def take(self, who: str) -> None:
        """Take a turn of an identity's. Raises TooMany when it has had its share."""
        now = float(self._now_ms())
        paid = max(self._paid.get(who, now), now)
        if paid - now > SAVED_MS - self._cost_ms:
            raise TooMany(
                "this identity asks for linearizable reads too often: each makes a block that"
                " stays for ever",
                found=f"{round(SAVED_MS / self._cost_ms)} in a minute",
                expected=f"{round(1000 / self._cost_ms)} a second",
                remedy="Ask again later, read `at-least` (one barrier, then several reads: `--read"
                " at-least=SIZE`), or let the operator raise ledger.linear_reads in node.toml.",
            )
        self._paid[who] = paid + self._cost_ms
        self._paid.move_to_end(who)
        if len(self._paid) > MOST_REMEMBERED:
            self._paid.popitem(last=False)


class Readers:
    """All who wait for a barrier on this node."""

    def __init__(self, ask: Callable[[bytes], None], random: Callable[[int], bytes]) -> None:
        self._ask = ask
        self._random = random
        self._nonce = b""  # on its way; empty: none is
        self._sent: asyncio.Future[Answer] | None = None
        self._next: asyncio.Future[Answer] | None = None

    async def barrier(self) -> int:
        """Wait; how many leaves are final in the block that answers. Raises what ended it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waiting = self._next
        self._send()
        answer = await asyncio.shield(waiting)
        if isinstance(answer, TilthError):
            raise answer
        return answer

    def final(self, nonces: Collection[bytes], size: int) -> None:
        """A block that lists these nonces is applied."""
        if self._sent is not None and self._nonce in nonces:
            self._sent.set_result(size)
            self._sent = None
            self._send()

    def again(self) -> None:
        """What was asked is forgotten by the replica: ask once more."""
        if self._sent is not None:
            self._ask(self._nonce)

    def fail(self, error: TilthError) -> None:
        """Nobody will be answered."""
        for waiting in (self._sent, self._next):
            if waiting is not None:
                waiting.set_result(error)
        self._sent = self._next = None

    def _send(self) -> None:
        if self._sent is None and self._next is not None:
            self._sent, self._next = self._next, None
            self._nonce = self._random(NONCE_BYTES)
            self._ask(self._nonce)
