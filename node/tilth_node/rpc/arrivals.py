"""How many requests of a client may be on their way in at once: each may take 4 MB until it ends.

- A message is waited for in one of few places, of its identity and of its organization, and not for
  long. Who has begun more waits outside, where a request takes the window of its stream only.
- gRPC tells nobody when a request of one message is given up before it came. The first ones of an
  organization are left to it all the same, since that costs less CPU; each that never comes takes
  one such chance away until the process ends.

Left to others: who calls, and whether the token fits what came (interceptors).
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial

from tilth_ledger.errors import TooMany

OF_IDENTITY = 4  # messages awaited at once
OF_ORGANIZATION = 16
QUICK = 16  # left to gRPC, of an organization
MESSAGE_SECONDS = 20.0  # for a place and the message: as long as our clients wait for an answer


class Arrivals:
    """Counts what is on its way, by identity and organization of the ledger."""

    def __init__(self) -> None:
        self._identities: dict[str, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, OF_IDENTITY)
        )
        self._organizations: dict[str, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, OF_ORGANIZATION)
        )
        self._quick: dict[str, int] = defaultdict(int)

    def may_be_quick(self, organization: str) -> bool:
        """Whether gRPC may wait for one more message; `came` must follow when it is there."""
        if self._quick[organization] >= QUICK:
            return False
        self._quick[organization] += 1
        return True

    def came(self, organization: str) -> None:
        self._quick[organization] -= 1

    async def message(self, organization: str, identity: str, raws: AsyncIterator[bytes]) -> bytes:
        """The next message; raises TooMany when it is not there in time, StopAsyncIteration when
        there is none."""
        try:
            async with asyncio.timeout(MESSAGE_SECONDS):
                async with self._identities[identity], self._organizations[organization]:
                    return await anext(raws)
        except TimeoutError as error:
            raise TooMany(
                "a request did not come to its end in time",
                found=f"no end after {MESSAGE_SECONDS:g} s",
                expected=f"a whole message; {OF_IDENTITY} of an identity and {OF_ORGANIZATION} of"
                " an organization are taken in at once",
                remedy="Begin fewer at once, or send smaller ones.",
            ) from error
