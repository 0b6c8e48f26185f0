"""Are these answers those of one log? Two checkers that know nothing of each other.

A history is a list of calls, each with the times at which it was begun and answered:

- a submission answers with the index of its entry; without an answer it may have happened or not,
  at any time after it was begun;
- a read answers with a size: it has seen the entries below it, and no other.

What must hold. There is one order of all calls, in which a submission's index and a read's size are
the number of submissions before them, and in which X stands before Y whenever X was answered before
Y was begun, if Y is a submission or a linearizable read (whoever asked), or if both are of one
client (a client stays with its node). So: an entry acknowledged before another was begun has the
smaller index; a linearizable read covers whatever anybody had been told before; no read shows what
was submitted after it; what a client sees never shrinks; and a read of at least a size has it.

`faults` decides in O(m log m): an index i stands at 2i + 1, a size s at 2s, and no call may stand
below one that it follows. Indexes that nobody was told need submissions without an answer that
were begun early enough; by Hall's theorem counting them suffices. `explained` tries all orders, as
Wing and Gong do, and is for small histories; each has to say what the other says.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache


class Kind(Enum):
    """What was asked."""

    SUBMIT = "submit"
    LOCAL = "local read"
    AT_LEAST = "read of at least a size"
    LINEARIZABLE = "linearizable read"


STRONG = (Kind.SUBMIT, Kind.LINEARIZABLE)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one client; times in nanoseconds of one monotonic clock."""

    client: int
    kind: Kind
    begun: int
    ended: int | None  # None: no answer
    value: int | None  # the index, or the size; None: nobody was told
    asked: int = 0  # AT_LEAST: the size

    @property
    def place(self) -> int:
        """Where it stands in the order, if that is known."""
        assert self.value is not None
        return 2 * self.value + (self.kind is Kind.SUBMIT)

    def __str__(self) -> str:
        said = "?" if self.value is None else self.value
        return f"client {self.client}: {self.kind.value} [{self.begun}, {self.ended}] = {said}"


History = Sequence[Call]


def faults(history: History) -> list[str]:
    """What no log could have answered, in words; empty when the history is linearizable."""
    known = [call for call in history if call.value is not None]
    found = [
        f"{call} has less than {call.asked}"
        for call in known
        if call.kind is Kind.AT_LEAST and call.value is not None and call.value < call.asked
    ]
    found += _shared(known)
    found += _below(known, [call for call in known if call.kind in STRONG])
    for client in {call.client for call in known}:
        own = [call for call in known if call.client == client]
        found += _below(own, own)
    return [*found, *_gaps(history, known)]


def _shared(known: History) -> Iterator[str]:
    at: dict[int, Call] = {}
    for call in known:
        if call.kind is Kind.SUBMIT and (other := at.setdefault(call.place, call)) is not call:
            yield f"one index for two entries: {other} | {call}"


def _below(earlier: History, later: History) -> Iterator[str]:
    """Calls of `later` that stand below one of `earlier` that was answered before they began."""
    answered = sorted((call for call in earlier if call.ended is not None), key=_ended)
    highest: Call | None = None
    position = 0
    for call in sorted(later, key=lambda call: call.begun):
        while position < len(answered) and _ended(answered[position]) < call.begun:
            each = answered[position]
            highest = each if highest is None or each.place > highest.place else highest
            position += 1
        if highest is not None and highest.place > call.place:
            yield f"the second shows less than the first, which it follows: {highest} | {call}"


def _ended(call: Call) -> int:
    assert call.ended is not None
    return call.ended


def _gaps(history: History, known: History) -> Iterator[str]:
    """Indexes below a known one that no submission can have got."""
    taken = {call.value for call in known if call.kind is Kind.SUBMIT}
    size = max(((call.place + 1) // 2 for call in known), default=0)
    gaps = [index for index in range(size) if index not in taken]
    answered = sorted((call for call in known if call.ended is not None), key=_ended)
    floors: list[int] = []  # the smallest place that each can have, in their order
    highest = position = 0
    unknown = [call for call in history if call.value is None and call.kind is Kind.SUBMIT]
    for call in sorted(unknown, key=lambda call: call.begun):
        while position < len(answered) and _ended(answered[position]) < call.begun:
            highest = max(highest, answered[position].place)
            position += 1
        floors.append(highest)
    for number, gap in enumerate(gaps, 1):
        if bisect_right(floors, 2 * gap + 1) < number:
            yield f"nobody can have submitted entry {gap}"
            return


# -- the same by trying


def explained(history: History) -> bool:
    """Whether some order of the calls explains all answers. Exponential: ten calls, not fifty."""
    calls = [call for call in history if call.value is not None or call.kind is Kind.SUBMIT]
    if any(c.kind is Kind.AT_LEAST and c.value is not None and c.value < c.asked for c in calls):
        return False
    before = [
        frozenset(j for j, other in enumerate(calls) if _follows(call, other)) for call in calls
    ]
    needed = frozenset(i for i, call in enumerate(calls) if call.value is not None)

    @cache
    def search(done: frozenset[int], size: int) -> bool:
        if needed <= done:
            return True
        for i, call in enumerate(calls):
            # A submission without an answer that never happened stands nowhere: it binds nobody.
            if i in done or not before[i] <= done:
                continue
            if call.value is not None and call.value != size:
                continue
            if search(done | {i}, size + (call.kind is Kind.SUBMIT)):
                return True
        return False

    return search(frozenset(), 0)


def _follows(call: Call, other: Call) -> bool:
    if call is other or other.ended is None or other.ended >= call.begun:
        return False
    return call.kind in STRONG or call.client == other.client


# -- histories that are wrong


def moved(history: History, position: int, by: int) -> list[Call]:
    """The same history with another answer at one place."""
    call = history[position]
    assert call.value is not None
    return [*history[:position], replace(call, value=call.value + by), *history[position + 1 :]]
