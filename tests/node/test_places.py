"""Strangers who keep connections at the clients' port leave room for people of the ledger."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from one_site import METADATA, STATUS, dialled, one_site, token

from tilth_node import assemble, config
from tilth_node.node import Node
from tilth_node.rpc import places
from tilth_node.rpc.places import Connection, surplus
from tilth_node.rpc.server import CLIENT_OPTIONS


def connections(*kinds: tuple[str, str], since: float = 0.0) -> list[Connection]:
    """One for each (address, identity), in their order."""
    return [
        Connection(fd, f"socket:[{fd}]", (host, fd), since, identity)
        for fd, (host, identity) in enumerate(kinds)
    ]


def ended(found: Sequence[Connection], now: float = 1.0) -> list[int]:
    return sorted(each.fd for each in surplus(found, now))


def test_a_few_connections_are_left_alone() -> None:
    assert ended(connections(*[("10.0.0.1", "")] * places.OF_ADDRESS)) == []
    assert ended(connections(*[("10.0.0.1", "a")] * places.OF_IDENTITY)) == []


def test_who_shows_no_token_in_time_is_ended_and_who_did_is_not() -> None:
    found = connections(("10.0.0.1", ""), ("10.0.0.1", "a"))
    assert ended(found, places.PROOF_SECONDS - 1) == []
    assert ended(found, places.PROOF_SECONDS) == [0]


def test_of_one_address_without_tokens_the_oldest_go() -> None:
    found = connections(
        *[("10.0.0.1", "")] * (places.OF_ADDRESS + 3), ("10.0.0.2", ""), ("10.0.0.1", "a")
    )
    assert ended(found) == [0, 1, 2]


def test_of_all_without_tokens_the_oldest_go() -> None:
    crowd = [(f"10.0.{n // 200}.{n % 200}", "") for n in range(places.UNPROVEN + 2)]
    assert ended(connections(("10.9.9.9", "a"), *crowd)) == [1, 2]


def test_of_one_identity_the_newest_go() -> None:
    found = connections(*[("10.0.0.1", "a")] * (places.OF_IDENTITY + 1), ("10.0.0.1", "b"))
    assert ended(found) == [places.OF_IDENTITY]


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ipv4:10.0.0.1:70", ("10.0.0.1", 70)),
        ("ipv6:%5B2001:db8::1%5D:70", ("2001:db8::1", 70)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:70", ("10.0.0.1", 70)),
        ("ipv6:[fe80::1%25eth0]:70", ("fe80::1", 70)),
    ],
)
def test_peers_have_one_name(name: str, peer: tuple[str, int]) -> None:
    assert places._parsed(name) == peer


# -- at the port of a node


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """A node whose gRPC itself waits long for a handshake."""
    name = "grpc.server_handshake_timeout_ms"
    options = [(name, 500_000) if option[0] == name else option for option in CLIENT_OPTIONS]
    monkeypatch.setattr(assemble, "CLIENT_OPTIONS", options)
    async with one_site(tmp_path) as made:
        yield made


async def silent(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; it lasts as long as the writer is kept."""
    return await asyncio.open_connection(*config.address(node.client_address))


async def test_a_silent_connection_ends_and_one_with_a_token_goes_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dialled(node) as channel, asyncio.timeout(100):
        metadata = [(METADATA, token(node, STATUS, b""))]
        assert await channel.unary_unary(STATUS)(b"", metadata=metadata)
        monkeypatch.setattr(places, "PROOF_SECONDS", 0.0)
        stranger, writer = await silent(node)
        with pytest.raises(asyncio.IncompleteReadError):
            await stranger.readuntil(b"never")
        writer.close()
        assert await channel.unary_unary(STATUS)(b"", metadata=metadata)


async def test_of_an_address_with_many_silent_connections_one_ends(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "OF_ADDRESS", 2)
    async with asyncio.timeout(100):
        opened = [await silent(node) for _ in range(3)]
        reads = [asyncio.create_task(reader.readuntil(b"never")) for reader, _ in opened]
        over, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
        assert (len(over), len(waiting)) == (1, 2)
        for each in waiting:
            each.cancel()
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*reads, return_exceptions=True)
