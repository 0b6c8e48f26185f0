"""A node that comes late joins by a snapshot, as a real process, and later holds everything."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from network import Network, audit, has_reached, new_identity, same_ledger

from tilth.transport import Transport
from tilth.verifier import verify
from tilth_ledger.errors import Unavailable

Networks = Callable[..., Network]
LATE = 3
ENTRIES = 2_000


def join_early(network: Network) -> None:
    """A few blocks behind are enough for a snapshot."""
    for site in network.sites:
        path = site.folder / "node.toml"
        text = path.read_text()
        assert "snapshot_after = 2000" in text
        path.write_text(text.replace("snapshot_after = 2000", "snapshot_after = 3"))


def fill(network: Network, entries: int) -> None:
    client, made = network.transport(0), [new_identity()[1] for _ in range(entries)]
    leaves = [network.entry(0, [each]) for each in made]
    with ThreadPoolExecutor(2) as pool:
        parts = [leaves[at : at + 100] for at in range(0, entries, 100)]
        for answers in pool.map(lambda part: client.submit_soon(part).result(250), parts):
            assert not [each for each in answers if isinstance(each, Exception)]


def has_the_past(client: Transport) -> None:
    """Asks until the first leaf is there."""
    for _ in range(100_000):
        try:
            client.leaves(0, 1)
        except Unavailable:
            continue
        return
    raise AssertionError("the past never came")


@pytest.mark.slow
def test_a_late_node_joins_by_snapshot_and_then_proves_and_audits_everything(
    networks: Networks,
) -> None:
    network = networks(members=3, followers=1)
    join_early(network)
    network.start(0, 1, 2)
    fill(network, ENTRIES)
    network.start(LATE)
    client = network.transport(LATE)
    has_reached(client, ENTRIES)
    assert "area=joining" in network.sites[LATE].log
    assert network.submit(LATE, [new_identity()[1]]).index == ENTRIES
    has_the_past(client)
    assert (client.status()["missing"], client.status()["joined_rows"]) == (0, 0)
    same_ledger(network, [0, 1, 2, LATE])
    assert verify(client.prove(1), network.genesis.bytes).ok
    network.kill(0)
    network.submit(LATE, [new_identity()[1]])
    network.stop(LATE)
    audit(network, LATE)
    done = subprocess.run(
        [sys.executable, "-m", "tilth.cli", "audit", str(network.sites[LATE].folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "clean" in done.stdout
