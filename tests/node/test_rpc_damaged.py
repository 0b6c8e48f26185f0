"""Every call of the clients' port, with damaged and made-up requests from somebody who may call.

Each is answered, with a status that this node declares; the ledger, the vault and the journal are
as before. `DAMAGED_REQUESTS=5000 pytest tests/node/test_rpc_damaged.py` tries more of them.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from test_rpc_guard import admin, dialled, token

from tilth_ledger.leaf import write_entry
from tilth_ledger.token import METADATA
from tilth_node import config, founding
from tilth_node.assemble import build
from tilth_node.clock import Clock
from tilth_node.node import Node
from tilth_protos import ledger_pb2 as ledger
from tilth_protos import tasks_pb2 as tasks

TRIES = int(os.environ.get("DAMAGED_REQUESTS", "30"))
SECONDS = 0.4  # that a call may last, such as one that waits for entries that never come
LARGEST = 2**64 - 1
AT_ONCE = 16

Code = grpc.StatusCode
DECLARED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.FAILED_PRECONDITION,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,  # of this client
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node of one member, in this process, with some entries."""
    folder = tmp_path / "node"
    founding.init(folder, founding.Site("hospital-a", "A"), Clock())
    genesis = founding.new_network("one", [folder / "member.json"], [], q=None, k=None)
    (tmp_path / "genesis.json").write_bytes(genesis.bytes)
    founding.join(folder, tmp_path / "genesis.json")
    node = build(config.load(folder))
    await node.start()
    await node.submit(entry(node, "owner"))
    yield node
    await node.stop()


def entry(node: Node, role: str, *, nonce: str = "01" * 16) -> bytes:
    operation = {"op": "identity.add", "public": "5e" * 32, "roles": [role]}
    return write_entry(node.genesis.net, "hospital-a", admin(node), nonce, [operation]).encode()


def good(node: Node) -> dict[str, list[Any]]:
    """Requests that are well formed, by the method that takes them; none changes anything."""
    known = entry(node, "owner")
    digest = "ab" * 32
    return {
        "Ledger/Status": [ledger.StatusRequest()],
        "Ledger/Submit": [ledger.SubmitRequest(leaves=[known, known[:-1]])],
        "Ledger/Check": [
            ledger.CheckRequest(operations=b'[{"op":"identity.revoke","identity":"00"}]'),
            ledger.CheckRequest(operations=b"[" * 100_000),
            ledger.CheckRequest(operations=b'[{"op":"' + b"x" * 100_000 + b'"}]'),
            ledger.CheckRequest(operations=b'[{"op":"algo.add","%s":1}]' % (b"y" * 100_000)),
        ],
        "Ledger/GetRow": [
            ledger.GetRowRequest(key="organization/hospital-a", at_least=1),
            ledger.GetRowRequest(key="\0", read=ledger.LINEARIZABLE),
            ledger.GetRowRequest(key="x", at_least=LARGEST),
        ],
        "Ledger/ScanRows": [
            ledger.ScanRowsRequest(prefix="", after="z", limit=2**32 - 1),
            ledger.ScanRowsRequest(prefix="\U0010ffff", limit=1),
        ],
        "Ledger/Barrier": [ledger.BarrierRequest()],
        "Ledger/GetLeaves": [
            ledger.GetLeavesRequest(start=0, limit=2**32 - 1),
            ledger.GetLeavesRequest(start=LARGEST, limit=1),
        ],
        "Ledger/Prove": [
            ledger.ProveRequest(index=0, also=[0], since=1),
            ledger.ProveRequest(index=LARGEST, since=LARGEST),
            ledger.ProveRequest(index=0, also=range(1_000)),
        ],
        "Ledger/WatchRows": [
            ledger.WatchRowsRequest(prefixes=["organization/"], resume=True, since=LARGEST),
        ],
        "Blobs/Put": [
            tasks.PutBlobRequest(head=tasks.BlobHead(digest=digest, size=3)),
            tasks.PutBlobRequest(head=tasks.BlobHead(digest="../../x", size=3)),
            tasks.PutBlobRequest(head=tasks.BlobHead(digest=digest, size=LARGEST)),
            tasks.PutBlobRequest(data=b"abc"),
        ],
        "Blobs/Get": [
            tasks.GetBlobRequest(digest=digest, offset=LARGEST),
            tasks.GetBlobRequest(digest="/etc/passwd"),
        ],
        "Data/Import": [
            tasks.ImportRequest(dataset="hospital-a/" + "00" * 16, path="/\0", label="train"),
        ],
    }


