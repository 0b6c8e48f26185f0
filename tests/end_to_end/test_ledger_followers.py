"""Organizations without a vote, as real processes: their nodes follow, submit, work and prove."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hospital_code
from field import Field
from network import Network, cosigned, has_reached, new_identity, same_ledger

from tilth.plan import MEAN, Plan
from tilth.verifier import verify

Networks = Callable[..., Network]
ALL = [0, 1, 2, 3]
FOLLOWER = 3


def test_a_follower_gets_every_entry_and_hands_in_its_own(networks: Networks) -> None:
    network = networks(members=3, followers=1)
    network.start()
    assert network.submit(FOLLOWER, [new_identity()[1]]).index == 0
    assert network.submit(1, [new_identity()[1]]).index == 1
    status = same_ledger(network, ALL)
    assert (status["organization"], status["size"]) == ("hospital-d", 2)
    assert not status["voting"]
    assert [peer["member"] for peer in status["peers"]] == [True, True, True]
    assert [peer["member"] for peer in network.transport(0).status()["peers"]] == [
        *(True, True, False)
    ]
    bundle = network.transport(FOLLOWER).prove(1)
    assert verify(bundle, network.genesis.bytes).ok


def test_a_killed_follower_catches_up_and_keeps_no_votes(networks: Networks) -> None:
    network = networks(members=3, followers=1)
    journal = network.sites[FOLLOWER].folder / "journal" / "votes"
    begun = journal.read_bytes()
    network.start()
    network.submit(FOLLOWER, [new_identity()[1]])
    for _ in range(3):
        network.kill(FOLLOWER)
        receipt = network.submit(2, [new_identity()[1]])
        network.start(FOLLOWER)
        assert has_reached(network.transport(FOLLOWER), receipt.size)["alarm"] == ""
    assert network.submit(FOLLOWER, [new_identity()[1]]).index == 4
    same_ledger(network, ALL)
    assert journal.read_bytes() == begun  # what init wrote: no vote, no block


def test_a_follower_killed_under_load_loses_nothing_that_it_acknowledged(
    networks: Networks,
) -> None:
    network = networks(members=3, followers=1)
    network.start()
    client = network.transport(FOLLOWER)
    entries = [network.entry(FOLLOWER, [new_identity()[1]]) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(client.submit, entry) for entry in entries]
        acknowledged = {sent[10].result().index: entries[10]}
        network.kill(FOLLOWER)
        for each in sent:
            each.cancel()
        network.start(FOLLOWER)
    client = network.transport(FOLLOWER)
    receipts = [client.submit(entry) for entry in entries]
    assert len({receipt.index for receipt in receipts}) == len(entries)
    assert same_ledger(network, ALL)["size"] == len(entries)
    leaves = client.leaves(0, 1000)
    assert all(leaves[index] == entry for index, entry in acknowledged.items())


def test_a_follower_counts_for_no_quorum(networks: Networks) -> None:
    network = networks(members=3, followers=1)
    network.start()
    network.submit(FOLLOWER, [new_identity()[1]])
    network.kill(1)
    network.kill(2)
    client = network.transport(FOLLOWER)
    entry = network.entry(FOLLOWER, [new_identity()[1]])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.submit, entry)
        assert client.status()["size"] == 1
        assert not waiting.done()
        network.start(2)
        assert waiting.result().index == 1
    same_ledger(network, [0, 2, FOLLOWER])


def test_a_follower_that_accepts_no_connection_follows_all_the_same(networks: Networks) -> None:
    network = networks(members=1, followers=2, dial_only=(1,))
    network.start()
    assert network.submit(1, [new_identity()[1]]).index == 0
    assert network.submit(2, [new_identity()[1]]).index == 1
    network.kill(0)
    network.start(0)
    assert network.submit(1, [new_identity()[1]]).index == 2
    same_ledger(network, [0, 1, 2])


def test_the_command_line_founds_a_network_with_a_follower(tmp_path: Path) -> None:
    for name in ("hospital-a", "auditor"):
        words = ("--organization", name, "--address", f"{name}.example")
        tilth("node", "init", str(tmp_path / name), *words)
    member, other = (str(tmp_path / name / "member.json") for name in ("hospital-a", "auditor"))
    genesis = str(tmp_path / "genesis.json")
    said = tilth(
        *("network", "new", "--name", "n", "--member", member, "--organization", other),
        *("--out", genesis),
    )
    assert "auditor has no vote: its node follows" in said
    tilth("node", "join", str(tmp_path / "auditor"), genesis)
    assert "votes            False" in tilth("node", "status", str(tmp_path / "auditor"))


def tilth(*words: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tilth.cli", *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_an_external_test_hospital_without_a_vote_certifies_a_model(tmp_path: Path) -> None:
    with Field(tmp_path, members=3, followers=1) as field:
        external = field.sites[FOLLOWER]
        assert external.key.startswith("hospital-d/")
        goal = field.objective()
        algo = field.algo(hospital_code.Mean)
        plan = Plan("external test")
        model = plan.init(algo, at="hospital-a")
        trained = [plan.train(algo, site, model) for site in field.sites[:FOLLOWER]]
        model = plan.aggregate(MEAN, trained, at="hospital-b")
        plan.final(model)
        [test_set] = [each for each in goal.sets if each.dataset == external.key]
        plan.test(algo, model, goal, test_set)
        run = field.wait(field.submit(plan))
        assert run.outcome().ok
        [(_, certified)] = field.rows("certified/").items()
        assert certified["worker"] == "hospital-d"
        members = ["hospital-a", "hospital-b", "hospital-c"]
        wanted = {"signers": members, "signed with ML-DSA-44": members}
        cosigned(field.nodes, FOLLOWER, certified["index"], wanted)
        same_ledger(field.nodes, ALL)


def test_hospitals_without_a_vote_train_and_a_neutral_one_aggregates(tmp_path: Path) -> None:
    with Field(tmp_path, members=1, followers=2) as field:
        algo = field.algo(hospital_code.Mean)
        plan = Plan("neutral aggregator")
        model = plan.init(algo, at="hospital-a")
        trained = [plan.train(algo, site, model) for site in field.sites[:2]]
        plan.final(plan.aggregate(MEAN, trained, at="hospital-c"))
        run = field.wait(field.submit(plan))
        assert run.outcome().ok
        assert {task.worker for task in run.tasks()} == {"hospital-a", "hospital-b", "hospital-c"}
        same_ledger(field.nodes, [0, 1, 2])
