"""The clients' port of a running node: TLS 1.3, tokens, bounds, and errors in words."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from one_site import METADATA, PUT, STATUS, SUBMIT, WATCH, admin, call, dialled, one_site, token

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_ledger.token import Asked, write_token
from tilth_node import config, founding, keystore
from tilth_node.assemble import build
from tilth_node.clock import Clock
from tilth_node.node import Node
from tilth_node.rpc import interceptors
from tilth_node.rpc.interceptors import ERROR_METADATA
from tilth_node.rpc.server import CLIENT_OPTIONS, listen
from tilth_protos import ledger_pb2 as pb


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with one_site(tmp_path) as made:
        yield made


async def fails(node: Node, *values: Any, **named: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    """The status of a refused call, and the facts that came with it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(node, *values, **named)
    error = caught.value
    facts = [value for name, value in error.trailing_metadata() or () if name == ERROR_METADATA]
    return error.code(), json.loads(facts[0]) if facts else {}


UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_with_a_right_token_is_answered(node: Node) -> None:
    answer = pb.StatusResponse.FromString(await call(node, STATUS, b""))
    assert (answer.organization, answer.voting, answer.quorum) == ("hospital-a", True, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"net": "cd" * 32},
        {"organization": "hospital-b"},
        {"method": SUBMIT},
    ],
)
async def test_a_token_for_another_request_is_refused(node: Node, changes: dict[str, Any]) -> None:
    code, facts = await fails(node, STATUS, b"", **changes)
    assert code is UNAUTHENTICATED
    assert "signature does not verify" in facts["message"]


async def test_a_token_for_another_body_is_refused(node: Node) -> None:
    code, facts = await fails(node, STATUS, b"", body=b"other")
    assert code is UNAUTHENTICATED
    assert "another request" in facts["message"]


async def test_a_stranger_is_refused_before_his_request_is_waited_for(node: Node) -> None:
    """Regression: 250 requests of 4 MB that did not end held 1 GB for one connection."""
    body = pb.WatchRowsRequest(prefixes=["organization/"]).SerializeToString()
    stranger = SigningKey.from_seed(bytes(32))
    async with dialled(node) as channel, asyncio.timeout(100):
        for method in (STATUS, SUBMIT, WATCH, PUT):
            silent = channel.stream_unary(method)()
            with pytest.raises(grpc.aio.AioRpcError, match="no token"):
                await silent
            metadata = [(METADATA, token(node, method, body, key=stranger))]
            unknown = channel.stream_unary(method)(metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError, match="nobody on this ledger"):
                await unknown


async def test_an_expired_token_is_refused_with_a_remedy(node: Node) -> None:
    code, facts = await fails(node, STATUS, b"", expires_ms=Clock().wall_ms() - 1)
    assert code is UNAUTHENTICATED
    assert "clocks" in facts["remedy"]


async def test_a_key_that_is_not_on_the_ledger_is_refused(node: Node) -> None:
    code, facts = await fails(node, STATUS, b"", key=SigningKey.from_seed(bytes(32)))
    assert code is UNAUTHENTICATED
    assert "nobody on this ledger" in facts["message"]


async def test_at_a_newcomer_that_is_not_admitted_yet_nobody_is_called_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "ADMISSION_SECONDS", 0.2)
    for name in ("hospital-a", "hospital-d"):
        founding.init(tmp_path / name, founding.Site(name, name), Clock())
    file = tmp_path / "genesis.json"
    founder = tmp_path / "hospital-a" / "member.json"
    file.write_bytes(founding.new_network("one", [founder], [], q=None, k=None).bytes)
    founding.join(tmp_path / "hospital-d", file, newcomer=True)
    newcomer = build(config.load(tmp_path / "hospital-d"))
    await newcomer.start()
    asked = Asked(newcomer.genesis.net, "hospital-d", STATUS)
    text = write_token(admin(newcomer), asked, b"", Clock().wall_ms() + 60_000)
    credentials = grpc.ssl_channel_credentials(keystore.authorities(newcomer.folder.keys))
    options = [("grpc.ssl_target_name_override", "hospital-d.tilth")]
    async with grpc.aio.secure_channel(newcomer.client_address, credentials, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="does not know its organization yet") as no:
            await channel.unary_unary(STATUS)(b"", metadata=[(METADATA, text)])
    await newcomer.stop()
    assert no.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_revoked_key_is_refused(node: Node) -> None:
    key = SigningKey.from_seed(b"\x05" * 32)
    nonces = iter(["01" * 16, "02" * 16])

    async def submit(operation: dict[str, Any]) -> None:
        leaf = write_entry(node.genesis.net, "hospital-a", admin(node), next(nonces), [operation])
        await node.submit(leaf.encode())

    await submit({"op": "identity.add", "public": key.public.hex, "roles": ["scientist"]})
    assert await call(node, STATUS, b"", key=key)
    await submit({"op": "identity.revoke", "identity": key.key_id})
    code, facts = await fails(node, STATUS, b"", key=key)
    assert code is UNAUTHENTICATED
    assert "no longer valid" in facts["message"]


