"""Evidence at real nodes: one is told, all record it, and operators and auditors see it."""

import asyncio

import pytest
from three_sites import SECONDS, Sites, asked, record, said

from tilth import verifier
from tilth_ledger.blocks import NOTARIZE, Vote
from tilth_ledger.evidence import Evidence
from tilth_ledger.leaf import EVIDENCE, Leaf
from tilth_ledger.messages import Accusation
from tilth_node import auditing, keystore, running
from tilth_node.node import Node

A, B, C = "hospital-a", "hospital-b", "hospital-c"


def evidence_against(node: Node, name: str, key_of: str) -> Evidence:
    """Two notarize votes of a member, signed by the keys of one: the keys are in hand."""
    epoch = node.replication.replica.epoch
    member = epoch.member_index(name)
    assert member is not None
    key = keystore.load(node.folder.path.parent / key_of / "keys").vote
    votes = [Vote.sign(epoch, key, member, NOTARIZE, 900, bytes([n]) * 32) for n in (1, 2)]
    return Evidence.of(*votes)


@pytest.mark.rule("E1")
async def test_a_pair_that_one_node_is_told_of_stands_on_every_ledger(sites: Sites) -> None:
    a = sites.running[A]
    await record(a, 1)
    evidence = evidence_against(a, C, C)
    a.peers.on_messages(C, [Accusation((evidence,)).encode()])
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(node.feed.at_least(2) for node in sites.running.values()))
    for name, node in sites.running.items():
        [(key, row)] = node.rows.scan("evidence/")
        assert key.startswith("evidence/hospital-c/")
        assert Leaf.decode(node.store.leaves(row["index"], 1)[0]).type == EVIDENCE
        facts = running.status(sites.path(name))
        assert [each["organization"] for each in facts["evidence"]] == [C]
        assert any(line.startswith("evidence ") and C in line for line in running.lines(facts))
    told = await asked(sites.running[B], lambda client: client.status())
    assert told["evidence_count"] == 1
    bundle = await asked(a, lambda client: client.prove(row["index"]))
    assert verifier.verify(bundle, a.genesis.bytes).proven
    await said(sites.running[B], "hospital-c signed two votes")
    for name in (A, B, C):
        await sites.stop(name)
        assert auditing.audit(sites.path(name)).clean
    assert (await sites.start(C)).replication.replica.epoch.member_index(C) is not None


@pytest.mark.rule("E1")
async def test_a_pair_that_the_member_did_not_sign_is_refused_and_counted(sites: Sites) -> None:
    a = sites.running[A]
    forged = evidence_against(a, C, B)
    a.peers.on_messages(B, [Accusation((forged,)).encode()])
    await record(a, 1)
    assert list(a.rows.scan("evidence/")) == []
    assert a.replication.faults[B]["Accusation: signature does not verify"] == 1
    told = await asked(a, lambda client: client.status())
    assert told["evidence"] == []
    assert {"organization": B, "reason": "Accusation: signature does not verify", "count": 1} in (
        told["faults"]
    )
