"""Three members' folders and the nodes that run on them, all in this process."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from network import free_port

from tilth import transport
from tilth_ledger.epochs import newest
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_node import assemble, config, founding, keystore
from tilth_node.clock import Clock
from tilth_node.node import Node

SECONDS = 100  # what never comes fails then
T = TypeVar("T")


@dataclass
class Sites:
    """Three members' folders, and the nodes that run on them."""

    folder: Path
    running: dict[str, Node]

    def path(self, name: str) -> Path:
        return self.folder / name

    async def start(self, name: str) -> Node:
        node = self.running[name] = assemble.build(config.load(self.path(name)))
        await node.start()
        return node

    async def stop(self, name: str) -> None:
        await self.running.pop(name).stop()

    def copy(self, name: str, to: str) -> None:
        """The whole folder, listening elsewhere: as somebody copies a volume."""
        shutil.copytree(self.path(name), self.path(to))
        file = self.path(to) / config.FILE
        text = file.read_text()
        port = config.load(self.path(name)).peer_listen.rpartition(":")[2]
        file.write_text(text.replace(f":{port}", f":{free_port()}"))


@asynccontextmanager
async def three_sites(tmp_path: Path) -> AsyncIterator[Sites]:
    names = ["hospital-a", "hospital-b", "hospital-c"]
    for name in names:
        founding.init(tmp_path / name, founding.Site(name, name, peer_port=free_port()), Clock())
    members = [tmp_path / name / "member.json" for name in names]
    genesis = founding.new_network("three", members, [], q=None, k=None)
    (tmp_path / "genesis.json").write_bytes(genesis.bytes)
    sites = Sites(tmp_path, {})
    async with AsyncExitStack() as stack:
        for name in names:
            founding.join(tmp_path / name, tmp_path / "genesis.json")
            await sites.start(name)
        stack.push_async_callback(stop_all, sites)
        yield sites


async def stop_all(sites: Sites) -> None:
    for name in list(sites.running):
        await sites.stop(name)


async def record(node: Node, number: int) -> None:
    public = SigningKey.from_seed(number.to_bytes(32)).public.hex
    operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
    admin = keystore.load_admin(node.folder.keys)
    nonce = number.to_bytes(16).hex()
    leaf = write_entry(node.genesis.net, node.organization, admin, nonce, [operation])
    async with asyncio.timeout(SECONDS):
        await node.submit(leaf.encode())


async def say(node: Node, operation: Mapping[str, Any], number: int) -> None:
    admin = keystore.load_admin(node.folder.keys)
    nonce = number.to_bytes(16).hex()
    leaf = write_entry(node.genesis.net, node.organization, admin, nonce, [dict(operation)])
    async with asyncio.timeout(SECONDS):
        await node.submit(leaf.encode())


async def change(sites: Sites, by: Sequence[str], what: Mapping[str, Any], q: int, k: int) -> None:
    """Propose by the first, approve by the others; returns when all of them are in the epoch."""
    first = sites.running[by[0]]
    number = newest(first.rows)[0] + 1
    key = f"{by[0]}/{number:032x}"
    await say(first, {"op": "member.propose", "key": key, "change": what, "q": q, "k": k}, number)
    for name in by[1:]:
        await holds(sites.running[name], f"proposal/{key}")  # or its node knows of none
        await say(sites.running[name], {"op": "member.approve", "proposal": key}, number)
    for name in by:
        await reaches_epoch(sites.running[name], number)


async def holds(node: Node, key: str) -> None:
    """Wait until a row is there."""
    async with asyncio.timeout(SECONDS):
        async for _ in node.subscribe([key]):
            if node.rows.get(key) is not None:
                return


async def reaches_epoch(node: Node, number: int) -> None:
    async with asyncio.timeout(SECONDS):
        async for _ in node.subscribe(["epoch/"]):
            if newest(node.rows)[0] >= number:
                return


async def said(node: Node, word: str) -> str:
    """Wait for an alarm; the node's notices are written when one comes."""
    told = asyncio.Event()
    before = node.replication.on_notice

    def notice() -> None:
        before()
        told.set()

    node.replication.on_notice = notice
    async with asyncio.timeout(SECONDS):
        while word not in node.replication.alarm:
            await told.wait()
            told.clear()
    return node.replication.alarm


async def asked(node: Node, ask: Callable[[transport.Transport], T]) -> T:
    """What a client of a node is answered, with the admin's key."""
    authority = keystore.load(node.folder.keys).authority
    admin = keystore.load_admin(node.folder.keys)
    client = transport.Transport(
        node.client_address, node.organization, node.genesis.net, admin, authority
    )
    try:
        return await asyncio.to_thread(ask, client)
    finally:
        client.close()
