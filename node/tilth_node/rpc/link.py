"""One standing connection between two nodes: a stream for agreement and a stream for the rest.

- What is sent on the control stream together goes out as one frame, in order, at once or in the
  next turn of the loop.
- A link is closed once, by whichever stream or side ends first, and never opened again.
- Both sides look the same from here.

Leaves to others: who may connect and which of two links stays (peers), what is asked (asks), bytes
(wire).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tilth_ledger.errors import PeerFault, TilthError, Unavailable
from tilth_node.logs import Logger
from tilth_node.rpc.asks import Asks, Handler
from tilth_node.rpc.wire import Stream
from tilth_protos import peers_pb2 as pb

FRAME_BYTES = 1 << 20
MAX_MESSAGES = 16_384  # in one frame: more are no votes, and take seconds to look at
MAX_WAITING_BYTES = 64 << 20  # of messages that a stalled peer has not taken
MAX_WAITING_FRAMES = 16_384  # on the other stream, where credit bounds the bytes of answers
PING = "ping"
PING_SECONDS = 2.0

OnMessages = Callable[[str, Sequence[bytes]], None]


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
        self.has_bulk = False
        self._on_messages = on_messages
        self._log = log.bind(peer=self.organization)
        self._control: Stream | None = None
        self._messages: list[bytes] = []  # that wait until the control stream takes more
        self._messages_bytes = 0
        self._frames: deque[pb.PeerFrame] = deque()
        self._bulk_ready = asyncio.Event()

    def send(self, messages: Sequence[bytes], *, later: bool = False) -> None:
        """Send messages of the replica, or `later` in the next turn of the loop; a peer that takes
        none is cut off, not waited for."""
        self._messages += messages
        self._messages_bytes += sum(map(len, messages))
        if self._messages_bytes > MAX_WAITING_BYTES:
            self._log.warning("peer takes no messages", waiting_bytes=self._messages_bytes)
            self.close()
        if later:
            asyncio.get_running_loop().call_soon(self._say)
        else:
            self._say()

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
        self._control = stream
        stream.on_writable = self._say
        self._say()
        await self._carry(stream, self._receive_control)

    async def carry_bulk(self, stream: Stream) -> None:
        """Run the bulk stream until the link closes."""
        self.has_bulk = True
        writing = asyncio.create_task(self._write_bulk(stream))
        try:
            await self._carry(stream, self.asks.receive)
        finally:
            writing.cancel()

    def close(self) -> None:
        self.closed.set()
        self.asks.close()

    async def _carry(self, stream: Stream, receive: Callable[[pb.PeerFrame], None]) -> None:
        def take(frame: pb.PeerFrame) -> None:
            if frame.HasField("failure") and frame.failure.id == 0:
                raise PeerFault(
                    "the peer ended the connection", found=str(frame.failure.error[:200])
                )
            receive(frame)

        closed = asyncio.create_task(self.closed.wait())
        try:
            stream.take(take)
            await asyncio.wait((closed, stream.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            self.close()
            stream.close()
        if stream.ended.done():
            self._report(stream.ended.result())

    def _report(self, end: Exception | None) -> None:
        if isinstance(end, TilthError):
            self._log.warning("peer broke the protocol", error=str(end))
        elif isinstance(end, OSError) or end is None:
            self._log.debug("stream ended", error=type(end).__name__)
        else:
            raise end

    def _say(self) -> None:
        stream = self._control
        while stream is not None and self._messages and stream.writable.is_set():
            some = _first_frame(self._messages)
            del self._messages[: len(some)]
            self._messages_bytes -= sum(map(len, some))
            stream.write(pb.PeerFrame(consensus=pb.Consensus(messages=some)))

    def _receive_control(self, frame: pb.PeerFrame) -> None:
        # A frame of another kind is one of a later version.
        if frame.HasField("consensus"):
            if (count := len(frame.consensus.messages)) > MAX_MESSAGES:
                raise PeerFault(
                    "a frame holds too many messages", found=count, expected=f"up to {MAX_MESSAGES}"
                )
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
                await stream.writable.wait()
                stream.write(self._frames.popleft())


def _first_frame(messages: list[bytes]) -> list[bytes]:
    """As many messages as fit into one frame: a large one by itself, or small ones together."""
    size = 0
    for count, message in enumerate(messages):
        size += len(message)
        if count and (size > FRAME_BYTES or count == MAX_MESSAGES):
            return messages[:count]
    return list(messages)
