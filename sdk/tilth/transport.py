"""The wire to one node: the SDK's only file that knows gRPC.

- TLS 1.3 or nothing that the organization's own authority did not sign: no system certificates.
- Every call carries a token, signed by the profile's key, that binds node, method, request and a
  short expiry (tilth_ledger.token).
- Every call has a deadline, except streams that wait for news. Calls that change nothing, and
  `submit`, whose bytes are their own identity (rule A2), are repeated when the node is away.
- A failed call raises a TilthError with the node's own words; no gRPC error leaves this file.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import grpc

from tilth.banner import warn
from tilth.errors import InvalidInput, Refused, TilthError, Unknown, Unreachable
from tilth.waiting import Patience
from tilth_ledger.errors import Unavailable, from_dict
from tilth_ledger.keys import SigningKey
from tilth_ledger.token import METADATA, Asked, write_token
from tilth_protos import ledger_pb2 as ledger
from tilth_protos import tasks_pb2 as tasks

READ_SECONDS = 20.0
SUBMIT_SECONDS = 20.0
SUBMIT_TRIES = 3
STATUS_SECONDS = 5.0  # of one that explains a wait: it is asked beside that
TOKEN_MS = 60_000
ERROR_METADATA = "tilth-error-bin"
CHUNK_BYTES = 1 << 20
SLOWEST_BYTES_A_SECOND = 256 << 10
# Read the reason beside the number: attempts within one deadline, only when the node is away.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "tilth.v1.Ledger"}, {"service": "tilth.v1.Blobs"}],
            "retryPolicy": {
                "maxAttempts": 5,  # over about three seconds: a node restarts in one
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
OPTIONS = (
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(RETRIES)),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),  # notices a node that is gone while a stream waits
    ("grpc.keepalive_timeout_ms", 10_000),
)
STATUS_FIELDS = (
    *("net", "name", "organization", "version", "instance", "alarm", "voting"),
    *("epoch", "view", "height", "size", "time_ms", "quorum", "certification", "pending"),
    *("evidence_count", "halted", "missing", "joined_rows"),
)
SCRUB_FIELDS = ("all_ms", "rows_ms", "found", "left", "runs", "percent")


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows as they become final: (key, value), None for a row that is gone."""

    size: int
    rows: tuple[tuple[str, dict[str, Any] | None], ...]
    live: bool  # all is told up to `size`
    reset: bool = False  # all rows come anew: the node no longer knows what changed meanwhile


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read was of: so many entries were final, and this was the tree's root (hex)."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A sample that the node has taken in; the ledger may learn exactly this."""

    key: str
    commitment: str
    tag: str
    name: str
    known: bool


