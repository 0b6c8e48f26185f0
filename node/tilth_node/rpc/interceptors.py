"""What stands before every call of a client: TLS 1.3, a token, and errors in one form.

- grpcio sets no minimum TLS version, so each call looks at its connection's and refuses any but
  1.3.
- A call reaches a service only with the token of an active identity for exactly this method and
  body. It is verified before a byte of the body is waited for, so that a stranger fills no memory
  with requests that he does not end.
- A stream of requests must begin soon, and every request come to its end; a stream of answers ends
  when the identity does.
- A newcomer's node knows nobody until its ledger holds its own admission: callers wait a while
  for that, rather than being told that they are strangers.
- Services raise errors of the one tree; here they become a gRPC status, with their facts beside it.
  An error of this machine (a disk, a number that no row has) is told without its words, which may
  name paths of the host.

Leaves to others: what the caller may do (permissions), and the peers' port (peers).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from tilth_ledger import canonical
from tilth_ledger.errors import (
    Fatal,
    InvalidInput,
    PeerFault,
    Refused,
    TilthError,
    TooMany,
    Unavailable,
)
from tilth_ledger.keys import PublicKey
from tilth_ledger.rows import Rows
from tilth_ledger.token import METADATA, Asked, Token
from tilth_node.clock import Clock
from tilth_node.errors import Unauthenticated
from tilth_node.feed import Feed
from tilth_node.logs import logger
from tilth_node.rpc.arrivals import Arrivals

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]] | None

ERROR_METADATA = "tilth-error-bin"
BANNER_METADATA = "tilth-banner-bin"
TLS = b"TLSv1.3"
FIRST_MESSAGE_SECONDS = 10.0
ADMISSION_SECONDS = 10.0

# The first class that fits gives the status; the rest of the tree is the caller's fault.
STATUS: tuple[tuple[type[TilthError], grpc.StatusCode], ...] = (
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (TooMany, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (PeerFault, grpc.StatusCode.UNAVAILABLE),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION),
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (Fatal, grpc.StatusCode.INTERNAL),
    (TilthError, grpc.StatusCode.UNKNOWN),
)


# What a service may raise: errors of the tree, and those of this machine.
FAULTS = (TilthError, OSError, OverflowError)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token a call carried."""

    key_id: str
    organization: str
    roles: tuple[str, ...]


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """The identity behind the call that is being served."""
    return _caller.get()


def require_tls(context: Context) -> None:
    """Raise Unauthenticated unless the call's connection is TLS 1.3."""
    versions = list(context.auth_context().get("ssl_tls_version", ()))
    if versions != [TLS]:
        found = versions[0].decode("ascii", "replace") if versions else "no TLS"
        raise Unauthenticated(
            "this node speaks TLS 1.3 only",
            found=found,
            expected="TLSv1.3",
            remedy="use a client with a current TLS library",
        )


async def abort(context: Context, error: TilthError) -> NoReturn:
    """End the call with the status and the facts of `error`."""
    code = next(code for kind, code in STATUS if isinstance(error, kind))
    facts = ((ERROR_METADATA, canonical.dumps(error.as_dict())),)
    await context.abort(code, str(error)[:1000], facts)


async def fail(context: Context, method: str, error: Exception) -> NoReturn:
    """End the call: with the facts of an error of the tree, else without any."""
    if isinstance(error, TilthError):
        await abort(context, error)
    logger("rpc").error("call failed", method=method, error=repr(error))
    words = "this node cannot answer now"
    await abort(context, Unavailable(words, remedy="ask its operator to look into its log"))


