"""Trying again what this node cannot do now: a full disk, an engine gone, a peer out of reach.

- A node's own trouble never fails a task; it waits longer each time, up to a bound, and says what
  it waits for.
- Whatever is not the node's trouble passes through at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tilth_ledger.errors import PeerFault, Unavailable
from tilth_node.runtimes import NodeFault

Result = TypeVar("Result")

NODE_FAULTS = (Unavailable, PeerFault, NodeFault, OSError)
FIRST_SECONDS = 0.05
LONGEST_SECONDS = 5.0


async def patiently(
    work: Callable[[], Awaitable[Result]],
    tell: Callable[[str], None],
    longest_seconds: float = LONGEST_SECONDS,
) -> Result:
    """The result of `work`, tried until the node can; `tell` hears what it waits for."""
    pause = FIRST_SECONDS
    while True:
        try:
            result = await work()
        except NODE_FAULTS as error:
            tell(str(error) or type(error).__name__)
            await wait(pause)
            pause = min(4 * pause, longest_seconds)
        else:
            tell("")
            return result


async def wait(seconds: float) -> None:
    """A timer of the event loop."""
    passed = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(seconds, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()
