"""All connections of a node to the other organizations' nodes.

- Either side dials: a node that accepts no connection takes full part through those it opened.
- At most one link to an organization stands. Of two that cross, the one dialled by the organization
  with the smaller name stays: both sides decide alike, without a word.
- Whom the ledger lists may connect, from the moment on when it does; whom it lists no more is cut
  off (`admit`).
- The certificate decides which organization speaks: the hello must name the same.
- One instance of a member: while the first still answers, a second is refused in words.
- Without a link a node is dialled again with growing pauses; nothing else is done on a timer here.

Leaves to others: what messages mean (replication), what is asked (those who `serve`).
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from tilth_ledger import canonical
from tilth_ledger.errors import (
    InvalidInput,
    PeerFault,
    SecondInstance,
    TilthError,
    Unavailable,
)
from tilth_node import tls
from tilth_node.clock import Clock
from tilth_node.config import address as split_address
from tilth_node.keystore import Keys
from tilth_node.logs import logger
from tilth_node.rpc.asks import Handler, told
from tilth_node.rpc.link import PING, Link, OnMessages
from tilth_node.rpc.server import Certificates
from tilth_node.rpc.wire import BULK, CONTROL, Stream, dial
from tilth_protos import peers_pb2 as pb

VERSIONS = (1,)
_HOST = re.compile(r"[0-9A-Za-z_.-]+|[0-9A-Fa-f:.]+")
HELLO_SECONDS = 10.0
MOST_CHAIN_BYTES = 64 << 10  # of authorities that vouch for one another
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 15.0
PARTING_SECONDS = 1.0
SECOND_REMEDY = (
    "stop one of them: two nodes with the keys of one member sign votes that exclude each other. "
    "After a folder was restored from a backup or copied, replace its vote key: tilth member rotate"
)


@dataclass(frozen=True, slots=True)
class Self:
    """What a node says of itself in a hello."""

    net: str
    organization: str
    instance: str
    software: str


class Peers:
    """Dials, accepts and keeps the links; finds the one to use."""

    def __init__(
        self,
        me: Self,
        certificates: Certificates,
        addresses: Callable[[str], str],
        clock: Clock,
    ) -> None:
        self.me = me
        self._certificates = certificates
        self.address = addresses  # empty: it cannot be dialled
        self._clock = clock
        self._log = logger("peers")
        self._links: dict[str, Link] = {}
        self._free: dict[str, asyncio.Event] = {}
        self._up: dict[str, asyncio.Event] = {}
        self._retry: dict[str, asyncio.Event] = {}
        for name in self.others:
            self._expect(name)
        self._handlers: dict[str, Handler] = {PING: _pong}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None
        self._dials = 0
        self.on_messages: OnMessages = lambda organization, messages: None
        self.on_up: Callable[[str], None] = lambda organization: None
        self.on_down: Callable[[str], None] = lambda organization: None
        self.on_second: Callable[[str, str], None] = lambda organization, words: None

    # -- what the rest of the node uses

    @property
    def links(self) -> Mapping[str, Link]:
        """The standing link of each connected organization."""
        return self._links

    @property
    def others(self) -> list[str]:
        """The organizations that a link may stand to."""
        return [name for name in self._certificates.authorities if name != self.me.organization]

    def start(self) -> "asyncio.Future[None]":
        """Begin to dial; what is returned ends only by an error or by `stop`."""
        self._failed = asyncio.get_running_loop().create_future()
        for name in self.others:
            self._begin(name)
        return self._failed

    def admit(self, keys: Keys, authorities: Mapping[str, bytes]) -> None:
        """The ledger lists these organizations from now on, each with its TLS authority; and these
        are the keys that it lists for this one."""
        before = set(self.others)
        self._certificates.use(keys, authorities)
        for name in before - set(self.others):
            # What was just sent tells it why.
            asyncio.get_running_loop().call_later(PARTING_SECONDS, self._part, name)
        for name in self.others:
            if name not in before and name not in self._dialling:
                self._expect(name)
                if self._failed is not None:
                    self._begin(name)
        self.readdress()

    def _part(self, name: str) -> None:
        """Cut off one that the ledger lists no more."""
        if name in self.others:
            return  # it came back meanwhile
        if (task := self._dialling.pop(name, None)) is not None:
            task.cancel()
        if (link := self._links.get(name)) is not None:
            self._drop(link)

    def _expect(self, name: str) -> None:
        self._free[name] = asyncio.Event()
        self._up.setdefault(name, asyncio.Event())
        self._retry[name] = asyncio.Event()

    def _begin(self, name: str) -> None:
        self._free[name].set()
        self._dialling[name] = task = asyncio.create_task(self._keep(name), name=f"dial {name}")
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Only a fault of this program ends a dialling that nobody cancelled."""
        failed = self._failed
        if task.cancelled() or failed is None or failed.done():
            return
        if (error := task.exception()) is not None:
            failed.set_exception(error)

    async def stop(self) -> None:
        """Stop dialling and close all links."""
        tasks = list(self._dialling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failed is not None:
            self._failed.cancel()
        for link in list(self._links.values()):
            link.close()

    def send(self, organization: str, messages: Sequence[bytes], *, later: bool = False) -> None:
        """Send messages of the replica; without a link they are lost, as the protocol allows."""
        if (link := self._links.get(organization)) is not None:
            link.send(messages, later=later)

    def serve(self, method: str, handler: Handler) -> None:
        """Answer the asks of other nodes for `method`."""
        self._handlers[method] = handler

    async def request(
        self, organization: str, method: str, body: bytes
    ) -> AsyncGenerator[bytes, None]:
        """Ask another node over whichever connection stands. Raises what it raised."""
        link = self._links.get(organization)
        if link is None:
            raise Unavailable(f"there is no connection to {organization} now")
        async with aclosing(link.asks.ask(method, body)) as answer:
            async for data in answer:
                yield data

    async def connected(self, organization: str) -> None:
        """Wait until a link to the organization stands."""
        await self._up.setdefault(organization, asyncio.Event()).wait()

    def hang_up(self) -> None:
        """End all connections; they are made again at once, and begin with where everybody
        stands."""
        for link in list(self._links.values()):
            link.close()

    def readdress(self) -> None:
        """Addresses may have changed: try those that are not connected at once."""
        for event in self._retry.values():
            event.set()

    # -- dialling

    async def _keep(self, organization: str) -> None:
        pause, said = FIRST_PAUSE_SECONDS, ""
        while True:
            await self._free[organization].wait()
            try:
                await self._dial(organization)
                pause, said = FIRST_PAUSE_SECONDS, ""
            except (TilthError, OSError) as error:
                words = str(error) or type(error).__name__
                if isinstance(error, SecondInstance):
                    self.on_second(
                        self.me.organization, f"{organization} refuses this node: {words}"
                    )
                if words != said:
                    self._log.info("cannot connect", peer=organization, error=words)
                pause, said = min(pause * 2, LONGEST_PAUSE_SECONDS), words
            await self._pause(organization, pause)

    async def _pause(self, organization: str, seconds: float) -> None:
        jitter = 0.75 + self._clock.random(1)[0] / 512
        retry = self._retry[organization]
        # Without an address there is nothing to try before somebody tells one.
        limit = seconds * jitter if self.address(organization) else None
        try:
            async with asyncio.timeout(limit):
                await retry.wait()
        except TimeoutError:
            pass
        retry.clear()

    async def _dial(self, organization: str) -> None:
        """Open a link and carry it to its end."""
        address = self.address(organization)
        if not address or organization not in self.others:
            return
        number = self._dials = self._dials + 1
        async with AsyncExitStack() as stack:
            control, hello = await self._open(stack, organization, CONTROL, number)
            bulk, _ = await self._open(stack, organization, BULK, number)
            link = self._link(hello, dialler=self.me.organization)
            try:
                await self._admit(link)
                async with asyncio.TaskGroup() as group:
                    group.create_task(link.carry_control(control))
                    group.create_task(link.carry_bulk(bulk))
            finally:
                self._drop(link)

    async def _open(
        self, stack: AsyncExitStack, organization: str, protocol: str, number: int
    ) -> tuple[Stream, pb.Hello]:
        """A stream to another node, and what that said in greeting."""
        host, port = dialled(self.address(organization))
        context = self._certificates.for_dialling(organization)
        async with asyncio.timeout(HELLO_SECONDS):
            stream = await dial(host, port, context, tls.server_name(organization), protocol)
            stack.callback(stream.close)
            stream.write(self._hello(number))
            return stream, self._checked(await _heard(stream), organization)

    # -- accepting

    async def accept(self, stream: Stream) -> None:
        """Serve a stream that another node opened, to its end."""
        try:
            hello = await self._greeted(stream)
            if stream.protocol == BULK:
                link = self._joined(hello)
                stream.write(self._hello(hello.connection))
                await link.carry_bulk(stream)
                return
            link = self._link(hello, dialler=hello.organization)
            try:
                await self._admit(link)
                stream.write(self._hello(hello.connection))
                await link.carry_control(stream)
            finally:
                self._drop(link)
        except TilthError as error:
            self._log.warning("connection refused", peer=stream.peer, error=str(error))
            facts = canonical.dumps(error.as_dict())
            stream.write(pb.PeerFrame(failure=pb.Failure(error=facts)))
        except OSError as error:
            self._log.debug("stream ended", peer=stream.peer, error=type(error).__name__)

    async def _greeted(self, stream: Stream) -> pb.Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                frame = await _heard(stream)
        except TimeoutError as error:
            raise PeerFault(f"{stream.peer} says no hello", expected="one at once") from error
        chain = frame.hello.authorities if frame is not None else b""
        shown = stream.certificate + chain[:MOST_CHAIN_BYTES]
        organization = tls.organization_of(shown, self._certificates.authorities)
        return self._checked(frame, organization)

    def _joined(self, hello: pb.Hello) -> Link:
        link = self._links.get(hello.organization)
        named = (hello.organization, hello.instance, hello.connection)
        if link is None or named != (link.dialler, link.instance, link.number):
            raise Unavailable("this connection does not stand", remedy="open it again")
        if link.has_bulk:
            raise PeerFault(f"{hello.organization} opens a second stream for one purpose")
        return link

    # -- which links stand

    def _link(self, hello: pb.Hello, dialler: str) -> Link:
        return Link(hello, dialler, self._handlers, self._received, self._log)

    def _received(self, organization: str, messages: Sequence[bytes]) -> None:
        self.on_messages(organization, messages)

    def _checked(self, frame: pb.PeerFrame | None, organization: str) -> pb.Hello:
        """The hello in a stream's first frame. Raises PeerFault."""
        if frame is None or not frame.HasField("hello"):
            raise PeerFault(f"{organization} does not begin with a hello")
        hello = frame.hello
        expected = {"net": self.me.net, "organization": organization}
        found = {"net": hello.net, "organization": hello.organization}
        if found != expected:
            raise PeerFault(
                "a hello names another consortium or organization", found=found, expected=expected
            )
        if not set(VERSIONS) & set(hello.versions):
            raise PeerFault(
                f"{organization} speaks other versions of this protocol",
                found=list(hello.versions),
                expected=VERSIONS,
                remedy="bring both nodes to releases that share a version",
            )
        return hello

    async def _admit(self, link: Link) -> None:
        """Make `link` the standing one, or raise Unavailable when another one stays."""
        old = self._links.get(link.organization)
        if old is not None and old.instance != link.instance and await old.alive():
            second = SecondInstance(
                f"another instance of {link.organization} is connected and answers",
                found=f"instance {link.instance[:8]} beside {old.instance[:8]}",
                expected="one node for one member",
                remedy=SECOND_REMEDY,
            )
            self.on_second(link.organization, str(second))
            raise second
        old = self._links.get(link.organization)  # it may have changed while it was asked
        if old is not None:
            if old.instance == link.instance and not self._preferred(link, old):
                raise Unavailable("a connection between these nodes stands already")
            old.close()
            self._drop(old)
        self._links[link.organization] = link
        self._free[link.organization].clear()
        self._up[link.organization].set()
        self._log.info("connected", peer=link.organization, dialled=link.dialler)
        self.on_up(link.organization)

    def _preferred(self, new: Link, old: Link) -> bool:
        if new.dialler == old.dialler:
            return True  # it dialled again because the old one is gone for it
        return new.dialler == min(self.me.organization, new.organization)

    def _drop(self, link: Link) -> None:
        link.close()
        if self._links.get(link.organization) is link:
            del self._links[link.organization]
            self._up[link.organization].clear()
            self._free[link.organization].set()
            self._log.info("disconnected", peer=link.organization)
            self.on_down(link.organization)

    def _hello(self, number: int) -> pb.PeerFrame:
        me = self.me
        hello = pb.Hello(
            net=me.net,
            organization=me.organization,
            instance=me.instance,
            versions=VERSIONS,
            software=me.software,
            connection=number,
            authorities=self._certificates.crossed,
        )
        return pb.PeerFrame(hello=hello)


async def _pong(organization: str, body: bytes) -> AsyncIterator[bytes]:
    yield b"pong"


def dialled(address: str) -> tuple[str, int]:
    """Host and port of an address that another organization told. Raises InvalidInput."""
    host, port = split_address(address)
    if not _HOST.fullmatch(host):
        raise InvalidInput(
            "this is no address",
            found=repr(address)[:80],
            expected="host:port",
            remedy="Write a host and a port, such as node.example:7101.",
        )
    return host, port


async def _heard(stream: Stream) -> pb.PeerFrame | None:
    """The first frame of a stream. Raises what the other side says went wrong."""
    frame = await stream.read()
    if frame is not None and frame.HasField("failure"):
        raise told(frame.failure.error)
    return frame