@dataclass(frozen=True, slots=True)
class ImportStep:
    """How far an import is; the last step holds the samples."""

    done: int
    total: int
    samples: tuple[Imported, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an entry stands."""

    id: str
    index: int
    size: int


class Transport:
    """A connection to one node, opened by its first call."""

    def __init__(
        self, address: str, organization: str, net: str, key: SigningKey, authority: bytes
    ) -> None:
        self.address = address
        self.seen: Seen | None = None  # the checkpoint that the last read was of
        self.patience = Patience(self._standing)
        self._organization = organization
        self._net = net
        self._key = key
        options = [*OPTIONS, ("grpc.ssl_target_name_override", f"{organization}.tilth")]
        credentials = grpc.ssl_channel_credentials(root_certificates=authority)
        self._channel = grpc.secure_channel(address, credentials, options=options)

    def close(self) -> None:
        self._channel.close()

    def _standing(self) -> dict[str, Any]:
        """The status, and whether the node's own organization has a vote."""
        status = self.status(STATUS_SECONDS)
        request = ledger.GetRowRequest(key=f"organization/{status['organization']}")
        row = self._ask("Ledger/GetRow", request, ledger.GetRowResponse, seconds=STATUS_SECONDS)
        return status | {"votes": row.found and bool(json.loads(row.value).get("votes"))}

    def status(self, seconds: float = READ_SECONDS) -> dict[str, Any]:
        """What the node says about itself; `seconds` is how long to wait for it."""
        answer = self._ask(
            "Ledger/Status", ledger.StatusRequest(), ledger.StatusResponse, seconds=seconds
        )
        facts = {name: getattr(answer, name) for name in STATUS_FIELDS}
        facts |= {"root": answer.root.hex(), "digest": answer.digest.hex()}
        peer = ("organization", "member", "connected", "dialled", "address", "size")
        facts["peers"] = [{name: getattr(each, name) for name in peer} for each in answer.peers]
        pair = ("organization", "epoch", "view", "pair", "index")
        fault = ("organization", "reason", "count")
        facts["faults"] = [{name: getattr(each, name) for name in fault} for each in answer.faults]
        facts["scrub"] = {name: getattr(answer.scrub, name) for name in SCRUB_FIELDS}
        facts["evidence"] = [
            {name: getattr(each, name) for name in pair} for each in answer.evidence
        ]
        return facts

    def submit(self, leaf: bytes) -> Receipt:
        """Waits until the entry is final. Raises Refused or InvalidInput as the node says, and
        Unknown when it did not answer although the same bytes were sent again."""
        request = ledger.SubmitRequest(leaves=[leaf])
        for attempt in range(1, SUBMIT_TRIES + 1):
            try:
                answer = self._ask(
                    "Ledger/Submit", request, ledger.SubmitResponse, seconds=SUBMIT_SECONDS
                )
                break
            except Unknown:
                if attempt == SUBMIT_TRIES:
                    raise
        outcome = _outcome(answer.outcomes[0])
        if isinstance(outcome, TilthError):
            raise outcome
        return outcome

    def submit_soon(self, leaves: Sequence[bytes]) -> "Future[list[Receipt | TilthError]]":
        """As `submit`, for up to 256 entries in one call, without waiting: the future has one
        outcome for each, in their order, or the error that befell them all."""
        request = ledger.SubmitRequest(leaves=leaves)
        answer: Future[list[Receipt | TilthError]] = Future()
        self._try_submit(request.SerializeToString(), answer, SUBMIT_TRIES)
        return answer

    def _try_submit(
        self, body: bytes, answer: "Future[list[Receipt | TilthError]]", tries: int
    ) -> None:
        def take(call: Any) -> None:
            try:
                outcomes = self._run(call.result).outcomes
            except Unknown as error:
                if tries > 1:
                    self._try_submit(body, answer, tries - 1)
                else:
                    answer.set_exception(error)
            except TilthError as error:
                answer.set_exception(error)
            else:
                answer.set_result([_outcome(each) for each in outcomes])

        call = self._unary("Ledger/Submit", ledger.SubmitResponse)
        metadata = self._metadata("Ledger/Submit", body)
        call.future(body, timeout=SUBMIT_SECONDS, metadata=metadata).add_done_callback(take)

    def check(self, operations: bytes) -> list[TilthError]:
        """What the rules would say now; empty when nothing stands against it."""
        request = ledger.CheckRequest(operations=operations)
        answer = self._ask("Ledger/Check", request, ledger.CheckResponse)
        return [_refusal(each) for each in answer.refusals]

    def get_row(
        self, key: str, at_least: int = 0, *, linearizable: bool = False
    ) -> dict[str, Any] | None:
        request = ledger.GetRowRequest(key=key, at_least=at_least, read=_read(linearizable))
        ask = self._ask_members if linearizable else self._ask
        answer = ask("Ledger/GetRow", request, ledger.GetRowResponse)
        self.seen = Seen(answer.size, answer.root.hex())
        return json.loads(answer.value) if answer.found else None

    def scan_rows(
        self, prefix: str, after: str, limit: int, at_least: int = 0, *, linearizable: bool = False
    ) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
        """One page of rows in the order of their keys, and whether there are more."""
        request = ledger.ScanRowsRequest(
            prefix=prefix,
            after=after,
            limit=limit,
            at_least=at_least,
            read=_read(linearizable),
        )
        ask = self._ask_members if linearizable else self._ask
        answer = ask("Ledger/ScanRows", request, ledger.ScanRowsResponse)
        self.seen = Seen(answer.size, answer.root.hex())
        return [(each.key, json.loads(each.value)) for each in answer.rows], answer.more

    def barrier(self) -> int:
        """Waits for a block made after this call; the size from which reads of this node are no
        older than anything that was final anywhere before."""
        answer = self._ask_members(
            "Ledger/Barrier", ledger.BarrierRequest(), ledger.BarrierResponse
        )
        self.seen = Seen(answer.size, answer.root.hex())
        return int(answer.size)

    def watch(self, prefixes: Sequence[str], since: int | None = None) -> Iterator[Changes]:
        """First the rows as they are, or with a size those that changed after it; then what
        changes. When the node goes away this waits until it is back, and goes on where it was."""
        while True:
            news = False
            request = ledger.WatchRowsRequest(
                prefixes=prefixes, resume=since is not None, since=since or 0
            )
            try:
                for changes in self._watch(request):
                    news = True
                    since = changes.size if changes.live else since
                    yield changes
                return
            except (Unreachable, Unavailable):
                if not news:  # not even once: waiting would hide what is wrong
                    raise
            # gRPC tries again by itself; a token is written when there is somebody to read it.
            grpc.channel_ready_future(self._channel).result()

    def _watch(self, request: ledger.WatchRowsRequest) -> Iterator[Changes]:
        for each in self._stream("Ledger/WatchRows", request, ledger.RowChanges):
            rows = tuple(
                (row.key, None if row.deleted else json.loads(row.value)) for row in each.changes
            )
            yield Changes(each.size, rows, each.live, each.reset)

    def leaves(self, start: int, limit: int) -> list[bytes]:
        request = ledger.GetLeavesRequest(start=start, limit=limit)
        return list(self._ask("Ledger/GetLeaves", request, ledger.GetLeavesResponse).leaves)

    def prove(self, index: int, also: Sequence[int] = (), since: int = 0) -> bytes:
        """A proof bundle for the leaf at `index` and the leaves a reader needs beside it; `since`
        is the size of a ledger that the reader knows (0: none)."""
        request = ledger.ProveRequest(index=index, also=also, since=since)
        return bytes(self._ask("Ledger/Prove", request, ledger.ProveResponse).bundle)

    def put_blob(self, digest: str, content: bytes) -> None:
        """Gives the node a blob; it keeps it only if the digest is right."""
        places = range(0, len(content), CHUNK_BYTES)
        pieces = (content[place : place + CHUNK_BYTES] for place in places)
        self._put(digest, len(content), pieces)

    def put_file(self, digest: str, path: Path) -> None:
        """The same with a file, which is never held in memory."""
        with path.open("rb") as file:
            self._put(digest, path.stat().st_size, iter(lambda: file.read(CHUNK_BYTES), b""))

    def _put(self, digest: str, size: int, pieces: Iterable[bytes]) -> None:
        call = self._channel.stream_unary(
            "/tilth.v1.Blobs/Put",
            request_serializer=bytes,
            response_deserializer=tasks.PutBlobResponse.FromString,
        )
        head = tasks.PutBlobRequest(head=tasks.BlobHead(digest=digest, size=size))
        first = head.SerializeToString()
        parts = (tasks.PutBlobRequest(data=piece).SerializeToString() for piece in pieces)
        metadata = self._metadata("Blobs/Put", first)
        seconds = READ_SECONDS * 6 + size / SLOWEST_BYTES_A_SECOND
        self._run(lambda: call(chain([first], parts), timeout=seconds, metadata=metadata))

    def get_blob(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on; the caller checks the digest."""
        request = tasks.GetBlobRequest(digest=digest, offset=offset)
        for part in self._stream("Blobs/Get", request, tasks.GetBlobResponse):
            yield part.data

    def import_data(
        self, dataset: str, label: str, path: str, *, in_place: bool
    ) -> Iterator[ImportStep]:
        """Lets the node take in the samples under a path of its own: progress, then the samples."""
        request = tasks.ImportRequest(dataset=dataset, label=label, path=path, in_place=in_place)
        for step in self._stream("Data/Import", request, tasks.ImportResponse):
            if step.WhichOneof("step") == "progress":
                yield ImportStep(step.progress.samples, step.progress.samples_total)
            else:
                samples = tuple(
                    Imported(e.key, e.commitment, e.tag, e.name, e.known)
                    for e in step.samples.samples
                )
                yield ImportStep(len(samples), len(samples), samples)

    def _ask(
        self, method: str, request: Any, answer: type[Any], *, seconds: float = READ_SECONDS
    ) -> Any:
        body = request.SerializeToString()
        call = self._unary(method, answer)
        metadata = self._metadata(method, body)
        found, about = self._run(lambda: call.with_call(body, timeout=seconds, metadata=metadata))
        warn(about.initial_metadata())
        return found

    def _ask_members(self, method: str, request: Any, answer: type[Any]) -> Any:
        """As `_ask`, for what the node answers when q members were there; says what it waits
        for."""
        body, ended = request.SerializeToString(), Event()
        metadata = self._metadata(method, body)
        call = self._unary(method, answer).future(body, timeout=READ_SECONDS, metadata=metadata)
        call.add_done_callback(lambda _: ended.set())
        try:
            self.patience.attend(ended.wait)
            found = self._run(call.result)
        except Unknown as error:
            raise self.patience.explained(error) from None
        finally:
            call.cancel()  # nobody waits any more; of one that ended nothing changes
        warn(call.initial_metadata())
        return found

    def _unary(self, method: str, answer: type[Any]) -> Any:
        return self._channel.unary_unary(
            f"/tilth.v1.{method}",
            request_serializer=bytes,
            response_deserializer=answer.FromString,
        )

    def _stream(self, method: str, request: Any, answer: type[Any]) -> Iterable[Any]:
        body = request.SerializeToString()
        call = self._channel.unary_stream(
            f"/tilth.v1.{method}",
            request_serializer=bytes,
            response_deserializer=answer.FromString,
        )
        stream = call(body, metadata=self._metadata(method, body))
        try:
            while True:
                try:
                    part = self._run(lambda: next(stream))
                except StopIteration:
                    return
                yield part
        finally:
            stream.cancel()

    def _metadata(self, method: str, body: bytes) -> tuple[tuple[str, str], ...]:
        asked = Asked(self._net, self._organization, f"/tilth.v1.{method}")
        expires = time.time_ns() // 1_000_000 + TOKEN_MS
        return ((METADATA, write_token(self._key, asked, body, expires)),)

    def _run(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            raise self._translate(error) from None

    def _translate(self, error: Any) -> TilthError:
        for name, value in error.trailing_metadata() or ():
            if name == ERROR_METADATA:
                return from_dict(json.loads(value))
        code, words = error.code(), error.details() or ""
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return Unreachable(
                "the node does not answer",
                found=words,
                expected=f"the node of {self._organization} at {self.address}",
                remedy="Is it running (tilth node run FOLDER), and is the profile's address right "
                "(tilth profile list)?",
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unknown(
                "the node did not answer in time; what was asked may have been done",
                found=f"no answer from {self.address}",
                expected="an answer within the deadline",
                remedy="Ask again: the same bytes get the same answer. tilth status tells whether "
                "enough members are there to decide.",
            )
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in words:
            return InvalidInput(
                "the node takes no request as large as this",
                found=words,
                remedy="Send it in parts: an entry holds 65,535 bytes, files go as blobs.",
            )
        return TilthError("the call failed", found=f"{code.name}: {words}")


def _outcome(outcome: ledger.Outcome) -> Receipt | TilthError:
    if outcome.WhichOneof("outcome") == "refusal":
        return _refusal(outcome.refusal)
    return Receipt(outcome.id, outcome.receipt.index, outcome.receipt.size)


def _read(linearizable: bool) -> ledger.Read.ValueType:
    return ledger.LINEARIZABLE if linearizable else ledger.LOCAL


def _refusal(refusal: ledger.Refusal) -> TilthError:
    facts = {
        "found": refusal.found,
        "expected": refusal.expected,
        "remedy": refusal.remedy,
    }
    if refusal.rule:
        return Refused(refusal.rule, refusal.message, **facts)
    return InvalidInput(refusal.message, **facts)
