"""Several members as real processes: entries become final while one is away, and it catches up."""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from network import READY_SECONDS, Network, free_port, has_reached, new_identity, same_ledger

from tilth.transport import Receipt
from tilth.verifier import verify
from tilth_ledger.errors import TilthError

Networks = Callable[..., Network]
CRASHING = (sys.executable, str(Path(__file__).with_name("crashing.py")))


def test_an_entry_sent_to_any_node_is_on_all(networks: Networks) -> None:
    network = networks(members=3)
    network.start()
    for i in range(3):
        assert network.submit(i, [new_identity()[1]]).index == i
    assert same_ledger(network, [0, 1, 2])["size"] == 3


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_with_any_one_killed_entries_become_final_and_it_catches_up(
    networks: Networks, dead: int
) -> None:
    network = networks(members=3)
    network.start()
    alive = [i for i in range(3) if i != dead]
    network.submit(dead, [new_identity()[1]])
    network.kill(dead)
    for _ in range(3):
        for i in alive:
            network.submit(i, [new_identity()[1]])
    same_ledger(network, alive)
    network.start(dead)
    assert has_reached(network.transport(dead), 7)["alarm"] == ""
    assert network.submit(dead, [new_identity()[1]]).index == 7
    status = same_ledger(network, [0, 1, 2])
    assert status["size"] == 8


def test_a_node_that_hangs_holds_nobody_up_and_catches_up_when_it_goes_on(
    networks: Networks,
) -> None:
    network = networks(members=3)
    network.start()
    network.submit(1, [new_identity()[1]])
    process = network.sites[1].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    for i in (0, 2, 0):
        receipt = network.submit(i, [new_identity()[1]])
    process.send_signal(signal.SIGCONT)
    assert has_reached(network.transport(1), receipt.size)["alarm"] == ""
    assert network.submit(1, [new_identity()[1]]).index == 4
    same_ledger(network, [0, 1, 2])


def test_two_of_three_killed_nothing_is_final_until_one_is_back(networks: Networks) -> None:
    network = networks(members=3)
    network.start()
    network.submit(0, [new_identity()[1]])
    network.kill(1)
    network.kill(2)
    client = network.transport(0)
    entry = network.entry(0, [new_identity()[1]])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.submit, entry)
        assert client.status()["size"] == 1
        assert not waiting.done()
        network.start(1)
        assert waiting.result().index == 1
    same_ledger(network, [0, 1])


def test_all_killed_at_once_under_load_lose_nothing_that_was_acknowledged(
    networks: Networks,
) -> None:
    network = networks(members=3)
    network.start()
    clients = [network.transport(i) for i in range(3)]
    entries = [network.entry(i % 3, [new_identity()[1]]) for i in range(60)]
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(clients[i % 3].submit, entry) for i, entry in enumerate(entries)]
        acknowledged = {sent[20].result().index: entries[20]}
        for i in range(3):
            network.kill(i)
        for i, each in enumerate(sent):
            if each.done() and each.exception() is None:
                acknowledged[each.result().index] = entries[i]
            each.cancel()
    network.start()
    client = network.transport(1)
    receipts = [client.submit(entry) for entry in entries]
    assert len({receipt.index for receipt in receipts}) == len(entries)
    assert same_ledger(network, [0, 1, 2])["size"] == len(entries)
    leaves = client.leaves(0, 1000)
    assert all(leaves[index] == entry for index, entry in acknowledged.items())


def test_a_node_that_accepts_no_connection_takes_full_part(networks: Networks) -> None:
    network = networks(members=3, dial_only=(2,))
    network.start()
    network.submit(2, [new_identity()[1]])
    network.kill(0)
    network.submit(2, [new_identity()[1]])
    network.submit(1, [new_identity()[1]])
    assert same_ledger(network, [1, 2])["size"] == 3
    assert not any(peer["address"] for peer in network.transport(2).status()["peers"][2:])


