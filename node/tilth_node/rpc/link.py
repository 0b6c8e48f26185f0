"""One standing connection between two nodes: a stream for agreement and a stream for the rest.

- What one loop turn sends on the control stream goes out as one frame, in order.
- A link is closed once, by whichever stream or side ends first, and never opened again.
- Both sides look the same from here: `Stream` is a dialler's call or an acceptor's context.

Leaves to others: who may connect and which of two links stays (peers), what is asked (asks).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import grpc

from tilth_ledger.errors import PeerFault, TilthError, Unavailable
from tilth_node.logs import Logger
from tilth_node.rpc.asks import Asks, Handler
from tilth_protos import peers_pb2 as pb

FRAME_BYTES = 1 << 20
MAX_WAITING_BYTES = 64 << 20  # of messages that a stalled peer has not taken
MAX_WAITING_FRAMES = 16_384  # on the other stream, where credit bounds the bytes of answers
PING = "ping"
PING_SECONDS = 2.0

OnMessages = Callable[[str, Sequence[bytes]], None]

# What grpc raises when the other side or the network ends a stream.
STREAM_ENDED = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)


class Stream(Protocol):
    """Either end of a bidirectional call."""

    def read(self) -> Awaitable[Any]: ...

    def write(self, message: pb.PeerFrame) -> Awaitable[Any]: ...


async def read_frame(stream: Stream) -> pb.PeerFrame | None:
    """The next frame; None when the other side has ended the stream."""
    frame = await stream.read()
    return None if frame is grpc.aio.EOF else cast(pb.PeerFrame, frame)


class Link:
    """A connection to one organization's node."""

    def __init__(
        self,
        hello: pb.Hello,
        dialler: str,
        handlers: Mapping[str, Handler],
        on_messages: OnMessages,
        log: Logger,
    ) -> None:
        self.organization = hello.organization
        self.instance = hello.instance
        self.dialler = dialler
        self.number = hello.connection
        self.asks = Asks(self.organization, handlers, self._send_bulk)
        self.closed = asyncio.Event()
        self._on_messages = on_messages
        self._log = log.bind(peer=self.organization)
        self._messages: list[bytes] = []
        self._messages_bytes = 0
        self._frames: deque[pb.PeerFrame] = deque()
        self._control_ready = asyncio.Event()
        self._bulk_ready = asyncio.Event()

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue messages of the replica; a peer that takes none is cut off, not waited for."""
        self._messages += messages
        self._messages_bytes += sum(map(len, messages))
        if self._messages_bytes > MAX_WAITING_BYTES:
            self._log.warning("peer takes no messages", waiting_bytes=self._messages_bytes)
            self.close()
        self._control_ready.set()

    async def alive(self) -> bool:
        """Whether the other side answers now."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                async for _ in self.asks.ask(PING, b""):
                    pass
        except (TimeoutError, Unavailable):
            return False
        return True

    async def carry_control(self, stream: Stream) -> None:
        """Run the control stream until the link closes."""
        await self._carry(stream, self._write_control, self._receive_control)

    async def carry_bulk(self, stream: Stream) -> None:
        """Run the bulk stream until the link closes."""
        await self._carry(stream, self._write_bulk, self.asks.receive)

    def close(self) -> None:
        self.closed.set()
        self.asks.close()

    async def _carry(
        self,
        stream: Stream,
        write: Callable[[Stream], Awaitable[None]],
        receive: Callable[[pb.PeerFrame], None],
    ) -> None:
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(write(stream)),
            asyncio.ensure_future(_read(stream, receive)),
            asyncio.ensure_future(self.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        self._report(ends)

    def _report(self, ends: Sequence[object]) -> None:
        for end in ends:
            if isinstance(end, TilthError):
                self._log.warning("peer broke the protocol", error=str(end))
            elif isinstance(end, STREAM_ENDED):
                self._log.debug("stream ended", error=type(end).__name__)
            elif isinstance(end, Exception):
                raise end

    async def _write_control(self, stream: Stream) -> None:
        while True:
            await self._control_ready.wait()
            self._control_ready.clear()
            messages, self._messages, self._messages_bytes = self._messages, [], 0
            for some in _frames(messages):
                await stream.write(pb.PeerFrame(consensus=pb.Consensus(messages=some)))

    def _receive_control(self, frame: pb.PeerFrame) -> None:
        # A frame of another kind is one of a later version.
        if frame.HasField("consensus"):
            self._on_messages(self.organization, frame.consensus.messages)

    def _send_bulk(self, frame: pb.PeerFrame) -> None:
        self._frames.append(frame)
        if len(self._frames) > MAX_WAITING_FRAMES and not self.closed.is_set():
            self._log.warning("peer takes no answers", waiting_frames=len(self._frames))
            self.close()
        self._bulk_ready.set()

    async def _write_bulk(self, stream: Stream) -> None:
        while True:
            await self._bulk_ready.wait()
            self._bulk_ready.clear()
            while self._frames:
                await stream.write(self._frames.popleft())


def _frames(messages: list[bytes]) -> Iterator[list[bytes]]:
    """Messages in order, as few frames as fit: a frame is one message or small ones together."""
    some: list[bytes] = []
    size = 0
    for message in messages:
        if some and size + len(message) > FRAME_BYTES:
            yield some
            some, size = [], 0
        some.append(message)
        size += len(message)
    if some:
        yield some


async def _read(stream: Stream, receive: Callable[[pb.PeerFrame], None]) -> None:
    while (frame := await read_frame(stream)) is not None:
        if frame.HasField("failure") and frame.failure.id == 0:
            raise PeerFault("the peer ended the connection", found=frame.failure.error[:200])
        receive(frame)
