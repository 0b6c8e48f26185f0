"""Runs `tilth` in this process, and what other nodes say reaches it late: a launcher of tests only.

    SLOW_EARS=hospital-c=0.5,hospital-b=0.2 pytest tests/end_to_end    # seconds

Every node of these tests then starts by this. A test that asks one node for what another was told
a moment ago fails, as it would one day on a busy machine.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from tilth.cli import main
from tilth_node.rpc.peers import Peers

SECONDS = dict(each.split("=") for each in os.environ["SLOW_EARS"].split(","))
hears = Peers._received


def hears_late(peers: Peers, organization: str, messages: Sequence[bytes]) -> None:
    """What the connection calls; messages stay in their order."""
    late = float(SECONDS.get(peers.me.organization, 0))
    asyncio.get_running_loop().call_later(late, hears, peers, organization, messages)


Peers._received = hears_late  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
