"""Blobs between nodes: fetching from whoever holds one, serving who has the right.

Invariants
- A blob is fetched once at a time; a cut or a crash costs what was not yet written: the next
  fetch, from the same or another node, goes on where the file ends.
- Bytes are checked against the digest while they stream; what does not fit is never stored.
- The serving node judges the right by its own rows at that moment (rule P6); a refusal is handed
  on as it was said.

Form of an ask (`blob`): JSON `{"digest", "offset", "size"}`, `size` that of the asker's ledger: the
holder may be a block behind, and judges the right when it has caught up. The answer is the blob's
whole size (8 bytes big-endian), then its bytes from `offset` on.

Leaves to others: which connection carries it (`tilth_node.rpc.peers`), what to fetch and when
(worker, `tilth_node.worker.replicas`).
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput, PeerFault, Refused, TilthError, Unavailable
from tilth_ledger.permissions import may_read_blob
from tilth_ledger.rows import Rows
from tilth_node.storage.vault import Blob, Vault, Writer

METHOD = "blob"
DIGEST = re.compile(r"[0-9a-f]{64}")
SIZE_BYTES = 8
INLINE_BYTES = 4 << 20  # larger ones are made durable in a thread
PIECE_BYTES = 128 << 10
CATCH_UP_SECONDS = 2.0
SILENCE_SECONDS = 30.0  # of a holder in the middle of an answer


Pieces = AsyncGenerator[bytes, None]


class Peers(Protocol):
    """What this module needs of the node's connections."""

    def request(self, organization: str, method: str, body: bytes) -> Pieces: ...

    def serve(self, method: str, handler: Callable[[str, bytes], AsyncIterator[bytes]]) -> None: ...


