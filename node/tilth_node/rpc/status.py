"""What a node tells about itself (StatusResponse)."""

from dataclasses import asdict
from typing import Any

from tilth_ledger.epochs import Epoch
from tilth_ledger.replica import Replica
from tilth_node.node import Node
from tilth_node.replication import Replication
from tilth_protos import ledger_pb2 as pb

SHOWN_EVIDENCE = 100


def status(node: Node, replica: Replica) -> pb.StatusResponse:
    """The node's state in one answer."""
    tip = node.store.tip()
    genesis = node.genesis
    answer = pb.StatusResponse(
        net=genesis.net,
        name=genesis.name,
        organization=node.organization,
        version=node.peers.me.software,
        instance=node.peers.me.instance,
        voting=replica.votes,
        epoch=replica.epoch.number,
        view=replica.view,
        quorum=replica.epoch.q,
        certification=replica.epoch.k,
        pending=node.replication.pending,
        alarm=node.replication.alarm,
        halted=node.replication.halted,
        peers=[_peer(node, replica.epoch, name) for name in node.peers.others],
        missing=(node.store.history or (0, 0))[1],
        joined_rows=node.joining.rows,
        scrub=_scrub(node),
    )
    if tip is not None:
        header = tip.header
        answer.height, answer.size, answer.time_ms = header.height, header.size, header.time_ms
        answer.root, answer.digest = header.root, header.state
    _tell_evidence(node, answer)
    for organization, reasons in sorted(node.replication.faults.items()):
        for reason, count in sorted(reasons.items()):
            answer.faults.add(organization=organization, reason=reason, count=count)
    return answer


def notices_of(replication: Replication) -> dict[str, Any]:
    """What an operator should know of a running node, for the file beside it."""
    return {
        "alarm": replication.alarm,
        "halted": replication.halted,
        "refused": replication.faults,
    }


def _scrub(node: Node) -> pb.ScrubStatus:
    percent = node.scrub.percent
    facts = asdict(node.scrub.state)
    return pb.ScrubStatus(**facts, runs=percent is not None, percent=percent or 0)


def _tell_evidence(node: Node, answer: pb.StatusResponse) -> None:
    for _, row in node.rows.scan("evidence/"):
        answer.evidence_count += 1
        if len(answer.evidence) < SHOWN_EVIDENCE:
            named = ("organization", "epoch", "view", "pair", "index")
            answer.evidence.add(**{name: row[name] for name in named})


def _peer(node: Node, epoch: Epoch, organization: str) -> pb.PeerStatus:
    link = node.peers.links.get(organization)
    return pb.PeerStatus(
        organization=organization,
        member=epoch.member_index(organization) is not None,
        connected=link is not None,
        dialled=link is not None and link.dialler == node.organization,
        address=node.peers.address(organization),
        size=node.replication.told.get(organization, 0),
    )
