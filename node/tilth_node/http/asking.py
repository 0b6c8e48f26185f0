"""One HTTP/1.1 request to somebody outside: h11 parses, asyncio carries, limits bound everything.

- The whole exchange ends within `total_seconds`, whatever the other side does; what it sends beyond
  a bound ends it at once.
- TLS certificates and names are verified. Redirects are not followed, no proxy is asked: what the
  operator wrote is whom this asks.
- One connection for each request; who asks seldom gains nothing by keeping one.

Leaves to others: what is asked (witnesses).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult

import h11

from tilth_ledger.errors import Unavailable

READ_BYTES = 16 << 10
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class AskLimits:
    """Bounds of one exchange."""

    total_seconds: float = 20.0  # from name to the answer's last byte
    head_bytes: int = 16 << 10  # of the answer
    body_bytes: int = 64 << 10
    received_bytes: int = 128 << 10  # in all, whatever it is


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    type: str = ""
    retry_after: int = 0  # seconds; 0: nothing was said


async def post(url: SplitResult, body: bytes, tls: ssl.SSLContext, limits: AskLimits) -> Reply:
    """POST `body` to `url` (https, or http).

    Raises `Unavailable` when there is no answer in time and within bounds.
    """
    try:
        async with asyncio.timeout(limits.total_seconds), _connected(url, tls) as (reader, writer):
            connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)
            for event in _request(url, body):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            return await _reply(connection, reader, limits)
    except TimeoutError:
        raise _failed(url, f"no answer within {limits.total_seconds:g} s") from None
    except (OSError, h11.RemoteProtocolError) as error:
        raise _failed(url, f"{type(error).__name__}: {error}"[:200]) from error


@asynccontextmanager
async def _connected(
    url: SplitResult, tls: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    secure = tls if url.scheme == "https" else None
    port = url.port or PORTS[url.scheme]
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=secure)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _request(url: SplitResult, body: bytes) -> tuple[h11.Event, ...]:
    headers = [
        ("host", url.netloc),
        ("user-agent", "tilth"),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    request = h11.Request(method="POST", target=url.path, headers=headers)
    return request, h11.Data(data=body), h11.EndOfMessage()


async def _reply(
    connection: h11.Connection, reader: asyncio.StreamReader, limits: AskLimits
) -> Reply:
    head: h11.Response | None = None
    body, received = b"", 0
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                data = await reader.read(READ_BYTES)
                received += len(data)
                if received > limits.received_bytes:
                    raise OSError(f"an answer of more than {limits.received_bytes} bytes")
                connection.receive_data(data)
            case h11.Response() as head:
                pass
            case h11.Data(data=data):
                body += data
                if len(body) > limits.body_bytes:
                    raise OSError(f"an answer of more than {limits.body_bytes} bytes")
            case h11.EndOfMessage() if head is not None:
                return _made(head, body)
            case h11.InformationalResponse():
                pass
            case event:
                raise OSError(f"the connection ended: {type(event).__name__}")


def _made(head: h11.Response, body: bytes) -> Reply:
    headers = {name: value.decode("ascii", "replace") for name, value in head.headers}
    after = headers.get(b"retry-after", "")
    seconds = int(after) if after.isdecimal() and len(after) < 9 else 0
    return Reply(head.status_code, body, headers.get(b"content-type", ""), seconds)


def _failed(url: SplitResult, found: str) -> Unavailable:
    return Unavailable(f"{url.netloc} does not answer", found=found)
