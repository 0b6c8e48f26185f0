"""Requests that an identity begins and does not end take few places, and not for long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from one_site import METADATA, PUT, STATUS, WATCH, admin, call, dialled, one_site, token

from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_node.node import Node
from tilth_node.rpc import arrivals
from tilth_protos import ledger_pb2 as pb
from tilth_protos import tasks_pb2 as tasks

OTHER = SigningKey.from_seed(b"\x05" * 32)


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node that leaves no message to gRPC, with one place for each identity."""
    monkeypatch.setattr(arrivals, "QUICK", 0)
    monkeypatch.setattr(arrivals, "OF_IDENTITY", 1)
    async with one_site(tmp_path) as made:
        operation = {"op": "identity.add", "public": OTHER.public.hex, "roles": ["scientist"]}
        leaf = write_entry(made.genesis.net, "hospital-a", admin(made), "01" * 16, [operation])
        await made.submit(leaf.encode())
        yield made


def begun(node: Node, channel: grpc.aio.Channel, method: str = STATUS, body: bytes = b"") -> Any:
    """A request whose message does not come."""
    return channel.stream_unary(method)(metadata=[(METADATA, token(node, method, body, key=OTHER))])


async def ends_as_unfinished(request: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="did not come to its end in time") as caught:
        await request
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_that_does_not_come_is_waited_for_so_long_only(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MESSAGE_SECONDS", 0.05)
    async with dialled(node) as channel, asyncio.timeout(100):
        await ends_as_unfinished(begun(node, channel))
        head = tasks.PutBlobRequest(head=tasks.BlobHead(digest="ab" * 32, size=9))
        upload = begun(node, channel, PUT, head.SerializeToString())
        await upload.write(head.SerializeToString())
        await ends_as_unfinished(upload)


class Silent:
    """Messages of which none comes; `awaited` when somebody waits for one."""

    def __init__(self) -> None:
        self.awaited = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.awaited.set()
        await asyncio.Event().wait()
        yield b""


async def one(message: bytes) -> AsyncIterator[bytes]:
    yield message


@pytest.mark.parametrize(
    ("bound", "served", "waiting"),
    [
        ("OF_IDENTITY", ("a", "another"), ("a", "x")),
        ("OF_ORGANIZATION", ("b", "x"), ("a", "another")),
    ],
)
async def test_who_begins_too_many_waits_and_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch, bound: str, served: tuple[str, str], waiting: tuple[str, str]
) -> None:
    monkeypatch.setattr(arrivals, bound, 1)
    places, silent = arrivals.Arrivals(), Silent()
    async with asyncio.timeout(100):
        first = asyncio.create_task(places.message("a", "x", aiter(silent)))
        await silent.awaited.wait()
        later = asyncio.create_task(places.message(*waiting, one(b"later")))
        assert await places.message(*served, one(b"at once")) == b"at once"
        assert not later.done()
        first.cancel()
        assert await later == b"later"


def test_what_was_left_to_grpc_and_never_came_is_a_chance_less() -> None:
    places = arrivals.Arrivals()
    assert all(places.may_be_quick("a") for _ in range(arrivals.QUICK))
    assert not places.may_be_quick("a")
    assert places.may_be_quick("b")
    places.came("a")
    assert places.may_be_quick("a")
    assert not places.may_be_quick("a")


async def test_what_is_not_left_to_grpc_is_answered_and_refused_as_ever(node: Node) -> None:
    assert await call(node, STATUS, b"")
    with pytest.raises(grpc.aio.AioRpcError, match="another request"):
        await call(node, STATUS, b"", body=b"other")
    body = pb.WatchRowsRequest(prefixes=["organization/"]).SerializeToString()
    async with dialled(node) as channel, asyncio.timeout(100):
        watch = channel.unary_stream(WATCH)(body, metadata=[(METADATA, token(node, WATCH, body))])
        assert pb.RowChanges.FromString(await watch.read()).changes
        watch.cancel()
        empty = begun(node, channel)
        await empty.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="holds no message"):
            await empty
