"""Connections between nodes: who is let in, which of two stays, what goes over them."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tilth_ledger.errors import InvalidInput, PeerFault, Refused, TilthError, Unavailable
from tilth_ledger.messages import MAX_MESSAGE_BYTES
from tilth_node import config, keystore, tls
from tilth_node.clock import Clock
from tilth_node.rpc import link as link_module
from tilth_node.rpc import wire
from tilth_node.rpc.asks import CHUNK_BYTES, WINDOW_BYTES
from tilth_node.rpc.peers import Peers, Self, dialled
from tilth_node.rpc.server import Certificates
from tilth_node.rpc.wire import BULK, CONTROL, MAX_FIRST_BYTES, MAX_FRAME_BYTES, PeerPort
from tilth_protos import peers_pb2 as pb

NET = "ab" * 32
SECONDS = 100  # what never comes fails then


@dataclass
class World:
    """Authorities of some organizations, and the nodes that run."""

    folder: Path
    keys: dict[str, keystore.Keys] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def add(self, organization: str) -> None:
        folder = self.folder / organization
        folder.mkdir(parents=True)
        keystore.create(folder, Clock(), tls.new_authority(organization, Clock().utc()))
        self.keys[organization] = keystore.load(folder)

    def certificates(self, organization: str) -> Certificates:
        authorities = {name: keys.authority for name, keys in self.keys.items()}
        return Certificates(self.keys[organization], organization, authorities, Clock())

    def peers(self, organization: str, *, instance: str = "first", net: str = NET) -> Peers:
        me = Self(net, organization, instance, "test")
        addresses = lambda name: self.addresses.get(name, "")  # noqa: E731
        return Peers(me, self.certificates(organization), addresses, Clock())


@asynccontextmanager
async def listening(world: World, peers: Peers) -> AsyncIterator[Peers]:
    """A node that accepts connections and dials."""
    certificates = world.certificates(peers.me.organization)
    port = PeerPort("127.0.0.1:0", certificates.for_peers, peers.accept)
    await port.start()
    world.addresses[peers.me.organization] = port.address
    peers.start()
    try:
        yield peers
    finally:
        await peers.stop()
        await port.stop(0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    for organization in ("a", "b"):
        made.add(organization)
    return made


@pytest.fixture
async def pair(world: World) -> AsyncIterator[tuple[Peers, Peers]]:
    """Nodes a and b, connected."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(listening(world, world.peers("a")))
        b = await stack.enter_async_context(listening(world, world.peers("b")))
        async with asyncio.timeout(SECONDS):
            await a.connected("b")
            await b.connected("a")
        yield a, b


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(SECONDS):
        return b"".join([data async for data in stream])


async def test_messages_arrive_in_order_over_the_connection_that_stands(
    pair: tuple[Peers, Peers],
) -> None:
    a, b = pair
    received: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def take(organization: str, messages: Sequence[bytes]) -> None:
        for message in messages:
            received.put_nowait((organization, message))

    a.on_messages = b.on_messages = take
    sent = [b"%d" % i for i in range(200)]
    for message in sent:
        b.send("a", [message])
    async with asyncio.timeout(SECONDS):
        assert [await received.get() for _ in sent] == [("b", message) for message in sent]
        a.send("b", [b"back"])
        assert await received.get() == ("a", b"back")


async def test_the_longest_message_of_the_replica_gets_through(pair: tuple[Peers, Peers]) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()
    pair[1].on_messages = lambda _, messages: [received.put_nowait(m) for m in messages] and None
    sent = [b"before", bytes(MAX_MESSAGE_BYTES), b"after"]
    pair[0].send("b", sent)
    async with asyncio.timeout(SECONDS):
        assert [await received.get() for _ in sent] == sent