@pytest.mark.parametrize("tokens", [[], ["a.b.c"], ["x"], ["1", "2"]])
async def test_no_token_or_no_good_one_is_refused(node: Node, tokens: list[str]) -> None:
    assert (await fails(node, STATUS, b"", tokens))[0] is UNAUTHENTICATED


async def test_a_body_that_is_no_message_is_refused(node: Node) -> None:
    code, facts = await fails(node, SUBMIT, b"\xff\xff\xff garbage")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in facts["message"]


async def test_an_empty_submission_is_refused(node: Node) -> None:
    code, facts = await fails(node, SUBMIT, b"")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "1 to 256" in facts["expected"]


async def test_an_oversized_message_is_refused(node: Node) -> None:
    code, _ = await fails(node, SUBMIT, bytes(5 << 20))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_that_does_not_exist_is_refused(node: Node) -> None:
    code, _ = await fails(node, "/tilth.v1.Ledger/Drop", b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_of_news_needs_a_token_too(node: Node) -> None:
    body = pb.WatchRowsRequest(prefixes=["organization/"]).SerializeToString()
    async with dialled(node) as channel, asyncio.timeout(100):
        watch = channel.unary_stream(WATCH)
        with pytest.raises(grpc.aio.AioRpcError, match="no token"):
            await watch(body).read()
        good = watch(body, metadata=[(METADATA, token(node, WATCH, body))])
        first = pb.RowChanges.FromString(await good.read())
        assert [change.key for change in first.changes] == ["organization/hospital-a"]
        assert not first.live
        assert pb.RowChanges.FromString(await good.read()).live
        good.cancel()


async def test_a_stream_of_requests_is_refused_at_its_first_message(node: Node) -> None:
    async with dialled(node) as channel, asyncio.timeout(100):
        put = channel.stream_unary(PUT)(metadata=[(METADATA, token(node, PUT, b"other"))])
        await put.write(b"first")
        with pytest.raises(grpc.aio.AioRpcError, match="another request"):
            await put


async def test_a_stream_of_requests_that_does_not_begin_is_ended(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "FIRST_MESSAGE_SECONDS", 0.05)
    metadata = [(METADATA, token(node, PUT, b""))]
    async with dialled(node) as channel, asyncio.timeout(100):
        silent = channel.stream_unary(PUT)(metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError, match="does not begin"):
            await silent
        empty = channel.stream_unary(PUT)(metadata=metadata)
        await empty.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="does not begin"):
            await empty


@pytest.mark.rule("P4")
async def test_a_watch_ends_when_its_key_is_revoked(node: Node) -> None:
    key = SigningKey.from_seed(b"\x05" * 32)
    operations: list[dict[str, Any]] = [
        {"op": "identity.add", "public": key.public.hex, "roles": ["auditor"]},
        {"op": "identity.revoke", "identity": key.key_id},
    ]
    leaves = [
        write_entry(node.genesis.net, "hospital-a", admin(node), f"{n:032x}", [operation]).encode()
        for n, operation in enumerate(operations)
    ]
    await node.submit(leaves[0])
    body = pb.WatchRowsRequest(prefixes=["identity/"]).SerializeToString()
    async with dialled(node) as channel, asyncio.timeout(100):
        metadata = [(METADATA, token(node, WATCH, body, key=key))]
        watch = channel.unary_stream(WATCH)(body, metadata=metadata)
        while not pb.RowChanges.FromString(await watch.read()).live:
            pass
        await node.submit(leaves[1])
        with pytest.raises(grpc.aio.AioRpcError, match="no longer valid"):
            await watch.read()


