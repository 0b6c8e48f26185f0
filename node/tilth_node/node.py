"""A running node, as its parts see it.

- Everything that a part may use is an attribute here; `assemble` makes it, `running` starts and
  stops it.
- Start: replication, peers, parts, and last the port for clients. Stop: the reverse.
- An error that ends replication or a part ends `until`, and with it the process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey
from tilth_node.clock import Clock
from tilth_node.config import Config
from tilth_node.cosigning import Cosigning
from tilth_node.feed import Changes, Feed
from tilth_node.folder import Folder
from tilth_node.joining import Joining
from tilth_node.past import PastBlocks
from tilth_node.replication import Replication
from tilth_node.rpc.peers import Peers
from tilth_node.scrub_part import Scrub
from tilth_node.storage.journal import JournalFile
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.stored_rows import StoredRows
from tilth_node.submissions import Receipt
from tilth_node.witnesses import Witnesses

Register = Callable[[Any], None]  # adds a gRPC service to the server it is given


class Part(Protocol):
    """Something that runs inside a node beside the ledger, such as the worker."""

    def services(self) -> Iterable[Register]:
        """What it adds to the clients' port. Asked after `start`."""

    async def start(self) -> None:
        """Begin; the ledger runs already, clients cannot call yet."""

    async def run(self) -> None:
        """Work until cancelled; an error stops the node."""

    async def stop(self) -> None:
        """End cleanly; the ledger still runs."""


class Port(Protocol):
    """A listening server."""

    async def start(self) -> None: ...

    async def stop(self, grace: float | None) -> None: ...


@dataclass(slots=True)
class Ports:
    """The servers of a node and where they listen."""

    listen_peers: Callable[[], tuple[Port, str] | None]
    listen_clients: Callable[[Iterable[Register]], tuple[Port, str]]
    listen_http: Callable[[], tuple[Port, str] | None]
    peer_address: str = ""
    client_address: str = ""
    http_address: str = ""
    open: list[Port] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """The server of one organization."""

    config: Config
    folder: Folder
    genesis: Genesis
    signer: Callable[[], SigningKey]  # the node's identity on the ledger, as it is now
    clock: Clock
    store: LedgerStore
    journal: JournalFile
    feed: Feed
    peers: Peers
    replication: Replication
    cosigning: Cosigning
    witnesses: Witnesses
    joining: Joining
    past: PastBlocks
    scrub: Scrub
    ports: Ports
    parts: list[Part] = field(default_factory=list)
    _tasks: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def organization(self) -> str:
        return self.config.organization

    @property
    def rows(self) -> StoredRows:
        """The rows of the last final block."""
        return self.store.rows

    @property
    def client_address(self) -> str:
        return self.ports.client_address

    @property
    def peer_address(self) -> str:
        return self.ports.peer_address

    @property
    def http_address(self) -> str:
        """Where the node serves HTTP; empty when it does not."""
        return self.ports.http_address

    async def submit(self, leaf: bytes) -> Receipt:
        """Hand a signed entry to the ledger; returns when it is final. Raises Refused,
        InvalidInput or Unavailable."""
        return await self.replication.submit(leaf)

    def subscribe(
        self, prefixes: Sequence[str], *, snapshot: bool = True
    ) -> AsyncIterator[Changes]:
        """Rows under the prefixes as they stand, an empty live batch, then every change."""
        return self.feed.subscribe(prefixes, snapshot=snapshot)

    async def start(self) -> None:
        self._run(self.replication.run(), "replication")
        self._run(self.cosigning.run(), "cosigning")
        self._run(self.joining.run(), "joining")
        self._run(self.witnesses.run(), "witnesses")
        peers = self.ports.listen_peers()
        if peers is not None:
            server, self.ports.peer_address = peers
            await self._open(server)
        self._tasks.append(self.peers.start())
        self._run(self._follow_addresses(), "addresses")
        self._run(self.past.run(), "past")
        self._run(self.scrub.run(), "scrub")
        self._run(self._get_ready(), "readiness")
        for part in self.parts:
            await part.start()
            self._run(part.run(), type(part).__name__)
        services = [register for part in self.parts for register in part.services()]
        server, self.ports.client_address = self.ports.listen_clients(services)
        await self._open(server)
        http = self.ports.listen_http()
        if http is not None:
            server, self.ports.http_address = http
            await self._open(server)

    async def until(self, stop: asyncio.Event) -> bool:
        """Serve until `stop` is set, or until a snapshot waits: then True, and the node is to be
        built and started anew. Raises what ended replication or a part."""
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self.joining.ready)]
        try:
            tasks: list[asyncio.Future[Any]] = [*waiting, *self._tasks]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for each in waiting:
                each.cancel()
        return self.joining.ready.is_set() and not stop.is_set()

    async def stop(self) -> None:
        for server in reversed(self.ports.open):
            await server.stop(0.2)
        for part in reversed(self.parts):
            await part.stop()
        await self.peers.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.journal.close()
        self.cosigning.close()
        self.store.close()

    async def _get_ready(self) -> None:
        """What makes the ledger's rows quick to look up, beside other work; until cancelled."""
        while not self.rows.get_ready():  # noqa: ASYNC110 - a turn of work, not a wait
            await asyncio.sleep(0)
        await asyncio.Event().wait()  # a part that ends would end the node

    async def _follow_addresses(self) -> None:
        """Dial again when the ledger tells a new address of an organization."""
        async for _ in self.subscribe(["organization/"], snapshot=False):
            self.peers.readdress()

    async def _open(self, server: Port) -> None:
        await server.start()
        self.ports.open.append(server)

    def _run(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))
