"""A member whose clock is wrong from its start on: by seconds it takes full part; by an hour its
word on time is not taken, the others go on, and it follows them until its clock is right.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crowd import Crowd
from network import Network, new_identity, same_ledger
from wrong_clock import WrongClock

from tilth_node import running

Networks = Callable[..., Network]
SITE = 1
AHEAD_MS = 10_000  # of one's own clock: more is refused (V1)


def begin(network: Network, clock: WrongClock) -> None:
    network.start(0, 2)
    network.launch(SITE, environment=clock.environment)
    assert network.wait_ready(SITE), network.sites[SITE].log


def held(network: Network) -> int:
    """How many entries the member with the wrong clock holds: it takes no token of a right one."""
    return int(running.status(network.sites[SITE].folder).get("size", 0))


def ledger_ahead_ms(network: Network) -> float:
    """By how much the ledger's time is ahead of this machine's."""
    return float(network.transport(0).status()["time_ms"] - time.time() * 1000)


def test_some_seconds_change_nothing(networks: Networks, tmp_path: Path) -> None:
    network = networks(members=3)
    clock = WrongClock(tmp_path / "offset")
    clock.set("+5")
    begin(network, clock)
    crowd = Crowd(network, [0, 1, 2])
    with crowd:
        crowd.wait([0, 1, 2], acknowledged=5)
        clock.set("-5")
        crowd.wait([0, 1, 2], acknowledged=5)
    crowd.check()
    assert ledger_ahead_ms(network) < AHEAD_MS
    assert same_ledger(network, [0, 1, 2])["alarm"] == ""


@pytest.mark.slow
@pytest.mark.rule("V1")
@pytest.mark.parametrize(("offset", "others"), [("+1h", "behind"), ("-1h", "ahead of")])
def test_an_hour_holds_nobody_up_and_is_not_recorded(
    networks: Networks, tmp_path: Path, offset: str, others: str
) -> None:
    network = networks(members=3)
    clock = WrongClock(tmp_path / "offset")
    clock.set(offset)
    begin(network, clock)
    crowd = Crowd(network, [0, 2])
    with crowd:
        crowd.wait([0, 2], acknowledged=5)
    crowd.check()
    size = same_ledger(network, [0, 2])["size"]
    while held(network) < size:
        pass
    assert ledger_ahead_ms(network) < AHEAD_MS
    words = rf"hospital-a's proposal is \d+ ms {others} this node's clock"
    while not re.search(words, network.sites[SITE].log):  # it may have heard only what is final
        network.submit(0, [new_identity()[1]])
    clock.set("+0")
    network.submit(SITE, [new_identity()[1]])
    status = same_ledger(network, [0, 1, 2])
    assert (status["voting"], status["evidence_count"]) == (True, 0)
