"""The client service Blobs: bytes brought to this node and taken from it.

- Bringing is for the node's own organization: its disk is not another's. A blob counts only once
  an asset on the ledger names it.
- Taking is judged by rule P6 for the caller's organization, whatever node it asks. What this
  node may hold and does not yet hold is fetched from a holder first.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.limits import MODEL_BYTES
from tilth_ledger.permissions import may_read_blob
from tilth_ledger.rows import Rows
from tilth_node.rpc.interceptors import Context, caller
from tilth_node.storage.vault import Vault
from tilth_node.worker.blobs import Blobs, finish, write
from tilth_node.worker.holders import wanted
from tilth_protos import tasks_pb2 as pb
from tilth_protos import tasks_pb2_grpc as pb_grpc

MAY_BRING = frozenset(("owner", "organizer", "scientist"))


class BlobsService(pb_grpc.BlobsServicer):
    """Serves the vault of `organization` to clients."""

    def __init__(self, organization: str, vault: Vault, blobs: Blobs, rows: Rows) -> None:
        self._organization, self._vault, self._blobs, self._rows = organization, vault, blobs, rows

    async def Put(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PutBlobRequest], context: Context
    ) -> pb.PutBlobResponse:
        """Store a blob; the head comes first. An interrupted one is sent again from its start."""
        head = (await anext(request_iterator)).head
        self._may_bring()
        if not 0 <= head.size <= MODEL_BYTES:
            raise InvalidInput(
                "a blob is too large",
                found=head.size,
                expected=f"at most {MODEL_BYTES} bytes",
                remedy="Make the model smaller, or split it.",
            )
        if self._vault.has(head.digest):
            return pb.PutBlobResponse(digest=head.digest, known=True)
        with self._vault.writer(head.digest, head.size, resume=False) as writer:
            async for part in request_iterator:
                await write(writer, part.data)
            await finish(writer, head.size)
        return pb.PutBlobResponse(digest=head.digest, known=False)

    async def Get(  # noqa: N802
        self, request: pb.GetBlobRequest, context: Context
    ) -> AsyncIterator[pb.GetBlobResponse]:
        """Stream a blob from `offset`; the first message tells its whole size."""
        asker = caller().organization
        may_read_blob(self._rows, request.digest, asker, "download", self._organization)
        if not self._vault.has(request.digest):
            await self._blobs.ensure(wanted(self._rows, request.digest, MODEL_BYTES))
        async with aclosing(self._blobs.stream(request.digest, request.offset)) as pieces:
            size = int.from_bytes(await anext(pieces))
            yield pb.GetBlobResponse(size=size)
            async for piece in pieces:
                yield pb.GetBlobResponse(data=piece)

    def _may_bring(self) -> None:
        who = caller()
        if who.organization != self._organization or not MAY_BRING & set(who.roles):
            raise Refused(
                "A1",
                "this node stores blobs of its own organization only",
                found=f"{who.organization} as {', '.join(who.roles)}",
                expected=f"{self._organization} as {', '.join(sorted(MAY_BRING))}",
                remedy="bring it to your own organization's node; others fetch it from there",
            )