class Tokens:
    """Checks the token of a call against the identities on the ledger."""

    def __init__(self, net: str, organization: str, rows: Rows, clock: Clock, ledger: Feed) -> None:
        self._net = net
        self._organization = organization
        self._rows = rows
        self._clock = clock
        self._ledger = ledger

    async def admitted(self) -> None:
        """Wait until the ledger held here knows this organization; raises Unavailable."""
        if self._knows_itself():
            return
        try:
            async with asyncio.timeout(ADMISSION_SECONDS):
                while not self._knows_itself():
                    await self._ledger.grown.wait()
        except TimeoutError as error:
            raise Unavailable(
                "the ledger that this node holds does not know its organization yet",
                found=f"{self._ledger.size} entries, none that admits {self._organization}",
                expected="its admission",
                remedy="If the members have admitted it, the node is still fetching their ledger:"
                " ask again later. Else one of them proposes it: tilth member propose --admit"
                " member.json",
            ) from error

    def _knows_itself(self) -> bool:
        return self._rows.get_bytes(f"organization/{self._organization}") is not None

    def verify(self, metadata: Metadata, method: str) -> tuple[Caller, Token]:
        """The caller, and the token that says which body is his; raises Unauthenticated with what
        was wrong."""
        texts = [value for name, value in metadata or () if name == METADATA]
        if len(texts) != 1 or not isinstance(texts[0], str):
            raise Unauthenticated(
                "the request carries no token",
                found=f"{len(texts)} times {METADATA}",
                expected="1",
                remedy="Send exactly one; the SDK does.",
            )
        now = self._clock.wall_ms()
        try:
            token = Token.parse(texts[0])
            row = self._active(token.key_id, now)
            asked = Asked(self._net, self._organization, method)
            token.verify(PublicKey.from_hex(row["public"]), asked, now)
        except Unauthenticated:
            raise
        except InvalidInput as error:
            raise _not_valid(error) from error
        return Caller(token.key_id, row["organization"], tuple(row["roles"])), token

    def still(self, who: Caller) -> None:
        """Raise Unauthenticated when the identity is no longer active."""
        self._active(who.key_id, self._clock.wall_ms())

    def _active(self, key_id: str, now_ms: int) -> dict[str, Any]:
        row = self._rows.get(f"identity/{key_id}")
        if row is None:
            raise Unauthenticated(
                "nobody on this ledger has the token's key",
                found=f"key {key_id[:16]}",
                remedy="ask your organization's admin to add it: tilth identity add",
            )
        if (self._rows.get(f"organization/{row['organization']}") or {}).get("removed"):
            raise Unauthenticated(
                "this organization was removed from the consortium",
                found=row["organization"],
                expected="one that takes part",
                remedy="Ask a member to admit it again, with new keys; what its node holds of the"
                " ledger is read in its folder: tilth audit FOLDER",
            )
        if row["status"] != "active" or row.get("expires_ms", now_ms + 1) <= now_ms:
            raise Unauthenticated(
                "the token's key is no longer valid",
                found=f"key {key_id[:16]}, revoked or expired",
                remedy="use your present key",
            )
        return row


def _not_valid(error: InvalidInput) -> Unauthenticated:
    return Unauthenticated(
        f"the request's token is not valid: {error.message}",
        found=error.found,
        expected=error.expected,
        remedy=error.remedy,
    )


Behaviour = Callable[..., Any]
Proven = Callable[[str, str], None]  # (peer in gRPC's words, identity), at each good token


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of the clients' port."""

    def __init__(
        self, tokens: Tokens, proven: Proven, banner: Callable[[], str] = lambda: ""
    ) -> None:
        self._tokens = tokens
        self._proven = proven
        self._arrivals = Arrivals()
        self._banner = banner

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        try:
            await self._tokens.admitted()
            who, token = self._tokens.verify(metadata, method)
        except FAULTS as error:
            return _refusing(method, error)
        parts = (self._tokens, self._arrivals, self._proven, self._banner)
        return _Guarded(*parts, who, token, method, handler).wrapped()


