"""Clients that call nodes at random, each at one node, and write down what they were told.

    crowd = Crowd(network, clients=[0, 1, 2, 2], seed=7)   # the node of each client
    with crowd:
        crowd.wait([0, 1], acknowledged=3)                 # by these nodes, from now on
    crowd.check()                                          # all that may be said of the history

A client asks one thing at a time: it submits, or reads a row locally, at least at the size that
anybody was told, or linearizably. A submission without an answer may have happened: the ledger
tells in the end. A read without an answer says nothing.
"""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from types import TracebackType

from linearizable import Call, Kind, faults
from network import Network, new_identity

from tilth.errors import Unknown, Unreachable
from tilth.transport import Transport
from tilth_ledger.errors import InvalidInput, Refused, TilthError, Unavailable
from tilth_protos import ledger_pb2

PATIENCE_SECONDS = 600
NOBODY = -1  # the client of entries that stood before the crowd came
WEIGHTS = {Kind.SUBMIT: 5, Kind.LOCAL: 2, Kind.AT_LEAST: 2, Kind.LINEARIZABLE: 2}


@dataclass
class Entry:
    """What one submission wants to add."""

    data: bytes
    row: str
    index: int | None = None  # once known


@dataclass
class Heard:
    """A call, and which entry it was about: submitted, or looked for and seen or not."""

    call: Call
    entry: Entry | None
    saw: bool = False


@dataclass
class Crowd:
    """All clients of one run."""

    network: Network
    clients: Sequence[int]
    seed: int = 0
    heard: list[Heard] = field(default_factory=list)
    _entries: list[Entry] = field(default_factory=list)
    _transports: dict[int, Transport] = field(default_factory=dict)
    _known: int = 0  # the largest size that anybody was told
    _wrong: list[BaseException] = field(default_factory=list)
    _acknowledged: Counter[int] = field(default_factory=Counter)
    _ending: bool = False

    def __enter__(self) -> "Crowd":
        self._told = Condition()
        self._begun = time.monotonic_ns()
        self._threads = [Thread(target=self._live, args=(i,)) for i in range(len(self.clients))]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        for thread in self._threads:
            thread.join()

    def wait(self, nodes: Sequence[int], acknowledged: int = 3, seconds: float = 0.0) -> None:
        """Until every client of these nodes has had so many more entries acknowledged, and at
        least so long."""
        least = time.monotonic() + seconds
        with self._told:
            goal = {
                client: self._acknowledged[client] + acknowledged
                for client, node in enumerate(self.clients)
                if node in nodes
            }
            reached = self._told.wait_for(
                lambda: (
                    self._wrong
                    or (
                        time.monotonic() >= least
                        and all(self._acknowledged[c] >= n for c, n in goal.items())
                    )
                ),
                PATIENCE_SECONDS,
            )
            if self._wrong:
                raise self._wrong[0]
            late = [self.clients[c] for c, n in goal.items() if self._acknowledged[c] < n]
            assert reached, f"in {PATIENCE_SECONDS} s nodes {late} acknowledged too little"

    # -- one client

    def _live(self, client: int) -> None:
        chance = random.Random(f"{self.seed}/{client}")
        try:
            while not self._ending:
                transport = self._transport(client)
                [kind] = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
                if kind is Kind.SUBMIT or not self._entries:
                    self._submit(client, transport)
                else:
                    self._read(client, transport, kind, chance.choice(self._entries[-50:]))
        except BaseException as error:
            with self._told:
                self._wrong.append(error)
                self._told.notify_all()
            raise

    def _transport(self, client: int) -> Transport:
        """A node that was started again listens somewhere else."""
        node = self.clients[client]
        held = self._transports.get(client)
        if held is None or held.address != self.network.client_address(node):
            held = self._transports[client] = self.network.transport(node)
        return held

    def _submit(self, client: int, transport: Transport) -> None:
        key, operation = new_identity()
        data = self.network.entry(self.clients[client], [operation])
        entry = Entry(data, f"identity/{key.key_id}")
        self._entries.append(entry)
        begun = time.monotonic_ns()
        try:
            receipt = transport.submit(data)
        except (Unknown, Unreachable, Unavailable):
            call = Call(client, Kind.SUBMIT, begun, None, None)
            self._note(Heard(call, entry), 0)
        else:
            entry.index = receipt.index
            call = Call(client, Kind.SUBMIT, begun, time.monotonic_ns(), receipt.index)
            self._note(Heard(call, entry), receipt.size)

    def _read(self, client: int, transport: Transport, kind: Kind, entry: Entry) -> None:
        asked = self._known if kind is Kind.AT_LEAST else 0
        begun = time.monotonic_ns()
        try:
            size, saw = read(transport, entry.row, asked, kind is Kind.LINEARIZABLE)
        except (InvalidInput, Refused):
            raise
        except TilthError:
            return
        call = Call(client, kind, begun, time.monotonic_ns(), size, asked)
        self._note(Heard(call, entry, saw), size)

    def _note(self, heard: Heard, size: int) -> None:
        with self._told:
            self.heard.append(heard)
            call = heard.call
            self._acknowledged[call.client] += call.kind is Kind.SUBMIT and call.ended is not None
            self._known = max(self._known, size)
            self._told.notify_all()

    # -- in the end

    def check(self) -> list[Call]:
        """After all, with all nodes there: what was acknowledged stands, each read saw exactly its
        prefix, and the history is that of one log; the history."""
        if self._wrong:
            raise self._wrong[0]
        client = self.network.transport(0)
        client.get_row("organization/hospital-a", at_least=self._known)
        leaves = all_leaves(client)
        index = {leaf: i for i, leaf in enumerate(leaves)}
        assert len(index) == len(leaves), "an entry stands twice"
        history = []
        for each in self.heard:
            entry, call = each.entry, each.call
            assert entry is not None
            if call.kind is Kind.SUBMIT:
                place = index.get(entry.data)
                assert call.value in (None, place), f"acknowledged at {call.value}, is at {place}"
                entry.index = place
                call = replace(call, value=place)
            history.append(call)
        for each in self.heard:
            if each.call.kind is not Kind.SUBMIT and each.entry is not None:
                stands = each.entry.index is not None and each.entry.index < (each.call.value or 0)
                assert each.saw == stands, f"{each.call}: entry {each.entry.index}, {each.saw}"
        own = {entry.data for entry in self._entries}
        # What others had submitted before: it stands below all that was said since.
        others = [i for leaf, i in index.items() if leaf not in own]
        history += [Call(NOBODY, Kind.SUBMIT, 0, self._begun, i) for i in others]
        found = faults(history)
        assert not found, "\n".join(found[:5])
        return history


def read(transport: Transport, row: str, at_least: int, linearizable: bool) -> tuple[int, bool]:
    """The size that a read of one row saw, and whether it saw the row."""
    kind = ledger_pb2.LINEARIZABLE if linearizable else ledger_pb2.LOCAL
    request = ledger_pb2.GetRowRequest(key=row, at_least=at_least, read=kind)
    answer = transport._ask("Ledger/GetRow", request, ledger_pb2.GetRowResponse)
    return answer.size, answer.found


def all_leaves(transport: Transport) -> list[bytes]:
    """The whole ledger of a node."""
    found: list[bytes] = []
    while more := transport.leaves(len(found), 1000):
        found += more
    return found
