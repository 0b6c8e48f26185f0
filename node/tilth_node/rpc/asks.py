"""Requests between two nodes over one standing stream, in both directions at once.

Each side numbers its own asks. An answer comes in chunks, ended by `last` or by a failure.

- The asker grants credit for what it has consumed, so that a slow reader costs the answerer a
  bounded buffer and other answers on the stream go on.
- A side answers a bounded number of asks at a time; what does not fit is refused, not queued.
- When the stream ends, every open ask fails with Unavailable.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from tilth_ledger import canonical
from tilth_ledger.errors import (
    Fatal,
    InvalidInput,
    PeerFault,
    TilthError,
    Unavailable,
    from_dict,
)
from tilth_node.logs import logger
from tilth_protos import peers_pb2 as pb

WINDOW_BYTES = 1 << 20  # of one answer that may be under way
CHUNK_BYTES = 128 << 10
MAX_BODY_BYTES = 1 << 20
MAX_ANSWERS = 64
MAX_ERROR_BYTES = 64 << 10

Handler = Callable[[str, bytes], AsyncIterator[bytes]]  # (organization, body) -> chunks
Send = Callable[[pb.PeerFrame], None]


@dataclass(slots=True)
class _Asking:
    """An own ask whose answer is awaited; None among the frames: the stream has ended."""

    frames: asyncio.Queue[pb.PeerFrame | None] = field(default_factory=asyncio.Queue)
    unread: int = 0  # bytes received and not yet consumed


@dataclass(slots=True)
class _Answering:
    """An ask of the other side that is being answered."""

    credit: int = WINDOW_BYTES
    more: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Asks:
    """Both directions of one connection's requests."""

    def __init__(self, organization: str, handlers: Mapping[str, Handler], send: Send) -> None:
        self._organization = organization
        self._handlers = handlers
        self._send = send
        self._next = 0
        self._open: dict[int, _Asking] = {}
        self._answering: dict[int, _Answering] = {}
        self._closed = False

    async def ask(self, method: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The chunks of the other side's answer. Raises what it raised, or Unavailable."""
        if self._closed:
            raise self._gone()
        self._next += 1
        number = self._next
        asking = self._open[number] = _Asking()
        finished = False
        self._send(pb.PeerFrame(ask=pb.Ask(id=number, method=method, body=body)))
        try:
            while not finished:
                frame = await asking.frames.get()
                if frame is None:
                    raise self._gone()
                if frame.HasField("failure"):
                    finished = True
                    raise told(frame.failure.error)
                finished = frame.chunk.last
                if frame.chunk.data:
                    yield frame.chunk.data
                    asking.unread -= len(frame.chunk.data)
                    credit = pb.Credit(id=number, bytes=len(frame.chunk.data))
                    self._send(pb.PeerFrame(credit=credit))
        finally:
            del self._open[number]
            if not finished and not self._closed:
                self._send(pb.PeerFrame(cancel=pb.Cancel(id=number)))

    def receive(self, frame: pb.PeerFrame) -> None:
        """Take one frame of the stream. Raises PeerFault when it breaks the protocol."""
        match frame.WhichOneof("frame"):
            case "ask":
                self._begin(frame.ask)
            case "chunk":
                self._answer(frame.chunk.id, frame)
            case "failure":
                self._answer(frame.failure.id, frame)
            case "credit":
                if (answering := self._answering.get(frame.credit.id)) is not None:
                    answering.credit = min(answering.credit + frame.credit.bytes, WINDOW_BYTES)
                    answering.more.set()
            case "cancel":
                answering = self._answering.get(frame.cancel.id)
                if answering is not None and answering.task is not None:
                    answering.task.cancel()
            case _:
                pass  # a kind of a later version

    def close(self) -> None:
        """The stream has ended."""
        self._closed = True
        for asking in self._open.values():
            asking.frames.put_nowait(None)
        for answering in self._answering.values():
            if answering.task is not None:
                answering.task.cancel()

    def _answer(self, number: int, frame: pb.PeerFrame) -> None:
        # An ask that was cancelled meanwhile is no longer there.
        if (asking := self._open.get(number)) is None:
            return
        asking.unread += len(frame.chunk.data)
        if asking.unread > WINDOW_BYTES or asking.frames.qsize() > WINDOW_BYTES // CHUNK_BYTES * 8:
            raise PeerFault(f"{self._organization} sends more than it has credit for")
        asking.frames.put_nowait(frame)

    def _begin(self, ask: pb.Ask) -> None:
        if ask.id in self._answering:
            raise PeerFault(f"{self._organization} uses one ask's number twice", found=ask.id)
        if len(ask.body) > MAX_BODY_BYTES:
            raise PeerFault(f"{self._organization} asks with too long a body", found=len(ask.body))
        if len(self._answering) >= MAX_ANSWERS:
            self._fail(ask.id, Unavailable("too many requests at once", found=MAX_ANSWERS))
            return
        answering = self._answering[ask.id] = _Answering()
        answering.task = asyncio.create_task(self._serve(ask, answering))

    async def _serve(self, ask: pb.Ask, answering: _Answering) -> None:
        try:
            handler = self._handlers.get(ask.method)
            if handler is None:
                raise InvalidInput(
                    "this node does not know the request",
                    found=ask.method[:80],
                    remedy="Bring both nodes to the same version.",
                )
            async for data in handler(self._organization, ask.body):
                for start in range(0, len(data), CHUNK_BYTES):
                    await self._chunk(ask.id, answering, data[start : start + CHUNK_BYTES])
            self._send(pb.PeerFrame(chunk=pb.Chunk(id=ask.id, last=True)))
        except TilthError as error:
            self._fail(ask.id, error)
        except OSError as error:  # its words may name paths of this host
            logger("peers").error("answer failed", method=ask.method[:80], error=repr(error))
            self._fail(ask.id, Unavailable("this node cannot answer now"))
        finally:
            del self._answering[ask.id]

    async def _chunk(self, number: int, answering: _Answering, data: bytes) -> None:
        while answering.credit < len(data):
            answering.more.clear()
            await answering.more.wait()
        answering.credit -= len(data)
        self._send(pb.PeerFrame(chunk=pb.Chunk(id=number, data=data)))

    def _fail(self, number: int, error: TilthError) -> None:
        facts = canonical.dumps(error.as_dict())
        self._send(pb.PeerFrame(failure=pb.Failure(id=number, error=facts)))

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the connection to {self._organization} ended",
            remedy="it is made again as soon as either side can",
        )


def told(error: bytes) -> TilthError:
    """The error that another node tells of, whatever bytes it sends.

    What ends that node ends none here: its `Fatal` is a `PeerFault` to us."""
    try:
        facts = canonical.loads(error, max_bytes=MAX_ERROR_BYTES)
    except InvalidInput:
        facts = None
    if not isinstance(facts, dict):
        return PeerFault("the other node failed without words", found=f"{len(error)} bytes")
    found = from_dict(facts)
    if isinstance(found, Fatal):
        return PeerFault(found.message, found=found.found, expected=found.expected)
    return found
