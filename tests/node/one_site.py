"""A node of one member in this process, and calls with raw bytes at its clients' port."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from tilth_ledger.keys import SigningKey
from tilth_ledger.token import METADATA, Asked, write_token
from tilth_node import config, founding, keystore
from tilth_node.assemble import build
from tilth_node.clock import Clock
from tilth_node.node import Node

STATUS = "/tilth.v1.Ledger/Status"
SUBMIT = "/tilth.v1.Ledger/Submit"
WATCH = "/tilth.v1.Ledger/WatchRows"
PUT = "/tilth.v1.Blobs/Put"


@asynccontextmanager
async def one_site(tmp_path: Path) -> AsyncIterator[Node]:
    folder = tmp_path / "node"
    founding.init(folder, founding.Site("hospital-a", "A"), Clock())
    genesis = founding.new_network("one", [folder / "member.json"], [], q=None, k=None)
    (tmp_path / "genesis.json").write_bytes(genesis.bytes)
    founding.join(folder, tmp_path / "genesis.json")
    node = build(config.load(folder))
    await node.start()
    yield node
    await node.stop()


def admin(node: Node) -> SigningKey:
    return keystore.load_admin(node.folder.keys)


def token(node: Node, method: str, body: bytes, /, **changes: Any) -> str:
    """A token of the node's admin, as it should be but for the changes."""
    asked = {"net": node.genesis.net, "organization": "hospital-a", "method": method}
    body = changes.pop("body", body)
    expires = changes.pop("expires_ms", Clock().wall_ms() + 60_000)
    key = changes.pop("key", None) or admin(node)
    return write_token(key, Asked(**{**asked, **changes}), body, expires)


@asynccontextmanager
async def dialled(node: Node) -> AsyncIterator[grpc.aio.Channel]:
    credentials = grpc.ssl_channel_credentials(node.genesis.members[0].tls_authority.encode())
    options = [("grpc.ssl_target_name_override", "hospital-a.tilth")]
    async with grpc.aio.secure_channel(node.client_address, credentials, options) as channel:
        yield channel


async def call(
    node: Node, method: str, body: bytes, tokens: Sequence[str] | None = None, /, **changes: Any
) -> bytes:
    """One call with raw bytes, by default with a right token."""
    carried = [token(node, method, body, **changes)] if tokens is None else tokens
    async with dialled(node) as channel, asyncio.timeout(100):
        answer = channel.unary_unary(method)(body, metadata=[(METADATA, each) for each in carried])
        return await answer  # type: ignore[no-any-return]
