"""Asking witnesses outside the consortium to cosign heads (c2sp.org/tlog-witness).

Members cosign that they never signed another history; if k of them lie together, only somebody
outside can tell. An operator names such witnesses, and this node tells each of them the newest head
that k members cosigned, and the newest that k signed with ML-DSA-44.

- A line is verified before it is stored, and stored before it is shown. A witness that is down,
  slow or lies delays nothing: each has a task of its own, and no proof waits for it.
- At most one exchange in `every_seconds` with each, and none without a new head; after a failure
  the next is later each time, up to an hour (a witness may ask for more patience, up to that).
- A refusal that patience does not cure, or a claim of another history, is an alarm at once; a
  witness that is away, after `PATIENCE` failures. A line ends the alarm.

Leaves to others: bytes (tilth_ledger.witnessing), HTTP (http.asking), publishing (cosigning).
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tilth_ledger import witnessing
from tilth_ledger.cosigning import OUTSIDE
from tilth_ledger.errors import InvalidInput, Unavailable
from tilth_ledger.merkle import consistency_proof
from tilth_ledger.notes import COSIGNATURE, MLDSA_COSIGNATURE
from tilth_node.cosigning import Cosigning
from tilth_node.http.asking import AskLimits, Reply, post
from tilth_node.logs import logger
from tilth_node.storage.cosignatures import Held
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.witness_address import WitnessAddress

LONGEST_WAIT_SECONDS = 3600.0
PATIENCE = 5  # failures of one that is away before it is an alarm
OK, CONFLICT = 200, 409

# Refusals that the operator must look at, and how.
REMEDIES = {
    400: "look at its software and at this node's: they disagree on the form of requests",
    403: "hand its operator the log keys of GET /policy: it trusts other ones",
    404: "have its operator add this log: the origin and the log keys of GET /policy",
    CONFLICT: "compare the checkpoints: it holds another tree of that size, or it lies",
    422: "compare the checkpoints: it holds another history, or it lies",
}
LIES = "ask its operator: it answers what no witness may"


class _Failed(Exception):
    """An exchange that brought no line; with a remedy, patience will not cure it."""

    def __init__(self, found: object, remedy: str = "", after: int = 0) -> None:
        super().__init__(str(found))
        self.remedy, self.after = remedy, after


@dataclass(slots=True)
class _Asked:
    """One witness, and how it stands."""

    address: WitnessAddress
    old: int = 0  # the size that it cosigned last, as far as is known here
    failures: int = 0  # in a row

    @property
    def name(self) -> str:
        return self.address.keys[0].name

    def signed(self, held: Held) -> bool:
        """Whether a line of it on this head is stored."""
        keys = self.address.keys
        return any((str(key), key.type | OUTSIDE) in held.signatures for key in keys)


class Witnesses:
    """All witnesses of one node."""

    def __init__(
        self,
        addresses: Sequence[WitnessAddress],
        cosigning: Cosigning,
        ledger: LedgerStore,
        every_seconds: float,
        authority: str = "",
        first_wait_seconds: float = 10.0,
        limits: AskLimits | None = None,
    ) -> None:
        self.on_alarm: Callable[[str, str], None] = lambda kind, words: None
        self._asked = [_Asked(address) for address in addresses]
        self._cosigning = cosigning
        self._ledger = ledger
        self._every_seconds = every_seconds
        self._first_wait_seconds = first_wait_seconds
        self._limits = limits or AskLimits()
        self._tls = _trusting(authority)
        self._log = logger("witnesses")

    async def run(self) -> None:
        """Ask until cancelled; an error that must stop the process is raised."""
        if not self._asked:
            await asyncio.Event().wait()
        await asyncio.gather(*(self._follow(asked) for asked in self._asked))

    async def _follow(self, asked: _Asked) -> None:
        known = (
            held.head.size for held in self._cosigning.store.newest_first() if asked.signed(held)
        )
        asked.old = max(known, default=0)
        while True:
            due = self._due(asked)
            if due is None:
                await self._cosigning.grown()
                continue
            try:
                await self._ask(asked, due)
            except _Failed as failed:
                await _pass(self._note(asked, failed))
            else:
                if asked.failures:
                    self.on_alarm(f"witness {asked.name}", "")
                asked.failures = 0
                await _pass(self._every_seconds)

    def _due(self, asked: _Asked) -> Held | None:
        """The head to tell it next: none that is smaller than what it cosigned."""
        heads = [
            self._cosigning.newest_complete(kind=kind) for kind in (MLDSA_COSIGNATURE, COSIGNATURE)
        ]
        fitting = [
            held
            for held in heads
            if held is not None and held.head.size >= asked.old and not asked.signed(held)
        ]
        return min(fitting, key=lambda held: held.head.size, default=None)

    def _note(self, asked: _Asked, failed: _Failed) -> float:
        """Tell of a failure; how long to wait before the next try, in seconds."""
        wait = min(LONGEST_WAIT_SECONDS, self._first_wait_seconds * 2.0 ** min(asked.failures, 20))
        asked.failures += 1
        self._log.warning(
            "no witness", witness=asked.name, found=str(failed), failures=asked.failures
        )
        if failed.remedy or asked.failures >= PATIENCE:
            remedy = failed.remedy or "look at its address and at the network"
            words = f"the witness {asked.name} gives no line: {failed}; {remedy}"
            self.on_alarm(f"witness {asked.name}", words)
        return max(wait, min(LONGEST_WAIT_SECONDS, failed.after))

    # -- one exchange

    async def _ask(self, asked: _Asked, held: Held) -> None:
        """Get its line on a head and store it. Raises `_Failed`."""
        checkpoint = self._cosigning.publisher.checkpoint(held)
        reply = await self._tell(asked, held, checkpoint)
        if reply.status == CONFLICT and (size := _stated_size(reply)) != asked.old:
            if size > self._ledger.size:
                found = f"it cosigned size {size}, and this ledger has {self._ledger.size} entries"
                raise _Failed(found)
            asked.old = size
            if size > held.head.size:
                return  # another node told it of a newer head: so will this one
            reply = await self._tell(asked, held, checkpoint)
        if reply.status != OK:
            found = f"status {reply.status} on the head of size {held.head.size}"
            raise _Failed(found, REMEDIES.get(reply.status, ""), reply.retry_after)
        try:
            lines = witnessing.read_lines(reply.body, checkpoint, asked.address.keys)
        except InvalidInput as error:
            raise _Failed(error, LIES) from error
        self._cosigning.add_outside(held.head, lines)
        # A crash before this loses a line that the witness gives again; its record needs no proof.
        asked.old = held.head.size

    async def _tell(self, asked: _Asked, held: Held, checkpoint: bytes) -> Reply:
        try:
            proof = consistency_proof(asked.old, held.head.size, self._ledger.node)
            body = witnessing.request(asked.old, proof, checkpoint)
            return await post(asked.address.url, body, self._tls, self._limits)
        except Unavailable as error:  # it does not answer, or the past is not here yet
            raise _Failed(error) from error


def _trusting(authority: str) -> ssl.SSLContext:
    """What verifies certificates: by the authorities in a file, or the system's."""
    try:
        return ssl.create_default_context(cafile=authority or None)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidInput(
            "the TLS authorities of witnesses cannot be read",
            found=f"{authority}: {error.strerror or error}",
            expected="a file of certificates (PEM)",
            remedy="correct [witness] authority in node.toml",
        ) from error


def _stated_size(reply: Reply) -> int:
    try:
        return witnessing.read_size(reply.body)
    except InvalidInput as error:
        raise _Failed(error, LIES) from error


async def _pass(seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
