"""A listening HTTP/1.1 server: h11 parses, asyncio carries, limits bound everything.

- A request is complete within `head_seconds` or the connection ends; so an idle one ends as well.
- No request has a body. A malformed one is answered 400 (or 431) and the connection closed.
- One connection costs one parser and at most one answer in memory.

Leaves to others: which answer (answers), TLS and names (a proxy in front, if the operator wants).
"""

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate

import h11

from tilth_ledger.errors import InvalidInput, TilthError
from tilth_node.clock import Clock
from tilth_node.config import address
from tilth_node.http.answers import ASK_AGAIN, Answer, refusal
from tilth_node.http.limits import HttpLimits, Purse
from tilth_node.http.routes import Page, page
from tilth_node.logs import logger

METHODS = (b"GET", b"HEAD")
READ_BYTES = 4 << 10

Ask = Callable[[Page | None, bool], Awaitable[Answer]]


class _Ended(Exception):
    """The connection is over: the other side left, or took too long."""


class HttpListener:
    """The server of one address; a `tilth_node.node.Port`."""

    def __init__(self, bound: socket.socket, ask: Ask, limits: HttpLimits, clock: Clock) -> None:
        self._bound = bound
        self._ask = ask
        self.limits = limits
        self._clock = clock
        self._purse = Purse(limits)
        self._log = logger("http")
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, str] = {}  # by connection: the client's address
        self.refused: Counter[int] = Counter()  # by status
        self.ended = asyncio.Event()  # set while no connection is open, after there was one

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, sock=self._bound, limit=READ_BYTES
        )

    async def stop(self, grace: float | None) -> None:
        """Accept no more and end what is open: everything here may be asked for again."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        limits, same = self.limits, sum(other == peer for other in self._open.values())
        full = len(self._open) >= limits.connections or same >= limits.connections_of_one_address
        self._open[writer] = peer
        self.ended.clear()
        # So that `drain` returns when the system has taken all: nothing is left to a slow reader.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            await _Connection(self, reader, writer).serve(full=full)
        except (_Ended, OSError, TimeoutError):
            writer.transport.abort()
        finally:
            del self._open[writer]
            writer.close()
            if not self._open:
                self.ended.set()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    # -- what a connection asks

    async def answer(self, request: h11.Request) -> Answer:
        """The answer to a complete request."""
        if request.method not in METHODS:
            return refusal(405, "this server is only read: GET or HEAD", allow="GET, HEAD")
        begun = time.monotonic()
        if not self._purse.open(begun):
            return refusal(429, "too many requests for now", retry_after="1")
        headers = dict(request.headers)
        gzipped = takes_gzip(headers.get(b"accept-encoding", b"").decode("ascii", "replace"))
        try:
            answer = await self._ask(page(request.target.decode("ascii", "replace")), gzipped)
        except TilthError as error:
            self._log.error("request failed", error=str(error))
            answer = refusal(500, "this node cannot answer now")
        self._purse.spend(time.monotonic() - begun)
        known = headers.get(b"if-none-match", b"").decode("ascii", "replace")
        if answer.status == 200 and names(known, answer.tag):
            return Answer(304, b"", answer.type, answer.caching, {"etag": answer.tag})
        return answer

    def head(self, answer: Answer) -> h11.Response:
        """The head of an answer on the wire."""
        if answer.status >= 400:
            self.refused[answer.status] += 1
        headers = [
            ("date", formatdate(self._clock.wall_ms() / 1000, usegmt=True)),
            ("content-type", answer.type),
            ("cache-control", answer.caching),
            ("x-content-type-options", "nosniff"),
            *answer.more.items(),
        ]
        if answer.status == 200 and answer.caching == ASK_AGAIN:
            headers.append(("etag", answer.tag))
        if answer.status != 304:
            headers.append(("content-length", str(len(answer.body))))
        return h11.Response(status_code=answer.status, headers=headers)


class _Connection:
    """One connection: requests in, answers out, one after the other."""

    def __init__(
        self, listener: HttpListener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._listener = listener
        self._reader = reader
        self._writer = writer
        self._head_only = False  # of the request in hand
        self._parser = h11.Connection(
            h11.SERVER, max_incomplete_event_size=listener.limits.head_bytes
        )

    async def serve(self, *, full: bool) -> None:
        """Serve until either side ends the connection."""
        if full:  # before a word of it: one that asks nothing holds no place either
            await self._last(refusal(503, "too many connections", retry_after="5"))
            return
        for left in reversed(range(self._listener.limits.requests_of_one_connection)):
            try:
                async with asyncio.timeout(self._listener.limits.head_seconds):
                    request, has_body = await self._request()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint if error.error_status_hint != 501 else 400
                await self._last(refusal(status, f"this is no request: {error}"))
                return
            if has_body and request.method in METHODS:
                await self._last(refusal(400, "a request has no body here"))
                return
            answer = await self._listener.answer(request)
            if has_body or not left or self._parser.our_state is h11.MUST_CLOSE:
                await self._last(answer)
                return
            await self._send(answer)
            if self._parser.our_state is not h11.DONE:
                return
            self._parser.start_next_cycle()

    async def _request(self) -> tuple[h11.Request, bool]:
        """The next request, and whether it has a body."""
        request: h11.Request | None = None
        while True:
            match self._parser.next_event():
                case h11.Request() as event:
                    request, self._head_only = event, event.method == b"HEAD"
                case h11.EndOfMessage() if request is not None:
                    return request, False
                case h11.Data() if request is not None:
                    return request, True
                case h11.NEED_DATA if request is not None:
                    return request, True  # its head is complete, and more is to come
                case h11.NEED_DATA:
                    self._parser.receive_data(await self._reader.read(READ_BYTES))
                case _:
                    raise _Ended

    async def _last(self, answer: Answer) -> None:
        """An answer after which the connection ends."""
        if self._parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE, h11.MUST_CLOSE):
            return
        more = {**answer.more, "connection": "close"}
        await self._send(Answer(answer.status, answer.body, answer.type, answer.caching, more))

    async def _send(self, answer: Answer) -> None:
        events: list[h11.Event] = [self._listener.head(answer)]
        if answer.body and not self._head_only:
            events.append(h11.Data(data=answer.body))
        for event in (*events, h11.EndOfMessage()):
            self._writer.write(self._parser.send(event) or b"")
        async with asyncio.timeout(self._listener.limits.send_seconds):
            await self._writer.drain()


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not to refuse it (RFC 9110, 12.5.3)."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() == "gzip":
            return not re.fullmatch(r"q=0(\.0{0,3})?", weight.strip())
    return False


def names(known: str, tag: str) -> bool:
    """Whether an If-None-Match names an entity tag: compared weakly (RFC 9110, 13.1.2)."""
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return tag in tags or tags == ["*"]


def listen(
    at: str, ask: Ask, clock: Clock, limits: HttpLimits | None = None
) -> tuple[HttpListener, str]:
    """A listener bound to `at`, and its real address. Raises `InvalidInput`."""
    host, port = address(at)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {at}",
            found=str(error.strerror or error),
            remedy="free the address, or write another into node.toml",
        ) from error
    with suppress(OSError):
        bound.setblocking(False)
    real = bound.getsockname()[1]
    shown = f"[{host}]:{real}" if ":" in host else f"{host}:{real}"
    return HttpListener(bound, ask, limits or HttpLimits(), clock), shown