async def test_many_small_messages_get_through_in_frames_of_a_bounded_number(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_MESSAGES", 3)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    together: list[int] = []

    def take(organization: str, messages: Sequence[bytes]) -> None:
        together.append(len(messages))
        for message in messages:
            received.put_nowait(message)

    pair[1].on_messages = take
    sent = [b"%d" % i for i in range(10)]
    pair[0].send("b", sent)
    async with asyncio.timeout(SECONDS):
        assert [await received.get() for _ in sent] == sent
    assert max(together) == 3


async def test_messages_that_make_no_sense_end_the_connection(pair: tuple[Peers, Peers]) -> None:
    def refuse(organization: str, messages: Sequence[bytes]) -> None:
        raise PeerFault("no message")

    a, b = pair
    a.on_messages = refuse
    ended = asyncio.create_task(b.links["a"].closed.wait())
    b.send("a", [b"garbage"])
    async with asyncio.timeout(SECONDS):
        await ended
        await a.connected("b")


async def test_either_side_asks_no_matter_who_dialled(pair: tuple[Peers, Peers]) -> None:
    async def double(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield organization.encode()
        yield body * 2

    for here, there in (pair, pair[::-1]):
        there.serve("double", double)
        answer = await collect(here.request(there.me.organization, "double", b"xy"))
        assert answer == here.me.organization.encode() + b"xyxy"


async def test_what_a_handler_raises_reaches_the_asker(pair: tuple[Peers, Peers]) -> None:
    async def refuse(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield b"some"
        raise Refused("P6", "not for you", remedy="ask the owner")

    pair[1].serve("blob", refuse)
    with pytest.raises(Refused, match="not for you") as caught:
        await collect(pair[0].request("b", "blob", b""))
    assert (caught.value.rule, caught.value.remedy) == ("P6", "ask the owner")


async def test_an_unknown_request_is_refused_in_words(pair: tuple[Peers, Peers]) -> None:
    with pytest.raises(TilthError, match="does not know the request"):
        await collect(pair[0].request("b", "nonsense", b""))


async def test_a_slow_reader_holds_back_the_answer_and_nothing_else(
    pair: tuple[Peers, Peers],
) -> None:
    made = 0

    async def endless(organization: str, body: bytes) -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += CHUNK_BYTES
            yield bytes(CHUNK_BYTES)

    async def short(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield b"short"

    a, b = pair
    b.serve("endless", endless)
    b.serve("short", short)
    stream = a.request("b", "endless", b"")
    async with asyncio.timeout(SECONDS):
        await anext(stream)
        for _ in range(20):
            assert await collect(a.request("b", "short", b"")) == b"short"
    assert made <= WINDOW_BYTES + 3 * CHUNK_BYTES
    await stream.aclose()  # type: ignore[attr-defined]
    assert await collect(a.request("b", "short", b"")) == b"short"


async def test_a_large_answer_arrives_whole(pair: tuple[Peers, Peers]) -> None:
    content = bytes(range(256)) * 40_000

    async def give(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield content

    pair[1].serve("blob", give)
    assert await collect(pair[0].request("b", "blob", b"")) == content


async def test_open_requests_end_when_the_other_side_goes(pair: tuple[Peers, Peers]) -> None:
    started = asyncio.Event()

    async def hang(organization: str, body: bytes) -> AsyncIterator[bytes]:
        started.set()
        await asyncio.Event().wait()
        yield b""

    pair[1].serve("hang", hang)
    asking = asyncio.create_task(collect(pair[0].request("b", "hang", b"")))
    await started.wait()
    pair[1].links["a"].close()
    with pytest.raises(Unavailable):
        await asking


async def test_without_a_connection_a_request_fails_at_once(world: World) -> None:
    with pytest.raises(Unavailable, match="no connection to b"):
        await collect(world.peers("a").request("b", "blob", b""))


async def test_a_node_that_accepts_nobody_is_reached_over_what_it_dialled(world: World) -> None:
    async with listening(world, world.peers("a")) as a:
        b = world.peers("b")
        b.start()
        async with asyncio.timeout(SECONDS):
            await a.connected("b")
        assert await a.links["b"].alive()
        assert a.links["b"].dialler == "b"
        await b.stop()


async def test_after_a_cut_they_connect_again(pair: tuple[Peers, Peers]) -> None:
    a, b = pair
    gone, back = asyncio.Event(), asyncio.Event()
    a.on_down, a.on_up = lambda _: gone.set(), lambda _: back.set()
    b.links["a"].close()
    async with asyncio.timeout(SECONDS):
        await gone.wait()
        await back.wait()
        await b.connected("a")


async def test_of_two_connections_that_cross_one_stays_and_both_agree(world: World) -> None:
    for _ in range(5):
        async with AsyncExitStack() as stack:
            world.addresses.clear()
            a = await stack.enter_async_context(listening(world, world.peers("a")))
            b = await stack.enter_async_context(listening(world, world.peers("b")))
            changed = asyncio.Event()
            for each in (a, b):
                each.on_up = each.on_down = lambda _, changed=changed: changed.set()
            a.readdress()
            async with asyncio.timeout(SECONDS):
                while not agree(a, b):
                    changed.clear()
                    await changed.wait()
            assert await a.links["b"].alive()
            assert await b.links["a"].alive()


def agree(a: Peers, b: Peers) -> bool:
    """Both have one link, and it is the same."""
    ends = (a.links.get("b"), b.links.get("a"))
    return len({end and end.dialler for end in ends}) == 1 and None not in ends


# -- who is let in


GREETING = pb.PeerFrame(
    hello=pb.Hello(net=NET, organization="b", instance="x", versions=[1], connection=1)
)


async def dial_by_hand(
    world: World, context: ssl.SSLContext, protocol: str = CONTROL
) -> wire.Stream:
    """A stream to node a, whatever is shown."""
    host, port = config.address(world.addresses["a"])
    return await wire.dial(host, port, context, tls.server_name("a"), protocol)


async def hello(
    world: World,
    context: ssl.SSLContext,
    said: Callable[[pb.Hello], None] = lambda hello: None,
) -> pb.PeerFrame:
    """Dial node a by hand, and say a hello as node b."""
    frame = pb.PeerFrame()
    frame.CopyFrom(GREETING)
    said(frame.hello)
    async with asyncio.timeout(SECONDS):
        stream = await dial_by_hand(world, context)
        stream.write(frame)
        answer = await stream.read()
        stream.close()
    assert answer is not None
    return answer


def credentials(world: World, issuer: str, name: str) -> ssl.SSLContext:
    """A certificate for `name`, issued by the authority of `issuer`."""
    keys = world.keys[issuer]
    identity = tls.issue(keys.authority_key, keys.authority, name, Clock().utc())
    return showing(world, identity)


def showing(world: World, identity: tls.Identity) -> ssl.SSLContext:
    """TLS towards node a with this certificate."""
    authority = world.keys["a"].authority
    return wire.context(ssl.PROTOCOL_TLS_CLIENT, identity.key, identity.certificate, [authority])


async def test_a_right_certificate_and_hello_are_answered(world: World) -> None:
    async with listening(world, world.peers("a")):
        answer = await hello(world, credentials(world, "b", "b"))
    assert answer.hello.organization == "a"


async def refused_words(world: World, context: ssl.SSLContext, **said: str) -> str:
    def change(frame: pb.Hello) -> None:
        for name, value in said.items():
            setattr(frame, name, value)

    async with listening(world, world.peers("a")) as a:
        answer = await hello(world, context, change)
        assert a.links == {}
    return answer.failure.error.decode()


async def assert_cut_off(world: World, context: ssl.SSLContext) -> None:
    """Node a ends the connection with the handshake: no frame of ours is read or answered."""
    async with listening(world, world.peers("a")) as a, asyncio.timeout(SECONDS):
        with suppress(OSError):
            stream = await dial_by_hand(world, context)
            stream.write(GREETING)
            assert await stream.read() is None
        assert a.links == {}


async def test_a_member_cannot_speak_for_another_by_its_own_authority(world: World) -> None:
    world.add("c")
    words = await refused_words(world, credentials(world, "c", "b"))
    assert "names b but its authority did not issue it" in words


async def test_a_hello_must_name_the_organization_of_the_certificate(world: World) -> None:
    words = await refused_words(world, credentials(world, "b", "b"), organization="c")
    assert "another consortium or organization" in words


async def test_a_hello_of_another_consortium_is_refused(world: World) -> None:
    words = await refused_words(world, credentials(world, "b", "b"), net="cd" * 32)
    assert "another consortium" in words


async def test_a_certificate_of_an_unknown_authority_does_not_get_through(
    world: World, tmp_path: Path
) -> None:
    stranger = World(tmp_path / "stranger")
    stranger.add("b")
    issued = stranger.keys["b"]
    identity = tls.issue(issued.authority_key, issued.authority, "b", Clock().utc())
    await assert_cut_off(world, showing(world, identity))


async def test_without_a_certificate_nobody_gets_through(world: World) -> None:
    bare = ssl.create_default_context(cadata=world.keys["a"].authority.decode())
    await assert_cut_off(world, bare)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_tls_1_3_is_spoken_with_peers(world: World, version: ssl.TLSVersion) -> None:
    context = credentials(world, "b", "b")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = version
    if version is ssl.TLSVersion.TLSv1_2:
        await assert_cut_off(world, context)
        return
    async with listening(world, world.peers("a")), asyncio.timeout(SECONDS):
        for protocol in (CONTROL, BULK):
            stream = await dial_by_hand(world, context, protocol)
            stream.write(GREETING)
            answer = await stream.read()
            assert answer is not None
            assert answer.hello.organization == "a"
            if protocol == BULK:
                stream.close()


async def test_what_is_not_our_protocol_is_refused(world: World) -> None:
    async with listening(world, world.peers("a")) as a:
        with pytest.raises((PeerFault, OSError)):
            await dial_by_hand(world, credentials(world, "b", "b"), "h2")
        assert a.links == {}


async def test_a_dialler_believes_only_the_node_it_meant(world: World) -> None:
    """Whoever listens at a's address with another organization's certificate learns nothing."""
    world.add("c")
    c = PeerPort("127.0.0.1:0", world.certificates("c").for_peers, world.peers("c").accept)
    await c.start()
    world.addresses["a"] = c.address
    with pytest.raises(ssl.SSLCertVerificationError):
        await dial_by_hand(world, world.certificates("b").for_dialling("a"))
    await c.stop(0)


async def test_an_expired_certificate_does_not_get_through(world: World) -> None:
    keys = world.keys["b"]
    past = Clock().utc() - datetime.timedelta(days=3)
    identity = tls.issue(keys.authority_key, keys.authority, "b", past)
    await assert_cut_off(world, showing(world, identity))


async def end_of(stream: wire.Stream) -> Exception | None:
    async with asyncio.timeout(SECONDS):
        return await stream.ended


@pytest.mark.parametrize("length", [MAX_FRAME_BYTES + 1, MAX_FIRST_BYTES + 1])
async def test_a_frame_that_is_too_large_ends_the_connection_before_it_is_taken_in(
    world: World, length: int
) -> None:
    """What comes before a hello is no message of the replica, and takes no room of one."""
    async with listening(world, world.peers("a")):
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        stream._transport.write(length.to_bytes(4) + b"x")
        answer = await stream.read()
        assert answer is not None
        assert b"too large" in answer.failure.error
        await end_of(stream)


async def test_a_frame_of_too_many_messages_ends_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: two million messages of two bytes in one frame held the node for 9 s."""
    monkeypatch.setattr(link_module, "MAX_MESSAGES", 3)
    async with listening(world, world.peers("a")) as a, asyncio.timeout(SECONDS):
        heard: asyncio.Queue[int] = asyncio.Queue()
        a.on_messages = lambda organization, messages: heard.put_nowait(len(messages))
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        stream.write(GREETING)
        assert (await stream.read()) is not None
        await a.connected("b")
        down = asyncio.Event()
        a.on_down = lambda organization: down.set()
        for count in (3, 4):
            messages = [b"m"] * count
            stream.write(pb.PeerFrame(consensus=pb.Consensus(messages=messages)))
        await down.wait()
        assert (await heard.get(), heard.empty()) == (3, True)
        stream.close()


async def test_a_link_has_one_stream_for_each_purpose(world: World) -> None:
    async with listening(world, world.peers("a")) as a, asyncio.timeout(SECONDS):
        context = credentials(world, "b", "b")
        streams = [await dial_by_hand(world, context, which) for which in (CONTROL, BULK, BULK)]
        answers = []
        for stream in streams:
            stream.write(GREETING)
            answers.append(await stream.read())
        assert [each is not None and each.HasField("hello") for each in answers] == [1, 1, 0]
        assert answers[2] is not None
        assert b"second stream" in answers[2].failure.error
        assert "b" in a.links  # which loses nothing by it
        for stream in streams:
            stream.close()


async def test_a_frame_that_is_too_large_behind_the_hello_ends_the_connection_too(
    world: World,
) -> None:
    async with listening(world, world.peers("a")) as a, asyncio.timeout(SECONDS):
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        stream.write(GREETING)
        assert (await stream.read()) is not None
        await a.connected("b")
        down = asyncio.Event()
        a.on_down = lambda organization: down.set()
        stream._transport.write((MAX_FRAME_BYTES + 1).to_bytes(4) + b"x")
        await down.wait()
        assert "b" not in a.links
        stream.close()


async def test_bytes_that_are_no_frame_end_the_connection(world: World) -> None:
    async with listening(world, world.peers("a")):
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        stream._transport.write(b"\0\0\0\4junk")
        answer = await stream.read()
        assert answer is not None
        assert b"cannot be read" in answer.failure.error
        await end_of(stream)


async def test_frames_in_pieces_are_put_together(world: World) -> None:
    async with listening(world, world.peers("a")), asyncio.timeout(SECONDS):
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        data = GREETING.SerializeToString()
        for byte in len(data).to_bytes(4) + data:
            stream._transport.write(bytes((byte,)))
            await asyncio.sleep(0)
        answer = await stream.read()
        assert answer is not None
        assert answer.hello.organization == "a"
        stream.close()


async def test_strangers_who_only_connect_keep_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_GREETING", 3)
    async with listening(world, world.peers("a")), asyncio.timeout(SECONDS):
        host, _, port = world.addresses["a"].rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        assert await silent[0][0].read() == b""  # the oldest made room
        answer = await hello(world, credentials(world, "b", "b"))
        assert answer.hello.organization == "a"
        for _, writer in silent:
            writer.close()


async def test_strangers_who_made_room_before_their_turn_begin_no_handshake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: each waited ten seconds for the first byte of a connection that was over."""
    monkeypatch.setattr(wire, "MAX_GREETING", 3)
    shared, begun, some = world.certificates("a").for_peers(), [], asyncio.Event()

    def context() -> ssl.SSLContext:
        begun.append(shared)
        if len(begun) == 3:
            some.set()
        return shared

    port = PeerPort("127.0.0.1:0", context, world.peers("a").accept)
    host, _, number = port.address.rpartition(":")
    at_once = [socket.create_connection((host, int(number))) for _ in range(40)]
    await port.start()
    async with asyncio.timeout(SECONDS):
        await some.wait()
    await asyncio.sleep(0)

    assert len(begun) == 3
    for each in at_once:
        each.close()
    await port.stop(0)


async def test_who_says_nothing_is_told_so_and_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(wire, "QUIET_SECONDS", 10.0)
    async with listening(world, world.peers("a")):
        stream = await dial_by_hand(world, credentials(world, "b", "b"))
        assert isinstance(await end_of(stream), PeerFault)


async def test_an_idle_connection_stands_because_both_sides_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(wire, "SILENCE_SECONDS", 0.5)
    stood = False
    while not stood:
        async with listening(world, world.peers("a")) as a:
            stream = await dial_by_hand(world, credentials(world, "b", "b"))
            stream.write(GREETING)
            assert await stream.read() is not None
            stream.take(lambda frame: None)
            longest = await longest_turn(20)
            stood = not stream.ended.done() and "b" in a.links
            stream.close()
        # Only this process itself may have kept both sides silent for so long.
        assert stood or longest > 0.2


async def longest_turn(turns: int) -> float:
    """So many waits of a twentieth of a second; the longest of them, as this machine had it."""
    clock = asyncio.get_running_loop().time
    longest = 0.0
    for _ in range(turns):
        begun = clock()
        await asyncio.sleep(0.05)
        longest = max(longest, clock() - begun)
    return longest


async def test_versions_without_one_in_common_are_refused(world: World) -> None:
    def newer(frame: pb.Hello) -> None:
        frame.ClearField("versions")
        frame.versions.append(99)

    async with listening(world, world.peers("a")):
        answer = await hello(world, credentials(world, "b", "b"), newer)
    assert b"other versions" in answer.failure.error


async def test_a_second_instance_is_refused_while_the_first_answers(
    pair: tuple[Peers, Peers], world: World
) -> None:
    first = pair[0].links["b"].instance
    answer = await hello(world, credentials(world, "b", "b"))
    assert b"another instance of b is connected" in answer.failure.error
    assert pair[0].links["b"].instance == first


async def test_a_frame_that_breaks_the_protocol_ends_the_connection(
    pair: tuple[Peers, Peers],
) -> None:
    a, b = pair
    link = b.links["a"]
    ended = asyncio.create_task(a.links["b"].closed.wait())
    for _ in range(2):
        link._send_bulk(pb.PeerFrame(ask=pb.Ask(id=7, method="ping", body=bytes(2 << 20))))
    async with asyncio.timeout(SECONDS):
        await ended


@pytest.mark.parametrize(
    ("told", "target"),
    [
        ("10.0.0.7:7443", ("10.0.0.7", 7443)),
        ("node.hospital-a.example:1", ("node.hospital-a.example", 1)),
        ("[fd00::7]:7443", ("fd00::7", 7443)),
        ("unix:7443", ("unix", 7443)),  # a host of that name, not a socket
    ],
)
def test_an_address_is_a_host_and_a_port(told: str, target: tuple[str, int]) -> None:
    assert dialled(told) == target


@pytest.mark.parametrize(
    "told", ["unix:/run/docker.sock", "unix:///run/x:1", "dns://9.9.9.9/x:1", "a,b:1", "x", ":1"]
)
def test_an_address_of_another_kind_is_never_dialled(told: str) -> None:
    with pytest.raises(InvalidInput, match="no address"):
        dialled(told)


async def test_a_fault_of_the_disk_is_answered_without_its_words(pair: tuple[Peers, Peers]) -> None:
    async def broken(organization: str, body: bytes) -> AsyncIterator[bytes]:
        yield b"some"
        raise FileNotFoundError(2, "No such file", "/srv/secret/path")

    pair[1].serve("blob", broken)
    with pytest.raises(Unavailable, match="cannot answer now") as caught:
        await collect(pair[0].request("b", "blob", b""))
    assert "secret" not in str(caught.value)


async def test_who_asks_and_takes_no_answers_is_cut_off(
    pair: tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_WAITING_FRAMES", 10)
    link = pair[0].links["b"]
    for number in range(12):  # in one turn of the loop: nothing is written meanwhile
        link.asks.receive(pb.PeerFrame(ask=pb.Ask(id=number, body=b"", method="nonsense")))
    async with asyncio.timeout(SECONDS):
        await link.closed.wait()


def test_a_certificate_speaks_for_the_organization_it_names(world: World) -> None:
    authorities = {name: keys.authority for name, keys in world.keys.items()}
    keys = world.keys["a"]
    mine = tls.issue(keys.authority_key, keys.authority, "a", Clock().utc())
    assert tls.organization_of(mine.certificate, authorities) == "a"
    stranger = tls.issue(keys.authority_key, keys.authority, "zebra", Clock().utc())
    with pytest.raises(PeerFault, match="no organization of this consortium"):
        tls.organization_of(stranger.certificate, authorities)
