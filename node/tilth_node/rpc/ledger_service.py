"""The service that clients see of the ledger (protos/ledger.proto), on top of a node's parts.

- Reads show the final ledger only, and say how long it was.
- A refusal of an entry is an answer, with its rule and words; a request that makes no sense is an
  error.
- Lists are bounded: `more` or the size tells the reader to go on.

Leaves to others: who calls (interceptors), what may stand on the ledger (execution).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.leaf import Leaf
from tilth_node.feed import Feed
from tilth_node.replication import Replication
from tilth_node.rpc.interceptors import Caller, Context, caller
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.submissions import Receipt
from tilth_protos import ledger_pb2 as pb
from tilth_protos import ledger_pb2_grpc as pb_grpc

MAX_ROWS = 1_000
MAX_LEAVES = 1_000
MAX_SUBMITTED = 256
MAX_BYTES = 2 << 20  # of rows or leaves in one answer
MAX_KEY = 1_000
MAX_PREFIXES = 64  # of one watch: each is a scan of its own

Check = Callable[[Caller, list[dict[str, object]]], list[TilthError]]
Prove = Callable[[int, tuple[int, ...], int | None], Awaitable[bytes]]
Status = Callable[[], pb.StatusResponse]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of the node's other parts that the service hands on."""

    status: Status
    check: Check
    prove: Prove
    take_turn: Callable[[str], None]  # at a linearizable read, of an identity