class Ledger(Protocol):
    """How far this node's ledger has come."""

    @property
    def size(self) -> int: ...

    async def at_least(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch: where it may be, best first, and its size if it is known."""

    digest: str
    holders: tuple[str, ...]
    max_bytes: int
    size: int | None = None


class Blobs:
    """The exchange of one node."""

    def __init__(
        self, organization: str, vault: Vault, rows: Rows, peers: Peers, ledger: Ledger
    ) -> None:
        self._organization, self._vault, self._rows = organization, vault, rows
        self._peers, self._ledger = peers, ledger
        self._under_way: dict[str, asyncio.Task[None]] = {}
        peers.serve(METHOD, self.serve)

    async def ensure(self, wanted: Wanted) -> None:
        """Return when the blob is in the vault. Raises Refused when every holder refuses it,
        Unavailable when none can give it now."""
        if self._vault.has(wanted.digest):
            return
        task = self._under_way.get(wanted.digest)
        if task is None:
            task = asyncio.create_task(self._fetch(wanted), name=f"fetch {wanted.digest[:12]}")
            self._under_way[wanted.digest] = task
            task.add_done_callback(lambda done: self._ended(wanted.digest, done))
        await asyncio.shield(task)

    async def shown(self, digest: str, holder: str, max_bytes: int) -> None:
        """Return when `holder` has shown the blob's bytes; nothing of them is kept. Raises Refused
        when it has others or may not give them, Unavailable when it cannot answer now."""
        body = canonical.dumps({"digest": digest, "offset": 0, "size": self._ledger.size})
        found, left = hashlib.sha256(), max_bytes
        async with aclosing(
            _exact_head(self._peers.request(holder, METHOD, body), holder)
        ) as pieces:
            await anext(pieces)
            async for piece in pieces:
                found.update(piece)
                left -= len(piece)
                if left < 0:
                    break
        if found.hexdigest() != digest:
            raise Refused(
                "P6",
                f"{holder} names a blob of another organization and does not have it",
                found=f"other bytes, or more than {max_bytes}",
                expected=f"the bytes of {digest}",
                remedy="use a model or an algo that is the organization's own",
            )

    def _ended(self, digest: str, task: asyncio.Task[None]) -> None:
        del self._under_way[digest]
        if not task.cancelled():
            task.exception()  # told to whoever still waits; perhaps nobody does

    async def stop(self) -> None:
        """Stop fetching; what is written so far is resumed in the next life."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, organization: str, body: bytes) -> Pieces:
        """Answer another node's ask."""
        digest, offset, size = _parse(body)
        await self._catch_up(size)
        self._check_known(digest)
        may_read_blob(self._rows, digest, organization, holder=self._organization)
        async for piece in self.stream(digest, offset):
            yield piece

    async def _catch_up(self, size: int) -> None:
        """Wait, not for long, for what the asker knows already."""
        if self._ledger.size < size:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    await self._ledger.at_least(size)

    def _check_known(self, digest: str) -> None:
        """What no asset names here yet is no refusal, but worth asking again."""
        if next(iter(self._rows.scan(f"blob/{digest}/", limit=1)), None) is None:
            raise Unavailable(
                f"the ledger of {self._organization} does not name this blob yet",
                found=digest,
                remedy="ask again when it has caught up",
            )

    async def stream(self, digest: str, offset: int) -> Pieces:
        """The size, then the bytes from `offset`; whoever calls has judged the right."""
        size = self._vault.size(digest)
        if size is None:
            raise Unavailable(
                f"{self._organization} does not hold this blob now",
                found=digest,
                remedy="ask another holder, or the same one later",
            )
        yield size.to_bytes(SIZE_BYTES)
        for piece in self._vault.read(digest, offset, PIECE_BYTES):
            yield piece

    async def _fetch(self, wanted: Wanted) -> None:
        errors: list[TilthError] = []
        for holder in wanted.holders:
            if holder == self._organization:
                continue
            try:
                await self._fetch_from(holder, wanted)
            except (Refused, Unavailable, PeerFault, InvalidInput) as error:
                errors.append(error)
            else:
                return
        raise _summary(wanted, errors)

    async def _fetch_from(self, holder: str, wanted: Wanted) -> None:
        """One attempt at one holder; what it gave stays for the next one to resume."""
        partial = self._vault.partial_size(wanted.digest)
        body = canonical.dumps(
            {"digest": wanted.digest, "offset": partial, "size": self._ledger.size}
        )
        async with aclosing(
            _exact_head(self._peers.request(holder, METHOD, body), holder)
        ) as pieces:
            size = int.from_bytes(await anext(pieces))
            _check_size(wanted, size, holder)
            with await self._writer(wanted.digest, size, partial) as writer:
                if writer.offset != partial:
                    raise Unavailable("another transfer of this blob is under way")
                async for piece in pieces:
                    await write(writer, piece)
                await finish(writer, size)

    async def _writer(self, digest: str, size: int, partial: int) -> Writer:
        """A writer; much to hash again before resuming is hashed in a thread."""
        if partial <= INLINE_BYTES:
            return self._vault.writer(digest, size)
        return await asyncio.to_thread(self._vault.writer, digest, size)


def _check_size(wanted: Wanted, size: int, holder: str) -> None:
    if size > wanted.max_bytes or (wanted.size is not None and size != wanted.size):
        raise PeerFault(
            f"{holder} has something else under this digest",
            found=f"{size} bytes",
            expected=f"{wanted.size or f'at most {wanted.max_bytes}'} bytes",
        )


async def write(writer: Writer, piece: bytes) -> None:
    """Append to a blob, never faster than the disk: what piles up there, the ledger's syncs would
    wait for."""
    writer.write(piece)
    if writer.is_behind:
        await asyncio.to_thread(writer.sync)


async def finish(writer: Writer, size: int) -> Blob:
    """Make a written blob durable, a large one without stopping the event loop."""
    if size <= INLINE_BYTES:
        return writer.finish()
    return await asyncio.to_thread(writer.finish)


async def _exact_head(answer: AsyncGenerator[bytes, None], holder: str) -> Pieces:
    """The same stream with the size as its first piece, however the bytes came."""
    head = b""
    async with aclosing(answer) as pieces:
        while (piece := await _next(pieces, holder)) is not None:
            if len(head) >= SIZE_BYTES:
                yield piece
                continue
            head += piece
            if len(head) >= SIZE_BYTES:
                yield head[:SIZE_BYTES]
                if rest := head[SIZE_BYTES:]:
                    yield rest
    if len(head) < SIZE_BYTES:
        raise PeerFault(f"{holder} answered without a size", found=f"{len(head)} bytes")


async def _next(pieces: Pieces, holder: str) -> bytes | None:
    """The next piece, None at the end; who says nothing for long is passed over."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await anext(pieces, None)
    except TimeoutError as error:
        raise Unavailable(f"{holder} does not go on", found=f"{SILENCE_SECONDS:g} s") from error


def _parse(body: bytes) -> tuple[str, int, int]:
    ask = canonical.loads(body, max_bytes=1_024)
    if not isinstance(ask, dict) or set(ask) != {"digest", "offset", "size"}:
        raise InvalidInput("not an ask for a blob", expected="{digest, offset, size}")
    digest, offset, size = ask["digest"], ask["offset"], ask["size"]
    named = isinstance(digest, str) and DIGEST.fullmatch(digest)
    if not named or not all(type(number) is int and number >= 0 for number in (offset, size)):
        raise InvalidInput("not an ask for a blob", expected="a digest, an offset and a size")
    return digest, offset, size


def _summary(wanted: Wanted, errors: Sequence[TilthError]) -> TilthError:
    """What to raise when nobody gave it: a refusal only if nobody might give it later."""
    if errors and all(isinstance(error, Refused) for error in errors):
        return errors[0]
    return Unavailable(
        f"blob {wanted.digest[:12]} cannot be had now",
        found="; ".join(str(error) for error in errors) or "no other node holds it",
        expected=f"an answer of {', '.join(wanted.holders) or 'a holder'}",
        remedy="it is tried again by itself; check the connections with `tilth status`",
    )
