"""A newcomer finds the others when every founder is gone, by a file that any member writes, which
counts only while the ledger does not tell better."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from network import free_port
from three_sites import SECONDS, Sites, change, reaches_epoch, record, say, three_sites

from tilth.cli import main
from tilth_ledger.errors import InvalidInput
from tilth_node import config, founding, introductions, rotating
from tilth_node.clock import Clock
from tilth_node.folder import Folder

A, B, C, D, E = (f"hospital-{letter}" for letter in "abcde")


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[Sites]:
    async with three_sites(tmp_path) as made:
        yield made


def newcomer(sites: Sites, name: str, *words: object) -> dict[str, Any]:
    """A fresh folder that joins with the genesis; the change that admits it."""
    founding.init(sites.path(name), founding.Site(name, name, peer_port=free_port()), Clock())
    genesis = sites.folder / "genesis.json"
    assert main(["node", "join", *map(str, (sites.path(name), genesis, "--newcomer", *words))]) == 0
    member = (sites.path(name) / "member.json").read_text()
    return {"kind": "admit", "member": member, "votes": False}


async def only_hospital_d_is_left(sites: Sites) -> None:
    await change(sites, (A, B), newcomer(sites, D), 2, 3)
    await sites.start(D)
    await reaches_epoch(sites.running[D], 1)
    copy = rotating.copy_held(sites.path(D))
    votes = {"kind": "votes", "organization": D, "votes": True, "copy": copy}
    await change(sites, (A, B), votes, 3, 3)
    await change(sites, (B, C, D), {"kind": "remove", "organization": A}, 2, 2)
    await change(sites, (C, D), {"kind": "remove", "organization": B}, 2, 2)
    await change(sites, (D, C), {"kind": "remove", "organization": C}, 1, 1)
    for name in (A, B, C):
        await sites.stop(name)


async def test_a_newcomer_joins_when_every_founder_is_gone(sites: Sites, tmp_path: Path) -> None:
    await only_hospital_d_is_left(sites)
    file = tmp_path / "peers.json"
    assert main(["node", "peers", str(sites.path(D)), "--out", str(file)]) == 0
    admission = newcomer(sites, E, "--peers", file)
    await change(sites, (D,), admission, 1, 1)
    first = await sites.start(E)
    assert first.peers.others.count(D) == 1
    async with asyncio.timeout(SECONDS):
        assert await first.until(asyncio.Event()), "a snapshot waits"
    await sites.stop(E)
    joined = await sites.start(E)
    await record(sites.running[D], 99)
    async with asyncio.timeout(SECONDS):
        await joined.feed.at_least(sites.running[D].store.size)
    assert joined.peers.others == [D], "the introduction is used up: the ledger's word counts"
    assert joined.store.rows.get(
        f"organization/{A}",
    )["removed"]


@pytest.mark.parametrize(
    "rest",
    [
        b'"size":1',
        b'"size":1e999,"net":"n"',
        b'"size":"1","net":"n"',
        b'"size":-1,"net":"n"',
        b'"net":"n"',
        b'"size":1,"net":["n"]',
    ],
)
def test_a_file_with_other_facts_is_refused_in_words(rest: bytes) -> None:
    with pytest.raises(InvalidInput, match="introduces"):
        introductions.read(b'{"format":"tilth-peers-1","organizations":[],%s}' % rest, "n")


async def test_a_file_that_introduces_nobody_is_refused(sites: Sites, tmp_path: Path) -> None:
    node = sites.running[A]
    good = {"format": introductions.FORMAT, "net": node.genesis.net, "size": 3, "organizations": []}
    party = {"organization": B, "tls_authority": "-----BEGIN CERTIFICATE-----"}
    assert introductions.read(json.dumps(good).encode(), node.genesis.net).size == 3
    bad: list[Any] = [
        [],
        good | {"format": "other"},
        good | {"net": "00" * 32},
        good | {"size": "many"},
        good | {"organizations": [{"organization": B}]},
        good | {"organizations": [party | {"tls_authority": "none"}]},
        good | {"organizations": [party | {"peer_address": "nowhere"}]},
    ]
    for each in bad:
        with pytest.raises(InvalidInput) as caught:
            introductions.read(json.dumps(each).encode(), node.genesis.net)
        assert "tilth node peers" in caught.value.remedy
    file = tmp_path / "peers.json"
    file.write_bytes(b"\xff\x00")
    genesis = str(sites.folder / "genesis.json")
    assert main(["node", "join", str(sites.path(A)), genesis, "--peers", str(file)]) == 1
    assert not Folder(sites.path(A)).peers.exists()


async def test_a_member_that_was_away_while_all_moved_is_told_where_they_are(
    sites: Sites, tmp_path: Path
) -> None:
    await sites.stop(C)
    for number, name in enumerate((A, B), 1):
        await sites.stop(name)
        move(sites.path(name))
        node = await sites.start(name)
        moved = {"op": "organization.update", "peer_address": node.peer_address}
        await say(node, moved, number)
    file = tmp_path / "peers.json"
    assert main(["node", "peers", str(sites.path(A)), "--out", str(file)]) == 0
    move(sites.path(C))
    genesis = str(sites.folder / "genesis.json")
    assert main(["node", "join", str(sites.path(C)), genesis, "--peers", str(file)]) == 0
    back = await sites.start(C)
    async with asyncio.timeout(SECONDS):
        await back.feed.at_least(2)


def move(folder: Path) -> None:
    """The node listens at another port from now on."""
    file = folder / config.FILE
    port = config.load(folder).peer_listen.rpartition(":")[2]
    file.write_text(file.read_text().replace(f":{port}", f":{free_port()}"))