def _refusing(method: str, error: Exception) -> Any:
    """A handler that ends any call without a look at what it asks."""

    async def refuse(_: AsyncIterator[bytes], context: Context) -> NoReturn:
        try:
            require_tls(context)
        except Unauthenticated as older:
            await fail(context, method, older)
        await fail(context, method, error)

    return grpc.stream_unary_rpc_method_handler(refuse)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """One handler with its guard: raw request bytes come in, so that the token can bind them."""

    tokens: Tokens
    arrivals: Arrivals
    proven: Proven
    banner: Callable[[], str]
    who: Caller
    token: Token
    method: str
    handler: Any

    def wrapped(self) -> Any:
        handler = self.handler
        make: Behaviour
        behaviour: Behaviour
        quick = not handler.request_streaming and self.arrivals.may_be_quick(self.who.organization)
        match quick, handler.request_streaming, handler.response_streaming:
            case True, _, False:
                make, behaviour = grpc.unary_unary_rpc_method_handler, self.unary_unary
            case True, _, True:
                make, behaviour = grpc.unary_stream_rpc_method_handler, self.unary_stream
            case False, False, False:
                make, behaviour = grpc.stream_unary_rpc_method_handler, self.unary_unary
            case False, False, True:
                make, behaviour = grpc.stream_stream_rpc_method_handler, self.unary_stream
            case False, True, False:
                make, behaviour = grpc.stream_unary_rpc_method_handler, self.stream_unary
            case _:
                make, behaviour = grpc.stream_stream_rpc_method_handler, self.stream_stream
        return make(behaviour, None, handler.response_serializer)

    def admit(self, context: Context, body: bytes) -> None:
        require_tls(context)
        try:
            self.token.check(body)
        except InvalidInput as error:
            raise _not_valid(error) from error
        self.proven(context.peer(), self.who.key_id)
        _caller.set(self.who)

    async def warn(self, context: Context) -> None:
        """Tell the caller, before the answer, what is wrong with this node's ledger as a whole."""
        if words := self.banner():
            await context.send_initial_metadata(((BANNER_METADATA, words.encode()),))

    def parse(self, raw: bytes) -> Any:
        try:
            return self.handler.request_deserializer(raw)
        except DecodeError as error:
            raise InvalidInput(
                "the request cannot be read",
                found=f"{len(raw)} bytes",
                expected=self.method,
                remedy="Bring client and node to the same version.",
            ) from error

    async def requests(
        self, raws: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[Any, None]:
        first = await self.first(raws)
        self.admit(context, first)
        yield self.parse(first)
        with suppress(StopAsyncIteration):
            while True:
                yield self.parse(await self.next(raws))

    async def next(self, raws: AsyncIterator[bytes]) -> bytes:
        return await self.arrivals.message(self.who.organization, self.who.key_id, raws)

    async def first(self, raws: AsyncIterator[bytes]) -> bytes:
        """The message that the token binds; nobody waits for it without a bound."""
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                return await self.next(raws)
        except (StopAsyncIteration, TimeoutError) as error:
            raise Unauthenticated(
                "a stream of requests does not begin",
                found="no message",
                expected=f"the first within {FIRST_MESSAGE_SECONDS:g} s",
                remedy="Send the first message at once.",
            ) from error

    async def only(self, raw: bytes | AsyncIterator[bytes]) -> bytes:
        """The one message of a request: here, or on its way."""
        if isinstance(raw, bytes):
            self.arrivals.came(self.who.organization)
            return raw
        try:
            return await self.next(raw)
        except StopAsyncIteration as error:
            raise InvalidInput("the request holds no message", expected=self.method) from error

    async def unary_unary(self, raw: bytes | AsyncIterator[bytes], context: Context) -> Any:
        try:
            body = await self.only(raw)
            self.admit(context, body)
            await self.warn(context)
            return await self.handler.unary_unary(self.parse(body), context)
        except FAULTS as error:
            await fail(context, self.method, error)

    async def unary_stream(self, raw: bytes | AsyncIterator[bytes], context: Context) -> Any:
        try:
            body = await self.only(raw)
            self.admit(context, body)
            await self.warn(context)
            async for answer in self.handler.unary_stream(self.parse(body), context):
                self.tokens.still(caller())
                yield answer
        except FAULTS as error:
            await fail(context, self.method, error)

    async def stream_unary(self, raws: AsyncIterator[bytes], context: Context) -> Any:
        try:
            return await self.handler.stream_unary(self.requests(raws, context), context)
        except FAULTS as error:
            await fail(context, self.method, error)

    async def stream_stream(self, raws: AsyncIterator[bytes], context: Context) -> Any:
        try:
            async for answer in self.handler.stream_stream(self.requests(raws, context), context):
                yield answer
        except FAULTS as error:
            await fail(context, self.method, error)
