"""What many callers submit at once travels together: entries in few calls, operations in few
entries.

Nothing waits for company: while few calls or entries are under way, the next one leaves at once.
What comes meanwhile leaves together as soon as one of them is answered, or when it fills a call: a
block of few entries costs the nodes nearly as much as one of many.

- An entry's bytes are never changed here; one call carries many of them, and each has an outcome of
  its own.
- The operations of one caller stay together, in order: all of them hold, or none (rule A2). When an
  entry that several callers share is refused, each of them gets an entry of its own, so that
  nobody is refused for another's operations.

Left to others: the wire (transport.py), what operations mean.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any

from tilth.errors import InvalidInput, Refused, TilthError
from tilth.transport import Receipt, Transport

CALLS = 8  # under way at once: some are decided while others are answered or on their way
QUICK_CALLS = 2  # of them leave as they are; further ones when they carry all that calls share
CALL_ENTRIES = 256
CALL_BYTES = 1 << 20
SHARED_ENTRIES = 64  # that go by one call though others are free: smaller ones cost more each
SHARED_BYTES = 64 << 10  # likewise
ENTRIES = 32  # under way at once before operations begin to share one
ENTRY_OPERATIONS = 50
ENTRY_CALLERS_BYTES = 40_000  # of operations that share an entry; one caller's may be larger

Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A signed entry that one caller waits for."""

    leaf: bytes
    answer: "Future[Receipt]" = field(default_factory=Future)


class Submitter:
    """Sends entries to one node. Safe for use from many threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: deque[_Entry] = deque()
        self._calls = 0
        self._lock = Lock()

    def submit(self, leaf: bytes) -> "Future[Receipt]":
        """Begins; the future has the receipt, or the error that `Transport.submit` raises."""
        entry = _Entry(leaf)
        with self._lock:
            self._waiting.append(entry)
        self._go_on()
        return entry.answer

    def _go_on(self) -> None:
        while entries := self._next():
            call = self._transport.submit_soon([entry.leaf for entry in entries])
            call.add_done_callback(partial(self._answered, entries))

    def _next(self) -> list[_Entry]:
        """What the next call carries; nothing while enough calls are under way."""
        with self._lock:
            if not self._waiting or self._calls >= CALLS:
                return []
            if self._calls >= QUICK_CALLS and not self._is_full():
                return []
            self._calls += 1
            # What travels together is answered together and comes back together, and the nodes have
            # little to do in between: so no call takes more than its share.
            share = -(-len(self._waiting) // CALLS)
            entries: list[_Entry] = []
            size = 0
            while self._waiting and len(entries) < CALL_ENTRIES:
                size += len(self._waiting[0].leaf)
                small = len(entries) < SHARED_ENTRIES and size <= SHARED_BYTES
                if entries and (size > CALL_BYTES or not (small or len(entries) < share)):
                    break
                entries.append(self._waiting.popleft())
            return entries

    def _is_full(self) -> bool:
        """Whether what waits is as much as entries share a call for."""
        some = islice(self._waiting, SHARED_ENTRIES)
        return len(self._waiting) >= SHARED_ENTRIES or (
            sum(len(entry.leaf) for entry in some) >= SHARED_BYTES
        )

    def _answered(
        self, entries: Sequence[_Entry], call: "Future[list[Receipt | TilthError]]"
    ) -> None:
        error = call.exception()
        outcomes = call.result() if error is None else [error] * len(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                entry.answer.set_result(outcome)
            else:
                entry.answer.set_exception(outcome)
        # What the callers began when they heard of it leaves together.
        with self._lock:
            self._calls -= 1
        self._go_on()


@dataclass(frozen=True, slots=True)
class _Wish:
    """The operations of one caller."""

    operations: tuple[Operation, ...]
    size: int
    answer: "Future[Receipt]"


class Recorder:
    """Makes entries of operations. Safe for use from many threads."""

    def __init__(
        self,
        submitter: Submitter,
        sign: Callable[[Sequence[Operation]], bytes],
        answer: "Callable[[], Future[Receipt]]" = Future,
    ) -> None:
        self._submitter = submitter
        self._sign = sign
        self._new_answer = answer
        self._waiting: deque[_Wish] = deque()
        self._entries = 0
        self._lock = Lock()

    def record(self, operations: tuple[Operation, ...]) -> "Future[Receipt]":
        """Begins; the future has the receipt of the entry that holds these operations."""
        # JSON is never shorter: an estimate that only decides who shares an entry.
        wish = _Wish(operations, len(repr(operations)), self._new_answer())
        with self._lock:
            self._waiting.append(wish)
        self._go_on()
        return wish.answer

    def _go_on(self) -> None:
        while wishes := self._next():
            self._begin(wishes)

    def _next(self) -> list[_Wish]:
        """Who shares the next entry; nobody while enough entries are under way."""
        with self._lock:
            if not self._waiting or self._entries >= ENTRIES:
                return []
            self._entries += 1
            wishes = [self._waiting.popleft()]
            operations, left = len(wishes[0].operations), ENTRY_CALLERS_BYTES - wishes[0].size
            while self._waiting:
                operations += len(self._waiting[0].operations)
                left -= self._waiting[0].size
                if operations > ENTRY_OPERATIONS or left < 0:
                    break
                wishes.append(self._waiting.popleft())
            return wishes

    def _begin(self, wishes: Sequence[_Wish]) -> None:
        try:
            leaf = self._sign([each for wish in wishes for each in wish.operations])
        except TilthError as error:
            self._fail(wishes, error)
            return
        entry = self._submitter.submit(leaf)
        entry.add_done_callback(partial(self._answered, wishes))

    def _answered(self, wishes: Sequence[_Wish], entry: "Future[Receipt]") -> None:
        error = entry.exception()
        if isinstance(error, TilthError):
            self._fail(wishes, error)
            return
        for wish in wishes:
            wish.answer.set_result(entry.result())
        with self._lock:
            self._entries -= 1
        self._go_on()

    def _fail(self, wishes: Sequence[_Wish], error: TilthError) -> None:
        apart = len(wishes) > 1 and isinstance(error, (InvalidInput, Refused))
        with self._lock:
            self._entries += len(wishes) - 1 if apart else -1
        if apart:
            for wish in wishes:
                self._begin([wish])
            return
        for wish in wishes:
            wish.answer.set_exception(error)
        self._go_on()