async def test_a_watch_of_too_many_prefixes_is_refused(node: Node) -> None:
    body = pb.WatchRowsRequest(prefixes=[""] * 65).SerializeToString()
    async with dialled(node) as channel, asyncio.timeout(100):
        call = channel.unary_stream(WATCH)(body, metadata=[(METADATA, token(node, WATCH, body))])
        with pytest.raises(grpc.aio.AioRpcError, match="too many prefixes"):
            await call.read()


async def test_a_fault_of_the_machine_is_told_without_its_words(node: Node) -> None:
    leaves = "/tilth.v1.Ledger/GetLeaves"
    body = pb.GetLeavesRequest(start=2**64 - 1).SerializeToString()
    code, facts = await fails(node, leaves, body)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert facts["message"] == "this node cannot answer now"


async def test_a_watch_of_nothing_is_refused(node: Node) -> None:
    async with dialled(node) as channel, asyncio.timeout(100):
        call = channel.unary_stream(WATCH)(b"", metadata=[(METADATA, token(node, WATCH, b""))])
        with pytest.raises(grpc.aio.AioRpcError, match="names no prefix"):
            await call.read()


async def test_a_port_that_is_taken_is_refused_in_words(node: Node) -> None:
    with pytest.raises(InvalidInput, match=r"cannot listen.*node\.toml"):
        listen(node.client_address, grpc.insecure_server_credentials(), [], CLIENT_OPTIONS)


# -- TLS


class Downgrading:
    """Passes plain HTTP/2 of a local gRPC client on to the node, over TLS of a chosen version."""

    def __init__(self, node: Node, version: ssl.TLSVersion) -> None:
        authority = node.genesis.members[0].tls_authority
        self._context = ssl.create_default_context(cadata=authority)
        self._context.minimum_version = self._context.maximum_version = version
        self._context.set_alpn_protocols(["h2"])
        self._host, port = config.address(node.client_address)
        self._port = port
        self.spoken: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._context, server_hostname="hospital-a.tilth"
        )
        self.spoken.append(far_writer.get_extra_info("ssl_object").version())
        pumps = (self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._tasks |= {asyncio.ensure_future(pump) for pump in pumps}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_tls_1_3_is_served(node: Node, version: ssl.TLSVersion) -> None:
    proxy = Downgrading(node, version)
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    metadata = [(METADATA, token(node, STATUS, b""))]
    async with grpc.aio.insecure_channel(f"{host}:{port}") as channel, asyncio.timeout(100):
        answer = channel.unary_unary(STATUS)(b"", metadata=metadata)
        if version is ssl.TLSVersion.TLSv1_3:
            assert await answer
        else:
            with pytest.raises(grpc.aio.AioRpcError, match=r"TLS 1\.3 only") as caught:
                await answer
            assert caught.value.code() is UNAUTHENTICATED
    assert proxy.spoken == [version.name.replace("_", ".")]
    server.close()


async def test_a_client_that_does_not_trust_the_authority_does_not_connect(node: Node) -> None:
    async with grpc.aio.secure_channel(
        node.client_address, grpc.ssl_channel_credentials()
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(STATUS)(b"", timeout=100)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_tls_nothing_is_answered(node: Node) -> None:
    async with grpc.aio.insecure_channel(node.client_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(STATUS)(b"", timeout=100)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_connections_of_clients_are_bounded_before_they_say_a_word() -> None:
    bound = ("grpc.max_allowed_incoming_connections", 3)
    options = [bound if name == bound[0] else (name, value) for name, value in CLIENT_OPTIONS]
    assert bound in options
    insecure = grpc.insecure_server_credentials()
    server, address = listen("127.0.0.1:0", insecure, [], options)
    await server.start()
    host, _, port = address.rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
    reads = [asyncio.create_task(reader.readuntil(b"never")) for reader, _ in opened]
    ended, waiting = await asyncio.wait(reads, timeout=100, return_when=asyncio.FIRST_COMPLETED)

    assert ended == {reads[-1]}
    for read in waiting:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    for _, writer in opened:
        writer.close()
    await server.stop(None)
