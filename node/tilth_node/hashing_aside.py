"""A second process for an audit: it computes the set hash of what each block changed.

    with Aside() as aside:
        total = aside.follow(LtHash())                # a set hash like any other
        total = total.replace(old, new)               # sends rows, waits for nothing
        total.digest()                                # waits until it is there

- The process knows no ledger: rows go in, the lanes of their sum come out, in the same order. Sums
  are added here.
- At most `MOST_WAITING` sums are under way, so that neither side waits for the other to read.
- A process that ends is an error at the next sum, never a digest.

Leaves to others: the sum itself (tilth_ledger.lthash), the process and its pipes (beside).
"""

import gc
import struct
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import IO, Final

from tilth_ledger.errors import InvalidInput
from tilth_ledger.lthash import LtHash
from tilth_ledger.reader import Reader
from tilth_node.beside import COLLECTIONS, Beside, read_frame, write_frame

MOST_WAITING = 12  # of 2 KB each: they fit into a pipe

_ROWS = 1
_COUNTS: Final = struct.Struct(">II")

RowBytes = tuple[str, bytes]


class Aside(Beside):
    """The process, as the one that executes sees it."""

    def __init__(self) -> None:
        super().__init__(__name__)
        self._waiting: deque[Sum] = deque()

    def follow(self, known: LtHash) -> "Sum":
        """A set hash that goes on from a known one, by this process."""
        return Sum(self, known, None)

    def change(self, before: "Sum", rows: bytes) -> "Sum":
        """The sum after a change, which is under way."""
        while len(self._waiting) >= MOST_WAITING:
            self.take()
        self.send(_ROWS, rows)
        after = Sum(self, None, before)
        self._waiting.append(after)
        return after

    def take(self) -> None:
        """Wait for the oldest sum that is under way. Raises `Unavailable` if it will not come."""
        _, lanes = self.receive()
        self._waiting.popleft().arrives(LtHash.from_state(lanes))


class Sum:
    """A set hash whose value is there, or comes."""

    def __init__(self, aside: Aside, known: LtHash | None, before: "Sum | None") -> None:
        self._aside, self._known, self._before = aside, known, before

    def replace(self, old: Iterable[RowBytes], new: Iterable[RowBytes]) -> "Sum":
        """The sum without the rows of `old`, and with those of `new`."""
        return self._aside.change(self, write_rows([*old], [*new]))

    def digest(self) -> bytes:
        return self._value().digest()

    @property
    def state(self) -> bytes:
        return self._value().state

    def arrives(self, change: LtHash) -> None:
        """What was changed since the sum before, which arrived before."""
        if self._before is not None:
            self._known, self._before = self._before._value().plus(change), None

    def _value(self) -> LtHash:
        while self._known is None:
            self._aside.take()
        return self._known


def write_rows(old: Sequence[RowBytes], new: Sequence[RowBytes]) -> bytes:
    """Rows that go and rows that come, as bytes."""
    pieces = [piece for key, value in (*old, *new) for piece in (key.encode(), value)]
    lengths = struct.pack(f">{len(pieces)}I", *map(len, pieces))
    return b"".join((_COUNTS.pack(len(old), len(new)), lengths, *pieces))


def read_rows(data: bytes) -> tuple[list[RowBytes], list[RowBytes]]:
    """What `write_rows` wrote. Raises `InvalidInput`."""
    reader = Reader(data, "rows")
    old, new = reader.unpack(_COUNTS)
    if 8 * (old + new) > reader.left:
        raise InvalidInput("rows are cut short", found=f"{reader.left} bytes")
    lengths = reader.unpack(struct.Struct(f">{2 * (old + new)}I"))
    try:
        rows = [
            (reader.take(key).decode(), reader.take(value))
            for key, value in zip(lengths[::2], lengths[1::2], strict=True)
        ]
    except UnicodeDecodeError as error:
        raise InvalidInput("a row's key is no text", found=error) from error
    reader.end()
    return rows[:old], rows[old:]


def main(rows: IO[bytes], sums: IO[bytes]) -> None:
    """Answer every frame of rows with the lanes of their sum, until there are no more."""
    while (frame := read_frame(rows)) is not None:
        change = LtHash().replace(*read_rows(frame[1]))
        write_frame(sums, _ROWS, change.state)
        sums.flush()


if __name__ == "__main__":
    gc.set_threshold(*COLLECTIONS)
    try:
        main(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.stderr.close()  # the audit has ended