class LedgerService(pb_grpc.LedgerServicer):
    """See the comments of the service in protos/ledger.proto."""

    def __init__(
        self, replication: Replication, store: LedgerStore, feed: Feed, answers: Answers
    ) -> None:
        self._replication = replication
        self._store = store
        self._feed = feed
        self._answers = answers

    async def Status(  # noqa: N802
        self, request: pb.StatusRequest, context: Context
    ) -> pb.StatusResponse:
        return self._answers.status()

    async def Submit(  # noqa: N802
        self, request: pb.SubmitRequest, context: Context
    ) -> pb.SubmitResponse:
        if not 1 <= len(request.leaves) <= MAX_SUBMITTED:
            raise InvalidInput(
                "a submission holds too few or too many entries",
                found=len(request.leaves),
                expected=f"1 to {MAX_SUBMITTED}",
                remedy="Send them in several submissions.",
            )
        leaves = list(request.leaves)
        outcomes = await self._replication.submit_all(leaves)
        return pb.SubmitResponse(outcomes=map(_outcome, leaves, outcomes))

    async def Check(  # noqa: N802
        self, request: pb.CheckRequest, context: Context
    ) -> pb.CheckResponse:
        operations = canonical.loads(request.operations, max_bytes=MAX_BYTES)
        if not isinstance(operations, list) or not all(isinstance(op, dict) for op in operations):
            raise InvalidInput(
                "operations are no list of objects",
                remedy="Send a JSON list of operations, as ledger/README.md describes them.",
            )
        problems = self._answers.check(caller(), operations)
        return pb.CheckResponse(
            refusals=[_refusal(problem) for problem in problems], size=self._store.size
        )

    async def GetRow(  # noqa: N802
        self, request: pb.GetRowRequest, context: Context
    ) -> pb.GetRowResponse:
        _check_key(request.key)
        await self._wait(request)
        value = self._store.rows.get_bytes(request.key)
        return pb.GetRowResponse(
            found=value is not None,
            value=value or b"",
            size=self._store.size,
            root=self._replication.root,
        )

    async def ScanRows(  # noqa: N802
        self, request: pb.ScanRowsRequest, context: Context
    ) -> pb.ScanRowsResponse:
        _check_key(request.prefix)
        _check_key(request.after)
        await self._wait(request)
        limit = min(request.limit or MAX_ROWS, MAX_ROWS)
        answer = pb.ScanRowsResponse(size=self._store.size, root=self._replication.root)
        size = 0
        for key, value in self._store.rows.scan_bytes(request.prefix, request.after, limit + 1):
            if len(answer.rows) == limit or size > MAX_BYTES:
                answer.more = True
                break
            answer.rows.add(key=key, value=value)
            size += len(value)
        return answer

    async def WatchRows(  # noqa: N802
        self, request: pb.WatchRowsRequest, context: Context
    ) -> AsyncIterator[pb.RowChanges]:
        if not request.prefixes:
            raise InvalidInput(
                "a watch names no prefix",
                expected='at least one; "" is all rows',
                remedy="Name what to watch, such as task/ORGANIZATION/.",
            )
        if len(request.prefixes) > MAX_PREFIXES:
            raise InvalidInput(
                "a watch names too many prefixes",
                found=len(request.prefixes),
                expected=f"at most {MAX_PREFIXES}",
                remedy="Watch a shorter prefix that covers them.",
            )
        for prefix in request.prefixes:
            _check_key(prefix)
        since = request.since if request.resume else None
        news = self._feed.subscribe(
            request.prefixes, snapshot=not request.skip_snapshot, since=since
        )
        async for changes in news:
            rows = [
                pb.RowChange(key=key, value=value or b"", deleted=value is None)
                for key, value in changes.rows.items()
            ]
            yield pb.RowChanges(
                size=changes.size, changes=rows, live=changes.live, reset=changes.reset
            )

    async def GetLeaves(  # noqa: N802
        self, request: pb.GetLeavesRequest, context: Context
    ) -> pb.GetLeavesResponse:
        answer = pb.GetLeavesResponse(size=self._store.size)
        size = 0
        for leaf in self._store.leaves(request.start, min(request.limit or MAX_LEAVES, MAX_LEAVES)):
            size += len(leaf)
            if size > MAX_BYTES and answer.leaves:
                break
            answer.leaves.append(leaf)
        return answer

    async def Prove(  # noqa: N802
        self, request: pb.ProveRequest, context: Context
    ) -> pb.ProveResponse:
        also = tuple(request.also)
        return pb.ProveResponse(
            bundle=await self._answers.prove(request.index, also, request.since or None)
        )

    async def Barrier(  # noqa: N802
        self, request: pb.BarrierRequest, context: Context
    ) -> pb.BarrierResponse:
        self._answers.take_turn(caller().key_id)
        size = await self._replication.barrier()
        return pb.BarrierResponse(size=size, root=self._replication.root)

    async def _wait(self, request: pb.GetRowRequest | pb.ScanRowsRequest) -> None:
        """Until the read that was named may be answered from this node's final ledger."""
        if request.read == pb.LINEARIZABLE:
            self._answers.take_turn(caller().key_id)
            await self._replication.barrier()
        await self._feed.at_least(request.at_least)


def _outcome(leaf: bytes, outcome: Receipt | TilthError) -> pb.Outcome:
    if isinstance(outcome, Receipt):
        receipt = pb.Receipt(index=outcome.index, size=outcome.size)
        return pb.Outcome(id=outcome.id, receipt=receipt)
    if not isinstance(outcome, (InvalidInput, Refused)):
        raise outcome  # this node cannot answer now: no refusal of this entry
    return pb.Outcome(id=_id(leaf), refusal=_refusal(outcome))


def _id(leaf: bytes) -> str:
    """The id of a leaf; of bytes that are none, nothing."""
    try:
        return Leaf.decode(leaf).id
    except InvalidInput:
        return ""


def _check_key(key: str) -> None:
    if len(key) > MAX_KEY:
        raise InvalidInput(
            "a row's key is too long",
            found=len(key),
            expected=MAX_KEY,
            remedy="Shorten it; keys look like plan/ORGANIZATION/32 hexadecimal digits.",
        )


def _refusal(error: TilthError) -> pb.Refusal:
    return pb.Refusal(
        rule=error.rule if isinstance(error, Refused) else "",
        message=error.message,
        found=error.found,
        expected=error.expected,
        remedy=error.remedy,
    )
