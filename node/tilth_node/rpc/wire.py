"""A TLS connection between two nodes as a stream of frames, and the port that accepts them.

- A frame is its length (u32, big-endian) and a `PeerFrame`; an empty one says only "I am here".
- TLS 1.3, and a certificate from both sides: who shows none that a listed authority issued gets no
  byte across.
- The protocol that both sides agree on in the handshake (ALPN) says what a stream is for.
- A frame is handed on in the turn of the loop in which it came, and one that is written goes to
  the system at once; when the system takes no more, `writable` is cleared, and whoever has much
  to say waits.
- After half a minute without a word an empty frame goes out; after 40 s without one from the other
  side the stream has ended.

Leaves to others: whose certificate it is (peers), what frames mean (link, asks).
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from google.protobuf.message import DecodeError

from tilth_ledger.errors import InvalidInput, PeerFault
from tilth_ledger.messages import MAX_MESSAGE_BYTES
from tilth_node.config import address as split_address
from tilth_protos import peers_pb2 as pb

CONTROL, BULK = "tilth-control/1", "tilth-bulk/1"
MAX_FRAME_BYTES = MAX_MESSAGE_BYTES + (1 << 20)  # one message of the replica fits
MAX_FIRST_BYTES = 128 << 10  # of a frame that is read before they are taken: a hello, an error
HANDSHAKE_SECONDS = 10.0
MAX_GREETING = 64  # connections of whoever it is, before their handshake
QUIET_SECONDS = 30.0  # then something is said, so that the other side knows
SILENCE_SECONDS = 40.0  # of the other side: it is gone

_LENGTH = struct.Struct(">I")


class Stream(asyncio.Protocol):
    """Either end of a connection. Frames wait until somebody reads or takes them."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Exception | None]
        """Done when the connection is over; holds what ended it, None for a clean end."""
        self.on_writable: Callable[[], None] = lambda: None
        self.writable = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        self._buffer = bytearray()
        self._receive: Callable[[pb.PeerFrame], None] | None = None
        self._came = asyncio.Event()
        self._heard_at = self._said_at = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._transport: asyncio.Transport
        self._is_open = False  # an accepted one's first bytes may come before it is

    # -- what its owner uses

    @property
    def protocol(self) -> str | None:
        """What the stream is for, as agreed in the handshake."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """What the other side showed, as PEM."""
        shown = self._tls.getpeercert(binary_form=True)
        if shown is None:
            raise PeerFault("the other side shows no certificate")
        return ssl.DER_cert_to_PEM_cert(shown).encode()

    @property
    def peer(self) -> str:
        """The other side's address, for logs."""
        return str(self._transport.get_extra_info("peername"))

    def write(self, frame: pb.PeerFrame) -> None:
        """Send a frame; on a stream that has ended it is lost."""
        if self._transport.is_closing():
            return
        data = frame.SerializeToString()
        self._said_at = self._loop.time()
        self._transport.write(_LENGTH.pack(len(data)) + data)

    async def read(self) -> pb.PeerFrame | None:
        """The next frame, before they are taken; None when the stream has ended. Raises what ended
        it."""
        while True:
            if (frame := self._next()) is not None:
                return frame
            if self.ended.done():
                if (error := self.ended.result()) is not None:
                    raise error
                return None
            self._came.clear()
            self._transport.resume_reading()
            await self._came.wait()

    def take(self, receive: Callable[[pb.PeerFrame], None]) -> None:
        """Hand on every frame from now on, as it comes; what `receive` raises ends the stream."""
        self._receive = receive
        self._hand_on()
        self._transport.resume_reading()

    def close(self) -> None:
        """End the stream; what was written still goes out."""
        self._transport.close()

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        self._is_open = True
        self.writable.set()
        self._timers = [
            self._loop.call_later(QUIET_SECONDS, self._beat),
            self._loop.call_later(SILENCE_SECONDS, self._listen),
        ]

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._buffer += data
        if self._receive is not None:
            self._hand_on()
        elif self._is_open:
            self._transport.pause_reading()  # one who waits for a frame asks for more
            self._came.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    # -- frames

    def _hand_on(self) -> None:
        try:
            while self._receive is not None and (frame := self._next()) is not None:
                self._receive(frame)
        except PeerFault as error:
            self._end(error)
            self._transport.abort()

    def _next(self) -> pb.PeerFrame | None:
        """Cut the next whole frame off the front; empty ones say nothing."""
        buffer, most = self._buffer, MAX_FRAME_BYTES if self._receive else MAX_FIRST_BYTES
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > most:
                raise PeerFault("a frame is too large", found=length, expected=most)
            end = _LENGTH.size + length
            if len(buffer) < end:
                return None
            data = bytes(memoryview(buffer)[_LENGTH.size : end])
            del buffer[:end]
            if data:
                return _decoded(data)
        return None

    # -- life

    def _beat(self) -> None:
        quiet = self._loop.time() - self._said_at
        if quiet >= QUIET_SECONDS:
            self.write(pb.PeerFrame())
            quiet = 0
        self._timers[0] = self._loop.call_later(QUIET_SECONDS - quiet, self._beat)

    def _listen(self) -> None:
        silence = self._loop.time() - self._heard_at
        if silence >= SILENCE_SECONDS:
            self._end(PeerFault("the other side is silent", found=f"{silence:.0f} s"))
            self._transport.abort()
        else:
            self._timers[1] = self._loop.call_later(SILENCE_SECONDS - silence, self._listen)

    def _end(self, error: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._receive = None
        if not self.ended.done():
            self.ended.set_result(error)
        self._came.set()
        self.writable.set()  # nobody waits for what will not come


def _decoded(data: bytes) -> pb.PeerFrame:
    try:
        return pb.PeerFrame.FromString(data)
    except DecodeError as error:
        raise PeerFault("a frame cannot be read", found=f"{len(data)} bytes") from error


async def dial(
    host: str, port: int, context: ssl.SSLContext, server_name: str, protocol: str
) -> Stream:
    """Open a stream. Raises OSError when nobody answers, or not with the right certificate."""
    context.set_alpn_protocols([protocol])
    _, stream = await asyncio.get_running_loop().create_connection(
        Stream,
        host,
        port,
        ssl=context,
        server_hostname=server_name,
        ssl_handshake_timeout=HANDSHAKE_SECONDS,
    )
    if stream.protocol != protocol:
        stream.close()
        raise PeerFault("the other side does not speak this protocol", expected=protocol)
    return stream


Serve = Callable[[Stream], Coroutine[Any, Any, None]]


class PeerPort:
    """A listening port; every stream that comes is served in a task of its own."""

    def __init__(self, at: str, context: Callable[[], ssl.SSLContext], serve: Serve) -> None:
        self._context = context
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeting: dict[asyncio.Transport, None] = {}  # oldest first
        self._server: asyncio.Server | None = None
        host, port = split_address(at)
        self._socket = _bound(host, port, at)
        bound = self._socket.getsockname()[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Newcomer(self), sock=self._socket)

    async def stop(self, grace: float | None) -> None:
        """Accept nobody any more, and end what was accepted."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def begin(self, transport: asyncio.Transport) -> None:
        """Somebody connected. Strangers who only connect take no more than `MAX_GREETING` of this
        node's connections, and keep nobody out: the one that waited longest makes room."""
        if len(self._greeting) >= MAX_GREETING:
            oldest = next(iter(self._greeting))
            del self._greeting[oldest]
            oldest.abort()
        self._greeting[transport] = None
        task = asyncio.create_task(self._handshake(transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handshake(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return  # it made room before its turn came: a handshake without a connection would wait
        stream = Stream()
        try:
            over = await asyncio.get_running_loop().start_tls(
                transport,
                stream,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError:
            transport.abort()  # a stranger: its own side says why
            return
        finally:
            self._greeting.pop(transport, None)
        if over is None:
            return  # it went away meanwhile
        stream.connection_made(over)
        try:
            await self._serve(stream)
        finally:
            stream.close()


class _Newcomer(asyncio.Protocol):
    """A connection before its handshake."""

    def __init__(self, port: PeerPort) -> None:
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        plain.pause_reading()  # the first byte is the handshake's
        self._port.begin(plain)


def _bound(host: str, port: int, at: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off on what is accepted: without, a
    # short message waits 40 ms for the acknowledgement of the one before.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise InvalidInput(
            f"cannot listen on {at}",
            found=str(error)[:200],
            remedy="free the address, or write another into node.toml",
        ) from error
    return found


def context(
    side: int, key: bytes, certificate: bytes, authorities: Iterable[bytes]
) -> ssl.SSLContext:
    """TLS 1.3 with a certificate of one's own, believing these authorities (PEM) and no other."""
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols([CONTROL, BULK])
    for authority in authorities:
        made.load_verify_locations(cadata=authority.decode())
    with _readable(certificate) as shown, _readable(key) as secret:
        made.load_cert_chain(shown, secret)
    return made


@contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """A path that gives these bytes once: OpenSSL takes a key from a file only, and keys of
    certificates are never stored."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
