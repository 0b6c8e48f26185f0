"""A consortium of one that is killed at each of its durable steps: what it acknowledged stands."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from network import READY_SECONDS, Network, new_identity

from tilth.transport import Receipt
from tilth.verifier import verify
from tilth_ledger.errors import TilthError
from tilth_ledger.leaf import Leaf

Networks = Callable[..., Network]
LAUNCHER = (sys.executable, str(Path(__file__).with_name("crashing.py")))


def survives(network: Network, entry: bytes, receipt: Receipt | None) -> None:
    """After a restart: what was acknowledged stands, and what was not can be sent again."""
    network.start(0)
    client = network.transport(0)
    again = client.submit(entry)
    if receipt is not None:
        assert (again.id, again.index) == (receipt.id, receipt.index)
    status = client.status()
    leaves = client.leaves(0, 100)
    assert len(leaves) == status["size"] == 2
    assert Leaf.decode(leaves[again.index]).id == again.id
    assert verify(client.prove(again.index), network.genesis.bytes).ok
    network.stop(0)


def crash(network: Network, at: int, when: str, entry: bytes) -> tuple[bool, Receipt | None]:
    """Run a node that dies at a durable step; whether it did, and what it had answered."""
    environment = {"CRASH_AT": str(at), "CRASH_WHEN": when}
    process = network.launch(0, launcher=LAUNCHER, environment=environment)
    receipt = None
    if network.wait_ready(0):
        try:
            receipt = network.transport(0).submit(entry)
        except TilthError:
            process.wait(READY_SECONDS)
        died = process.poll() is not None
        network.kill(0)
        return died, receipt
    return True, None


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_it_survives_a_kill_at_every_durable_step(networks: Networks, when: str) -> None:
    network = networks(members=1)
    network.start()
    first = network.entry(0, [new_identity()[1]])
    network.transport(0).submit(first)
    network.kill(0)
    folder = network.sites[0].folder
    shutil.copytree(folder, folder.with_name("before"))
    died, steps = True, 0
    while died:
        steps += 1
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("before"), folder)
        entry = network.entry(0, [new_identity()[1]])
        died, receipt = crash(network, steps, when, entry)
        survives(network, entry, receipt)
    assert steps > 3  # journal, ready file, commit


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_it_survives_a_kill_at_every_step_of_its_first_start(networks: Networks, when: str) -> None:
    network = networks(members=1)
    folder = network.sites[0].folder
    shutil.copytree(folder, folder.with_name("before"))
    steps = 0
    while True:
        steps += 1
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("before"), folder)
        environment = {"CRASH_AT": str(steps), "CRASH_WHEN": when}
        network.launch(0, launcher=LAUNCHER, environment=environment)
        if network.wait_ready(0):
            break
        network.start(0)
        assert network.submit(0, [new_identity()[1]]).index == 0
        network.kill(0)
    assert steps > 5
