"""Members come, go and rotate their keys while entries are recorded, on real node processes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from network import Network, cosigned, everywhere, new_identity, same_ledger

from tilth import client, members, profiles
from tilth.cli import main
from tilth.errors import Refused
from tilth_ledger.errors import TilthError
from tilth_node import rotating, running
from tilth_node.clock import Clock

Networks = Callable[..., Network]
A, B, C = range(3)


@contextmanager
def load(network: Network, *nodes: int) -> Iterator[list[int]]:
    """Entries all the while, through these nodes in turn; what became final."""
    stop, done, failed = Event(), [], []
    clients = [network.transport(i) for i in nodes]

    def run() -> None:
        number = 0
        while True:  # once at least
            node = number % len(nodes)
            number += 1
            try:
                entry = network.entry(nodes[node], [new_identity()[1]])
                done.append(clients[node].submit(entry).index)
            except TilthError as error:
                failed.append(error)
            if stop.is_set():
                return

    thread = Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert len(set(done)) == len(done) > 0


def admin(network: Network, i: int, place: Path) -> profiles.Profile:
    site = network.sites[i]
    return profiles.add(
        site.organization,
        address=site.ready["client_address"],
        organization=site.organization,
        genesis=network.genesis_file,
        key=site.folder / "keys" / "admin.seed",
        tls_authority=site.folder / "keys" / "authority.pem",
        place=place,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILTH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    """What a command prints with --json."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_three_members_become_four_one_is_removed_and_one_rotates_under_load(
    networks: Networks, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = networks(members=3)
    network.start()
    d = network.newcomer("hospital-d")
    network.start(d)  # nobody talks to it yet
    for i in (A, B):
        admin(network, i, home)

    def change(by: int, *words: str, also: tuple[int, ...]) -> None:
        """Propose on the command line, and approve with the SDK."""
        name = network.sites[by].organization
        everywhere(network, (*also, by))  # a proposal keeps q and k as its author sees them
        made = told(capsys, "member", *words, "--profile", name)["proposal"]
        assert made["state"] == "open"
        for each in also:
            everywhere(network, (by, each))
            with client.connect(network.sites[each].organization) as net:
                made = net.members.approve(made["key"].partition("/")[2][:10])
                made = {"key": made.key, "state": made.state}
        assert made["state"] == "effective"

    with load(network, A, B):
        folder = network.sites[d].folder
        change(A, "propose", "--admit", str(folder / "member.json"), also=(B,))
        assert everywhere(network, (A, d))[-1]["voting"] is False
        copy = network.genesis_file.with_name("copy.json")
        copy.write_text(json.dumps(rotating.copy_held(folder)))
        vote = ("propose", "--vote", "hospital-d", "--copy", str(copy), "--q", "3", "--k", "3")
        change(A, *vote, also=(B,))
        admin(network, d, home)
        change(A, "propose", "--remove", "hospital-c", "--q", "2", "--k", "3", also=(B, d))
    network.kill(C)
    with load(network, A, d):
        file = rotating.rotate(network.sites[B].folder, ("member", "node", "tls"), Clock())
        change(A, "rotate", str(file), also=(d,))
    everywhere(network, (A, B, d))
    listed = told(capsys, "member", "list", "--profile", "hospital-a")["epoch"]
    assert (listed["number"], listed["members"]) == (4, ["hospital-a", "hospital-b", "hospital-d"])
    assert (listed["q"], listed["k"]) == (2, 3)
    assert listed["organizations"] == []
    # A profile of before goes on working, is told so, and takes up what counts now.
    rotated = ("--profile", "hospital-b")
    assert told(capsys, "status", *rotated)["authority_is_old"] is True
    told(capsys, "profile", "refresh", "hospital-b")
    assert told(capsys, "status", *rotated)["authority_is_old"] is False

    network.kill(A)  # the newcomer and the one with new keys are the quorum
    with load(network, d):
        pass
    network.kill(B)
    network.start(A, B)
    with load(network, B):
        pass
    same_ledger(network, [A, B, d])
    status = network.transport(B).status()
    assert (status["epoch"], status["voting"], status["alarm"]) == (4, True, "")
    assert (status["quorum"], status["certification"]) == (2, 3)
    assert {peer["organization"]: peer["member"] for peer in status["peers"]} == {
        "hospital-a": True,
        "hospital-d": True,
    }
    assert running.status(network.sites[d].folder)["votes"] is True

    signers = ["hospital-a", "hospital-b", "hospital-d"]
    # Cosignatures, also by rotated keys.
    facts = cosigned(network, B, 0, {"signers": signers, "quorum": "3 of 3"})
    assert facts["epoch"] >= 3  # that of the newest head which k members cosigned by now
    assert facts["weakest link"].startswith("2 of 3 members of epoch 0 began epoch 1")


def test_what_must_not_become_a_member_is_refused_in_words(
    networks: Networks, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = networks(members=3)
    network.start()
    admin(network, A, home)
    d = network.newcomer("hospital-d")
    file = network.sites[d].folder / "member.json"
    size = network.submit(A, [new_identity()[1]]).size
    with client.connect("hospital-a") as net:
        with pytest.raises(Refused, match="M5"):
            net.members.propose(members.admit(file, votes=True), q=3, k=3)
        with pytest.raises(Refused, match=r"M6.*lacks the rules"):
            net.members.propose(members.rules(2))
        false = tmp_path / "false.json"
        stated = {"size": size, "root": "00" * 32, "signature": "00" * 64}
        false.write_text(json.dumps(stated))
        with pytest.raises(Refused, match=r"M5.*not of this ledger"):
            net.members.propose(members.admit(file, votes=True, copy=false), q=3, k=3)
        with pytest.raises(Refused, match="M3"):
            net.members.propose(members.remove("hospital-c"), q=1, k=1)
        made = net.members.propose(members.remove("hospital-c"))
        assert (made.q, made.k, made.missing) == (2, 2, 1)
        assert net.members.warnings(made.change, made.q) == () or "spare" in str(
            net.members.warnings(made.change, made.q)
        )
        assert [each.state for each in net.members.proposals()] == ["open"]
    network.kill(B)
    assert main(["member", "list"]) == 0
    assert "remove hospital-c" in capsys.readouterr().out
