"""A restored backup and a second node of one member: noticed, without a vote, told what to do."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from three_sites import SECONDS, Sites, change, reaches_epoch, record, said

from tilth_ledger.errors import InvalidInput, PeerFault
from tilth_node import running
from tilth_node.clock import Clock
from tilth_node.folder import Folder
from tilth_node.rotating import rotate


async def test_a_second_node_with_the_keys_of_a_member_is_refused_and_told(sites: Sites) -> None:
    await record(sites.running["hospital-a"], 1)
    sites.copy("hospital-b", "second")
    second = await sites.start("second")
    words = await said(second, "another instance of hospital-b")
    assert "tilth member rotate" in words
    assert not second.replication.replica.votes
    others = [
        asyncio.create_task(said(sites.running[name], "another instance"))
        for name in ("hospital-a", "hospital-c")
    ]
    done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    assert done.pop().result(), "whoever refuses it tells its own operator"
    for each in others:
        each.cancel()
    await record(sites.running["hospital-b"], 2)
    assert sites.running["hospital-b"].replication.replica.votes


async def test_a_restored_backup_follows_and_says_what_to_do(sites: Sites) -> None:
    await record(sites.running["hospital-a"], 1)
    await sites.stop("hospital-b")
    shutil.copytree(sites.path("hospital-b"), sites.path("backup"))
    await sites.start("hospital-b")
    for number in (2, 3, 4):
        await record(sites.running["hospital-b"], number)
    await sites.stop("hospital-b")
    shutil.rmtree(sites.path("hospital-b"))
    shutil.copytree(sites.path("backup"), sites.path("hospital-b"))
    restored = await sites.start("hospital-b")
    words = await said(restored, "forgot a vote")
    assert "tilth member rotate" in words
    await record(sites.running["hospital-a"], 5)
    async with asyncio.timeout(SECONDS):
        await restored.feed.at_least(5)
    assert not restored.replication.replica.votes
    await sites.stop("hospital-b")
    again = await sites.start("hospital-b")
    assert "forgot a vote" in await said(again, "forgot")
    assert "tilth member rotate" in running.status(sites.path("hospital-b"))["forgotten"]

    file = rotate(sites.path("hospital-b"), ["member"], Clock())
    new = {"kind": "rotate", "member": file.read_text()}
    await change(sites, ("hospital-a", "hospital-c"), new, 2, 3)
    await reaches_epoch(again, 1)
    await sites.stop("hospital-c")
    await record(again, 6)  # two must vote, and two are here
    status = running.status(sites.path("hospital-b"))
    assert "forgotten" not in status, "the vote binds the old key, which is gone"


async def test_a_node_that_restarts_from_its_own_folder_votes_on(sites: Sites) -> None:
    await record(sites.running["hospital-a"], 1)
    await sites.stop("hospital-b")
    node = await sites.start("hospital-b")
    await record(node, 2)
    assert node.replication.alarm == ""


def test_a_folder_serves_one_process(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.locked(), pytest.raises(InvalidInput, match="another node runs"), folder.locked():
        raise AssertionError("two processes hold one folder")


async def test_what_was_refused_stands_beside_the_node(sites: Sites) -> None:
    node = sites.running["hospital-a"]
    node.folder.run.mkdir(exist_ok=True)
    facts = {"pid": os.getpid()}
    node.folder.ready.write_text(json.dumps(facts))  # as the process of a node would
    node.replication._received("hospital-b", [b"\xf1what is this"])
    async with asyncio.timeout(SECONDS):  # notices are written once a second at most
        while "refused" not in running.status(sites.path("hospital-a")):  # noqa: ASYNC110
            await asyncio.sleep(0)
    facts = running.status(sites.path("hospital-a"))
    assert facts["refused"]["hospital-b"] == {"bytes: unknown kind of message": 1}
    before = node.replication.replica.held
    for garbage in (b"", b"\x03\xff\xff", b"\x02cut short"):
        with pytest.raises(PeerFault):  # it ends the connection
            node.replication._received("hospital-b", [garbage])
    assert sum(node.replication.faults["hospital-b"].values()) == 4
    node.replication._received("hospital-z", [b"\x0c\x00"])  # of no organization of this epoch
    assert node.replication.faults["hospital-z"] == {
        "bytes: of an organization that is not listed": 1
    }
    assert node.replication.replica.held == before
    assert facts["evidence"] == []
    assert json.dumps(facts)