def damaged(chance: random.Random, data: bytes) -> bytes:
    """The bytes after a few changes."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.randint(0, 20))
        new = chance.choice(
            [b"", data[start:end] * 2, chance.randbytes(chance.randint(0, 12)), b"\xff" * 9]
        )
        data = data[:start] + new + data[end:]
    return data


async def call(node: Node, channel: grpc.aio.Channel, name: str, body: bytes) -> Code:
    """One call with raw bytes, and how it ended."""
    method = f"/tilth.v1.{name}"
    metadata = [(METADATA, token(node, method, body))]
    try:
        # Not gRPC's own deadline: among many calls at once one that passed before its call was
        # begun is told to nobody.
        async with asyncio.timeout(SECONDS):
            match name:
                case "Blobs/Put":
                    parts = iter([body, tasks.PutBlobRequest(data=b"abc").SerializeToString()])
                    await channel.stream_unary(method)(parts, metadata=metadata)
                case "Ledger/WatchRows" | "Blobs/Get" | "Data/Import":
                    stream = channel.unary_stream(method)(body, metadata=metadata)
                    await stream.read()
                    stream.cancel()
                case _:
                    await channel.unary_unary(method)(body, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    except TimeoutError:
        return Code.DEADLINE_EXCEEDED
    return Code.OK


def standing(node: Node) -> tuple[object, ...]:
    """What requests may not change."""
    files = sorted(str(path) for path in node.folder.path.rglob("*") if path.is_file())
    return node.store.size, node.replication.root, files


def every_method() -> set[str]:
    services = [
        service
        for module in (ledger, tasks)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    return {f"{each.name}/{method.name}" for each in services for method in each.methods}


async def tried(node: Node, name: str, bodies: Sequence[bytes]) -> Counter[Code]:
    ended: Counter[Code] = Counter()
    async with dialled(node) as channel:
        for start in range(0, len(bodies), AT_ONCE):
            some = bodies[start : start + AT_ONCE]
            ended.update(await asyncio.gather(*(call(node, channel, name, b) for b in some)))
    return ended


async def test_damaged_requests_are_answered_and_change_nothing(node: Node) -> None:
    requests = good(node)
    assert requests.keys() == every_method()
    chance, before = random.Random(7), standing(node)
    for name, examples in requests.items():
        bodies = [each.SerializeToString() for each in examples]
        bodies += [damaged(chance, chance.choice(bodies)) for _ in range(TRIES)]
        ended = await tried(node, name, bodies)
        assert ended.keys() <= DECLARED, f"{name}: {ended}"
        assert standing(node) == before, name


async def test_and_the_node_goes_on_afterwards(node: Node) -> None:
    await tried(node, "Ledger/Submit", [b"\xff" * 100, b"\x0a\x01\x00"])
    size = node.store.size
    operation = {"op": "identity.revoke", "identity": "no such"}
    assert size == node.store.size
    leaf = write_entry(node.genesis.net, "hospital-a", admin(node), "02" * 16, [operation])
    ended = await tried(
        node,
        "Ledger/Submit",
        [ledger.SubmitRequest(leaves=[leaf.encode()]).SerializeToString()],
    )
    assert ended == Counter({Code.OK: 1})
