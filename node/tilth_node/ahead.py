"""Signatures of entries that wait are verified while the loop has nothing better to do.

A leader executes entries while the others wait for its block, and the others execute it while the
leader waits for their votes. What can be done before, whatever the block, is done before.

- Never instead of anything that came: a few entries at a time, and none while events wait.
- Decides nothing: what is not ready is verified when it is executed, what is false fails there.

Leaves to others: what is verified (tilth_ledger.execution), blocks (replication).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from tilth_ledger.effects import Event, Received, Submitted
from tilth_ledger.messages import Gossip

AT_ONCE = 4  # entries between two looks at what came: a quarter of a millisecond
MOST_WAITING = 4_096


class Ahead:
    """Entries that will be executed soon."""

    def __init__(self, verify: Callable[[bytes], None], busy: Callable[[], bool]) -> None:
        self._verify = verify
        self._busy = busy
        self._leaves: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._goes_on = False

    def add(self, events: Iterable[Event]) -> None:
        """Entries among the events of a turn that was carried out."""
        for event in events:
            if isinstance(event, Submitted):
                self._leaves.append(event.leaf)
            elif isinstance(event, Received) and isinstance(event.message, Gossip):
                self._leaves.extend(event.message.leaves)
        if self._leaves and not self._goes_on:
            self._later()

    def _later(self) -> None:
        self._goes_on = True
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        for _ in range(AT_ONCE):
            if not self._leaves or self._busy():
                break
            self._verify(self._leaves.popleft())
        if self._leaves:
            self._later()