def test_four_members_go_on_without_one(networks: Networks) -> None:
    network = networks(members=4)
    network.start()
    network.submit(3, [new_identity()[1]])
    network.kill(1)
    receipt = network.submit(2, [new_identity()[1]])
    network.start(1)
    bundle = network.transport(1)
    has_reached(bundle, receipt.size)
    assert verify(bundle.prove(receipt.index), network.genesis.bytes).ok


def test_a_copied_folder_is_refused_by_the_others_while_the_first_answers(
    networks: Networks, tmp_path: Path
) -> None:
    network = networks(members=3)
    network.start()
    network.submit(0, [new_identity()[1]])
    site = network.sites[2]
    copy = tmp_path / "copy"
    os.system(f"cp -r {site.folder} {copy}")  # as an operator would
    settings = (copy / "node.toml").read_text()
    listen = site.ready["peer_address"]
    (copy / "node.toml").write_text(settings.replace(listen, f"127.0.0.1:{free_port()}"))
    first = (site.folder, site.process, site.ready)
    site.folder, site.process = copy, None
    network.launch(2)
    assert network.wait_ready(2)
    second = network.transport(2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.submit, network.entry(2, [new_identity()[1]]))
        assert network.submit(1, [new_identity()[1]]).index == 1
        assert not waiting.done()
        while "another instance of hospital-c is connected" not in site.log:
            second.status()  # it is told in its own time
        network.kill(2)
    site.folder, site.process, site.ready = first
    assert network.submit(2, [new_identity()[1]])


# -- one member dies at each of its durable steps


@dataclass
class Flow:
    """Entries through all members while one of them, the victim, dies now and then."""

    network: Network
    victim: int
    entries: list[bytes] = field(default_factory=list)
    acknowledged: dict[int, bytes] = field(default_factory=dict)

    def send(self, each: int = 2) -> None:
        """So many entries to every member at once; the others must answer, the victim need not."""
        sent: list[tuple[int, bytes, Future[Receipt]]] = []
        with ThreadPoolExecutor(3 * each) as pool:
            for i in range(3):
                client = self.network.transport(i)
                for _ in range(each):
                    entry = self.network.entry(i, [new_identity()[1]])
                    sent.append((i, entry, pool.submit(client.submit, entry)))
        for i, entry, answer in sent:
            self.entries.append(entry)
            try:
                receipt = answer.result()
            except TilthError:
                assert i == self.victim
                continue
            assert self.acknowledged.setdefault(receipt.index, entry) == entry

    def survives_step(self, at: int, when: str) -> bool:
        """One life of the victim, to its durable step `at`; whether it never came so far."""
        environment = {"CRASH_AT": str(at), "CRASH_WHEN": when}
        process = self.network.launch(self.victim, launcher=CRASHING, environment=environment)
        if not self.network.wait_ready(self.victim):
            return False
        size = len(self.acknowledged)
        self.send()
        try:
            has_reached(self.network.transport(self.victim), max(size, len(self.acknowledged)))
        except TilthError:
            process.wait(READY_SECONDS)
        survived = process.poll() is None
        self.network.kill(self.victim)
        return survived


@pytest.mark.slow
@pytest.mark.rule("F1")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_member_killed_at_each_durable_step_costs_nothing_and_never_votes_twice(
    networks: Networks, when: str
) -> None:
    network = networks(members=3)
    flow = Flow(network, victim=0)
    network.start(1, 2)
    at = 1
    while not flow.survives_step(at, when):
        at += 1
    assert at > 10, "starts, votes, blocks and commits are steps"
    network.start(0)
    client = network.transport(0)
    indices = {client.submit(entry).index for entry in flow.entries}
    assert indices == set(range(len(flow.entries)))
    status = same_ledger(network, [0, 1, 2])
    assert status["size"] == len(flow.entries)
    leaves = client.leaves(0, 1000)
    assert all(leaves[index] == entry for index, entry in flow.acknowledged.items())
    for i, site in enumerate(network.sites):
        assert network.transport(i).status()["alarm"] == ""
        assert "evidence" not in site.log
        assert "alarm" not in site.log, "a member that lost votes is told so by the others"
